"""Learning rates against the formulas of the papers."""

import math

import jax
import numpy as np
import pytest

from configs import common
from train.learning.schedules import make_schedule


def schedule(**settings):
  group = common.base().schedule
  group.update(settings)
  return group


def test_t5():
  rate = jax.jit(
    make_schedule(
      schedule(name='inverse_sqrt', learning_rate=1.0, warmup_steps=10_000),
      2**19,
    )
  )
  for n in (0, 1, 9_999, 10_000, 10_001, 2**19, 2**31 - 1):
    expected = 1 / math.sqrt(max(n, 10_000))
    np.testing.assert_allclose(rate(n), expected, rtol=1e-6)
  assert rate(0).dtype == np.float32


def test_constant():
  rate = make_schedule(schedule(name='constant', learning_rate=1e-3), 10)
  assert rate(0) == rate(2**31 - 1) == np.float32(1e-3)


@pytest.mark.parametrize('name', ['linear', 'linear_from_start', 'cosine'])
@pytest.mark.parametrize(
  ('steps', 'warmup'), [(100, 10), (100, 0), (100, 100), (2**31 - 1, 2**24 + 1)]
)
def test_warmup_and_decay(name, steps, warmup):
  rate = jax.jit(
    make_schedule(
      schedule(
        name=name, learning_rate=0.5, warmup_steps=warmup, end_fraction=0.1
      ),
      steps,
    )
  )
  for n in {0, 1, warmup // 2, warmup, (warmup + steps) // 2, steps - 1, steps}:
    if n < warmup:
      expected = 0.5 * n / warmup
    else:
      done = (n - warmup) / max(steps - warmup, 1)
      left = {
        'linear': 1 - done,
        'linear_from_start': 1 - n / steps,
        'cosine': (1 + math.cos(math.pi * done)) / 2,
      }[name]
      expected = 0.5 * (0.1 + 0.9 * left)
    np.testing.assert_allclose(rate(n), expected, rtol=1e-5)
  np.testing.assert_allclose(
    rate(2**31 - 1),
    0.5 if steps == warmup and name != 'linear_from_start' else 0.05,
    rtol=1e-5,
  )


@pytest.mark.parametrize(('steps', 'warmup'), [(100, 10), (100, 0), (7, 7)])
def test_electras_warm_up_multiplies_the_decayed_rate(steps, warmup):
  """ELECTRA's code is google-research/electra, model/optimization.py.

  It has polynomial_decay of power 1 to 0, times min(1, step
  warmup_steps).
  BERT's warm-up goes up to the peak instead, and the rate drops where it ends.
  """
  rate = make_schedule(
    schedule(
      name='linear_throughout',
      learning_rate=5e-4,
      warmup_steps=warmup,
      end_fraction=0.0,
    ),
    steps,
  )
  for n in range(steps + 2):
    decayed = 5e-4 * (1 - min(n, steps) / steps)
    expected = decayed * min(1.0, n / warmup if warmup else 1.0)
    np.testing.assert_allclose(rate(n), expected, rtol=1e-6, atol=1e-12)


def test_the_transformers_schedule():
  rate = jax.jit(
    make_schedule(
      schedule(name='noam', learning_rate=512**-0.5, warmup_steps=4000), 10**5
    )
  )
  for step in (1, 2, 3_999, 4_000, 4_001, 10**5):
    expected = 512**-0.5 * min(step**-0.5, step * 4000**-1.5)
    np.testing.assert_allclose(rate(step - 1), expected, rtol=1e-6)
  assert rate(3_998) < rate(3_999) > rate(4_000)


@pytest.mark.parametrize('steps', [50, 300])  # a run may end before its decay
@pytest.mark.parametrize('name', ['linear', 'cosine'])
def test_a_decay_with_an_end_of_its_own(name, steps):
  """GPT-3's rate falls over 260 of 300 billion tokens and stays (2.3, B)."""
  settings = {
    'name': name, 'learning_rate': 0.5, 'warmup_steps': 10, 'end_fraction': 0.1
  }  # fmt: skip
  ends = make_schedule(schedule(**settings, decay_steps=260), steps)
  alone = make_schedule(schedule(**settings), 260)
  for n in (0, 5, 10, 100, 259, 260):
    assert ends(n) == alone(n)
  np.testing.assert_allclose([ends(260), ends(299)], 0.05, rtol=1e-5)


@pytest.mark.parametrize('decay_steps', [0, 60])
def test_exponential_as_rwkv_decays(decay_steps):
  rate = jax.jit(
    make_schedule(
      schedule(
        name='exponential',
        learning_rate=6e-4,
        constant_steps=20,
        end_fraction=1e-5 / 6e-4,
        decay_steps=decay_steps,
      ),
      100,
    )
  )
  last = decay_steps or 100
  for n in (0, 19, 20, 21, 50, last - 1, last, 1000):
    done = min(max(n - 20, 0) / (last - 20), 1)
    np.testing.assert_allclose(rate(n), 6e-4 * (1e-5 / 6e-4) ** done, rtol=1e-6)


@pytest.mark.parametrize('warmup', [0, 10])
def test_warm_up_stable_decay(warmup):
  """MiniCPM halves the rate every so many steps (Hu et al. 2024, 4.2)."""
  settings = {
    'name': 'wsd', 'learning_rate': 0.01, 'warmup_steps': warmup,
    'constant_steps': 80, 'end_fraction': 1 / 16,
  }  # fmt: skip
  rate = jax.jit(make_schedule(schedule(**settings), 100))
  for n in (0, 1, 9, 10, 50, 79, 80, 81, 85, 90, 99, 100, 500):
    if n < warmup:
      expected = n / warmup
    else:  # four halvings in 20 steps
      expected = 0.5 ** (min(max(n - 80, 0), 20) / 5)
    np.testing.assert_allclose(rate(n), 0.01 * expected, rtol=1e-6)
  settings |= {'name': 'wsd_linear', 'end_fraction': 0.0}
  rate = jax.jit(make_schedule(schedule(**settings), 100))
  for n, left in ((79, 1), (80, 1), (85, 0.75), (99, 0.05), (100, 0), (500, 0)):
    np.testing.assert_allclose(rate(n), 0.01 * left, rtol=1e-6, atol=1e-9)
  # Where it stays constant, a longer run is the same run.
  longer = make_schedule(schedule(**settings | {'constant_steps': 180}), 200)
  for n in range(80):
    np.testing.assert_allclose(longer(n), rate(n), rtol=1e-6)


def test_linear_to_zero():
  rate = make_schedule(
    schedule(
      name='linear', learning_rate=0.5, warmup_steps=4, end_fraction=0.0
    ),
    20,
  )
  found = [float(rate(n)) for n in range(21)]
  expected = [0.5 * min(n / 4, (20 - n) / 16) for n in range(21)]
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_one_step_near_the_end_of_a_long_run_is_not_rounded_away():
  steps = 2**30
  rate = make_schedule(
    schedule(
      name='linear', learning_rate=1.0, warmup_steps=steps - 4, end_fraction=0.0
    ),
    steps,
  )
  assert [float(rate(steps - i)) for i in range(5)] == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'name': 'cosin'}, "name is 'cosin'; it must be one of constant"),
    ({'name': 'constant'}, 'learning_rate is not set'),
    ({'name': 'constant', 'learning_rate': 0.0}, 'must be above 0'),
    ({'name': 'constant', 'learning_rate': math.nan}, 'must be above 0'),
    (
      {'name': 'constant', 'learning_rate': 1.0, 'warmup_steps': 5},
      'warmup_steps is 5, but schedule.name=constant does not use',
    ),
    (
      {
        'name': 'inverse_sqrt',
        'learning_rate': 1.0,
        'warmup_steps': 5,
        'end_fraction': 0.1,
      },
      'end_fraction is 0.1, but',
    ),
    (
      {'name': 'inverse_sqrt', 'learning_rate': 1.0, 'warmup_steps': 0},
      'needs at least 1',
    ),
    (
      {'name': 'noam', 'learning_rate': 1.0, 'warmup_steps': 0},
      'noam needs at least 1',
    ),
    (
      {
        'name': 'noam',
        'learning_rate': 1.0,
        'warmup_steps': 5,
        'decay_steps': 9,
      },
      'decay_steps is 9, but schedule.name=noam does not use',
    ),
    (
      {
        'name': 'linear',
        'learning_rate': 1.0,
        'warmup_steps': 51,
        'end_fraction': 0.0,
        'decay_steps': 50,
      },
      'must be between 0 and schedule.decay_steps, which is 50',
    ),
    (
      {
        'name': 'linear',
        'learning_rate': 1.0,
        'warmup_steps': 0,
        'end_fraction': 0.0,
        'decay_steps': -5,
      },
      'decay_steps is -5',
    ),
    (
      {
        'name': 'exponential',
        'learning_rate': 1.0,
        'constant_steps': 101,
        'end_fraction': 0.1,
      },
      'constant_steps is 101; it must be between 0 and train.steps',
    ),
    (
      {
        'name': 'exponential',
        'learning_rate': 1.0,
        'constant_steps': 0,
        'end_fraction': 0.0,
      },
      'end_fraction is 0.0; it must be between 0 and 1, and above 0',
    ),
    (
      {
        'name': 'wsd',
        'learning_rate': 1.0,
        'warmup_steps': 9,
        'constant_steps': 8,
        'end_fraction': 0.1,
      },
      'warmup_steps is 9; it must be between 0 and schedule.constant_steps',
    ),
    (
      {
        'name': 'wsd',
        'learning_rate': 1.0,
        'warmup_steps': 0,
        'constant_steps': 8,
        'end_fraction': 0.0,
      },
      'end_fraction is 0.0; it must be between 0 and 1, and above 0 with wsd',
    ),
    (
      {
        'name': 'linear',
        'learning_rate': 1.0,
        'warmup_steps': 101,
        'end_fraction': 0.0,
      },
      'warmup_steps is 101; it must be between 0 and train.steps',
    ),
    (
      {
        'name': 'cosine',
        'learning_rate': 1.0,
        'warmup_steps': 1,
        'end_fraction': 2.0,
      },
      'end_fraction is 2.0',
    ),
  ],
)
def test_errors(settings, message):
  with pytest.raises(ValueError, match=message):
    make_schedule(schedule(**settings), 100)
