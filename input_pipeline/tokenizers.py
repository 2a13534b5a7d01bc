"""Tokenizers: text <-> ids, with T5's sentinels at the end of the vocabulary.

A tokenizer has: size, pad, eos, unk (ids), sentinels (ids in order of use),
fingerprint, encode_batch(texts, threads), decode(ids); and cls, sep and mask,
None where its vocabulary has no such tokens.
"""

import errno
import hashlib
import io
import os
import tempfile

import numpy as np
import sentencepiece

PADDING = 1024  # rows of the model's table that may lie unused
BYTES_PER_PIECE = 400  # text read to train one piece of a vocabulary
USER_DEFINED = 4  # SentencePiece's type of a piece that is never split


class SentencePiece:
  """A SentencePiece model; encoding runs outside the interpreter lock.

  `model` is the serialized model. When it has no <extra_id_N> pieces,
  `sentinels` of them are appended. Raises ValueError naming `name` when it is
  no model, has no pad or EOS, or fewer sentinels than asked for.
  """

  cls = sep = mask = None

  def __init__(self, model, sentinels, name='data.tokenizer'):
    processor = _load(model, name)
    if not _sentinels(processor):
      model += b''.join(
        _sentinel_piece(n) for n in range(sentinels - 1, -1, -1)
      )
      processor = _load(model, name)
    self.model = model
    self.fingerprint = hashlib.sha256(model).hexdigest()
    self.size = processor.get_piece_size()
    self.pad, self.eos = processor.pad_id(), processor.eos_id()
    self.unk = processor.unk_id()
    self.sentinels = np.array(_sentinels(processor), np.int32)
    self.processor = processor
    if self.pad != 0 or self.eos < 0:
      raise ValueError(
        f'{name}: pad has id {self.pad} and EOS {self.eos}; T5 needs pad 0 and'
        ' an EOS piece (it uses 1). Train the model with pad_id=0, eos_id=1,'
        ' unk_id=2, bos_id=-1.'
      )
    if len(self.sentinels) < sentinels:
      raise ValueError(
        f'{name} has {len(self.sentinels)} <extra_id_N> pieces, but'
        f' data.sentinels={sentinels}.'
      )

  def encode_batch(self, texts, threads=1):
    """UTF-8 texts -> one int32 array each, encoded on `threads` threads."""
    encode = self.processor.encode
    return encode(texts, return_type='numpy', num_threads=threads)

  def decode(self, ids):
    """ids -> text; padding is left out, sentinels read <extra_id_N>."""
    return self.processor.decode([int(i) for i in ids if i != self.pad])


class Numbers:
  """The tokenizer of synthetic data, whose documents are ids already.

  With `specials` there are [CLS], [SEP] and [MASK], below the sentinels.
  """

  SPECIALS = 3

  def __init__(self, size, sentinels, specials=False):
    if size < sentinels + 16:
      raise ValueError(
        f'model.vocab_size={size} leaves no tokens beside'
        f' data.sentinels={sentinels} for synthetic data.'
      )
    self.size, self.pad, self.eos, self.unk = size, 0, 1, 2
    self.sentinels = np.arange(size - 1, size - 1 - sentinels, -1, np.int32)
    self.cls = self.sep = self.mask = None
    if specials:
      last = size - sentinels
      self.cls, self.sep, self.mask = last - 3, last - 2, last - 1
    self.fingerprint = f'numbers below {size}'

  def encode_batch(self, texts, threads=1):
    del threads
    return texts

  def decode(self, ids):
    names = {
      i: f'<extra_id_{n}>' for n, i in enumerate(self.sentinels.tolist())
    }
    names |= {self.cls: '[CLS]', self.sep: '[SEP]', self.mask: '[MASK]'}
    names[self.eos] = ''
    return ' '.join(names.get(i, str(i)) for i in map(int, ids) if i).strip()


def load(path, sentinels):
  """The SentencePiece model at `path`. Raises ValueError when it is none."""
  try:
    with open(path, 'rb') as file:
      model = file.read()
  except OSError as error:
    raise ValueError(
      f'data.tokenizer={path!r} cannot be read: {error.strerror}. Give the path'
      " of a SentencePiece model, or '' to train one on the source."
    ) from error
  return SentencePiece(model, sentinels, path)


def check_size(tokenizer, vocab_size):
  """Raises ValueError unless the ids fit a table of `vocab_size` rows."""
  if not 0 <= vocab_size - tokenizer.size < PADDING:
    raise ValueError(
      f'data.tokenizer has {tokenizer.size} pieces, sentinels included, but'
      f' model.vocab_size={vocab_size}: they must be equal, or the table larger'
      f' by less than {PADDING} unused rows.'
    )


def train(texts, vocab_size, sentinels):
  """A unigram model of `vocab_size` pieces, sentinels included, from `texts`.

  Reads BYTES_PER_PIECE bytes of text a piece, at most. Pad 0, EOS 1, unknown 2,
  no BOS, as T5. The same texts give the same bytes. Raises ValueError when
  there is too little text for so many pieces.
  """
  pieces = vocab_size - sentinels
  model = io.BytesIO()
  try:
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=_lines(texts, pieces * BYTES_PER_PIECE),
      model_writer=model,
      model_type='unigram',
      vocab_size=pieces,
      character_coverage=0.99995,
      pad_id=0,
      eos_id=1,
      unk_id=2,
      bos_id=-1,
      num_threads=8,  # sums are split by it: a constant, for the same bytes
      minloglevel=2,
    )
  except (RuntimeError, OSError, ValueError) as error:
    raise ValueError(
      f'No vocabulary of model.vocab_size={vocab_size} ({sentinels} of them'
      ' sentinels) can be trained on data.source: give more text or a smaller'
      f' vocabulary. SentencePiece says: {error}'
    ) from error
  return SentencePiece(model.getvalue(), sentinels, 'the trained tokenizer')


def save(tokenizer, path):
  """Writes the model at `path`, whole or not at all."""
  folder = os.path.dirname(path) or '.'
  temporary = None
  try:
    os.makedirs(folder, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
      temporary = file.name
      file.write(tokenizer.model)
    os.replace(temporary, path)
  except OSError as error:
    if temporary and os.path.exists(temporary):
      os.unlink(temporary)
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    raise OSError(
      error.errno,
      f'The tokenizer cannot be written: {error.strerror}. '
      + ('Free some space on' if full else 'Give a writable folder instead of')
      + f' --workdir={folder}',
      path,
    ) from error


def _load(model, name):
  processor = sentencepiece.SentencePieceProcessor()
  try:
    if not model or not processor.load_from_serialized_proto(model):
      raise RuntimeError('empty model')
  except RuntimeError as error:
    raise ValueError(f'{name} is no SentencePiece model: {error}') from error
  return processor


def _sentinels(processor):
  """Ids of <extra_id_0>, <extra_id_1>, ... as far as they go."""
  names = range(processor.get_piece_size() - 1, -1, -1)
  names = {processor.id_to_piece(i).lstrip('▁'): i for i in names}
  ids = []
  while (name := f'<extra_id_{len(ids)}>') in names:
    ids.append(names[name])
  return ids


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
  """Lines of at most 4,000 bytes, the longest that the trainer accepts."""
  for text in texts:
    for line in text.splitlines():
      line = line[:4000]
      limit -= len(line)
      if line.strip():
        yield line
    if limit <= 0:
      return
