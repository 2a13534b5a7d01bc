"""Packing: several short examples share a row."""

import bisect
from collections.abc import Sequence

import numpy as np


def best_fit(
  lengths: np.ndarray,
  capacity: Sequence[int],
  rng: np.random.Generator,
  groups: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Places examples in rows by best fit, longest first; none is split.

  lengths [N, 2] are tokens of inputs and targets, capacity (S, T) the room in a
  row; with T = 0 there are no targets. Examples with the same number in
  `groups` [N] share a row, in which they must fit. Returns rows [N], offsets
  [N, 2] and segments [N], counted from 1 in each row.

  Each example goes into the row where it leaves least room, so a row mixes long
  and short examples more than chance would. Their order in a row is random. An
  example that fits beside no other needs no search: nearly every one in T5's
  pretraining.

  >>> rng = np.random.default_rng(0)
  >>> rows, offsets, segments = best_fit([[3, 2], [5, 2], [4, 2]], (8, 4), rng)
  >>> rows.tolist(), offsets.tolist(), segments.tolist()
  ([0, 0, 1], [[5, 2], [0, 0], [0, 0]], [2, 1, 1])
  """
  lengths = np.asarray(lengths).reshape(-1, 2)
  sizes = lengths
  if groups is not None:
    sizes = np.zeros([max(groups, default=-1) + 1, 2], lengths.dtype)
    np.add.at(sizes, groups, lengths)
  rows = _rows(sizes, np.array(capacity))
  if groups is not None:
    rows = rows[groups]

  order = np.lexsort([rng.permutation(len(rows)), rows])
  ends = np.cumsum(lengths[order], axis=0)
  starts = ends - lengths[order]
  first = np.searchsorted(rows[order], np.arange(rows.max(initial=-1) + 1))
  offsets = np.empty_like(lengths)
  offsets[order] = starts - starts[first][rows[order]]
  segments = np.empty_like(rows)
  segments[order] = np.arange(len(rows)) - first[rows[order]] + 1
  return rows, offsets, segments


def _rows(sizes, capacity):
  """The row of each example of sizes [N, 2]."""
  least = sizes.min(axis=0, initial=capacity.max(initial=0))
  alone = (sizes + least > capacity).any(axis=1)
  rows = np.cumsum(alone) - 1
  (left,) = np.nonzero(~alone)
  shares = sizes[left] / np.maximum(capacity, 1)
  left = left[np.argsort(-shares.max(axis=1), kind='stable')]
  fuller = (shares == shares.max(axis=1, keepdims=True)).all(axis=0)
  if fuller.any():  # one side fills first in every row: the other has room
    side = int(np.argmax(fuller))
    search = _one_side(sizes[left, side], capacity[side], least[side])
  else:
    search = _two_sides(sizes[left], capacity, least)
  rows[left] = alone.sum() + search
  return rows


def _one_side(sizes, room, least):
  """As _rows, of sizes [N] on one side, longest first."""
  room, least = int(room), int(least)
  # Examples of more than about half a row begin one each.
  count = _begin(sizes[:, None], room)
  rows = list(range(count))
  left = (room - sizes[:count]).tolist()
  unfilled = [(left[row], row) for row in rows if left[row] >= least]  # sorted
  for size in sizes[count:].tolist():
    at = bisect.bisect_left(unfilled, (size, -1))
    if at < len(unfilled):
      left, row = unfilled.pop(at)
    else:
      left, row, count = room, count, count + 1
    rows.append(row)
    if left - size >= least:
      bisect.insort(unfilled, (left - size, row))
  return np.array(rows, np.int64)


def _two_sides(sizes, capacity, least):
  """As _rows, of inputs and targets; those that fill most of a side first."""
  first = count = _begin(sizes, capacity)
  rows = np.arange(len(sizes))
  room = capacity - sizes  # left in unfilled rows; `names` are their numbers
  names = rows[:first][(room[:first] >= least).all(axis=1)].copy()
  unfilled, scale = len(names), 1 / capacity
  room[:unfilled] = room[names]
  names = np.append(names, np.zeros(len(sizes) - unfilled, np.int64))
  for n, size in enumerate(sizes[first:], first):
    (fits,) = np.nonzero((room[:unfilled] >= size).all(axis=1))
    if len(fits):
      at = fits[np.argmin(room[fits] @ scale)]
    else:
      at, unfilled = unfilled, unfilled + 1
      room[at], names[at], count = capacity, count, count + 1
    rows[n] = names[at]
    room[at] -= size
    if (room[at] < least).any():
      unfilled -= 1
      room[at], names[at] = room[unfilled], names[unfilled]
  return rows


def _begin(sizes, capacity):
  """How many of the first sizes [N, D] fit beside none before them."""
  before = np.minimum.accumulate(sizes)[:-1]
  (fits,) = np.nonzero((before + sizes[1:] <= capacity).all(axis=1))
  return int(fits[0]) + 1 if len(fits) else len(sizes)


def one_each(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """As best_fit, with each of `count` examples in a row of its own."""
  return np.arange(count), np.zeros([count, 2], int), np.ones(count, int)
