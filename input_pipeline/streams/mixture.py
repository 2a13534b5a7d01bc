"""Mixtures: the rows of several sources in one stream.

Each row's source is drawn on its own, with the sources' rates, by a generator
that is seeded by (seed, stream, place): which source row n of a stream has is
known without what came before. Each source goes on in a stream where that
stream last left it. A cursor is (rows so far, then epoch, shard, block, row of
each source): [1 + 4 K] for K sources.
"""

import numpy as np

from input_pipeline.objectives import features
from input_pipeline.streams import seeds

CHUNK = 128  # rows whose sources are drawn, and which are put together, at once


def draw(seed, stream, rates, chunk):
  """The sources of a stream's rows [chunk * CHUNK, (chunk + 1) * CHUNK)."""
  rng = seeds.generator(seed, seeds.MIXTURE, stream, chunk)
  bounds = np.cumsum(rates) / np.sum(rates)
  return np.searchsorted(bounds[:-1], rng.random(CHUNK), side='right')


def start(count, first):
  """The cursor [1 + 4 K] before a stream's first row: `first` of each source.

  >>> start(2, [0, 0, 0, -1]).tolist()
  [0, 0, 0, 0, -1, 0, 0, 0, -1]
  """
  return np.concatenate([[0], np.tile(first, count)]).astype(np.int32)


def merge(blocks, seed, stream, rates, cursor, shapes):
  """Blocks of a stream's rows [rows, W] after `cursor` [1 + 4 K], endless.

  `blocks` are iterators over the sources' own blocks of rows, from their places
  in the cursor on; their rows have a cursor's four numbers in the first columns
  of the `shapes`' cursor. An error of a source is raised when its row's turn
  has come.
  """
  count = int(cursor[0])
  places = [place[None] for place in np.reshape(cursor[1:], (-1, 4))]
  lines = [_Line(rows) for rows in blocks]
  while True:
    chunk, first = divmod(count, CHUNK)
    chosen = draw(seed, stream, rates, chunk)[first:]
    rows = features.padding(shapes, len(chosen))
    cursors = features.split(rows, shapes)['cursor']
    whole, failed = len(rows), None
    for source, line in enumerate(lines):
      (at,) = np.nonzero(chosen == source)
      taken = line.take(len(at), rows[:0])
      if len(taken) < len(at) and at[len(taken)] < whole:
        whole, failed = at[len(taken)], line.error
      rows[at[: len(taken)]] = taken
      own = features.split(taken, shapes)['cursor'][:, :4]
      places[source] = np.concatenate([places[source][-1:], own])
    for source, passed in enumerate(places):
      seen = np.cumsum(chosen == source)
      columns = slice(1 + 4 * source, 5 + 4 * source)
      cursors[:, columns] = passed[np.minimum(seen, len(passed) - 1)]
    cursors[:, 0] = count + 1 + np.arange(len(rows))
    yield rows[:whole]
    if failed:
      raise failed
    count += len(rows)


class _Line:
  """Rows of one source, as many at a time as are asked for."""

  def __init__(self, blocks):
    self.blocks, self.left, self.error = blocks, None, None

  def take(self, count, none):
    """The next `count` rows; fewer where the source fails, see `error`."""
    parts = [none if self.left is None else self.left]
    there = len(parts[0])
    while there < count and self.error is None:
      try:
        block = next(self.blocks)
      except Exception as error:
        self.error = error
      else:
        parts.append(block)
        there += len(block)
    rows = np.concatenate(parts)
    self.left = rows[count:]
    return rows[:count]
