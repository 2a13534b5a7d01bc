"""Token caches: documents that were tokenized once, read at random.

A cache is a folder that `python -m input_pipeline.prepare` made: the tokenizer,
an ArrayRecord file for each file of the source, and manifest.json, which says
what they were made of and knows each by its size and hash. A file's n-th record
is the n-th document of the source's file, a bad one included, so that cursors,
held-out documents and rows are those of the source itself.

A record is little-endian: a uint32 that counts the sentences, their numbers of
tokens as uint32, and the ids, as uint16 where the vocabulary allows. Documents
that are not cut into sentences count 0 of them; of a bad document BAD and what
is wrong with it are kept.
"""

import concurrent.futures
import os

import numpy as np

from input_pipeline.sources import files, hashes, paths
from input_pipeline.sources.manifest import (
  MANIFEST,
  MEND,
  check_beside,
  damage,
  read_manifest,
  tokenizer_path,
)

VALIDATION = 'validation'  # a cache in the cache, of what is evaluated on
BAD = 0xFFFFFFFF
# Records are compressed in groups: 16 cost a reader that wants one of them
# little, and those that want blocks of documents nothing.
GROUP = 16
WRITER = f'group_size:{GROUP}'
READER = 'readahead_buffer_size:0,max_parallelism:0'
CHUNK = 128  # records read at a time, where all are wanted


class TokenCache(files.Source):
  """A source (see sources) of documents that are ids already.

  `lengths` are the documents of each file; open(file) reads them at random.
  Raises ValueError, naming the file, when the cache is not finished, damaged or
  edited.
  """

  tokenized, unit = True, 'document'

  def __init__(self, folder, key='data.source'):
    name = f"{key}='cache:{folder}'"
    self.folder, self.manifest = folder, read_manifest(folder, name)
    if 'dtype' not in self.manifest:
      raise ValueError(f'{name} is a dataset for TFDS, no token cache.')
    names, entries = self.manifest['names'], self.manifest['files']
    if len(entries) < len(names):
      raise ValueError(
        f'{name}: its preparation was not finished, {len(entries)} of'
        f' {len(names)} files are made. The same command of'
        ' input_pipeline.prepare goes on with it.'
      )
    check_beside(folder, self.manifest, name)
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
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
      checks = pool.map(
        lambda file: damage(folder, file, entries[file], hashed), names
      )
      for found in filter(None, checks):
        raise ValueError(f'{name} is damaged: {found}. {MEND}')

  @property
  def tokenizer(self):
    """The path of the tokenizer."""
    return tokenizer_path(self.folder, self.manifest)

  @property
  def validation(self):
    """The cache of the evaluation split that came with the source, or ''."""
    folder = os.path.join(self.folder, VALIDATION)
    found = paths.exists(os.path.join(folder, MANIFEST))
    return f'cache:{folder}' if found else ''

  def open(self, file):
    """A function: indices of documents -> (line, record) of each."""
    path = self.files[file]
    with _told(path):
      reader = open_records(path)
      there = reader.num_records()
    if there != self.lengths[file]:
      raise ValueError(
        f'{path} has {there} documents, not {self.lengths[file]}. {MEND}'
      )

    def read(indices):
      with _told(path):
        records = reader.read(indices)
      return [
        (i + 1, record) for i, record in zip(indices, records, strict=True)
      ]

    return read

  def records(self, file, start):
    read = self.open(file)
    for first in range(start, self.lengths[file], CHUNK):
      last = min(first + CHUNK, self.lengths[file])
      yield from read(list(range(first, last)))

  def text(self, record):
    sentences = int.from_bytes(record[:4], 'little')
    if sentences == BAD:
      raise ValueError(record[4:].decode())
    if not self.sentences:
      return np.frombuffer(record, self.dtype, offset=4).astype(np.int32)
    ends = np.frombuffer(record, '<u4', sentences, 4).cumsum()
    ids = np.frombuffer(record, self.dtype, offset=4 + 4 * sentences)
    return np.split(ids.astype(np.int32), ends)[:sentences]


def id_type(size):
  """The smallest type for ids below `size`, as manifests name it."""
  return '<u2' if size <= 1 << 16 else '<u4'


def pack(document, dtype, sentences):
  """A document as a record: ids, or a list of its sentences' ids."""
  lengths = [len(ids) for ids in document] if sentences else []
  parts = document if sentences else [document]
  ids = b''.join(ids.astype(dtype).tobytes() for ids in parts)
  return np.array([len(lengths), *lengths], '<u4').tobytes() + ids


def pack_bad(message):
  """A bad document as a record."""
  return BAD.to_bytes(4, 'little') + message.encode()


def open_records(path):
  """An ArrayRecord file, read at random; safe to read from several threads."""
  from array_record.python import array_record_module

  # A far file is copied here; an open file outlives its name.
  with paths.local(path) as copy:
    return array_record_module.ArrayRecordReader(copy, READER)


class _told:
  """ArrayRecord's errors, which name no file, as ValueErrors that do."""

  def __init__(self, path):
    self.path = path

  def __enter__(self):
    return self

  def __exit__(self, kind, error, trace):
    if isinstance(error, (RuntimeError, ValueError, IndexError)):
      reason = ' '.join(str(error).split())[:200]
      raise ValueError(f'{self.path} is damaged: {reason}. {MEND}') from error
