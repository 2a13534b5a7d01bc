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

import orjson

from input_pipeline.sources import lines
from input_pipeline.sources.hashes import fingerprints

LISTED = 1000  # entries of a fingerprint, where a document is a file


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
