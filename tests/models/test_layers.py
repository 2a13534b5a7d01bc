"""Dropout, gelu and norms equal their definitions."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.layers import Dropout, gelu, normalize


@pytest.mark.parametrize('rate', [0.1, 0.5])
def test_dropout_is_fair_and_shares_masks_over_a_sequence(rate):
  B, T, D = 64, 5, 500
  x = jnp.full((B, T, D), 2.0)
  rngs = {'dropout': jax.random.key(3)}
  y = np.asarray(Dropout(rate, (-2,)).apply({}, x, rngs=rngs))
  # What is kept is scaled so that the mean stays the same.
  np.testing.assert_allclose(np.unique(y), [0, 2 / (1 - rate)], rtol=1e-6)
  kept = y[:, 0] > 0
  spread = (rate * (1 - rate) / kept.size) ** 0.5
  assert abs(kept.mean() - (1 - rate)) < 4 * spread
  # A feature is dropped at all positions of a row, or at none ...
  assert (y == y[:, :1]).all()
  # ... and rows and features are dropped independently.
  for axis in (0, 1):
    means = kept.mean(axis)
    expected = rate * (1 - rate) / kept.shape[axis]
    assert means.var() == pytest.approx(expected, rel=0.5)


@pytest.mark.parametrize('approximate', [False, True])
def test_gelu_and_its_gradient(approximate):
  """GELU is compared in float64, its gradient with differences."""
  x = np.linspace(-12, 12, 481)

  def truth(x):
    inner = (2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)
    erf = np.array([math.erf(v / 2**0.5) for v in x])
    return 0.5 * x * (1 + (np.tanh(inner) if approximate else erf))

  both = jax.vmap(jax.value_and_grad(lambda x: gelu(x, approximate)))
  value, gradient = both(jnp.asarray(x, 'float32'))
  np.testing.assert_allclose(value, truth(x), rtol=1e-5, atol=2e-6)
  slope = (truth(x + 1e-5) - truth(x - 1e-5)) / 2e-5
  np.testing.assert_allclose(gradient, slope, rtol=1e-5, atol=2e-6)


NORMS = {
  'rms_norm': (False, False),
  'no bias': (True, False),
  'bias': (True,) * 2,
}


@pytest.mark.parametrize('name', NORMS)
def test_norms_and_their_gradients(name):
  """Values in float64, gradients by autodiff of the definition there."""
  centred, biased = NORMS[name]
  rng = np.random.default_rng(0)
  x, dy = (rng.normal(2, 3, (2, 5, 8)).astype('float32') for _ in range(2))
  x[0, 0] *= 1e-3  # where epsilon counts
  scale, bias = rng.normal(1, 1, (2, 8)).astype('float32')
  bias = bias if biased else None

  def truth(x, scale, bias):
    if centred:
      x = x - x.mean(-1, keepdims=True)
    y = x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * scale
    return y if bias is None else y + bias

  def ours(x, scale, bias):
    return normalize(x, scale, bias, (centred, 1e-5, 'float32'))

  with jax.enable_x64():
    wide = [
      None if z is None else z.astype('float64') for z in (x, scale, bias)
    ]
    expected, gradients = jax.vjp(truth, *wide)
    expected = jax.tree.leaves((expected, gradients(dy.astype('float64'))))
  found, gradients = jax.vjp(ours, x, scale, bias)
  found = jax.tree.leaves((found, gradients(dy)))
  for a, b in zip(found, expected, strict=True):
    np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


def test_a_norm_keeps_its_input_alone():
  x, scale = jnp.ones((4, 64), 'bfloat16'), jnp.ones(64)
  kind = True, 1e-5, 'bfloat16'
  _, gradients = jax.vjp(lambda x, s: normalize(x, s, None, kind), x, scale)
  kept = [z for z in jax.tree.leaves(gradients) if z.shape == x.shape]
  assert [z.dtype for z in kept] == ['bfloat16']
