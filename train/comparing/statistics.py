"""Means over seeds, their spread, and whether two of them differ."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

LEVEL = 0.05  # of significance; intervals are of 95%


@dataclasses.dataclass(frozen=True)
class Spread:
  """Of numbers, one a seed.

  Attributes:
    mean: of all.
    deviation: the sample standard deviation (n - 1); NaN of one number.
    count: how many.
  """

  mean: float
  deviation: float
  count: int


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Welch's t-test of two means.

  Attributes:
    difference: of the means, the second's less the first's.
    low, high: the 95% interval of the difference.
    p: two-sided; after `holm` the adjusted one.
  """

  difference: float
  low: float
  high: float
  p: float


def spread(values: Sequence[float]) -> Spread:
  """Mean and standard deviation of one or more numbers.

  >>> spread([1.0, 2.0, 3.0])
  Spread(mean=2.0, deviation=1.0, count=3)
  """
  found = np.asarray(values, np.float64)
  deviation = float(found.std(ddof=1)) if len(found) > 1 else math.nan
  return Spread(float(found.mean()), deviation, len(found))


def welch(first: Sequence[float], second: Sequence[float]) -> Comparison | None:
  """Whether two sets of seeds have different means (Welch 1947).

  The variances need not be equal, and seeds are not paired. None where there is
  no test: fewer than two numbers on a side, no spread at all, or a number that
  is not finite.
  """
  if min(len(first), len(second)) < 2:
    return None
  if not np.isfinite([*first, *second]).all():
    return None
  if np.ptp(first) == np.ptp(second) == 0:
    return None
  found = stats.ttest_ind(second, first, equal_var=False)
  low, high = found.confidence_interval(1 - LEVEL)
  difference = float(np.mean(second) - np.mean(first))
  return Comparison(difference, float(low), float(high), float(found.pvalue))


def holm(tests: Sequence[Comparison | None]) -> list[Comparison | None]:
  """The tests with p adjusted for their number (Holm 1979).

  Of m tests the k-th smallest p is multiplied by m - k + 1, and none becomes
  smaller than the one before, or larger than 1.
  """
  order = [i for i, test in enumerate(tests) if test]
  order.sort(key=lambda i: tests[i].p)
  found, before = list(tests), 0.0
  for place, i in enumerate(order):
    before = min(1.0, max(before, (len(order) - place) * tests[i].p))
    found[i] = dataclasses.replace(tests[i], p=before)
  return found
