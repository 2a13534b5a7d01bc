"""Assembly: arrays of rows from every stream -> batches, in order.

Row p of a batch belongs to stream p // (batch / streams): each stream gives an
equal share of the batch. A host makes only the rows that it needs, and so runs
only the streams that these belong to.
"""

import atexit
import functools
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


def batches(
  stream_rows: Callable[[int], Iterator[np.ndarray]],
  rows: np.ndarray,
  batch: int,
  streams: int,
  shapes: dict[str, tuple],
  threads: int,
) -> Generator[dict[str, np.ndarray], None, None]:
  """Batches of the given rows: name -> array [len(rows), ...]; see `shapes`.

  `rows` are sorted positions in a batch of `batch` rows. stream_rows(s) gives
  the rows of stream s, an array [rows, W] at a time. They are made by `threads`
  threads of tf.data, or with 0 without TensorFlow. Raises ValueError when
  `rows` are no such positions.
  """
  rows = np.asarray(rows)
  if not len(rows) or rows[0] < 0 or rows[-1] >= batch:
    raise ValueError(f'rows {rows} are not positions in {batch} rows.')
  share = batch // streams
  wanted = {int(s): rows[rows // share == s] % share for s in rows // share}
  parts = [stream_rows(s) for s in wanted], list(wanted.values())
  if threads:
    return _graph(*parts, share, shapes, threads)
  return _plain(*parts, share, shapes)


# Both functions take `streams`, the iterators of their rows; `places`, the
# wanted rows of each stream's share; the `share`; and the `shapes` that rows
# are split into in the end.


def _plain(streams, places, share, shapes):
  """Batches without TensorFlow."""

  def shares(stream):
    left = []
    for made in stream:
      rows = np.concatenate([*left, made])
      full = len(rows) - len(rows) % share
      yield from rows[:full].reshape(-1, share, rows.shape[1])
      left = [rows[full:]]

  streams = [shares(stream) for stream in streams]
  while True:
    taken = zip(streams, places, strict=True)
    rows = np.concatenate([next(stream)[place] for stream, place in taken])
    yield features.split(rows, shapes)


def _graph(streams, places, share, shapes, threads):
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
    return parts.rebatch(share, drop_remainder=True)

  count = len(streams)
  wanted = np.concatenate([n * share + rows for n, rows in enumerate(places)])

  def split(batch):  # [streams, share, W]
    rows = batch.reshape(count * share, -1)
    if len(wanted) < len(rows):
      rows = rows[wanted]
    return features.split(rows, shapes)

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
  iterator = _iterate(dataset, split, streams, stop, failures)
  _OPEN.add(iterator)
  _close_at_exit()
  return iterator


def _iterate(dataset, split, streams, stop, failures):
  """The dataset's batches, split; raises our error instead of TensorFlow's.

  At the end it stops the streams and waits for what is under way: deleting a
  graph whose threads are in Python can crash the process. The traceback of an
  error must not keep the graph alive either.
  """
  from tensorflow import errors, init_scope

  error, iterator = None, dataset.as_numpy_iterator()
  try:
    while error is None:
      try:
        batch = next(iterator)
      except errors.OpError as failed:
        error = failures[0] if failures else failed.with_traceback(None)
      else:
        yield split(batch)
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
