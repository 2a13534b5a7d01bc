"""Sources: where documents come from, file by file, in a fixed order.

A source has `files` (names), `fingerprint` (JSON-able), `tokenized` (documents
are ids already), `validation` (the source that is its evaluation split, or ''),
records(file, start) -> iterator of (line, record) from the start-th document of
files[file], and text(record) -> UTF-8 bytes, or ids, or ValueError saying what
is wrong with the document. Where they are known without reading, `lengths` are
the documents of each file; where documents are read at random, open(file) gives
a function from their indices to the same pairs (line, record).
"""

import hashlib
import json
import os

import numpy as np
import orjson
from isal import isal_zlib

from input_pipeline import paths

CHUNK = 1 << 16  # bytes read at a time
WHOLE = 1 << 30  # bytes: files that have more in all are hashed in PIECES
PIECES = 16  # of CHUNK bytes, evenly over a file, its two ends among them


def open_source(name, seed, vocab_size, sentinels, key='data.source'):
  """The source called `name`. Raises ValueError naming `key` if there is none.

  seed, vocab_size and sentinels are for synthetic data alone.
  """
  kind, _, rest = name.partition(':')
  if kind == 'json':
    return JsonFiles(_match(rest, key, name))
  if kind == 'text':
    return TextFiles(_match(rest, key, name))
  if kind == 'cache':
    from input_pipeline import cache

    return cache.TokenCache(cache_folder(rest), key)
  if kind == 'tfds':
    from input_pipeline import tfds_source

    return tfds_source.TfdsDataset(rest, key)
  if name == 'docs':
    from input_pipeline import documentation

    return Texts(documentation.documents(), documentation.fingerprint())
  if name == 'synthetic':
    return Synthetic(seed, vocab_size, sentinels)
  raise ValueError(
    f'{key}={name!r} must be json:GLOB, tfds:NAME[@SPLIT], text:GLOB,'
    ' cache:DIR, docs or synthetic.'
  )


def cache_folder(name):
  """The folder that 'cache:' is followed by."""
  return os.path.expanduser(name).rstrip('/')


class TextFiles:
  """Local or remote text; blank lines separate the documents."""

  tokenized, validation = False, ''

  def __init__(self, files):
    self.files = files

  @property
  def fingerprint(self):
    return fingerprints(self.files)

  def records(self, file, start):
    first, paragraph, index = 0, [], 0
    for number, line in enumerate(read_lines(self.files[file]), 1):
      if line.strip():
        first = first or number
        paragraph.append(line)
      elif paragraph:
        if index >= start:
          yield first, b'\n'.join(paragraph)
        first, paragraph, index = 0, [], index + 1
    if paragraph and index >= start:
      yield first, b'\n'.join(paragraph)

  def text(self, record):
    try:
      record.decode()
    except UnicodeDecodeError as error:
      raise ValueError(f'not UTF-8 ({error.reason})') from None
    return record


class JsonFiles(TextFiles):
  """Lines of JSON with a field `text`, plain or .gz, as C4 is published."""

  def records(self, file, start):
    index = 0
    for number, line in enumerate(read_lines(self.files[file]), 1):
      if line and not line.isspace():
        if index >= start:
          yield number, line
        index += 1

  def text(self, record):
    try:
      document = parse(record)
    except ValueError as error:  # UnicodeDecodeError is one
      raise ValueError(f'not JSON ({error})') from None
    text = document.get('text') if isinstance(document, dict) else None
    if not isinstance(text, str) or not text:
      raise ValueError('no text')
    try:
      return text.encode()
    except UnicodeEncodeError as error:
      raise ValueError(f'text is not Unicode ({error.reason})') from None


class Texts:
  """Documents held in memory, as one file."""

  tokenized, validation = False, ''
  files = ('docs',)

  def __init__(self, texts, fingerprint):
    self.texts, self.fingerprint = texts, fingerprint

  def records(self, file, start):
    del file
    return enumerate(self.texts[start:], start + 1)

  def text(self, record):
    return record


