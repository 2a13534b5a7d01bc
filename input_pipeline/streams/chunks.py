"""Chunks: which documents a stream reads next, and reading them.

A chunk is data.block documents of one file, which are read, shuffled and packed
together; the last chunk of a file may have fewer. A shard is a file, or one
part of P: part p has the file's chunks p, p + P, p + 2 P and so on.

  chunks of a file   0 1 2 3 4 5 6 7 8 9
  part 1 of 4          .       .       .

Every epoch deals all shards to the streams in a new order. The place of a
stream in a source is (epoch, shard, chunk, row): `shard` counts the stream's
shards of the epoch, `chunk` the shard's chunks, `row` the chunk's rows.
"""

import collections
import itertools
import math
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from input_pipeline.sources.files import Source
from input_pipeline.streams import seeds

MANY = 16  # files for each stream: enough to deal whole files evenly
EMPTY = 20  # epochs for each stream, in which one chunk meets every stream
WINDOW = 8  # chunks of each part that are kept for streams that fall behind


def split_files(files: int, streams: int) -> int:
  """Parts of each file, so that all streams get equally many shards."""
  if files >= MANY * streams:
    return 1
  return streams // math.gcd(files, streams)


def shard_order(
  files: int, parts: int, seed: int | None, epoch: int
) -> list[tuple[int, int]]:
  """All shards (file, part) of an epoch, in its order; stream s reads [s::S].

  Files are permuted, then the parts of each, so that the parts of one file are
  read at the same time. `seed` None gives the fixed order of evaluation.
  """
  if seed is None:
    return list(itertools.product(range(files), range(parts)))
  rng = seeds.generator(seed, seeds.SHARD_ORDER, epoch)
  return [
    (f, p) for f in rng.permutation(files) for p in rng.permutation(parts)
  ]


def kept(index: int, holdout: int, held_out: bool) -> bool:
  """Whether the index-th document of a file belongs to this split."""
  return (holdout > 0 and index % holdout == holdout - 1) == held_out


class SourceEnded(ValueError):
  """A stream has read its share of a source data.epochs times."""


def kept_count(documents: int, holdout: int, held_out: bool) -> int:
  """How many of a file's documents belong to this split."""
  held = documents // holdout if holdout else 0
  return held if held_out else documents - held


def first_index(number: int, holdout: int, held_out: bool) -> int:
  """Index in the file of the number-th document of this split.

  >>> [first_index(n, 3, False) for n in range(4)], first_index(1, 3, True)
  ([0, 1, 3, 4], 5)
  """
  if held_out:
    return number * holdout + holdout - 1
  return number + number // (holdout - 1) if holdout else number


