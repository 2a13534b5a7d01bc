"""Cursors: the place of every stream in the data, as int32 numbers.

A place in a source is (epoch, shard, chunk, row), see chunks: the last row that
a stream took. With a row of -1 it has taken none of the chunk yet. The cursor
of a stream is its place [4]; in a mixture of K sources it is the count of the
stream's rows, then the place in each source [1 + 4 K]. Every row carries its
cursor, and a run's has one line for each stream.
"""

import numpy as np

START = np.array([0, 0, 0, -1], np.int32)  # before the first row of a source


def start(streams: int, mixed: int = 0) -> np.ndarray:
  """Cursors before the first row, [streams, 4] or [streams, 1 + 4 K].

  `mixed` is K, the number of a mixture's sources; 0: there is no mixture.

  >>> start(1).tolist(), start(1, 2).tolist()
  ([[0, 0, 0, -1]], [[0, 0, 0, 0, -1, 0, 0, 0, -1]])
  """
  rows = np.zeros(1 if mixed else 0, np.int32)
  first = np.concatenate([rows, *[START] * (mixed or 1)])
  return np.tile(first, [streams, 1])


def places(cursors: np.ndarray) -> np.ndarray:
  """The places [..., K, 4] in cursors [..., 4] or [..., 1 + 4 K]; a view."""
  numbers = cursors[..., cursors.shape[-1] % 4 :]
  return numbers.reshape(*cursors.shape[:-1], -1, 4)


def next_chunk(cursors: np.ndarray) -> np.ndarray:
  """The start of the next chunk of each stream and source.

  A chunk that was not begun yet is its own next one.

  >>> next_chunk(np.array([[3, 0, 2, -1], [3, 0, 2, 5]])).tolist()
  [[3, 0, 2, -1], [3, 0, 3, -1]]
  """
  cursors = np.array(cursors)
  here = places(cursors)
  here[..., 2] += here[..., 3] >= 0
  here[..., 3] = -1
  return cursors
