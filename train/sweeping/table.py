"""The table of a sweep: each run's step, loss and time left."""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Sequence
from typing import Any

from configs.commands import terminal
from train.sweeping.children import Run

EVERY = 1.0  # seconds between two looks at the runs
TAIL = 2**16  # bytes of a metrics.jsonl that are read: its last rows
# The order in which a screen that is too small for all shows runs.
FIRST = 'running', 'failed', 'stopped', 'waiting', 'done'


class Table(terminal.LiveLine):
  """Shows in a terminal how the runs stand, and what has changed elsewhere."""

  def __init__(self, runs: Sequence[Run]):
    super().__init__()
    self._runs = runs
    self._last = 0.0

  def changed(self, run: Run) -> None:
    """Prints that a run has begun or ended."""
    ended = sum(x.state in ('done', 'failed', 'stopped') for x in self._runs)
    words = f'{run.name}: {_outcome(run)}'
    if run.state != 'running':
      words += f', after {terminal.duration(time.monotonic() - run.began)}'
    if run.state != 'running' or not self.live:
      self.note(f'[{ended} of {len(self._runs)}] {words}')

  def look(self) -> None:
    """Shows the table again if it is time, where there is a terminal."""
    now = time.monotonic()
    if self.live and now - self._last >= EVERY:
      self._last = now
      self.show(text(self._runs, shutil.get_terminal_size().lines - 1))


def text(runs: Sequence[Run], most: int = 0) -> str:
  """The table, of at most so many lines; 0: as many as there are runs."""
  shown = list(runs)
  if most and len(runs) + 1 > most:
    shown.sort(key=lambda run: FIRST.index(run.state))
    shown = shown[: max(1, most - 2)]
  rows = [('run', 'step', 'loss', 'held-out', 'ETA'), *map(_row, shown)]
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = [
    '  '.join(
      [row[0].ljust(widths[0])]
      + [x.rjust(w) for x, w in zip(row[1:4], widths[1:4], strict=True)]
      + [row[4]]
    ).rstrip()
    for row in rows
  ]
  if left := len(runs) - len(shown):
    lines.append(f'... and {left} more')
  return '\n'.join(lines)


def numbers(folder: str) -> dict[str, Any]:
  """The last numbers of a run, by their names in metrics.jsonl; {} if none."""
  path, found = os.path.join(folder, 'metrics.jsonl'), {}
  try:
    with open(path, 'rb') as file:
      size = file.seek(0, os.SEEK_END)
      file.seek(max(0, size - TAIL))
      lines = file.read().split(b'\n')
  except FileNotFoundError:
    return {}
  for line in lines[size > TAIL : -1]:  # whole lines
    with contextlib.suppress(ValueError):  # the run itself will report it
      found |= json.loads(line)
  return found


def _row(run: Run) -> tuple[str, ...]:
  found = numbers(run.folder)
  step, outcome = found.get('step'), run.state
  of = f'{step:,}' if step is not None else ''
  if step is not None and run.steps and run.state != 'done':
    of += f'/{run.steps:,}'
  if run.state == 'running':
    rate = found.get('train/steps_per_second')
    outcome = 'starting' if step is None else ''
    if rate and run.steps:
      outcome = terminal.duration((run.steps - step) / rate)
  losses = (_loss(found, f'{x}/loss') for x in ('train', 'eval'))
  return run.name, of, *losses, outcome


def _loss(found, name):
  if name not in found:
    return ''
  return 'nan' if found[name] is None else f'{found[name]:.4f}'


def _outcome(run: Run) -> str:
  return f'failed: {run.why}' if run.state == 'failed' else run.state
