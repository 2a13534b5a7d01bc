"""Schedules that count rows, go on, begin again, or have stages."""

import numpy as np
import pytest

from configs import common
from configs.phases import make_plan
from train.learning.schedules import COUNTED, make_schedule


def schedule(**settings):
  group = common.base().schedule
  group.update(settings)
  return group


def test_rows_and_tokens_are_counted_exactly():
  """With one phase, counting rows or tokens is counting steps."""
  plan = make_plan((), 1536, 2048)
  steps = np.array([0, 1, 119, 120, 5000, 90_000, 95_367])
  assert 'cosine' in COUNTED
  for name in COUNTED:
    own = {'warmup_steps': 120}
    if name == 'exponential':
      own = {'constant_steps': 120}
    elif name.startswith('wsd'):
      own['constant_steps'] = 5000
    own |= {'name': name, 'learning_rate': 6e-5, 'end_fraction': 0.1}
    expected = make_schedule(schedule(**own), 95_367)
    for unit, each in (('rows', 1536), ('tokens', 1536 * 2048)):
      counted = own | {
        key: value * each for key, value in own.items() if 'steps' in key
      }
      found = make_schedule(schedule(**counted, unit=unit), 95_367, plan)
      np.testing.assert_allclose(found(steps), expected(steps), rtol=2e-5)


@pytest.mark.parametrize('name', ['constant', 'inverse_sqrt', 'noam'])
def test_units_that_a_schedule_does_not_count(name):
  own = {'name': name, 'learning_rate': 1.0, 'unit': 'tokens'}
  if name != 'constant':
    own['warmup_steps'] = 10
  with pytest.raises(ValueError, match="unit is 'tokens', but .* counts steps"):
    make_schedule(schedule(**own), 10)
  with pytest.raises(ValueError, match="unit is 'weeks'; it must be one of"):
    make_schedule(schedule(**own | {'unit': 'weeks'}), 10)


def test_each_stage_has_the_whole_schedule():
  group = schedule(
    name='linear_throughout', learning_rate=0.5, warmup_steps=10,
    end_fraction=0.0,
  )  # fmt: skip
  half, both = make_schedule(group, 50), make_schedule(group, 100, stages=2)
  steps = np.arange(100)
  np.testing.assert_array_equal(both(steps), half(steps % 50))
  group.warmup_steps = 51
  with pytest.raises(ValueError, match='0 and train.steps / 2, which is 50'):
    make_schedule(group, 100, stages=2)


@pytest.mark.parametrize(
  'settings',
  [
    {'name': 'inverse_sqrt', 'warmup_steps': 10},
    {'name': 'noam', 'warmup_steps': 10},
    {'name': 'linear_throughout', 'warmup_steps': 10, 'end_fraction': 0.0},
    {'name': 'cosine', 'warmup_steps': 10, 'end_fraction': 0.1},
    {
      'name': 'exponential',
      'constant_steps': 10,
      'end_fraction': 0.1,
      'decay_steps': 40,
    },
    {
      'name': 'wsd',
      'warmup_steps': 10,
      'constant_steps': 40,
      'end_fraction': 0.1,
    },
  ],
  ids=lambda x: x['name'],
)
def test_a_schedule_that_goes_on(settings):
  """Steps from 30 on of 50 are a run of 20 steps with first_step 30."""
  settings = settings | {'learning_rate': 0.5}
  whole = make_schedule(schedule(**settings), 50)
  rest = make_schedule(schedule(**settings, first_step=30), 20)
  for n in range(21):
    assert rest(n) == whole(30 + n)


def test_first_steps_that_cannot_be():
  for settings, message in (
    ({'name': 'constant', 'first_step': 5}, 'constant does not use'),
    (
      {'name': 'noam', 'warmup_steps': 4, 'first_step': -1},
      'first_step is -1; it must be at least 0',
    ),
    (
      {
        'name': 'linear',
        'warmup_steps': 60,
        'end_fraction': 0.0,
        'first_step': 30,
      },
      'between 0 and schedule.first_step . train.steps, which is 50',
    ),
  ):
    with pytest.raises(ValueError, match=message):
      make_schedule(schedule(learning_rate=1.0, **settings), 20)


@pytest.mark.parametrize(
  'name', ['linear', 'linear_from_start', 'linear_throughout', 'cosine']
)
def test_restarts_are_schedules_of_their_own(name):
  """Each part is the schedule of a run that begins there."""
  settings = {'name': name, 'end_fraction': 0.1}
  rate = make_schedule(
    schedule(
      **settings,
      learning_rate=0.5,
      warmup_steps=5,
      restarts=((20, 0.25, 8), (40, 2.0, 0)),
    ),
    100,
  )
  parts = ((0, 0.5, 5, 20), (20, 0.25, 8, 40), (40, 2.0, 0, 100))
  for begin, peak, warmup, end in parts:
    own = make_schedule(
      schedule(**settings, learning_rate=peak, warmup_steps=warmup),
      end - begin,
    )
    for n in range(begin, end):
      assert rate(n) == own(n - begin)
  assert rate(100) == pytest.approx(0.2)


@pytest.mark.parametrize(
  ('restarts', 'message'),
  [
    (((50.5, 0.1, 3),), 'steps must be whole numbers'),
    ((('a', 0.1, 3),), 'steps must be whole numbers'),
    (((20, 0.5),), r'has \(20, 0.5\); it must have \(step, rate, warm-up'),
    (((20, 0.0, 5),), 'the rate must be above 0'),
    (((4, 0.5, 5),), 'must not begin before step 5, where the warm-up'),
    (((20, 0.5, 5), (22, 0.5, 5)), 'must not begin before step 25'),
    (((90, 0.5, 20),), 'ends at step 110, after the schedule does, at 100'),
  ],
)
def test_restarts_that_cannot_be(restarts, message):
  group = schedule(
    name='linear',
    learning_rate=1.0,
    warmup_steps=5,
    end_fraction=0.0,
    restarts=restarts,
  )
  with pytest.raises(ValueError, match=message):
    make_schedule(group, 100)
