"""Tables and their cells, links to runs and steps, forms of numbers."""

import dataclasses
import math
from collections.abc import Callable, Sequence

from train.comparing.runs import Run

MINUS = '−'
NONE = '–'  # no number


@dataclasses.dataclass
class Cell:
  """A cell: text that may be a link, and smaller text below it."""

  text: str
  link: str = ''
  more: Sequence['Cell'] = ()
  title: str = ''  # of the link


@dataclasses.dataclass
class Table:
  """A table whose first column names its rows.

  Attributes:
    anchors: of the rows, if other places of the page link to them.
  """

  caption: str
  header: Sequence[str]
  rows: list[list[Cell]]
  note: str = ''
  anchors: Sequence[str] = ()


class Links:
  """Places of the page: a row for each run and step that is linked to."""

  def __init__(self, runs: Sequence[Run]):
    self._numbers = {run.folder: n for n, run in enumerate(runs, 1)}
    self._steps = {run.folder: set() for run in runs}

  def run(self, run: Run) -> str:
    return f'run-{self._numbers[run.folder]}'

  def row(self, run: Run, step: int) -> str:
    """The name of a row, which the run's table then has."""
    self._steps[run.folder].add(step)
    return f'{self.run(run)}-step-{step}'

  def steps(self, run: Run) -> set[int]:
    return self._steps[run.folder]

  def __call__(self, run: Run, step: int) -> str:
    return f'#{self.row(run, step)}'

  def cell(self, run: Run, name: str, form: Callable, step: int | None) -> Cell:
    """A number of a run at a step; None: at the newest that has it."""
    found = run.newest(name) if step is None else (step, run.at(step, name))
    if found is None or found[1] is None:
      return Cell(NONE)
    return Cell(form(found[1]), self(run, found[0]))


def number(value: float, like: float | None = None) -> str:
  """A number with at least four digits that count, and a true minus.

  With `like` it has as many decimals as that number.
  """
  if not math.isfinite(value):
    return 'not finite'
  size = abs(value if like is None else like)
  if size and (size >= 1e6 or size < 1e-3):
    text = f'{value:.3e}'
  elif size >= 1000:
    text = f'{value:,.0f}'
  else:
    text = f'{value:.{3 if size >= 10 else 4}f}'
  return text.replace('-', MINUS)


def large(value: float) -> str:
  """A count in three digits: 1.23M, and beyond 1000G a power of ten.

  >>> large(999_600), large(2.42e13)
  ('1M', '2.42e13')
  """
  if not math.isfinite(value):
    return NONE
  value = float(f'{value:.3g}')
  if value >= 1e12:
    return f'{value:.3g}'.replace('e+', 'e')
  for unit, letter in ((1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
    if value >= unit:
      return f'{value / unit:.3g}{letter}'
  return f'{value:.3g}'


def percent(value: float) -> str:
  return f'{value:.1%}'


def hours(seconds: float) -> str:
  return f'{seconds / 3600:.3g}'
