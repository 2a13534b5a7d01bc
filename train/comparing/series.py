"""Curves of runs: by steps, tokens, FLOPs and hours, smoothed."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from train.comparing.runs import Run
from train.reporting.flops import flops_after

AXES = {
  'step': 'step',
  'tokens': 'tokens',
  'flops': 'FLOPs',
  'hours': 'hours of all starts',
}
_RECORDED = {'tokens': 'data/tokens_seen', 'hours': 'train/wall_seconds'}
POINTS = 1000  # of a curve, at most about


@dataclasses.dataclass
class Series:
  """A number of a run over its steps.

  Attributes:
    steps: int [n], in order.
    values: float64 [n]; NaN where the run had no finite number.
  """

  run: Run
  steps: np.ndarray
  values: np.ndarray

  def along(self, axis: str) -> np.ndarray:
    """Where the points are on an axis: float64 [n]; NaN: not known."""
    return along(self.run, axis, self.steps)


def series(run: Run, name: str) -> Series:
  """All numbers of a name."""
  found = sorted((s, x[name]) for s, x in run.numbers.items() if name in x)
  steps, values = zip(*found, strict=True) if found else ((), ())
  return Series(run, np.array(steps, int), np.array(values, np.float64))


def along(run: Run, axis: str, steps: Sequence[int]) -> np.ndarray:
  """What a run had used after so many steps, in an axis's unit: float64.

  Tokens (without padding) and hours are those of metrics.jsonl, interpolated
  where an evaluation has a step of its own; FLOPs are counted from the config.
  NaN where it is not known, as after the last row.
  """
  steps = np.asarray(steps, np.float64)
  if axis == 'step':
    return steps
  if axis == 'flops':
    return flops_after(run.config, steps) - flops_after(
      run.config, run.first_step
    )
  own = series(run, _RECORDED[axis])
  known = np.concatenate([[run.first_step], own.steps])
  used = np.concatenate([[0.0], own.values])
  if len(known) == 1:
    return np.full(steps.shape, np.nan)
  found = np.interp(steps, known, used, right=np.nan)
  return found / 3600 if axis == 'hours' else found


def window_of(runs: Sequence[Run], asked: int = 0) -> int:
  """Over how many steps training losses are averaged.

  0 asks for a hundredth of the longest run. A curve is drawn with at most
  POINTS points, so none is hidden only if the window is as long as the distance
  between two of them.
  """
  longest = max((run.step for run in runs), default=0)
  return max(asked or longest // 100, -(-longest // POINTS), 1)


def smoothed(own: Series, window: int) -> Series:
  """The mean over the last `window` steps, at most POINTS of them.

  A row of metrics is a mean over the steps since the row before: it counts as
  often. A row that is NaN counts in no mean, and stays a gap of the curve.
  """
  steps, values = own.steps, own.values
  if not len(steps):
    return own
  counts = np.diff(steps, prepend=min(own.run.first_step, steps[0] - 1))
  counts = np.where(np.isfinite(values), counts, 0)
  sums = np.cumsum(np.where(counts > 0, values, 0.0) * counts)
  sums, counts = np.append(0.0, sums), np.append(0, np.cumsum(counts))
  # The first row that is less than a window before each row; itself at least.
  first = np.searchsorted(steps, steps - window, side='right')
  last = np.arange(1, len(steps) + 1)
  total = counts[last] - counts[first]
  with np.errstate(invalid='ignore', divide='ignore'):
    means = (sums[last] - sums[first]) / total
  means = np.where(np.isfinite(values), means, np.nan)
  kept = evenly(len(steps), POINTS)
  return Series(own.run, steps[kept], means[kept])


def evenly(count: int, most: int) -> np.ndarray:
  """At most `most` of 0 ... count - 1, the first and the last among them."""
  places = np.linspace(0, count - 1, min(count, most)).round()
  return np.unique(places).astype(int)
