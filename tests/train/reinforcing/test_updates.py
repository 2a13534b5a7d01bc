"""From answers and rewards to a batch, and the updates that read it."""

import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.learning.state import AdaptedState
from train.reinforcing import updates
from train.reinforcing.policies import Policy

B, G, T, V = 2, 3, 4, 5
LENGTHS = np.array([4, 1, 2, 3, 4, 2])
REWARDS = np.float32([1, 0, np.nan, 2, 5, -1])
ALLOWED = np.array([True, True, True, True, False, True])
BETA = 0.3


class Table(nn.Module):
  """An encoder-decoder whose logits and values are parameters."""

  INPUTS = ()
  config = types.SimpleNamespace(family='encoder_decoder', dtype='float32')

  @nn.compact
  def __call__(self):
    shape = B * G, T, V
    return {
      'logits': self.param('logits', nn.initializers.zeros, shape),
      'values': self.param('values', nn.initializers.zeros, shape[:2]),
    }


def found(method):
  """The batch and the sums, and what they are made of."""
  rng = np.random.default_rng(4)
  ours, theirs = (
    {
      'logits': rng.normal(size=(B * G, T, V)).astype('float32'),
      'values': rng.normal(size=(B * G, T)).astype('float32'),
    }
    for _ in range(2)
  )
  targets = rng.integers(V, size=(B * G, T)).astype('int32')
  read = np.arange(T) < LENGTHS[:, None]

  def log_probs(params):
    logs = np.array(jax.nn.log_softmax(params['logits']))
    return np.take_along_axis(logs, targets[..., None], -1)[..., 0]

  old, reference = log_probs(ours), log_probs(theirs)
  scoring = updates.Scoring(Table(), Policy(method), G, T, 1.0, 0.9)
  arrays = {'targets': targets, 'read': read}
  batch, sums = jax.jit(scoring)(
    ours, theirs, arrays, (old + 0.25) * read, REWARDS, ALLOWED,
    jnp.float32(BETA),
  )  # fmt: skip
  away = np.where(read, old - reference, 0)
  return jax.device_get(batch), jax.device_get(sums), away, ours['values'], read


def test_sums_leave_out_what_has_no_reward():
  batch, sums, away, _, _ = found('grpo')
  known = np.isfinite(REWARDS)
  np.testing.assert_allclose(sums['reward'], REWARDS[known].sum(), rtol=1e-6)
  np.testing.assert_allclose(sums['kl'], away[known].sum(), rtol=1e-4)
  assert sums['length'] == LENGTHS[known].sum()
  assert (sums['answers'], sums['kept']) == (5, 5)
  np.testing.assert_allclose(sums['gap'], 0.25, rtol=1e-4)
  assert not batch['weights'][2].any()


@pytest.mark.parametrize('method', ['grpo', 'rloo'])
def test_answers_to_one_prompt_are_compared(method):
  batch, _, away, _, read = found(method)
  scores = REWARDS - (BETA * away.sum(axis=1) if method == 'rloo' else 0)
  for first in 0, G:
    own = scores[first : first + G]
    for n, score in enumerate(own):
      if np.isnan(score):
        continue
      others = np.delete(own, n)
      wanted = score - np.nanmean(others)
      if method == 'grpo':
        known = own[np.isfinite(own)]
        wanted = (score - known.mean()) / (known.std(ddof=1) + 1e-4)
      at = first + n
      np.testing.assert_allclose(batch['advantages'][at], wanted, rtol=1e-4)
      np.testing.assert_allclose(
        batch['weights'][at], read[at] / LENGTHS[at], rtol=1e-6
      )


def test_ppo_has_kl_in_each_token_and_the_reward_in_the_last():
  batch, _, away, values, read = found('ppo')
  advantages = np.zeros((B * G, T))
  for n, length in enumerate(LENGTHS):
    after = 0.0
    for t in reversed(range(length)):
      own = -BETA * away[n, t] + (REWARDS[n] if t == length - 1 else 0)
      following = values[n, t + 1] if t < length - 1 else 0
      after = own + following - values[n, t] + 0.9 * after
      advantages[n, t] = after
  used = read & np.isfinite(REWARDS)[:, None]
  np.testing.assert_array_equal(batch['weights'], used)
  np.testing.assert_allclose(
    batch['returns'][used], (advantages + values)[used], rtol=1e-4, atol=1e-5
  )
  own = advantages[used]
  np.testing.assert_allclose(
    batch['advantages'][used], (own - own.mean()) / own.std(), rtol=1e-3
  )


def test_a_filter_keeps_the_best_that_passes():
  batch, sums, _, _, read = found('filter')
  kept = np.zeros((B * G, 1), bool)
  kept[[0, 3]] = True  # 5 does not pass, and 2 is the next one
  np.testing.assert_array_equal(batch['weights'], read & kept)
  assert sums['kept'] == 2


def test_each_epoch_reads_every_answer_once():
  state = AdaptedState(
    step=jnp.int32(7), params=jnp.zeros(8), opt_state=jnp.int32(0),
    cursor=jnp.zeros((1, 4), 'int32'), kl_factor=jnp.float32(1),
  )  # fmt: skip

  def step(state, part):
    rows = part['row']
    new = state.replace(
      params=state.params.at[rows].add(1), step=state.step + 1,
      opt_state=state.opt_state + 1,
    )  # fmt: skip
    zero = jnp.float32(0)
    sums = {'policy': zero, 'weight': jnp.float32(len(rows))}
    return new, {'sums': sums, 'grad_norm': zero, 'learning_rate': zero}

  answers = {
    'row': jnp.arange(8), 'read': jnp.ones((8, 2), bool),
    'segments': jnp.ones((8, 2), 'int32'),
  }  # fmt: skip
  sums = {'kl': jnp.float32(12.0), 'answers': jnp.float32(4)}
  batch = {
    'answers': answers, 'sums': sums,
    'cursor': jnp.arange(16, dtype='int32').reshape(4, 4),
  }  # fmt: skip
  new, metrics = updates.update(
    state, batch, step=step, policy=Policy('rloo'), epochs=3, minibatches=4,
    seed=0, beta=0.5, kl_target=2.0,
  )  # fmt: skip
  np.testing.assert_array_equal(new.params, 3)
  assert (new.step, new.opt_state) == (8, 12)  # one step of many updates
  np.testing.assert_array_equal(new.cursor, [[12, 13, 14, 15]])
  assert metrics['sums']['weight'] == 24
  assert metrics['sums']['beta'] == 0.5
  # KL is 3, the target 2: the error of 0.5 counts as 0.2.
  np.testing.assert_allclose(new.kl_factor, 1.02, rtol=1e-6)


def test_the_coefficient_of_kl():
  for kl, wanted in (1.9, 0.995), (2.0, 1.0), (0.0, 0.98), (9.0, 1.02):
    own = updates.adapted(jnp.float32(1), jnp.float32(kl), 2.0)
    np.testing.assert_allclose(own, wanted, rtol=1e-5)
