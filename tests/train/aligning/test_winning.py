"""Win rates and their intervals."""

import numpy as np
from scipy import stats

from train.aligning.winning import Side, compared, wilson


def test_wilson_is_scipys():
  for wins, count in ((0, 5), (3, 10), (10, 10), (137, 256)):
    theirs = stats.binomtest(wins, count).proportion_ci(0.95, 'wilson')
    np.testing.assert_allclose(wilson(wins, count), theirs, atol=1e-7)


def side(rewards, lengths=(1, 3, 2, 2), ratios=(0.5, 1.5, 1.0, 1.0)):
  return Side(*(np.float64(x) for x in (rewards, lengths, ratios)))


def test_a_tie_is_half_a_win():
  found = compared(side([1, 2, 3, 4]), side([0, 2, 5, 3]))
  assert (found['win_rate'], found['ties'], found['prompts']) == (0.625, 1, 4)
  assert found['interval'] == wilson(2.5, 4)
  ours = found['ours']
  assert (ours['reward'], ours['kl'], ours['length']) == (2.5, 1.0, 2.0)
  error = np.std([0.5, 1.5, 1, 1], ddof=1) / 2
  np.testing.assert_allclose(ours['kl_error'], error)
