"""Losses and gradients against plain transcriptions in torch.

They are written from the papers: PPO (Schulman et al. 2017, equations 7 and 9),
GRPO (Shao et al. 2024, equation 3), RLOO (Ahmadian et al. 2024, equation 8 with
PPO's clipped ratio of whole answers).
"""

import flax.linen as nn
import jax
import numpy as np
import pytest
import torch

from train.reinforcing.policies import Policy, divergence

N, L, V = 4, 6, 7
LENGTHS = 6, 2, 4, 1
SETTINGS = {
  'ppo': {'clip': 0.2, 'value_clip': 0.1, 'value_weight': 0.5},
  'grpo': {'clip': 0.2, 'beta': 0.3},
  'rloo': {'clip': 0.2},
}


class Table(nn.Module):
  """A policy whose logits and values are parameters."""

  INPUTS = ()

  @nn.compact
  def __call__(self):
    zeros = nn.initializers.zeros
    return {
      'logits': self.param('logits', zeros, (N, L, V)),
      'values': self.param('values', zeros, (N, L)),
    }


def drawn(method):
  """Parameters and a batch, in which some ratios are far from 1."""
  rng = np.random.default_rng(3)
  params = {
    'logits': rng.normal(size=(N, L, V)).astype('float32'),
    'values': rng.normal(size=(N, L)).astype('float32'),
  }
  targets = rng.integers(V, size=(N, L))
  logs = params['logits'] - np.log(
    np.exp(params['logits']).sum(-1, keepdims=True)
  )
  own = np.take_along_axis(logs, targets[..., None], -1)[..., 0]
  read = np.arange(L) < np.array(LENGTHS)[:, None]
  weights = read.astype('float32')
  if method != 'ppo':
    weights /= np.array(LENGTHS)[:, None]
  noise = rng.normal(size=(4, N, L)) * 0.4
  noise[0, :2] *= 0.05  # their ratios are near 1
  advantages = np.repeat(rng.normal(size=(N, 1)), L, axis=1)
  if method == 'ppo':
    advantages = rng.normal(size=(N, L))
  batch = {
    'targets': targets.astype('int32'),
    'weights': weights.astype('float32'),
    'advantages': advantages,
    'old': own + noise[0],
    'reference': own + noise[1],
    'values': params['values'] + noise[2],
    'returns': params['values'] + noise[3],
  }
  return params, {
    k: x if x.dtype == np.int32 else np.float32(x) for k, x in batch.items()
  }


def in_torch(method, params, batch, clip, beta=0, value_clip=0, value_weight=0):
  """The loss, answer by answer."""
  logs = torch.log_softmax(params['logits'], -1)
  batch = {k: torch.tensor(x) for k, x in batch.items()}
  losses, tokens = [], sum(LENGTHS)
  for n, length in enumerate(LENGTHS):
    at = torch.arange(length)
    new = logs[n][at, batch['targets'][n, :length].long()]
    old, A = batch['old'][n, :length], batch['advantages'][n, :length]
    if method == 'rloo':
      ratio, A = torch.exp(new.sum() - old.sum()), A[0]
    else:
      ratio = torch.exp(new - old)
    gain = torch.minimum(ratio * A, ratio.clamp(1 - clip, 1 + clip) * A)
    if method == 'ppo':
      value, before = params['values'][n, :length], batch['values'][n, :length]
      near = torch.clamp(value, before - value_clip, before + value_clip)
      wanted = batch['returns'][n, :length]
      errors = torch.maximum((value - wanted) ** 2, (near - wanted) ** 2)
      losses.append((-gain + value_weight * 0.5 * errors).sum() / tokens)
    elif method == 'grpo':
      away = batch['reference'][n, :length] - new
      kl = torch.exp(away) - away - 1
      losses.append((-gain + beta * kl).sum() / length / N)
    else:
      losses.append(-gain / N)
  return sum(losses)


@pytest.mark.parametrize('method', SETTINGS)
def test_losses_and_gradients(method):
  settings = SETTINGS[method]
  params, batch = drawn(method)
  criterion = Policy(method, **settings).criterion

  def loss(params):
    sums = criterion.sums(Table(), params, batch)
    return criterion.means(sums)['loss'], sums

  (found, sums), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
  leaves = {k: torch.tensor(x, requires_grad=True) for k, x in params.items()}
  wanted = in_torch(method, leaves, batch, **settings)
  wanted.backward()
  np.testing.assert_allclose(found, wanted.item(), rtol=1e-5)
  for name, leaf in leaves.items():
    own = np.zeros_like(params[name]) if leaf.grad is None else leaf.grad
    np.testing.assert_allclose(grads[name], own, rtol=1e-4, atol=1e-6)
  assert 0 < sums['clipped'] < sums['weight']  # both sides of the clip count


@pytest.mark.parametrize('method', SETTINGS)
def test_parts_of_a_batch_add_up(method):
  """As train.accumulate needs it: sums of parts, by the whole's weights."""
  params, batch = drawn(method)
  criterion = Policy(method, **SETTINGS[method]).criterion
  whole = criterion.sums(Table(), params, batch)
  halves = []
  for rows in slice(0, 2), slice(2, 4):
    part = {k: np.zeros_like(x) for k, x in batch.items()}
    for k, x in batch.items():
      part[k][rows] = x[rows]
    # Rows of weight 0 stand for those of the other half.
    halves.append(criterion.sums(Table(), params, part))
  for name, x in whole.items():
    both = halves[0][name] + halves[1][name]
    np.testing.assert_allclose(x, both, rtol=1e-5)


def test_before_the_first_update_it_is_the_policy_gradient():
  """With ratios of 1 all are REINFORCE with advantages as its baseline."""
  params, batch = drawn('rloo')
  logs = jax.nn.log_softmax(params['logits'])
  batch['old'] = np.take_along_axis(
    np.array(logs), batch['targets'][..., None], -1
  )[..., 0]
  criterion = Policy('rloo', clip=0.2).criterion

  def loss(params):
    return criterion.means(criterion.sums(Table(), params, batch))['loss']

  def plain(params):
    logs = jax.nn.log_softmax(params['logits'])
    own = np.arange(N)[:, None], np.arange(L), batch['targets']
    return -(logs[own] * batch['advantages'] * (batch['weights'] > 0)).sum() / N

  for x, y in zip(
    *(jax.tree.leaves(jax.grad(f)(params)) for f in (loss, plain)), strict=True
  ):
    np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7)


def test_the_divergence_is_that_of_the_distributions():
  """Its mean over the policy's tokens is KL(policy, reference)."""
  p, q = np.array([0.7, 0.2, 0.1]), np.array([0.2, 0.5, 0.3])
  found = np.sum(p * np.array(divergence(np.log(q / p))))
  np.testing.assert_allclose(found, np.sum(p * np.log(p / q)), rtol=1e-6)