class ChunkReader:
  """Chunks of files; streams that share a file read it once.

  A reader that passes other chunks on the way to the wanted one keeps WINDOW of
  each part for the streams they belong to. A stream that is further behind gets
  a reader of its own. A source with random access is asked for the chunk's
  documents only. Safe to call from several threads.

  `size` is the documents of a chunk, `parts` those of each file, and `files`
  how many files stay open. `limits` says how many documents of the split are
  read of each file; None: all. `name` is the source's in messages. With
  `repeat`, walk() reads a lone file several times to fill one chunk.
  """

  def __init__(
    self,
    source: Source,
    size: int,
    parts: int,
    holdout: int,
    held_out: bool,
    files: int = 2,
    limits: list[int] | None = None,
    name: str = 'data.source',
    repeat: bool = False,
  ):
    self.source, self.size, self.parts = source, size, parts
    self.split, self.open_files = (holdout, held_out), files
    self.limits, self.name, self.repeat = limits, name, repeat
    self.files = len(source.files if limits is None else limits)
    self._files = collections.OrderedDict()
    self._lock = threading.Lock()

  def read(self, file: int, chunk: int) -> list[tuple[int, Any]] | None:
    """Records (line, record) of a file's chunk; None past the last chunk."""
    with self._lock:
      if file not in self._files:
        self._files[file] = _OpenFile()
        while len(self._files) > self.open_files:
          self._files.popitem(last=False)
      self._files.move_to_end(file)
      opened = self._files[file]
    if hasattr(self.source, 'open'):
      return self._read_at(opened, file, chunk)
    with opened.lock:
      return self._read(opened, file, chunk)

  def _size(self, file, chunk):
    """Documents to ask for; the end of a file may have fewer."""
    if self.limits is None:
      return self.size
    return max(0, min(self.size, self.limits[file] - chunk * self.size))

  def _read_at(self, opened, file, chunk):
    first = chunk * self.size
    numbers = np.arange(first, first + self._size(file, chunk))
    indices = first_index(numbers, *self.split)
    indices = indices[indices < self.source.lengths[file]].tolist()
    if not indices:
      return None
    with opened.lock:
      if opened.documents is None:
        opened.documents = self.source.open(file)
    return opened.documents(indices)

  def _read(self, opened, file, chunk):
    if chunk in opened.chunks:
      return opened.chunks.pop(chunk)
    if opened.end is not None and chunk >= opened.end:
      return None
    window = WINDOW * self.parts
    near = [n for n in opened.readers if chunk - window <= n <= chunk]
    at = max(near, default=chunk - chunk % self.parts)
    documents = opened.readers.pop(at, None) or self._documents(file, at)
    for number in range(at, chunk + 1):
      records = list(itertools.islice(documents, self._size(file, number)))
      if not records:
        opened.end = number
        return None
      opened.chunks[number] = records
    while len(opened.chunks) > window:
      opened.chunks.popitem(last=False)
    opened.readers[chunk + 1] = documents
    while len(opened.readers) > 2 * self.parts:  # two epochs may meet here
      del opened.readers[next(iter(opened.readers))]  # the longest unused
    return opened.chunks.pop(chunk)

  def _documents(self, file, chunk):
    first = first_index(chunk * self.size, *self.split)
    records = self.source.records(file, first)
    if not self.split[0]:
      return records
    return (r for i, r in enumerate(records, first) if kept(i, *self.split))


class _OpenFile:
  def __init__(self):
    self.lock = threading.Lock()
    self.chunks = collections.OrderedDict()  # read already, not yet asked for
    self.readers = {}  # next chunk -> iterator of its documents
    self.end = None  # number of chunks, once known
    self.documents = None  # reads documents by index, with random access


def walk(
  reader: ChunkReader,
  stream: int,
  streams: int,
  seed: int | None,
  cursor: np.ndarray,
  epochs: int = 0,
) -> Iterator[tuple[tuple[int, int, int], tuple[int, int], list]]:
  """Chunks of a stream, from the one of `cursor` on.

  Yields ((epoch, shard, chunk), (file, chunk of the file), records). Endless,
  or one epoch in fixed order when `seed` is None. A stream that has no chunk in
  an epoch, as there are fewer chunks than streams, goes on to the next epoch.

  Raises ValueError when it finds none in many epochs, and SourceEnded after
  `epochs` of them; 0: never.
  """
  epoch, shard, chunk = (int(c) for c in cursor[:3])
  empty = 0  # epochs in a row
  while True:
    if 0 < epochs <= epoch:
      raise SourceEnded(
        f'{reader.name}: a stream has read its share of it data.epochs={epochs}'
        ' times. To train longer, raise data.epochs (0: without end).'
      )
    shards = shard_order(reader.files, reader.parts, seed, epoch)
    shards = shards[stream::streams]
    for place in range(shard, len(shards)):
      file, part = (int(n) for n in shards[place])
      while True:
        number = chunk * reader.parts + part
        records = reader.read(file, number)
        if records is None:
          break
        empty = -1
        if reader.repeat and reader.files == 1 and number == 0:
          records = records * (reader.size // len(records))
        yield (epoch, place, chunk), (file, number), records
        chunk += 1
      chunk = 0
    if seed is None:
      return
    epoch, shard, chunk, empty = epoch + 1, 0, 0, empty + 1
    if empty > EMPTY * streams:
      raise ValueError(
        f'No document is left for stream {stream} of data.streams={streams} in'
        f' {empty} epochs: {reader.name} has none, or too few. Lower'
        ' data.streams or give more documents.'
      )