class Synthetic:
  """Random walks round a fixed cycle of tokens: no files, no TensorFlow.

  A walk steps from a token to the next one of the cycle, and now and then jumps
  anywhere, so that a model can learn to fill in what is missing.
  """

  tokenized, validation = True, ''
  documents, tokens, jump, alphabet = 1024, 512, 0.05, 256

  def __init__(self, seed, vocab_size, sentinels):
    self.files = [f'synthetic-{n:02d}' for n in range(64)]
    self.seed = seed
    rng = np.random.default_rng([seed, 0])
    ordinary = np.arange(3, vocab_size - sentinels, dtype=np.int32)
    self.cycle = rng.permutation(ordinary)[: self.alphabet]
    self.fingerprint = {'tokens': hash_array(self.cycle)}

  def records(self, file, start):
    return ((n + 1, (file, n)) for n in range(start, self.documents))

  def text(self, record):
    rng = np.random.default_rng([self.seed, 1, *record])
    count = rng.integers(self.tokens // 2, 2 * self.tokens)
    steps = np.arange(count)
    jumps = np.flatnonzero(rng.random(count) < self.jump)
    jumps = np.concatenate([[0], jumps])
    last = np.searchsorted(jumps, steps, side='right') - 1
    start = rng.integers(len(self.cycle), size=len(jumps)) - jumps
    return self.cycle[(start[last] + steps) % len(self.cycle)]


def parse(record):
  try:
    return orjson.loads(record)
  except ValueError:  # it is stricter: NaN, say, is no JSON
    return json.loads(record.decode())


def read_lines(path):
  """Lines of a plain or .gz file, as bytes, a chunk in memory at a time.

  Raises ValueError with file and line where a .gz is damaged or cut short.
  """
  rest, number = b'', 0
  try:
    for chunk in _chunks(path):
      lines = chunk.split(b'\n')
      lines[0] = rest + lines[0]
      rest = lines.pop()
      number += len(lines)
      yield from lines
  except (isal_zlib.error, EOFError) as error:
    raise ValueError(
      f'{path}, line {number + 1}: the .gz is damaged or cut short ({error}).'
      ' Fetch the file again.'
    ) from error
  if rest:
    yield rest


def _chunks(path):
  if not path.endswith('.gz'):
    with paths.opened(path) as file:
      while data := file.read(CHUNK):
        yield data
    return
  with paths.opened(path) as file:
    decoder, whole = isal_zlib.decompressobj(wbits=31), False
    while data := file.read(CHUNK):
      # A .gz may hold several members, and zeros after them.
      while data := data.lstrip(b'\0') if whole else data:
        if whole:
          decoder = isal_zlib.decompressobj(wbits=31)
        yield decoder.decompress(data)
        data, whole = decoder.unused_data, decoder.eof
  if not whole:
    raise EOFError('no end-of-stream marker')


def _match(pattern, key, name):
  files = paths.match(pattern)
  if not files:
    raise ValueError(f'{key}={name!r} matches no file.')
  return files


def fingerprints(files):
  """Name, size and, where reading is cheap, a hash of each file.

  Few files are hashed whole. Of many, only pieces: in a .gz the last one holds
  the checksum of the whole text, in others a change between them stays unseen.
  """
  local = [path for path in files if not paths.is_remote(path)]
  whole = sum(paths.size(path) for path in local) <= WHOLE
  return [_fingerprint(path, whole) for path in files]


def _fingerprint(path, whole):
  found = {'file': os.path.basename(path), 'bytes': paths.size(path)}
  if not paths.is_remote(path):
    found['sha256'] = hash_file(path) if whole else hash_pieces(path)
  return found


def hash_file(path):
  return paths.sha256(path)[:16]


def hash_pieces(path):
  """A hash of PIECES pieces of a file, evenly over it."""
  digest, last = hashlib.sha256(), max(0, os.path.getsize(path) - CHUNK)
  with open(path, 'rb') as file:
    for start in np.linspace(0, last, PIECES, dtype=int):
      file.seek(start)
      digest.update(file.read(CHUNK))
  return digest.hexdigest()[:16]


def hash_array(array):
  return hashlib.sha256(array.tobytes()).hexdigest()[:16]
