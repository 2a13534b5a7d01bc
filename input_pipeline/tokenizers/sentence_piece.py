"""SentencePiece models, with T5's sentinels at the end of the vocabulary."""

import hashlib
import io

import numpy as np
import sentencepiece

from input_pipeline.tokenizers import scripts
from input_pipeline.tokenizers.vocabulary import (
  Vocabulary,
  check_sentinels,
  find_sentinels,
)

BYTES_PER_PIECE = 400  # text read to train one piece of a vocabulary
USER_DEFINED = 4  # SentencePiece's type of a piece that is never split
TYPES = {1: 'unigram', 2: 'bpe', 3: 'word', 4: 'char'}  # trainer_spec's


class SentencePiece(Vocabulary):
  """A SentencePiece model; encoding runs outside the interpreter lock.

  `model` is the serialized model. When it has no <extra_id_N> pieces,
  `sentinels` of them are appended. Raises ValueError naming `name` when it is
  no model, is not of `kind`, or has fewer sentinels than asked for.
  """

  file = 'tokenizer.model'
  reads_sentinels = True

  def __init__(self, model, sentinels, name='data.tokenizer', kind=None):
    processor = _load(model, name)
    if kind not in (None, found := _kind(model)):
      raise ValueError(
        f'{name} is a SentencePiece {found} model, but'
        f' data.tokenizer_kind={kind!r}: set it to {found!r}, or name another'
        ' file.'
      )
    if not len(_sentinels(processor)):
      model += b''.join(
        _sentinel_piece(n) for n in range(sentinels - 1, -1, -1)
      )
      processor = _load(model, name)
    self.model = model
    self.fingerprint = hashlib.sha256(model).hexdigest()
    self.processor = processor
    self.size = processor.get_piece_size()
    ids = processor.bos_id(), processor.eos_id(), processor.unk_id()
    self.bos, self.eos, self.unk = (i if i >= 0 else None for i in ids)
    pads = processor.pad_id(), *ids[:2], 0
    self.pad = next(i for i in pads if i >= 0)
    self.sentinels = _sentinels(processor)
    self.cls, self.sep, self.mask = map(self._find, self.masking)
    check_sentinels(self.sentinels, sentinels, name)

  def encode_batch(self, texts, threads=1):
    encode = self.processor.encode
    return encode(texts, return_type='numpy', num_threads=threads)

  def decode(self, ids):
    sentinels = set(self.sentinels.tolist())  # spaced as other pieces are
    parts, run = [], []
    for i in map(int, ids):
      if i not in self.shown or i in sentinels:
        run.append(i)
      elif self.shown[i]:
        parts += [self.processor.decode(run), self.shown[i]]
        run = []
    return ' '.join(filter(None, [*parts, self.processor.decode(run)]))

  def piece(self, i):
    name = self.processor.id_to_piece(int(i))
    return name.lstrip('▁') if i in self.sentinels else name

  def byte_lengths(self):
    lengths = np.zeros(self.size, np.int32)
    for i in self._text():
      if self.processor.is_byte(i):
        lengths[i] = 1
      else:
        piece = self.processor.id_to_piece(i)
        lengths[i] = len(piece.replace('▁', ' ').encode())
    return lengths

  def _begin_words(self):
    starts = np.ones(self.size, bool)
    for i in self._text():
      piece = self.processor.id_to_piece(i)
      text = scripts.spelled(piece)
      starts[i] = piece.startswith('▁') or scripts.begins_unspaced(text)
    starts[self.unk] = False  # a character, of which '▁' is never a part
    return starts

  def _text(self):
    """Ids of pieces that stand for text."""
    p, special = self.processor, set(self.specials)
    return [
      i
      for i in range(self.size)
      if not (i in special or p.is_control(i) or p.is_unused(i))
    ]

  def _find(self, name):
    i = self.processor.piece_to_id(name)
    return i if self.processor.id_to_piece(i) == name else None


def train(
  texts,
  kind,
  vocab_size,
  sentinels,
  specials,
  normalization='',
  lossless=False,
):
  """A model of `vocab_size` pieces, sentinels included, from str `texts`.

  Unigram as T5's; BPE as LLaMA's (Touvron et al. 2023, 2.1), whose digits stand
  alone, which keeps white space, changes no character and spells rare ones in
  bytes. A `lossless` unigram does all that too, as PaLM's (Chowdhery et al.
  2022, 2). Another `normalization` than '' changes characters before: as
  Unicode's NFKC (nfkc), that and what T5's does to white space (nmt_nfkc), or
  not at all (none).

  Pad 0, EOS 1, unknown 2, no BOS; with `specials` [CLS], [SEP] and [MASK]
  follow. Reads BYTES_PER_PIECE bytes of text a piece, at most. The same texts
  give the same bytes. Raises ValueError when there is too little text for so
  many pieces.
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
      num_threads=8,  # sums are split by it: a constant, for the same bytes
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
    raise ValueError(f'{name} is no SentencePiece model: {error}') from error
  return processor


def _kind(model):
  """'unigram' or 'bpe': field 3 of a model's trainer_spec, its field 2."""
  spec = b''.join(value for n, value in _fields(model) if n == 2)
  number = [value for n, value in _fields(spec) if n == 3] or [1]
  return TYPES.get(number[-1], 'unknown')


def _fields(message):
  """(number, value) of a serialized protocol buffer's fields."""
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


def _sentinels(processor):
  names = range(processor.get_piece_size() - 1, -1, -1)
  return find_sentinels(
    {processor.id_to_piece(i).lstrip('▁'): i for i in names}
  )


def _sentinel_piece(n):
  """One more piece, as the protocol buffer bytes that append it to a model.

  Fields of a serialized message may be appended, and a repeated field grows by
  it. Field 1 of a model is a piece; of a piece, 1 is the text, 2 the score
  (0., a float) and 3 the type.
  """
  text = f'▁<extra_id_{n}>'.encode()
  piece = b'\x0a' + bytes([len(text)]) + text
  piece += b'\x15\0\0\0\0' + b'\x18' + bytes([USER_DEFINED])
  return b'\x0a' + bytes([len(piece)]) + piece


def _lines(texts, limit):
  """Lines of at most 4,000 bytes, the longest that the trainer accepts, until
  `limit` bytes are reached; of longer ones up to four such parts."""
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
