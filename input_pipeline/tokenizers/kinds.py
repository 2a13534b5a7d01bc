"""Tokenizers: text <-> ids, in one interface (see vocabulary) for all kinds.

data.tokenizer_kind names the kind, data.tokenizer the file or the folder of a
published vocabulary:

  unigram, bpe  SentencePiece's FILE.model, or the tokenizer.json that
                transformers makes of one
  wordpiece     BERT's vocab.txt, or tokenizer.json; data.lowercase: uncased
  byte_bpe      a folder with GPT-2's encoder.json and vocab.bpe, or vocab.json
                and merges.txt; with fairseq's dict.txt too the ids are
                RoBERTa's; or tokenizer.json
  bytes         none: every byte is an id

In a folder tokenizer.json comes before plain files, and what tokenizer_config
and its like say of ids is followed, or an error.
"""

import errno
import os

import numpy as np

from input_pipeline.sources import paths
from input_pipeline.tokenizers import (
  merges,
  published,
  sentence_piece,
  subwords,
)
from input_pipeline.tokenizers.vocabulary import Vocabulary

PADDING = 1024  # rows of the model's table that may lie unused


class Numbers(Vocabulary):
  """The tokenizer of synthetic data, whose documents are ids already.

  With `specials` there are [CLS], [SEP] and [MASK], below the sentinels.
  """

  SPECIALS = 3
  pad, eos, unk = 0, 1, 2

  def __init__(self, size, sentinels, specials=False):
    if size < sentinels + 16:
      raise ValueError(
        f'model.vocab_size={size} leaves no tokens beside'
        f' data.sentinels={sentinels} for synthetic data.'
      )
    self.size = size
    self.sentinels = np.arange(size - 1, size - 1 - sentinels, -1, np.int32)
    if specials:
      last = size - sentinels
      self.cls, self.sep, self.mask = last - 3, last - 2, last - 1
    self.fingerprint = f'numbers below {size}'

  def encode_batch(self, texts, threads=1):
    """Ids as they are; of text (a denoiser's mode) an id for each byte."""
    del threads
    text = self.size - len(self.specials)
    return [
      np.frombuffer(t, np.uint8).astype(np.int32) % text + 3
      if isinstance(t, bytes)
      else t
      for t in texts
    ]

  def decode(self, ids):
    names = (self.shown.get(i, str(i)) for i in map(int, ids))
    return ' '.join(filter(None, names))

  def piece(self, i):
    special = {0: '<pad>', 1: '</s>', 2: '<unk>'}
    masks = self.cls, self.sep, self.mask
    special |= dict(zip(masks, self.masking, strict=True))
    special |= {
      s: f'<extra_id_{n}>' for n, s in enumerate(self.sentinels.tolist())
    }
    return special.get(int(i), str(i))

  def byte_lengths(self):
    """As decode() writes numbers: their digits and a space."""
    lengths = np.char.str_len(np.arange(self.size).astype(str)) + 1
    lengths[list(self.specials)] = 0
    return lengths.astype(np.int32)

  def _begin_words(self):
    """Every third id goes on with a word."""
    starts = np.arange(self.size) % 3 > 0
    starts[list(self.specials)] = True
    return starts


def file_name(kind):
  """The name of a tokenizer's file in a workdir."""
  return 'tokenizer.' + ('model' if kind in ('unigram', 'bpe') else 'json')


def load(path, sentinels, kind='unigram', lowercase=False):
  """The tokenizer of `kind` in a file or folder `path`.

  `sentinels` are appended where the file has none; `lowercase` is WordPiece's.
  Raises ValueError when it is missing, damaged or of another kind.
  """
  return published.load(path, sentinels, kind, lowercase)


def train(
  texts,
  vocab_size,
  sentinels,
  kind='unigram',
  lowercase=False,
  specials=False,
  normalization='',
  lossless=False,
):
  """A tokenizer of `vocab_size` pieces, sentinels included, from str `texts`.

  With `specials` it has the tokens that masking needs. `normalization` and
  `lossless` are SentencePiece's alone. The same texts give the
  same bytes. Raises ValueError when there is too little text for so many
  pieces; see the kinds' own train().
  """
  if kind == 'bytes':
    return subwords.Bytes(sentinels, specials)
  if kind in ('unigram', 'bpe'):
    return sentence_piece.train(
      texts, kind, vocab_size, sentinels, specials, normalization, lossless
    )
  return merges.train(texts, kind, vocab_size, sentinels, lowercase, specials)


def check_size(tokenizer, vocab_size):
  """Raises ValueError unless the ids fit a table of `vocab_size` rows."""
  if not 0 <= vocab_size - tokenizer.size < PADDING:
    raise ValueError(
      f'data.tokenizer has {tokenizer.size} pieces, sentinels included, but'
      f' model.vocab_size={vocab_size}: they must be equal, or the table larger'
      f' by less than {PADDING} unused rows.'
    )


def check_specials(tokenizer, config):
  """Raises ValueError unless the vocabulary has what the objective needs."""
  needed = {'an end of text (EOS)': tokenizer.eos}
  if config.masks:
    ids = tokenizer.cls, tokenizer.sep, tokenizer.mask
    needed = dict(zip(tokenizer.masking, ids, strict=True))
  missing = [name for name, i in needed.items() if i is None]
  if missing:
    raise ValueError(
      f'data.objective={config.objective!r} needs {", ".join(needed)}, but'
      f' data.tokenizer={config.tokenizer!r} ({config.tokenizer_kind}) lacks'
      f' {", ".join(missing)}: take one that has all of them, or'
      " data.tokenizer='', which trains one for the objective."
    )
  count = len(tokenizer.sentinels)
  if count < config.sentinels:
    raise ValueError(
      f'data.sentinels={config.sentinels}, but data.tokenizer='
      f'{config.tokenizer!r} has {count}.'
    )


def start_id(tokenizer, config):
  """The id that a text begins with, or None; see data.start.

  Without BOS in the vocabulary and in data.bos, 'bos' is what `pad` stands for.
  Raises ValueError where the vocabulary has no such id.
  """
  given = config.bos if config.bos >= 0 else None
  if config.start == 'none' and given is None:
    return None
  bos = tokenizer.bos if given is None else given
  choices = {
    'none': given,  # of prompts alone
    'bos': tokenizer.pad if bos is None else bos,
    'eos': tokenizer.eos,
    'pad': tokenizer.pad,
  }
  found = int(choices.get(config.start, config.start))
  if found >= tokenizer.size:
    raise ValueError(
      f'data.start={config.start!r} with data.bos={config.bos} is no id of'
      f' data.tokenizer, which has {tokenizer.size}.'
    )
  return found


def save(tokenizer, path, flag='--workdir'):
  """Writes the tokenizer at `path`, whole or not at all.

  `flag` is the one that named its folder.
  """
  folder = os.path.dirname(path) or '.'
  try:
    os.makedirs(folder, exist_ok=True)
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
