"""Cursors: the place of every stream in the data, as int32 numbers.

A place in a source is (epoch, shard, chunk, row), see chunks: the last row that
a stream took. With a row of -1 it has taken none of the chunk yet. The cursor
of a stream is its place [4]; in a mixture of K sources it is the count of the
stream's rows, then the place in each source [1 + 4 K]. Every row carries its
cursor, and a run's has one line for each stream.

Where phases change how rows are made, a chunk may be begun in one kind of rows
and go on in the next. A place then has a row for each kind: [3 + C] for C
kinds, see `configs.phases.kinds_of`.
"""

import numpy as np

START = np.array([0, 0, 0, -1], np.int32)  # before the first row of a source


def start(streams: int, kinds: int = 1, mixed: int = 0) -> np.ndarray:
  """Cursors before the first row, [streams, 3 + C] or [streams, 1 + (3 + C) K].

  `kinds` is C, and `mixed` is K, the number of a mixture's sources; 0: there is
  no mixture.

  >>> start(1).tolist(), start(1, 2).tolist(), start(1, 1, 2).tolist()
  ([[0, 0, 0, -1]], [[0, 0, 0, -1, -1]], [[0, 0, 0, 0, -1, 0, 0, 0, -1]])
  """
  place = np.append(START[:3], np.full(kinds, START[3]))
  rows = np.zeros(1 if mixed else 0, np.int32)
  first = np.concatenate([rows, *[place] * (mixed or 1)])
  return np.tile(first, [streams, 1])


def places(cursors: np.ndarray, kinds: int = 1) -> np.ndarray:
  """The places [..., K, 3 + C] in cursors; a view."""
  width = 3 + kinds
  numbers = cursors[..., cursors.shape[-1] % width :]
  return numbers.reshape(*cursors.shape[:-1], -1, width)
