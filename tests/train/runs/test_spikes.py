"""What is a spike of the loss, and what is done about it."""

import math
import statistics
import types

import jax
import numpy as np
import pytest

from configs import gpt2
from configs.phases import make_plan
from tests.helpers import runs
from train.reporting.timing import Record
from train.rewinding import skip
from train.runs.spikes import MOST, Guard, Rewind, Spike, entry

KEYS = {'factor': 1.5, 'window': 4, 'back': 3, 'skip': 5}


def make(entries=(), losses=(), **keys):
  train = gpt2.get_config('tiny').train
  train.unlock()
  for name, value in (KEYS | keys).items():
    train[f'spike_{name}'] = value
  return Guard(train, entries, losses)


OFF = dict.fromkeys(KEYS, 0) | {'factor': 0.0}


def test_a_loss_above_the_median_of_the_steps_before():
  guard, losses = make(), [9.0, 4.0, 2.0, 3.0, 2.5]
  for step, loss in enumerate(losses, 1):
    guard.check(step, loss, 1.0)  # the first ones have no window before them
  limit = 1.5 * statistics.median(losses[1:])
  assert guard.state() == {'losses': losses[1:]}
  # Another start goes on with the same window.
  again = make(losses=guard.state()['losses'])
  for one in (guard, again):
    with pytest.raises(Spike) as found:
      one.check(6, limit + 1e-6, 1.0)
    assert (found.value.step, found.value.limit) == (6, limit)
    one.check(6, limit, 1.0)  # a spike's loss is not in the window
    for loss, norm in ((math.nan, 1.0), (math.inf, 1.0), (1.0, math.nan)):
      with pytest.raises(Spike):
        one.check(7, loss, norm)


def test_off_it_finds_nothing():
  guard = make(**OFF)
  for step, loss in enumerate([1.0, 1.0, 99.0, math.nan], 1):
    guard.check(step, loss, 1.0)
  assert guard.state() == {}
  assert guard.needs(100) is None
  assert guard.earliest(7, [2, 4]) == 7


def found(guard, step):
  """The rewind of a spike at a step, and its entry of the history."""
  spike = Spike(step, 9.0, 3.0)
  rewind = guard.rewind(spike)
  return rewind, entry(rewind, spike, 0, guard.numbers(rewind))


def test_which_batches_are_skipped():
  """The spike's own batch is among them, also when it comes again."""
  guard, history = make(), []
  expected = {
    # The batches 8 to 12 are skipped after step 7.
    10: (Rewind(10, 7, 5), [8, 12]),
    # A spike two steps later, 2 of batch 14: five more are skipped there.
    9: (Rewind(9, 7, 10), [8, 17]),
    # Far beyond: step 37 has read batch 47.
    40: (Rewind(40, 37, 5), [48, 52]),
  }
  for step, (rewind, numbers) in expected.items():
    own, line = found(guard, step)
    assert own == rewind
    assert line['skipped'] == numbers
    history.append(line)
  again = make(history)  # a start reads them
  for one in (guard, again):
    assert [one.skips(step) for step in (6, 7, 8, 37)] == [0, 10, 0, 5]
  # With the guard off, what was skipped stays skipped.
  assert make(history, **OFF).skips(7) == 10
  # Skipped batches have the size of the step after them.
  plan = make_plan(
    ((('steps', 7), 2, 0, 0, ''), (('steps', 20), 3, 0, 0, '')), 8, 32
  )
  rows = [again.rows_skipped(plan, step) for step in (7, 8, 37, 38)]
  assert rows == [0, 10 * 3, 10 * 3, 10 * 3 + 5 * 8]


def test_skipping_moves_every_cursor():
  """Streams of which the next batch has no row have moved, too."""
  guard = make(skip=3)
  guard.rewind(Spike(10, 9.0, 3.0))
  recorder = types.SimpleNamespace(guard=guard, time=Record('', active=False))
  state = runs.small_state(7)
  state = state.replace(cursor=jax.numpy.zeros((4, 2), 'int32'))
  # Two rows a batch, of four streams in turn; the last column is the number.
  made = ((0, 1), (2, 3), (0, 1), (2, 3))
  batches = iter(
    {
      'cursor': np.array([[n, 2 * n], [n, 2 * n + 1]], np.int32),
      'last_of': np.array(streams, np.int32),
    }
    for n, streams in enumerate(made)
  )
  assert skip(recorder, state, 6, batches) is state
  new = skip(recorder, state, 7, batches)
  assert new.cursor.tolist() == [[2, 4], [2, 5], [1, 2], [1, 3]]
  assert new.params is state.params
  assert next(batches)['cursor'][0, 0] == 3


def test_it_gives_up_at_one_place():
  """A spike less than `back` steps beyond the others is at their place."""
  guard = make()
  steps = [50, 49, 52, 51]
  history = [found(guard, step)[1] for step in steps[:MOST]]
  assert guard.rewind(Spike(steps[MOST], 9.0, 3.0)) is None
  assert guard.rewind(Spike(55, 9.0, 3.0))  # 3 steps beyond 52: another place
  assert guard.rewind(Spike(57, 9.0, 3.0))
  # A start goes on counting, unless the config has changed since.
  assert make(history).rewind(Spike(51, 9.0, 3.0)) is None
  history.append({'event': 'config changed', 'step': 51, 'changed': {}})
  again = make(history)
  assert again.rewind(Spike(51, 9.0, 3.0)) == Rewind(51, 49, 10)


def test_a_checkpoint_that_is_old_enough_is_needed():
  guard = make()
  assert guard.needs(20) == 17
  assert guard.earliest(20, [10, 16, 18]) == 16
  assert guard.earliest(20, [18]) == 0  # its seed
  guard.rewind(Spike(22, 9.0, 3.0))
  # No rewind goes back beyond the last one, and none less far.
  assert guard.needs(20) == 19
  assert guard.needs(30) == 27
  assert guard.rewind(Spike(20, 9.0, 3.0)).step == 19


@pytest.mark.parametrize(
  ('keys', 'message'),
  [
    (OFF | {'skip': 5}, r'spike_skip is 5, but train\.spike_factor is 0'),
    ({'factor': 0.9}, 'must be above 1'),
    ({'factor': -1.0}, 'must be above 1'),
    ({'back': 0}, r'spike_back is 0, but train\.spike_factor=1\.5 needs'),
    ({'skip': 2}, 'to skip the batch of the spike too'),
    ({'window': 2}, r'at least train\.spike_back=3'),
  ],
)
def test_keys_that_do_not_go_together(keys, message):
  with pytest.raises(ValueError, match=message):
    make(**keys)
