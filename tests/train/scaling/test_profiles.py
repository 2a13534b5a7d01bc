"""Approaches 1 and 2 on data of a known law."""

import numpy as np
import pytest

from configs.scaling.laws import LAWS
from train.scaling import profiles
from train.scaling.points import make

LAW = LAWS['besiroglu']


def ladder(budgets, sizes=7, spread=8.0, off=1.0, noise=0.0):
  """Runs of equal FLOPs around the best size, or around `off` times it."""
  rng = np.random.default_rng(0)
  N, D, C, runs = [], [], [], []
  for budget in budgets:
    best = off * LAW.best(budget)[0]
    for n in best * np.geomspace(spread**-0.5, spread**0.5, sizes):
      N.append(n)
      D.append(budget / 6 / n)
      C.append(budget)
      runs.append(f'{budget:g}-{n:.3g}')
  loss = np.array([LAW.loss(n, d) for n, d in zip(N, D, strict=True)])
  loss *= np.exp(noise * rng.standard_normal(len(loss)))
  columns = {'params': N, 'tokens': D, 'flops': C, 'loss': loss}
  return make('made', {k: np.array(x) for k, x in columns.items()}, runs)


BUDGETS = (1e18, 1e19, 1e20, 1e21)


def test_parabolas_find_the_exponent():
  found = profiles.isoflop(ladder(BUDGETS, spread=2.0), resampled=20)
  assert found.lines[0, 1] == pytest.approx(LAW.a, abs=0.003)
  assert found.lines[1, 1] == pytest.approx(1 - LAW.a, abs=0.003)
  best = [LAW.best(C)[0] for C in BUDGETS]
  np.testing.assert_allclose(found.params, best, rtol=0.03)
  assert found.optimum(1e22)['params'][0] == pytest.approx(
    LAW.best(1e22)[0], rel=0.05
  )


def test_noise_widens_the_interval():
  widths = []
  for noise in (1e-4, 3e-3):
    found = profiles.isoflop(ladder(BUDGETS, noise=noise), resampled=100)
    widths.append(np.ptp(np.quantile(found.samples[:, 0, 1], [0.1, 0.9])))
  assert widths[1] > 3 * widths[0]


def test_groups_are_found_or_named():
  points = ladder(BUDGETS)
  assert [len(x) for x in profiles.groups(points)] == [7] * 4
  assert len(profiles.groups(points, (1e18, 1e20))) == 2
  with pytest.raises(ValueError, match='0 sizes within .* of 5e\\+18'):
    profiles.groups(points, (1e18, 5e18))
  with pytest.raises(ValueError, match='has 0 groups of 4 sizes'):
    profiles.groups(ladder(BUDGETS, sizes=3))


def test_an_optimum_at_the_edge_is_left_out():
  some = ladder(BUDGETS), ladder((1e22,), off=8.0)
  joined = {
    k: np.concatenate([getattr(p, k) for p in some])
    for k in ('params', 'tokens', 'flops', 'loss')
  }
  points = make('made', joined, [*some[0].runs, *some[1].runs])
  found = profiles.isoflop(points, resampled=10)
  assert len(found.params) == 4
  assert 'is lowest below its smallest size' in found.warnings[0]
  with pytest.raises(ValueError, match='0 of 4 profiles have their lowest'):
    profiles.isoflop(ladder(BUDGETS, off=16.0), resampled=10)


def curves(sizes, runs=True):
  """Each size trained for several lengths."""
  N, D, names = [], [], []
  for n in sizes:
    for d in np.geomspace(n, 500 * n, 30):
      N.append(n)
      D.append(d)
      names.append(f'{n:.3g}')
  columns = {'params': np.array(N), 'tokens': np.array(D)}
  columns['loss'] = np.array(
    [LAW.loss(n, d) for n, d in zip(N, D, strict=True)]
  )
  if not runs:
    names = [f'row {i}' for i in range(len(N))]
  return make('made', columns, names)


@pytest.mark.parametrize('runs', [True, False])
def test_the_envelope_finds_the_exponent(runs):
  """Curves of named runs, or of runs of equal size."""
  found = profiles.envelope(curves(np.geomspace(1e7, 1e10, 25), runs), 20)
  assert found.lines[0, 1] == pytest.approx(LAW.a, abs=0.04)
  assert len(found.samples) == 20


def test_an_envelope_of_few_curves():
  with pytest.raises(ValueError, match='has 2 curves'):
    profiles.envelope(curves([1e7, 1e8]))
  with pytest.raises(ValueError, match='no two sizes between'):
    profiles.envelope(curves([1e7, 1e8, 1e9]))
  found = profiles.envelope(curves([1e7, 1e8, 1e9, 1e10]), 10)
  assert 'the optimum may lie beyond it' in found.warnings[0]
