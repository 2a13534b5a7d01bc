"""Dropout and gelu equal their definitions."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.layers import Dropout, gelu


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
