"""Assembly: arrays of rows from every stream -> batches, in order.

Row n of a run belongs to stream n mod streams. A batch has the rows of stream 0
first, then those of stream 1, and so on. A host makes only the rows that it
needs, and so runs only the streams that these belong to.
"""

import atexit
import functools
import itertools
import math
import threading
import weakref
from collections.abc import Callable, Generator, Iterator

import numpy as np

from input_pipeline.objectives import features

_OPEN = weakref.WeakSet()  # iterators of a graph


@functools.cache  # once
def _close_at_exit():
  """TensorFlow's threads must not call Python while it shuts down."""

  def close():
    for iterator in list(_OPEN):
      iterator.close()

  atexit.register(close)


class Turns:
  """Whose rows each batch has.

  `batch` and `streams` are their numbers, and `taken` the rows of the run
  before the first batch. Streams have equal shares if `streams` divides
  `batch`; else shares differ by one row, and by turns.

  >>> [Turns(5, 2).shares(n).tolist() for n in range(3)]
  [[3, 2], [2, 3], [3, 2]]
  """

  def __init__(self, batch: int, streams: int, taken: int = 0):
    self.batch, self.streams, self.taken = batch, streams, taken
    self.most = -(-batch // streams)  # rows of one stream in a batch
    self.even = batch % streams == 0

  def shares(self, number: int) -> np.ndarray:
    """How many rows of each stream the number-th batch has, [streams]."""
    first = self.taken + number * self.batch
    turns = (np.arange(self.streams) - first) % self.streams
    return -(-(self.batch - turns) // self.streams).clip(None, 0)

  def places(self, number: int, rows: np.ndarray) -> np.ndarray:
    """(stream, place in its share) of rows of the number-th batch, [2, n]."""
    ends = np.cumsum(self.shares(number))
    streams = np.searchsorted(ends, rows, side='right')
    return np.stack([streams, rows - np.append(0, ends)[streams]])

  def last_of(self, number: int, rows: np.ndarray) -> np.ndarray:
    """The stream whose last row each row is; `streams` for the others, [n]."""
    shares = self.shares(number)
    found = np.full(self.batch, self.streams)
    found[np.cumsum(shares)[shares > 0] - 1] = np.flatnonzero(shares)
    return found[rows]

  def needed(self, rows: np.ndarray) -> list[int]:
    """The streams that any batch takes these rows from, sorted."""
    cycle = self.streams // math.gcd(self.batch, self.streams)
    found = [self.places(number, rows)[0] for number in range(cycle)]
    return np.unique(found).tolist()


def batches(
  stream_rows: Callable[[int], Iterator[np.ndarray]],
  rows: np.ndarray,
  turns: Turns,
  shapes: dict[str, tuple],
  threads: int,
) -> Generator[dict[str, np.ndarray], None, None]:
  """Batches of the given rows: name -> array [len(rows), ...]; see `shapes`.

  `rows` are sorted positions in a batch; those after its last row are padding.
  stream_rows(s) gives the rows of stream s, an array [rows, W] at a time. They
  are made by `threads` threads of tf.data, or with 0 without TensorFlow. Raises
  ValueError when `rows` are no such positions.
  """
  rows = np.asarray(rows)
  if not len(rows) or rows[0] < 0:
    raise ValueError(f'rows {rows} are not positions in {turns.batch} rows.')
  real = rows[rows < turns.batch]
  needed = turns.needed(real)
  index = np.zeros(turns.streams, int)  # of a stream among the needed ones
  index[needed] = np.arange(len(needed))

  def finish(number, shares):  # [needed, most, W] -> the batch's arrays
    if turns.even and 'last_of' not in shapes and len(real) == turns.batch:
      return features.split(shares.reshape(turns.batch, -1), shapes)
    made = features.padding(shapes, len(rows))
    streams, places = turns.places(number, real)
    made[: len(real)] = shares[index[streams], places]
    batch = features.split(made, shapes)
    if 'last_of' in batch:
      batch['last_of'][:] = turns.streams
      batch['last_of'][: len(real)] = turns.last_of(number, real)
    return batch

  parts = [stream_rows(stream) for stream in needed]
  if not turns.even:
    parts = [
      _shares(part, turns, stream)
      for part, stream in zip(parts, needed, strict=True)
    ]
  if threads and needed:
    return _graph(parts, turns, finish, shapes, threads)
  return _plain(parts, turns, finish, shapes)


def _shares(stream, turns, number):
  """A stream's rows, [most, W] for each batch; the last may be padding."""
  left = next(stream)
  for batch in itertools.count():
    count = int(turns.shares(batch)[number])
    while len(left) < count:
      left = np.concatenate([left, next(stream)])
    share = np.zeros((turns.most, left.shape[1]), np.int32)
    share[:count], left = left[:count], left[count:]
    yield share


# Both functions take `streams`, the iterators of their rows, and `finish`,
# which makes a batch of the number of the batch and the streams' shares.


def _plain(streams, turns, finish, shapes):
  """Batches without TensorFlow."""

  def shares(stream):
    left = features.padding(shapes, 0)
    for made in stream:
      rows = np.concatenate([left, made])
      full = len(rows) - len(rows) % turns.most
      yield from rows[:full].reshape(-1, turns.most, rows.shape[1])
      left = rows[full:]

  streams = [shares(stream) for stream in streams]
  width = features.padding(shapes, 0).shape[1]
  for number in itertools.count():
    taken = [next(stream) for stream in streams]
    taken = np.stack(taken) if taken else np.zeros((0, turns.most, width), int)
    yield finish(number, taken)


def _graph(streams, turns, finish, shapes, threads):
  """Batches from a tf.data graph: streams in parallel, in order.

  The accelerators are hidden from TensorFlow, which would take their memory.
  An error in making rows is raised here unchanged. The graph's threads end when
  the iterator is closed or deleted, or the process exits.
  """
  import tensorflow as tf

  for kind in ('GPU', 'TPU'):
    tf.config.set_visible_devices([], kind)
  stop, failures = threading.Event(), []
  empty = features.padding(shapes, 0)

  def next_rows(stream):
    while not stop.is_set():
      try:
        rows = next(streams[stream])
      except Exception as error:
        failures.append(error)
        raise
      if len(rows):
        return rows
    return empty  # ends the stream

  def shares(stream):
    # Not from_generator: it makes malloc unmap all large arrays of the process
    # when they are freed, and getting new pages took a tenth of the time.
    def made(_):
      rows = tf.numpy_function(next_rows, [stream], tf.int32)
      return tf.ensure_shape(rows, (None, empty.shape[1]))

    parts = tf.data.Dataset.counter().map(made)
    parts = parts.take_while(lambda rows: tf.shape(rows)[0] > 0)
    return parts.rebatch(turns.most, drop_remainder=True)

  count = len(streams)
  options = tf.data.Options()
  options.threading.private_threadpool_size = threads
  options.threading.max_intra_op_parallelism = 1
  options.autotune.enabled = False
  options.deterministic = True
  dataset = (
    tf.data.Dataset.range(count)
    .interleave(shares, cycle_length=count, num_parallel_calls=count)
    .batch(count, drop_remainder=True)
    .prefetch(2)
    .with_options(options)
  )
  iterator = _iterate(dataset, finish, streams, stop, failures)
  _OPEN.add(iterator)
  _close_at_exit()
  return iterator


def _iterate(dataset, finish, streams, stop, failures):
  """The dataset's batches, finished; raises our error, not TensorFlow's.

  At the end it stops the streams and waits for what is under way: deleting a
  graph whose threads are in Python can crash the process. The traceback of an
  error must not keep the graph alive either.
  """
  from tensorflow import errors, init_scope

  error, numbers = None, itertools.count()
  iterator = dataset.as_numpy_iterator()
  try:
    while error is None:
      try:
        batch = next(iterator)
      except errors.OpError as failed:
        error = failures[0] if failures else failed.with_traceback(None)
      else:
        yield finish(next(numbers), batch)
  finally:
    stop.set()
    # Outside of any graph: the garbage collector may close this iterator while
    # another graph is being built.
    with init_scope():
      for _ in range(10_000):  # far more than the graph's buffers hold
        try:
          next(iterator)
        except StopIteration:
          break
        except errors.OpError:
          continue
    del iterator
    streams.clear()  # TensorFlow never forgets the function that reads them
  raise error
