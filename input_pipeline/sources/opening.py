"""Sources: where documents come from, file by file, in a fixed order.

A source has `files` (names), `fingerprint` (JSON-able), `tokenized` (documents
are ids already), `validation` (the source that is its evaluation split, or ''),
records(file, start) -> iterator of (line, record) from the start-th document of
files[file], text(record) -> UTF-8 bytes, or ids, or ValueError saying what is
wrong with the document, and place(file, line), which says where it stands.
Where they are known without reading, `lengths` are the documents of each file;
where documents are read at random, open(file) gives a function from their
indices to the same pairs (line, record).
"""

import hashlib
import json
import os

import numpy as np
import orjson

from input_pipeline.sources import lines, paths
from input_pipeline.sources.names import KINDS

CHUNK = 1 << 16  # bytes of a piece that is hashed
WHOLE = 1 << 30  # bytes: files that have more in all are hashed in PIECES
PIECES = 16  # of CHUNK bytes, evenly over a file, its two ends among them
LISTED = 1000  # entries of a fingerprint, where a document is a file


def open_source(
  name, seed, vocab_size, sentinels, key='data.source', field='text'
):
  """The source called `name`. Raises ValueError naming `key` if there is none.

  seed, vocab_size and sentinels are for synthetic data alone; `field` is
  data.text_field, of sources that have fields.
  """
  kind, _, rest = name.partition(':')
  where = f'{key}={name!r}'
  if kind == 'json':
    return JsonFiles(_match(rest, where), field)
  if kind == 'parquet':
    from input_pipeline.sources import parquet

    return parquet.ParquetFiles(_match(rest, where), field, where)
  if kind == 'text':
    return TextFiles(_match(rest, where))
  if kind == 'textfile':
    return WholeFiles(_match(rest, where), name)
  if kind == 'cache':
    from input_pipeline.sources import cache

    return cache.TokenCache(cache_folder(rest), key)
  if kind == 'tfds':
    from input_pipeline.sources import tfds

    return tfds.TfdsDataset(rest, key, field)
  if name == 'docs':
    from input_pipeline.sources import documentation

    return Texts(documentation.documents(), documentation.fingerprint())
  if name == 'synthetic':
    return Synthetic(seed, vocab_size, sentinels)
  raise ValueError(f'{where} must be {KINDS}.')


def cache_folder(name):
  """The folder that 'cache:' is followed by."""
  return os.path.expanduser(name).rstrip('/')


class Source:
  """What most sources have in common."""

  tokenized, validation = False, ''
  unit = 'line'  # what numbers a file's documents

  def place(self, file, line):
    """Where a document stands, for messages."""
    return f'{self.files[file]}, {self.unit} {line}'


class TextFiles(Source):
  """Local or remote text; blank lines separate the documents."""

  def __init__(self, files):
    self.files = files

  @property
  def fingerprint(self):
    return fingerprints(self.files)

  def records(self, file, start):
    first, paragraph, index = 0, [], 0
    for number, line in enumerate(lines.read_lines(self.files[file]), 1):
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


class WholeFiles(TextFiles):
  """Local or remote text, a document a file.

  They are read as documents of one file, so that a block has several, in the
  order of their names' hashes, so that neighbours in a folder come apart.
  """

  def __init__(self, files, name):
    root = os.path.commonpath([os.path.dirname(path) for path in files])
    names = {path: os.path.relpath(path, root or '.') for path in files}
    self.names = dict(sorted(names.items(), key=lambda pair: pair[1]))
    self.paths = sorted(
      files,
      key=lambda path: hashlib.sha256(os.fsencode(names[path])).digest(),
    )
    self.files, self.lengths = [name], [len(files)]

  @property
  def fingerprint(self):
    found = [
      entry | {'file': name}
      for entry, name in zip(
        fingerprints(list(self.names)), self.names.values(), strict=True
      )
    ]
    if len(found) <= LISTED:
      return found
    # Too many to list: groups of neighbours.
    size = -(-len(found) // LISTED)
    groups = [found[n : n + size] for n in range(0, len(found), size)]
    return [
      {
        'file': f'{group[0]["file"]} to {group[-1]["file"]}',
        'documents': len(group),
        'sha256': hashlib.sha256(json.dumps(group).encode()).hexdigest()[:16],
      }
      for group in groups
    ]

  def place(self, file, line):
    return self.paths[line - 1]

  def open(self, file):
    """A function: indices of documents -> (number, text) of each."""
    del file
    return lambda indices: [
      (i + 1, lines.read_whole(self.paths[i])) for i in indices
    ]

  def records(self, file, start):
    read = self.open(file)
    return (read([n])[0] for n in range(start, len(self.paths)))

  def text(self, record):
    if not record.strip():
      raise ValueError('no text')
    return super().text(record)


class JsonFiles(TextFiles):
  """Lines of JSON with a field of text, as C4 is published."""

  def __init__(self, files, field='text'):
    super().__init__(files)
    self.field = field

  def records(self, file, start):
    index = 0
    for number, line in enumerate(lines.read_lines(self.files[file]), 1):
      if line and not line.isspace():
        if index >= start:
          yield number, line
        index += 1

  def text(self, record):
    document = parse(record)
    if not isinstance(document, dict):
      raise ValueError(
        f'no text: the line is {_kind(document)}, no object with the field'
        f' {self.field!r}'
      )
    if self.field not in document:
      raise ValueError(
        f'no text: the object has no field {self.field!r}, only'
        f' {", ".join(list(document)[:9])}; data.text_field names another'
      )
    text = document[self.field]
    if not isinstance(text, str):
      raise ValueError(f'no text: the field {self.field!r} is {_kind(text)}')
    if not text:
      raise ValueError('no text')
    try:
      return text.encode()
    except UnicodeEncodeError as error:
      raise ValueError(f'text is not Unicode ({error.reason})') from None


def _kind(value):
  """What a value is in JSON."""
  kinds = {dict: 'an object', list: 'an array', str: 'a string'}
  return kinds.get(type(value)) or json.dumps(value)


class Texts(Source):
  """Documents held in memory, as one file."""

  files, unit = ('docs',), 'document'

  def __init__(self, texts, fingerprint):
    self.texts, self.fingerprint = texts, fingerprint

  def records(self, file, start):
    del file
    return enumerate(self.texts[start:], start + 1)

  def text(self, record):
    return record


class Synthetic(Source):
  """Random walks round a fixed cycle of tokens: no files, no TensorFlow.

  A walk steps from a token to the next one of the cycle, and now and then jumps
  anywhere, so that a model can learn to fill in what is missing.
  """

  tokenized = True
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
  """A line of JSON, a byte order mark before it left out, as Python's value.

  Raises ValueError that says what is wrong with it.
  """
  record = record.removeprefix(lines.MARK)
  try:
    return orjson.loads(record)
  except ValueError:  # it is stricter: NaN, say, is no JSON
    pass
  try:
    return json.loads(record.decode())
  except ValueError as error:  # UnicodeDecodeError is one
    raise ValueError(f'not JSON ({error})') from None
  except RecursionError:
    raise ValueError('JSON that is nested too deeply') from None


def _match(pattern, where):
  try:
    files = paths.match(pattern)
  except OSError as error:
    raise ValueError(f'{where}: {error}') from error
  if not files:
    raise ValueError(f'{where} matches no file.')
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
