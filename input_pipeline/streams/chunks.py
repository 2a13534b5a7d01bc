"""Streams: which block of documents comes next, and reading it.

A stream walks the shards that an epoch's permutation deals to it, and each
shard's blocks. Its place is a cursor (epoch, shard, block, row): shard is the
place in the stream's order of this epoch, block the one in the shard.
"""

import collections
import itertools
import math
import threading

import numpy as np

from input_pipeline.streams import seeds

MANY = 16  # files a stream beyond which whole files are shared out well enough
EMPTY = 20  # epochs a stream in which one block finds every stream
WINDOW = 8  # blocks of each part kept for streams that fall behind


def split_files(files, streams):
  """Parts that a file is split into so that all streams get equally many."""
  if files >= MANY * streams:
    return 1
  return streams // math.gcd(files, streams)


def shard_order(files, parts, seed, epoch):
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


def kept(index, holdout, held_out):
  """Whether the index-th document of a file belongs to this split."""
  return (holdout > 0 and index % holdout == holdout - 1) == held_out


class SourceEnded(ValueError):
  """A source was read as many times as data.epochs allows."""


def kept_count(documents, holdout, held_out):
  """How many of a file's documents belong to this split."""
  held = documents // holdout if holdout else 0
  return held if held_out else documents - held


def first_index(number, holdout, held_out):
  """Index in the file of the number-th document of this split.

  >>> [first_index(n, 3, False) for n in range(4)], first_index(1, 3, True)
  ([0, 1, 3, 4], 5)
  """
  if held_out:
    return number * holdout + holdout - 1
  return number + number // (holdout - 1) if holdout else number


class BlockReader:
  """Blocks of files, each file read once for all the streams that share it.

  Blocks that a reader passes on the way to the one asked for are kept for the
  streams they belong to, as many as WINDOW for each part; a stream further
  behind opens a reader of its own. A source that is read at random is asked for
  the block's documents alone. Safe to call from several threads.

  `limits` are the documents of the split that are read of each file, of those
  files that are read at all; None: all. `name` is the source's in messages.
  With `repeat` walk() reads a lone file several times for a block that is
  larger.
  """

  def __init__(
    self, source, block, parts, holdout, held_out, files=2, limits=None,
    name='data.source', repeat=False,
  ):  # fmt: skip
    self.source, self.block, self.parts = source, block, parts
    self.repeat = repeat
    self.split = holdout, held_out
    self.limits, self.name = limits, name
    self.files = len(source.files) if limits is None else len(limits)
    self.open_files = files  # as many as streams, and the next ones
    self._files = collections.OrderedDict()
    self._lock = threading.Lock()

  def read(self, file, block):
    """Records (line, record) of a file's block; None past its last one."""
    with self._lock:
      if file not in self._files:
        self._files[file] = _OpenFile()
        while len(self._files) > self.open_files:
          self._files.popitem(last=False)
      self._files.move_to_end(file)
      opened = self._files[file]
    if hasattr(self.source, 'open'):
      return self._read_at(opened, file, block)
    with opened.lock:
      return self._read(opened, file, block)

  def _size(self, file, block):
    """Documents of a block; more than there are in the end of a file."""
    if self.limits is None:
      return self.block
    return max(0, min(self.block, self.limits[file] - block * self.block))

  def _read_at(self, opened, file, block):
    first = block * self.block
    numbers = np.arange(first, first + self._size(file, block))
    indices = first_index(numbers, *self.split)
    indices = indices[indices < self.source.lengths[file]].tolist()
    if not indices:
      return None
    with opened.lock:
      if opened.documents is None:
        opened.documents = self.source.open(file)
    return opened.documents(indices)

  def _read(self, opened, file, block):
    if block in opened.blocks:
      return opened.blocks.pop(block)
    if opened.end is not None and block >= opened.end:
      return None
    window = WINDOW * self.parts
    near = [n for n in opened.readers if block - window <= n <= block]
    at = max(near, default=block - block % self.parts)
    documents = opened.readers.pop(at, None) or self._documents(file, at)
    for number in range(at, block + 1):
      records = list(itertools.islice(documents, self._size(file, number)))
      if not records:
        opened.end = number
        return None
      opened.blocks[number] = records
    while len(opened.blocks) > window:
      opened.blocks.popitem(last=False)
    opened.readers[block + 1] = documents
    while len(opened.readers) > 2 * self.parts:  # two epochs may meet here
      del opened.readers[next(iter(opened.readers))]  # the longest unused
    return opened.blocks.pop(block)

  def _documents(self, file, block):
    first = first_index(block * self.block, *self.split)
    records = self.source.records(file, first)
    if not self.split[0]:
      return records
    return (r for i, r in enumerate(records, first) if kept(i, *self.split))


class _OpenFile:
  def __init__(self):
    self.lock = threading.Lock()
    self.blocks = collections.OrderedDict()  # passed by, not yet asked for
    self.readers = {}  # next block -> iterator of its documents
    self.end = None  # number of blocks, once known
    self.documents = None  # where any of them can be read


def walk(reader, stream, streams, seed, cursor, epochs=0):
  """Blocks of a stream from the cursor's on: ((epoch, shard, block), (file,
  block of the file), records). Endless, or one epoch in fixed order when `seed`
  is None.

  Where blocks are fewer than streams, some streams have none in an epoch, and
  go on to the next one. Raises ValueError when there are none in many epochs,
  and SourceEnded after so many `epochs`; 0: never.
  """
  epoch, shard, block = (int(c) for c in cursor[:3])
  empty = 0  # epochs in a row
  while True:
    if 0 < epochs <= epoch:
      raise SourceEnded(
        f'{reader.name}: a stream has read its share of it data.epochs={epochs}'
        ' times. Raise data.epochs (0: without end) to go on.'
      )
    shards = shard_order(reader.files, reader.parts, seed, epoch)
    shards = shards[stream::streams]
    for place in range(shard, len(shards)):
      file, part = (int(n) for n in shards[place])
      while True:
        number = block * reader.parts + part
        records = reader.read(file, number)
        if records is None:
          break
        empty = -1
        if reader.repeat and reader.files == 1 and number == 0:
          records = records * (reader.block // len(records))
        yield (epoch, place, block), (file, number), records
        block += 1
      block = 0
    if seed is None:
      return
    epoch, shard, block, empty = epoch + 1, 0, 0, empty + 1
    if empty > EMPTY * streams:
      raise ValueError(
        f'No document is left for stream {stream} of data.streams={streams} in'
        f' {empty} epochs: {reader.name} has none, or too few. Lower'
        ' data.streams or give more documents.'
      )
