"""The cross-entropy against torch and closed formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from train.learning.losses import cross_entropy, weighted_cross_entropy

B, T, V = 4, 6, 64


def example(scale=3.0):
  rng = np.random.default_rng(0)
  logits = (scale * rng.standard_normal((B, T, V))).astype('float32')
  targets = rng.integers(0, V, (B, T)).astype('int32')
  weights = rng.uniform(0, 2, (B, T)).astype('float32')
  weights[1] = 0
  return logits, targets, weights


def minimised(logits, targets, weights, z_loss=0.0, label_smoothing=0.0):
  sums = weighted_cross_entropy(
    logits, targets, weights, z_loss, label_smoothing
  )
  return sums['loss'] + sums['z_loss']


@pytest.mark.parametrize('scale', [3.0, 300.0])
@pytest.mark.parametrize('z_loss', [0.0, 1e-2])
@pytest.mark.parametrize('label_smoothing', [0.0, 0.1])
def test_torch(scale, z_loss, label_smoothing):
  logits, targets, weights = example(scale)
  x = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
  per_token = torch.nn.functional.cross_entropy(
    x.reshape(-1, V),
    torch.tensor(targets).long().reshape(-1),
    reduction='none',
    label_smoothing=label_smoothing,
  ).reshape(B, T)
  w = torch.tensor(weights, dtype=torch.float64)
  expected = (w * per_token).sum()
  expected = expected + z_loss * (w * torch.logsumexp(x, -1) ** 2).sum()
  expected.backward()

  value, gradient = jax.jit(
    jax.value_and_grad(minimised), static_argnums=(3, 4)
  )(logits, targets, weights, z_loss, label_smoothing)
  np.testing.assert_allclose(value, expected.item(), rtol=1e-5)
  np.testing.assert_allclose(
    gradient, x.grad.numpy(), rtol=1e-4, atol=1e-6 * np.abs(x.grad).max().item()
  )


class L2Wrap(torch.autograd.Function):
  """RWKV-LM's src/model.py, in our words: the loss passes unchanged.

  The gradient of a token's largest logit gains 1e-4 times that logit, divided
  by the number of tokens.
  """

  @staticmethod
  def forward(ctx, loss, logits):
    ctx.save_for_backward(logits)
    return loss.clone()

  @staticmethod
  def backward(ctx, above):
    (logits,) = ctx.saved_tensors
    highest, at = logits.max(dim=-1, keepdim=True)
    tokens = logits.shape[0] * logits.shape[1]
    extra = torch.zeros_like(logits)
    return above, extra.scatter(-1, at, highest * 1e-4 / tokens)


def test_max_logit_loss_is_rwkvs_l2wrap():
  logits, targets, _ = example(scale=300.0)  # large, so that it counts
  x = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
  loss = torch.nn.functional.cross_entropy(
    x.reshape(-1, V), torch.tensor(targets).long().reshape(-1)
  )
  L2Wrap.apply(loss, x).backward()

  def ours(logits, factor):
    ones = np.ones_like(targets, 'float32')
    sums = weighted_cross_entropy(logits, targets, ones, max_logit_loss=factor)
    return (sums['loss'] + sums.get('max_logit_loss', 0.0)) / ones.size

  expected = x.grad.numpy()
  gradient = jax.grad(ours)(logits, 1e-4)
  np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-9)
  plain = jax.grad(ours)(logits, 0.0)
  assert np.abs(plain - expected).max() > 1e-3 * np.abs(expected).max()


def test_gradient_is_softmax_minus_target():
  logits, targets, weights = example()
  gradient = jax.grad(minimised)(logits, targets, weights)
  expected = jax.nn.softmax(logits) - jax.nn.one_hot(targets, V)
  np.testing.assert_allclose(gradient, weights[..., None] * expected, atol=1e-6)


def test_sums():
  logits, targets, weights = example()
  targets[0] = logits[0].argmax(-1)
  sums = weighted_cross_entropy(logits, targets, weights, z_loss=0.5)
  log_z = jax.nn.logsumexp(logits, axis=-1)
  hits = logits.argmax(-1) == targets
  assert hits[0].all()
  assert not hits.all()
  for name, expected in (
    ('z_loss', 0.5 * (weights * log_z**2).sum()),
    ('correct', (weights * hits).sum()),
    ('weight', weights.sum()),
  ):
    np.testing.assert_allclose(sums[name], expected, rtol=1e-6)


def test_rows_without_weight_change_nothing():
  logits, targets, weights = example()
  gradient = jax.grad(minimised)(logits, targets, weights, 1e-2, 0.1)
  assert not np.any(gradient[1])
  kept = np.array([0, 2, 3])
  np.testing.assert_allclose(
    minimised(logits, targets, weights, 1e-2, 0.1),
    minimised(logits[kept], targets[kept], weights[kept], 1e-2, 0.1),
    rtol=1e-6,
  )
  nothing = minimised(logits, targets, np.zeros_like(weights))
  assert nothing == 0


def test_bfloat16_logits_are_summed_in_float32():
  logits, targets, weights = example()
  sums = weighted_cross_entropy(
    jnp.asarray(logits, jnp.bfloat16), targets, weights
  )
  assert all(x.dtype == jnp.float32 for x in sums.values())


def test_a_target_beyond_the_vocabulary_gives_nan():
  logits, targets, _ = example()
  targets[0, 0] = V
  loss, _, _ = cross_entropy(logits, targets)
  assert np.isnan(loss[0, 0])
  assert np.isfinite(np.delete(loss.ravel(), 0)).all()


def test_sharded_vocabulary():
  logits, targets, weights = example()
  mesh = jax.make_mesh(
    (2, 4), ('data', 'tensor'), axis_types=(AxisType.Auto,) * 2
  )
  arrays = [
    jax.device_put(x, NamedSharding(mesh, spec))
    for x, spec in (
      (logits, P('data', None, 'tensor')),
      (targets, P('data')),
      (weights, P('data')),
    )
  ]
  step = jax.jit(jax.value_and_grad(minimised), static_argnums=(3, 4))
  compiled = step.lower(*arrays, 1e-2, 0.1).compile()
  value, gradient = compiled(*arrays)
  expected, expected_gradient = step(logits, targets, weights, 1e-2, 0.1)
  np.testing.assert_allclose(value, expected, rtol=1e-6)
  np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-7)
  assert gradient.sharding.spec == P('data', None, 'tensor')
  # Devices exchange sums over the vocabulary, never its entries.
  assert 'all-gather' not in compiled.as_text()
  assert 'all-reduce' in compiled.as_text()
