"""RWKV-4's mean: its parallel and recurrent forms equal the formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.families.wkv import empty, recurrent, wkv
from tests.models.test_models import assert_close


def terms(B, T, D, seed=0, starts=True):
  rng = np.random.default_rng(seed)
  k, v, g = (rng.normal(0, 3, (B, T, D)).astype('float32') for _ in range(3))
  decay = np.exp(rng.uniform(-5, 3, D)).astype('float32')
  bonus = rng.normal(0, 1, D).astype('float32')
  cuts = rng.random((B, T)) < (0.15 if starts else 0)
  return (k, v, decay, bonus, cuts), g


def formula(k, v, decay, bonus, starts):
  """The definition, sum by sum, in float64."""
  k, v, decay, bonus = (x.astype('float64') for x in (k, v, decay, bonus))
  out = np.zeros_like(k)
  for b, t in np.ndindex(k.shape[:2]):
    (cuts,) = np.nonzero(starts[b, : t + 1])
    first = cuts[-1] if len(cuts) else 0
    steps = np.arange(t - 1 - first, -1, -1)[:, None]
    exponents = k[b, first:t] - steps * decay
    exponents = np.vstack([exponents, bonus + k[b, t]])
    weights = np.exp(exponents - exponents.max(0))
    out[b, t] = (weights * v[b, first : t + 1]).sum(0) / weights.sum(0)
  return out


@pytest.mark.parametrize('T', [1, 2, 3, 16, 17, 50])
def test_both_forms_are_the_formula(T):
  arguments, _ = terms(2, T, 6)
  expected = formula(*arguments)
  parallel = wkv(*arguments)
  alone, state = recurrent(*arguments, empty((2, 6)))
  assert_close(parallel, expected, 1e-6)
  assert_close(alone, expected, 1e-6)
  assert all(np.isfinite(x).all() for x in state)


def test_gradients_are_those_of_the_recurrent_form():
  (*numbers, starts), g = terms(3, 50, 6)

  def loss(form):
    return lambda *numbers: jnp.sum(g * form(*numbers, starts))

  def slow(*arguments):
    return recurrent(*arguments, empty((3, 6)))[0]

  ours = jax.jit(jax.grad(loss(wkv), (0, 1, 2, 3)))(*numbers)
  expected = jax.jit(jax.grad(loss(slow), (0, 1, 2, 3)))(*numbers)
  for a, b in zip(ours, expected, strict=True):
    assert_close(a, b, 1e-5)


def gradients_and_values(form, numbers, starts, g):
  """Of a form of the mean, where the loss is its sum weighted by g."""

  def loss(*numbers):
    out = form(*numbers, starts)
    return jnp.sum(g * out), out

  return jax.jit(jax.grad(loss, (0, 1, 2, 3), has_aux=True))(*numbers)


@pytest.mark.parametrize('scale', [1.0, 100.0, 1e4])
def test_large_keys_and_long_rows_stay_finite(scale):
  (k, v, decay, bonus, starts), g = terms(1, 1000, 6, starts=False)
  numbers = scale * k, v, decay, bonus
  grads, out = gradients_and_values(wkv, numbers, starts, g)
  # An exponent of 3,000 is known to 1e-4 in float32.
  expected = formula(scale * k, v, decay, bonus, starts)
  assert_close(out, expected, 1e-5 + 1e-6 * scale)
  assert all(np.isfinite(x).all() for x in grads)
  # A mean is never beyond the values.
  assert np.abs(out).max() <= np.abs(v).max() * 1.00001
