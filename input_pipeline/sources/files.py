"""Sources: where documents come from, file by file, in a fixed order."""

import abc
import itertools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import orjson

from input_pipeline.sources import hashes, lines

Reader = Callable[[Sequence[int]], list[tuple[int, bytes]]]
LISTED = 1000  # entries of a fingerprint, where every document is a file


class Source(abc.ABC):
  """What every source has.

  Two more things are optional. `lengths`: the documents of each file, where
  they are known without reading. open(file): for random access, a function that
  takes indices of documents and returns their pairs (line, record).

  Attributes:
    files: the names of the files.
    fingerprint: what the documents are, JSON-able.
    tokenized: whether documents are ids already.
    validation: the source that is the evaluation split of this one, or ''.
    unit: what is counted to number a file's documents.
  """

  files: Sequence[str]
  fingerprint: Any
  tokenized: bool = False
  validation: str = ''
  unit: str = 'line'

  @abc.abstractmethod
  def records(self, file: int, start: int) -> Iterator[tuple[int, Any]]:
    """(line, record) of the documents of files[file], from the start-th on."""

  @abc.abstractmethod
  def text(self, record: Any) -> bytes | np.ndarray | list[np.ndarray]:
    """A record as UTF-8, or as ids. ValueError says why it is a bad one."""

  def place(self, file: int, line: int) -> str:
    """Where a document is, for messages."""
    return f'{self.files[file]}, {self.unit} {line}'


class TextFiles(Source):
  """Local or remote text; blank lines separate the documents."""

  def __init__(self, files: list[str]):
    self.files = files

  @property
  def fingerprint(self) -> list[dict]:
    return hashes.fingerprints(self.files)

  def records(self, file: int, start: int) -> Iterator[tuple[int, bytes]]:
    first, paragraph, index = 0, [], 0
    end = [b'']  # a blank line after the last document
    read = itertools.chain(lines.read_lines(self.files[file]), end)
    for number, line in enumerate(read, 1):
      if line.strip():
        first = first or number
        paragraph.append(line)
      elif paragraph:
        if index >= start:
          yield first, b'\n'.join(paragraph)
        first, paragraph, index = 0, [], index + 1

  def text(self, record: bytes) -> bytes:
    try:
      record.decode()
    except UnicodeDecodeError as error:
      raise ValueError(f'not UTF-8 ({error.reason})') from None
    return record


class WholeFiles(TextFiles):
  """Local or remote text: every file is a document.

  They count as the documents of one file, so that a chunk has several of them.
  Their order is that of their names' hashes, which separates neighbours in a
  folder. `name` is that of the source.
  """

  def __init__(self, files: list[str], name: str):
    root = os.path.commonpath([os.path.dirname(path) for path in files])
    names = {path: os.path.relpath(path, root or '.') for path in files}
    self.names = dict(sorted(names.items(), key=lambda pair: pair[1]))
    self.paths = sorted(
      files, key=lambda path: hashes.sha256(os.fsencode(names[path]))
    )
    self.files, self.lengths = [name], [len(files)]

  @property
  def fingerprint(self) -> list[dict]:
    found = hashes.fingerprints(list(self.names))
    for entry, name in zip(found, self.names.values(), strict=True):
      entry['file'] = name
    if len(found) <= LISTED:
      return found
    # Too many to list: groups of neighbours.
    size = -(-len(found) // LISTED)
    groups = [found[n : n + size] for n in range(0, len(found), size)]
    return [
      {
        'file': f'{group[0]["file"]} to {group[-1]["file"]}',
        'documents': len(group),
        'sha256': hashes.hash_bytes(json.dumps(group).encode()),
      }
      for group in groups
    ]

  def place(self, file: int, line: int) -> str:
    return self.paths[line - 1]

  def open(self, file: int) -> Reader:
    """A function: indices of documents -> (number, text) of each."""
    del file
    read, at = lines.read_whole, self.paths
    return lambda indices: [(i + 1, read(at[i])) for i in indices]

  def records(self, file: int, start: int) -> Iterator[tuple[int, bytes]]:
    read = self.open(file)
    return (read([n])[0] for n in range(start, len(self.paths)))

  def text(self, record: bytes) -> bytes:
    if not record.strip():
      raise ValueError('no text')
    return super().text(record)


class JsonFiles(TextFiles):
  """Lines of JSON with a field of text, as C4 is published."""

  def __init__(self, files: list[str], field: str = 'text'):
    super().__init__(files)
    self.field = field

  def records(self, file: int, start: int) -> Iterator[tuple[int, bytes]]:
    index = 0
    for number, line in enumerate(lines.read_lines(self.files[file]), 1):
      if line and not line.isspace():
        if index >= start:
          yield number, line
        index += 1

  def text(self, record: bytes) -> bytes:
    document = parse(record)
    if not isinstance(document, dict):
      raise ValueError(
        f'no text: the line is {_kind(document)}, not an object with the field'
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


def parse(record: bytes) -> Any:
  """The value of a line of JSON; a ValueError says what is wrong with it."""
  record = record.removeprefix(lines.MARK)
  try:
    return orjson.loads(record)
  except ValueError:  # orjson is stricter: it rejects NaN, for example
    pass
  try:
    return json.loads(record.decode())
  except ValueError as error:  # UnicodeDecodeError is one
    raise ValueError(f'not JSON ({error})') from None
  except RecursionError:
    raise ValueError('JSON that is nested too deeply') from None
