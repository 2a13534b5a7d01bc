"""Every kind of tokenizer: how it is loaded, trained and saved.

data.tokenizer_kind names the kind, data.tokenizer the file or the folder of a
published vocabulary:

  unigram, bpe  SentencePiece's FILE.model, or the tokenizer.json that
                transformers makes of one (sentence_piece.py)
  wordpiece     BERT's vocab.txt, or tokenizer.json; data.lowercase: uncased
                (subwords.py)
  byte_bpe      a folder with GPT-2's encoder.json and vocab.bpe, or vocab.json
                and merges.txt; with fairseq's dict.txt beside them the ids are
                RoBERTa's; or tokenizer.json (subwords.py)
  bytes         no file: every byte is an id (subwords.py)

If a folder holds both, tokenizer.json comes before plain files. Settings that
tokenizer_config.json and its like change are followed, or refused with an
error.
"""

import errno
import os
from collections.abc import Iterable

from input_pipeline.sources import paths
from input_pipeline.tokenizers import merges, sentence_piece, subwords
from input_pipeline.tokenizers.interface import Tokenizer
from input_pipeline.tokenizers.published import load as load


def file_name(kind: str) -> str:
  """The name of a tokenizer's file in a workdir."""
  return 'tokenizer.' + ('model' if kind in ('unigram', 'bpe') else 'json')


def train(
  texts: Iterable[str],
  vocab_size: int,
  sentinels: int,
  kind: str = 'unigram',
  lowercase: bool = False,
  specials: bool = False,
  normalization: str = '',
  lossless: bool = False,
) -> Tokenizer:
  """A tokenizer of `vocab_size` pieces, sentinels included, from `texts`.

  With `specials` it has the tokens that masking needs. `normalization` and
  `lossless` are only SentencePiece's. The same texts give the same bytes. See
  the train() of sentence_piece and merges. Raises ValueError if there is too
  little text for so many pieces.
  """
  if kind == 'bytes':
    return subwords.Bytes(sentinels, specials)
  if kind in ('unigram', 'bpe'):
    return sentence_piece.train(
      texts, kind, vocab_size, sentinels, specials, normalization, lossless
    )
  return merges.train(texts, kind, vocab_size, sentinels, lowercase, specials)


def save(tokenizer: Tokenizer, path: str, flag: str = '--workdir') -> None:
  """Writes the tokenizer, whole or not at all. `flag` named the folder."""
  folder = os.path.dirname(path) or '.'
  try:
    paths.make_folder(folder)
    paths.write(path, tokenizer.model)
  except OSError as error:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    raise OSError(
      error.errno,
      f'The tokenizer cannot be written: {error.strerror}. '
      + ('Free some space on' if full else 'Give a writable folder instead of')
      + f' {flag}={folder}',
      path,
    ) from error
