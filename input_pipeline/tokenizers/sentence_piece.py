"""SentencePiece's kinds, unigram and BPE of characters: used and trained.

They come as a .model, which the sentencepiece library reads, or as the
tokenizer.json that transformers 5 saves of T5's and LLaMA's tokenizers, which
the tokenizers library reads. T5's sentinels are at the end of the vocabulary.
"""

import functools
import io
import re
from collections.abc import Iterable, Iterator

import numpy as np
import sentencepiece

from input_pipeline.sources import hashes
from input_pipeline.tokenizers import json_format, scripts
from input_pipeline.tokenizers.interface import Texts, Tokenizer
from input_pipeline.tokenizers.subwords import Subwords

BYTES_PER_PIECE = 400  # training reads this much text for each piece
TYPES = {1: 'unigram', 2: 'bpe', 3: 'word', 4: 'char'}  # trainer_spec's
BYTE = re.compile(r'<0x([0-9A-F]{2})>')  # a piece that stands for one byte


class SentencePiece(Tokenizer):
  """A .model file; encoding runs outside the interpreter lock.

  `model` is the serialized model. If it has no <extra_id_N> pieces, `sentinels`
  of them are appended. Raises ValueError, naming `name`, if `model` is not a
  SentencePiece model, is not of `kind`, or has fewer sentinels.
  """

  file = 'tokenizer.model'
  reads_sentinels = True

  def __init__(self, model: bytes, sentinels: int, name: str, kind: str = ''):
    processor = _load(model, name)
    if kind not in ('', found := _kind(model)):
      raise ValueError(
        f'{name} is a SentencePiece {found} model, but'
        f' data.tokenizer_kind={kind!r}: set it to {found!r}, or name another'
        ' file.'
      )
    if not json_format.sentinel_names(_ids(processor)):
      model += b''.join(map(_sentinel_piece, reversed(range(sentinels))))
      processor = _load(model, name)
    self.model = model
    self.fingerprint = hashes.sha256(model)
    self.processor = processor
    self.size = processor.get_piece_size()
    self.ids = _ids(processor)
    ends = processor.bos_id(), processor.eos_id(), processor.unk_id()
    self.bos, self.eos, self.unk = (i if i >= 0 else None for i in ends)
    pads = processor.pad_id(), *ends[:2], 0
    self.pad = next(i for i in pads if i >= 0)
    self.cls, self.sep, self.mask = map(self.ids.get, self.masking)
    self.sentinels = json_format.find_sentinels(self.ids, sentinels, name)

  def encode_batch(self, texts: Texts, threads: int = 1) -> list[np.ndarray]:
    encode = self.processor.encode
    return encode(texts, return_type='numpy', num_threads=threads)

  def decode(self, ids: Iterable[int]) -> str:
    sentinels = set(self.sentinels.tolist())  # spaced as other pieces are
    shown = {i: name for i, name in self.shown.items() if i not in sentinels}
    return _decode(ids, shown, self.processor.decode)

  def piece(self, i: int) -> str:
    name = self.processor.id_to_piece(int(i))
    return name.removeprefix('▁') if i in self.sentinels else name

  def byte_lengths(self) -> np.ndarray:
    lengths = np.zeros(self.size, np.int32)
    for i, piece in self._text():
      text = piece.replace('▁', ' ').encode()
      lengths[i] = 1 if self.processor.is_byte(i) else len(text)
    return lengths

  @functools.cached_property
  def word_starts(self) -> np.ndarray:
    starts = np.ones(self.size, bool)
    for i, piece in self._text():
      starts[i] = _begins_word(piece)
    starts[self.unk] = False  # one character, never with its '▁'
    return starts

  def _text(self):
    """(id, piece) of pieces that stand for text."""
    p, special = self.processor, set(self.specials)
    return [
      (i, p.id_to_piece(i))
      for i in range(self.size)
      if not (i in special or p.is_control(i) or p.is_unused(i))
    ]


class SentencePieceJson(Subwords):
  """A tokenizer.json whose pieces have '▁' for a space.

  The ids may differ from those of the .model that the file was made of, because
  the tokenizers library merges and normalizes differently. No text encodes to a
  special id, and here sentinels are special.
  """

  def __init__(self, content: dict, sentinels: int, name: str):
    super().__init__(content, sentinels, name)
    if self.mask is None:  # <s> and </s> are only the ends of a text
      self.cls = self.sep = None
    elif self.pieces[self.mask] == '<mask>':
      self.masking = '<s>', '</s>', '<mask>'

  @staticmethod
  def _spaces_part(content):
    return False  # normalizers join spaces, or pieces have several spaces

  @staticmethod
  def _for_text(content, special):
    """The content, with special pieces renamed so that no text has them.

    A unigram model finds every piece of its list in a text. No text has a space
    then: spaces have become '▁'.
    """
    model = content['model']
    if isinstance(model['vocab'], dict):  # BPE: only merges make a piece
      return content
    vocab = [
      [f' {piece} ' if piece in special else piece, score]
      for piece, score in model['vocab']
    ]
    return content | {'model': model | {'vocab': vocab}}

  @functools.cached_property
  def _texts(self):
    texts = []
    for piece in self.pieces:
      byte = BYTE.fullmatch(piece) if self._byte_fallback else None
      text = piece.replace('▁', ' ').encode()
      texts.append(bytes([int(byte[1], 16)]) if byte else text)
    return texts

  def piece(self, i: int) -> str:
    name = self.pieces[i]
    return name.removeprefix('▁') if i in self.sentinels else name

  def decode(self, ids: Iterable[int]) -> str:
    return _decode(ids, self.shown, self._join)

  def _join(self, ids):
    names = [self.pieces[i] for i in ids]
    if self._encoder.decoder is None:
      return ''.join(names).replace('▁', ' ')
    return self._encoder.decoder.decode(names)

  @functools.cached_property
  def word_starts(self) -> np.ndarray:
    starts = np.array([_begins_word(piece) for piece in self.pieces])
    starts[list(self.specials)] = True
    if self.unk is not None:
      starts[self.unk] = False
    return starts


