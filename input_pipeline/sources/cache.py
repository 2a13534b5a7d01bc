"""Token caches: documents that were tokenized once, with random access.

A cache is a folder that `python -m input_pipeline.prepare` made. It has the
tokenizer, an ArrayRecord file for each file of the source, and manifest.json,
which says what they were made from and has the size and hash of each. The n-th
record of a file is the n-th document of the source's file, bad ones included,
so that cursors, held-out documents and rows are those of the source.

A record is little-endian:

  count    uint32, of sentences; 0: the document is not cut into sentences
  lengths  uint32 each, tokens of every sentence
  ids      uint16 each where the vocabulary allows, else uint32

The record of a bad document is BAD as its count, then what is wrong with it.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from input_pipeline.sources import files, hashes, manifest, paths

VALIDATION = 'validation'  # a cache in the cache, of the evaluation split
BAD = 0xFFFFFFFF
# Records that are compressed together. With 16 reading one record costs little,
# and reading chunks of documents no more than without groups.
WRITER = 'group_size:16'
READER = 'readahead_buffer_size:0,max_parallelism:0'
AT_ONCE = 128  # records read at a time, where all are wanted


class TokenCache(files.Source):
  """A source of documents that are ids already; has `lengths` and open().

  Raises ValueError, naming the file, if it is unfinished, damaged or edited.
  """

  tokenized, unit = True, 'document'

  def __init__(self, folder: str, key: str = 'data.source'):
    name = f"{key}='cache:{folder}'"
    self.folder, self.manifest = folder, manifest.read_manifest(folder, name)
    if 'dtype' not in self.manifest:
      raise ValueError(f'{name} is a dataset for TFDS, not a token cache.')
    names, entries = self.manifest['names'], self.manifest['files']
    if len(entries) < len(names):
      if left := manifest.unfinished(folder):
        raise ValueError(f'{name}: {left}')
      raise ValueError(
        f'{name}: its preparation was not finished, {len(entries)} of'
        f' {len(names)} files are made. Run the same command of'
        ' input_pipeline.prepare again to finish it.'
      )
    manifest.check_beside(folder, self.manifest, name)
    self.files = [os.path.join(folder, name) for name in names]
    self.lengths = [entries[name]['documents'] for name in names]
    self.sentences = self.manifest['sentences']
    self.dtype = np.dtype(self.manifest['dtype'])
    self.fingerprint = [
      {'file': name} | {k: entries[name][k] for k in ('bytes', 'sha256')}
      for name in names
    ]
    total = sum(entry['bytes'] for entry in entries.values())
    hashed = 'sha256' if total <= hashes.WHOLE else 'pieces'
    for _, reason in manifest.damaged(folder, entries, hashed):
      raise ValueError(f'{name} is damaged: {reason}. {manifest.FIX}')

  @property
  def tokenizer(self) -> str:
    """The path of the tokenizer."""
    return manifest.tokenizer_path(self.folder, self.manifest)

  @property
  def validation(self) -> str:
    """The cache of the evaluation split that came with the source, or ''."""
    folder = os.path.join(self.folder, VALIDATION)
    found = paths.exists(os.path.join(folder, manifest.MANIFEST))
    return f'cache:{folder}' if found else ''

  def open(self, file: int) -> files.Reader:
    """A function: indices of documents -> (line, record) of each."""
    path = self.files[file]
    with _naming(path):
      reader = open_records(path)
      there = reader.num_records()
    if there != (wanted := self.lengths[file]):
      raise ValueError(
        f'{path} has {there} documents, not {wanted}. {manifest.FIX}'
      )

    def read(indices):
      with _naming(path):
        records = reader.read(indices)
      return [(i + 1, r) for i, r in zip(indices, records, strict=True)]

    return read

  def records(self, file: int, start: int) -> Iterator[tuple[int, bytes]]:
    read = self.open(file)
    for first in range(start, self.lengths[file], AT_ONCE):
      last = min(first + AT_ONCE, self.lengths[file])
      yield from read(list(range(first, last)))

  def text(self, record: bytes) -> np.ndarray | list[np.ndarray]:
    sentences = int.from_bytes(record[:4], 'little')
    if sentences == BAD:
      raise ValueError(record[4:].decode())
    if not self.sentences:
      return np.frombuffer(record, self.dtype, offset=4).astype(np.int32)
    ends = np.frombuffer(record, '<u4', sentences, 4).cumsum()
    ids = np.frombuffer(record, self.dtype, offset=4 + 4 * sentences)
    return np.split(ids.astype(np.int32), ends)[:sentences]


def id_type(size: int) -> str:
  """The smallest type for ids below `size`, as manifests name it."""
  return '<u2' if size <= 1 << 16 else '<u4'


def pack(
  document: np.ndarray | list[np.ndarray], dtype: str, sentences: bool
) -> bytes:
  """A document as a record: its ids, or with `sentences` those of each."""
  lengths = [len(ids) for ids in document] if sentences else []
  parts = document if sentences else [document]
  ids = b''.join(ids.astype(dtype).tobytes() for ids in parts)
  return np.array([len(lengths), *lengths], '<u4').tobytes() + ids


def pack_bad(message: str) -> bytes:
  """A bad document as a record."""
  return BAD.to_bytes(4, 'little') + message.encode()


def open_records(path: str) -> Any:
  """A reader of an ArrayRecord file; safe to use from several threads."""
  from array_record.python import array_record_module

  # The copy of a remote file is deleted at once, but stays readable while open.
  with paths.local(path) as copy:
    return array_record_module.ArrayRecordReader(copy, READER)


@contextlib.contextmanager
def _naming(path):
  """ArrayRecord's errors, which name no file, as ValueErrors that do."""
  try:
    yield
  except (RuntimeError, ValueError, IndexError) as error:
    reason = ' '.join(str(error).split())[:200]
    raise ValueError(f'{path} is damaged: {reason}. {manifest.FIX}') from error
