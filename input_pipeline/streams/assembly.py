"""Assembly: blocks of rows from every stream -> batches, in order.

Both functions take `makers`, one function a stream that returns an iterator of
blocks of rows [rows, W]; `places`, for each stream the rows wanted of its share
of the batch; the `share`, rows of a batch from each stream; and the `shapes`
that rows are split into in the end (see features).
"""

import atexit
import threading
import weakref

import numpy as np

from input_pipeline.objectives import features

_OPEN = weakref.WeakSet()  # iterators of a graph


@atexit.register
def _close():
  """TensorFlow's threads must not call Python while it shuts down."""
  for iterator in list(_OPEN):
    iterator.close()


def plain(makers, places, share, shapes):
  """Batches of streams put together without TensorFlow; see graph."""

  def shares(maker):
    left = []
    for block in maker():
      rows = np.concatenate([*left, block])
      full = len(rows) - len(rows) % share
      yield from rows[:full].reshape(-1, share, rows.shape[1])
      left = [rows[full:]]

  streams = [shares(maker) for maker in makers]
  while True:
    taken = zip(streams, places, strict=True)
    rows = np.concatenate([next(stream)[place] for stream, place in taken])
    yield features.split(rows, shapes)


def graph(makers, places, share, shapes, threads):
  """Batches put together by a tf.data graph: streams in parallel, in order.

  The accelerators are hidden from TensorFlow, which would take their memory.
  An error of a block is raised here as it was there. The graph's threads end
  when the iterator is closed, deleted, or the process exits.
  """
  import tensorflow as tf

  for kind in ('GPU', 'TPU'):
    tf.config.set_visible_devices([], kind)
  stop, failures = threading.Event(), []
  streams = [maker() for maker in makers]
  empty = features.padding(shapes, 0)

  def block(stream):
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
    # Not from_generator, which tells malloc to unmap all large arrays of the
    # process when they are freed: new pages took a tenth of the time.
    def rows(_):
      rows = tf.numpy_function(block, [stream], tf.int32)
      return tf.ensure_shape(rows, (None, empty.shape[1]))

    blocks = tf.data.Dataset.counter().map(rows)
    blocks = blocks.take_while(lambda rows: tf.shape(rows)[0] > 0)
    return blocks.rebatch(share, drop_remainder=True)

  count = len(makers)
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
  iterator = _batches(dataset, split, streams, stop, failures)
  _OPEN.add(iterator)
  return iterator


def _batches(dataset, split, streams, stop, failures):
  """The dataset's batches, split; a failed block's error, not TensorFlow's.

  In the end the streams are told to stop and what is under way is awaited:
  deleting a graph whose threads are in Python can crash the process. Nor may
  the error's traceback keep the graph alive.
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
    # Out of any graph: the collector may end this while another one is built.
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