def _decode(ids, shown, join):
  """Runs of ids, each joined to a text, and what is `shown` of others."""
  parts, run = [], []
  for i in map(int, ids):
    if i not in shown:
      run.append(i)
    elif shown[i]:
      parts += [join(run), shown[i]]
      run = []
  return ' '.join(filter(None, [*parts, join(run)]))


def _begins_word(piece):
  """Whether a piece of text begins a word; <0xE4> is a byte."""
  byte = BYTE.fullmatch(piece)
  text = bytes([int(byte[1], 16)]) if byte else piece.encode()
  return piece.startswith('▁') or scripts.begins_unspaced(text)


def train(
  texts: Iterable[str],
  kind: str,
  vocab_size: int,
  sentinels: int,
  specials: bool,
  normalization: str,
  lossless: bool,
) -> SentencePiece:
  """See kinds.train.

  Unigram is T5's. BPE is LLaMA's (Touvron et al. 2023, 2.1): each digit is a
  piece, white space is kept, no character is changed, and rare characters are
  spelled in bytes. A `lossless` unigram does all that too, as PaLM's (Chowdhery
  et al. 2022, 2). `normalization` changes characters first: 'nfkc' as Unicode's
  NFKC, 'nmt_nfkc' also white space, as T5's; 'none' changes nothing, and '' is
  the kind's own.

  Pad 0, EOS 1, unknown 2, no BOS; with `specials` [CLS], [SEP] and [MASK]
  follow. Reads at most BYTES_PER_PIECE bytes of text for each piece.
  """
  pieces = vocab_size - sentinels
  model = io.BytesIO()
  options = {'model_type': kind}
  if kind == 'bpe' or lossless:
    options |= {
      'byte_fallback': True,
      'split_digits': True,
      'normalization_rule_name': 'identity',
      'remove_extra_whitespaces': False,
      'allow_whitespace_only_pieces': True,
    }
  if normalization:
    rule = {'none': 'identity'}.get(normalization, normalization)
    options['normalization_rule_name'] = rule
  if specials:  # never made from text, unlike user-defined symbols
    options['control_symbols'] = ','.join(SentencePiece.masking)
  try:
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=_lines(texts, pieces * BYTES_PER_PIECE),
      model_writer=model,
      vocab_size=pieces,
      character_coverage=0.99995,
      pad_id=0,
      eos_id=1,
      unk_id=2,
      bos_id=-1,
      num_threads=8,  # decides how sums are split, and so the bytes
      minloglevel=2,
      **options,
    )
  except (RuntimeError, OSError, ValueError) as error:
    raise ValueError(
      f'No vocabulary of model.vocab_size={vocab_size} ({sentinels} of them'
      ' sentinels) can be trained on data.source: give more text or a smaller'
      f' vocabulary. SentencePiece says: {error}'
    ) from error
  return SentencePiece(model.getvalue(), sentinels, 'the trained tokenizer')


def _load(model, name):
  processor = sentencepiece.SentencePieceProcessor()
  try:
    if not model or not processor.load_from_serialized_proto(model):
      raise RuntimeError('empty model')
  except RuntimeError as error:
    raise ValueError(f'{name} is not a SentencePiece model: {error}') from error
  return processor


def _kind(model):
  """'unigram' or 'bpe': field 3 of a model's trainer_spec, its field 2."""
  spec = b''.join(value for n, value in _fields(model) if n == 2)
  number = [value for n, value in _fields(spec) if n == 3] or [1]
  return TYPES.get(number[-1], 'unknown')


def _fields(message):
  """(number, value) of each field of a serialized protocol buffer."""
  at = 0

  def varint():
    nonlocal at
    value = shift = 0
    while True:
      byte = message[at]
      value |= (byte & 127) << shift
      at, shift = at + 1, shift + 7
      if byte < 128:
        return value

  while at < len(message):
    key = varint()
    if key & 7 == 0:
      value = varint()
    else:
      length = varint() if key & 7 == 2 else {1: 8, 5: 4}[key & 7]
      value = message[at : at + length]
      at += length
    yield key >> 3, value


def _ids(processor):
  """Piece -> id."""
  return {processor.id_to_piece(i): i for i in range(len(processor))}


def _sentinel_piece(n):
  """The bytes that append <extra_id_n> to a serialized model.

  Appending a field to a protocol buffer adds an entry to a repeated field.
  Field 1 of a model is a piece; in a piece, field 1 is the text, 2 the score
  (0., a float) and 3 the type (4, defined by the user: it is never split).
  """
  text = f'▁<extra_id_{n}>'.encode()
  piece = b'\x0a' + bytes([len(text)]) + text
  piece += b'\x15\0\0\0\0' + b'\x18\x04'
  return b'\x0a' + bytes([len(piece)]) + piece


def _lines(texts: Iterable[str], limit: int) -> Iterator[str]:
  """Lines of at most 4,000 bytes, the trainer's limit; `limit` bytes in all.

  A longer line gives up to four such parts.
  """
  for text in texts:
    for line in text.splitlines():
      data = line.encode()[:16000]
      limit -= len(data)
      for start in range(0, len(data), 4000):
        part = data[start : start + 4000].decode(errors='ignore')
        if part.strip():
          yield part
    if limit <= 0:
      return
