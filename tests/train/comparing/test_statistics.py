"""Means and tests, against closed forms and published examples."""

import math

import numpy as np
import pytest
from scipy import special

from train.comparing.statistics import Comparison, holm, spread, welch


def test_spread():
  found = spread([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0])
  assert found.mean == 5.0
  assert found.deviation == pytest.approx(math.sqrt(32 / 7))
  one = spread([3.0])
  assert one.mean == 3.0
  assert math.isnan(one.deviation)


def test_welch_is_its_formula():
  """Welch 1947: t, and Satterthwaite's degrees of freedom."""
  a, b = [3.21, 3.25, 3.19], [3.40, 3.31, 3.52, 3.38]
  found = welch(a, b)
  va, vb = np.var(a, ddof=1) / 3, np.var(b, ddof=1) / 4
  t = (np.mean(b) - np.mean(a)) / math.sqrt(va + vb)
  freedom = (va + vb) ** 2 / (va**2 / 2 + vb**2 / 3)
  # The two-sided tail of Student's t is an incomplete beta function.
  p = special.betainc(freedom / 2, 0.5, freedom / (freedom + t**2))
  assert found.difference == pytest.approx(np.mean(b) - np.mean(a))
  assert found.p == pytest.approx(p)
  half = special.stdtrit(freedom, 0.975) * math.sqrt(va + vb)
  assert found.low == pytest.approx(found.difference - half)
  assert found.high == pytest.approx(found.difference + half)


def test_welch_holds_its_level():
  """Of equal means, one in twenty differs at 0.05."""
  rng = np.random.default_rng(0)
  wrong = 0
  for _ in range(800):
    wrong += welch(rng.normal(size=5), 3 * rng.normal(size=5)).p < 0.05
  assert 20 <= wrong <= 60


@pytest.mark.parametrize(
  ('first', 'second'),
  [
    ([1.0], [2.0, 3.0]),
    ([1.0, 1.0], [2.0, 2.0]),
    ([1.0, math.nan], [2.0, 3.0]),
  ],
)
def test_where_there_is_no_test(first, second):
  assert welch(first, second) is None


def test_holm():
  """0.01, 0.02, 0.03, 0.04 become 0.04, 0.06, 0.06, 0.06: 4p, 3p, 2p, p."""
  tests = [Comparison(0.0, 0.0, 0.0, p) for p in (0.03, 0.01, 0.04, 0.02)]
  found = holm([tests[0], None, *tests[1:]])
  assert [x and round(x.p, 10) for x in found] == [0.06, None, 0.04, 0.06, 0.06]
  assert [x.p for x in holm([Comparison(0, 0, 0, 0.7)] * 2)] == [1.0, 1.0]
