"""Smoothing, against its definition, and the axes of curves."""

import numpy as np
import pytest

from configs import electra
from train.comparing import series
from train.comparing.runs import Run
from train.reporting.flops import flops_after, run_flops


def of(steps, values):
  run = Run('/run', numbers={s: {'x': v} for s, v in zip(steps, values)})  # noqa: B905
  return series.series(run, 'x')


@pytest.mark.parametrize('window', [1, 25, 60, 1000])
def test_a_mean_over_the_last_steps(window):
  """Rows count by the steps that they are means of."""
  rng = np.random.default_rng(0)
  steps = np.cumsum(rng.integers(5, 15, 50))
  values = rng.normal(size=50)
  found = series.smoothed(of(steps, values), window)
  assert found.steps.tolist() == steps.tolist()
  counts = np.diff(steps, prepend=0)
  for i, step in enumerate(steps):
    inside = (steps > step - window) & (steps <= step)
    mean = np.average(values[inside], weights=counts[inside])
    assert found.values[i] == pytest.approx(mean)


def test_a_row_that_is_not_finite_is_a_gap():
  found = series.smoothed(of([10, 20, 30], [1.0, np.nan, 3.0]), 30)
  assert found.values[[0, 2]].tolist() == [1.0, 2.0]
  assert np.isnan(found.values[1])


def test_long_curves_keep_their_ends_and_hide_nothing():
  run = Run('/run', numbers=dict.fromkeys(range(1, 50_001), {'x': 1.0}))
  window = series.window_of([run], 1)
  found = series.smoothed(series.series(run, 'x'), window)
  assert len(found.steps) <= series.POINTS
  assert (found.steps[0], found.steps[-1]) == (1, 50_000)
  assert max(np.diff(found.steps)) <= window + 1
  assert series.window_of([run]) == 500
  assert series.window_of([Run('/empty')]) == 1


def test_flops_of_a_run_in_two_stages():
  """They bend where the second stage begins, and end at the whole."""
  config = electra.get_config('base').unlock()
  config.model.generator_divisor, config.model.generator_shares = 1, 'none'
  config.tuning.train = 'two_stage'
  steps = config.train.steps
  found = flops_after(config, [0, steps // 4, steps // 2, steps, 2 * steps])
  assert found[0] == 0
  assert found[1] == pytest.approx(found[2] / 2)
  assert found[3] > 2 * found[2]
  assert found[3] == found[4] == pytest.approx(run_flops(config))
