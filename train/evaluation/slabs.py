"""Many rows, a few batches at a time, with a line of progress."""

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import jax

from configs.commands import terminal

SLAB = 32  # batches between two lines of progress
PAUSE = 60  # seconds between lines of progress that stay
Row, Found = TypeVar('Row'), TypeVar('Found')


def by_slabs(
  rows: Sequence[Row],
  batch: int,
  work: Callable[[int, Sequence[Row]], Iterable[Found]],
) -> list[Found]:
  """work(number of the first, rows) of a few batches of `batch` rows at a time.

  A line of progress shows how many are done. No slab but a lonely one has less
  than a batch, for which another program would be compiled.
  """
  line = terminal.LiveLine(jax.process_index() == 0, sys.stderr)
  found: list[Found] = []
  shown, size = time.monotonic(), SLAB * batch
  while len(found) < len(rows):
    first = len(found)
    last = first + size if len(rows) - first >= size + batch else None
    found += work(first, rows[first:last])
    if line.live or time.monotonic() - shown > PAUSE:
      line.show(f'{len(found):,} of {len(rows):,} requests')
      shown = time.monotonic()
  line.close()
  return found
