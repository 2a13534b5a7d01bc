"""Published laws, by what their papers say of them."""

import math

import pytest

from configs.scaling.__main__ import wasted
from configs.scaling.laws import LAWS, PF_DAY, kaplan_best


@pytest.mark.parametrize('law', LAWS.values(), ids=LAWS)
def test_the_best_size_is_best(law):
  N, D = law.best(5.76e23)
  assert pytest.approx(5.76e23) == 6 * N * D
  loss = law.loss(N, D)
  assert all(law.loss(N * x, D / x) > loss for x in (0.98, 1.02))
  assert law.flops_for(loss) == pytest.approx(5.76e23, rel=1e-6)


def test_exponents():
  """a of Hoffmann et al. (2022), approach 3, and of Besiroglu et al. (2024)."""
  low, high = LAWS['hoffmann'].exponents[0]
  # 3.3 rounds the parameters; table 2 the interval.
  assert LAWS['hoffmann'].a == pytest.approx((low + high) / 2, abs=0.003)
  assert LAWS['besiroglu'].a == pytest.approx(0.5126, abs=1e-4)
  # The refit agrees with twenty tokens for each parameter.
  N, D = LAWS['besiroglu'].best(5.76e23)
  assert 15 < D / N < 25
  assert pytest.approx(70e9, rel=0.1) == N


def test_a_loss_that_no_budget_reaches():
  law = LAWS['besiroglu']
  assert law.flops_for(law.E) == math.inf


def test_kaplans_size():
  """Kaplan et al. 2020, table 6: 1.3e9 parameters at one PF-day."""
  assert kaplan_best(PF_DAY) == pytest.approx(1.3e9)
  assert kaplan_best(10 * PF_DAY) == pytest.approx(1.3e9 * 10**0.73)


def test_what_a_wrong_guess_wastes():
  law, C = LAWS['besiroglu'], 1e21
  N = law.best(C)[0]
  assert wasted(law, C, N) == pytest.approx(0, abs=1e-6)
  # With the rest of the budget the best size reaches the same loss.
  share = wasted(law, C, 4 * N)
  best = law.loss(*law.best(C * (1 - share)))
  assert best == pytest.approx(law.loss(4 * N, C / 6 / (4 * N)))
  assert 0.4 < share < 0.6
