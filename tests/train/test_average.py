"""The mean of checkpoints, and what it is a run of."""

import jax
import numpy as np
import pytest

from tests.helpers import runs
from train.average import average
from train.evaluate import evaluate_run
from train.runs import folders, history
from train.runs.checkpoint import Checkpoints


@pytest.mark.slow
def test_the_mean_of_two_checkpoints(evaluated, tmp_path):
  to = tmp_path / 'mean'
  done = runs.program('average', evaluated, f'--to={to}', '--last=2')
  assert done.returncode == 0, done.stderr
  assert done.stdout.startswith('Wrote the mean of the checkpoints 4, 8 of ')
  before = Checkpoints(str(evaluated), read_only=True)
  first, second = (before.restore_arrays(step) for step in (4, 8))
  found = Checkpoints(str(to), read_only=True).restore_arrays(8)
  mean = jax.tree.map(
    lambda a, b: (a + b) / 2, first['params'], second['params']
  )
  jax.tree.map(np.testing.assert_array_equal, found.pop('params'), mean)
  second.pop('params')
  jax.tree.map(np.testing.assert_array_equal, found, second)
  last = history.read(str(to))[-1]
  assert (last['event'], last['steps']) == ('averaged', [4, 8])
  losses = [evaluate_run(str(x))['loss'] for x in (evaluated, to)]
  assert losses[0] != losses[1]
  assert losses[1] == pytest.approx(losses[0], rel=0.1)
  with pytest.raises(ValueError, match='holds a run already'):
    average(str(evaluated), str(to), 2)
  # What a killed command left is replaced.
  (to / folders.NOTE).write_text('[]')
  assert average(str(evaluated), str(to), 2) == [4, 8]
  assert not folders.unfinished(str(to))


def test_errors(evaluated, tmp_path):
  to = str(tmp_path / 'new')
  for last, message in (
    (1, '--last=1 must be at least 2'),
    (3, r'--last=3 is more than .*; there are 4, 8. checkpoint.keep='),
  ):
    with pytest.raises(ValueError, match=message):
      average(str(evaluated), to, last)
  assert not (tmp_path / 'new').exists()
