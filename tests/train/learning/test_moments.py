"""Moments in bfloat16: rounded at random, and right on average."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.helpers.optimizers import (
  AXES,
  SHAPES,
  adafactor,
  adamw,
  normal,
)
from train.learning.moments import kept_in, rounded
from train.learning.optimizer import make_optimizer, state_axes

OPTIMIZERS = {
  'adamw': adamw(),
  'uncorrected': adamw(bias_correction=False),
  'adafactor': adafactor(factor_from=8, b1=0.9),
}


def test_rounding():
  """Up or down to a neighbour, in proportion to the distance."""
  x = np.float32([1 + 2**-9, -3.3, 1e-30, 7e12, 1.5, 0.0])
  many = np.tile(x, (20_000, 1))
  found = np.asarray(rounded(many, jax.random.key(0)), 'float64')
  for number, column in zip(x.astype('float64'), found.T, strict=True):
    spacing = 2.0 ** (np.floor(np.log2(abs(number) or 1)) - 7)
    assert (abs(column - number) < spacing).all()
    assert len(np.unique(column)) == (1 if number in (1.5, 0) else 2)
    # Five standard errors of a mean of two neighbours.
    assert abs(column.mean() - number) < 5 * spacing / 2 / 20_000**0.5
  odd = np.float32([np.inf, -np.inf, np.nan])
  kept = np.asarray(rounded(odd, jax.random.key(1)), 'float32')
  np.testing.assert_array_equal(kept, odd)


def test_a_slow_mean_moves():
  """0.999^1000 of what it was; rounded to the nearest it would stay."""
  adam = kept_in(optax.scale_by_adam(0.9, 0.999), 'bfloat16')
  zeros = jnp.zeros(1000)
  state = adam.init(zeros)
  state = state._replace(nu=jnp.ones(1000, 'bfloat16'))

  def step(state, _):
    return adam.update(zeros, state)[1], None

  state, _ = jax.lax.scan(step, state, None, length=1000)
  assert state.nu.dtype == 'bfloat16'
  nu = np.asarray(state.nu, 'float64')
  assert nu.mean() == pytest.approx(0.999**1000, rel=0.02)
  nearest = jnp.bfloat16(1.0) * jnp.bfloat16(0.999)
  assert nearest == 1


@pytest.mark.parametrize('name', OPTIMIZERS)
def test_optimizers(name):
  """Moments are bfloat16, half the bytes; steps are near those of float32."""
  rng = np.random.default_rng(0)
  shapes = {k: SHAPES[k] for k in ('kernel', 'scale', 'experts')}
  axes = {k: AXES[k] for k in shapes}
  params = normal(rng, shapes)
  gradients = [normal(rng, shapes) for _ in range(20)]
  group, moved, states = OPTIMIZERS[name].copy_and_resolve_references(), [], []
  for dtype in 'float32', 'bfloat16':
    group.moments_dtype = dtype
    optimizer = make_optimizer(group, lambda step: 0.1, axes)
    update, state = jax.jit(optimizer.update), optimizer.init(params)
    total = jax.tree.map(np.zeros_like, params)
    for gradient in gradients:
      updates, state = update(gradient, state, params)
      total = jax.tree.map(np.add, total, updates)
    state_axes(state, axes)  # raises if it does not know the state
    moved.append(total)
    states.append(state)
  before, after = (jax.tree.leaves(state) for state in states)
  assert [x.shape for x in before] == [x.shape for x in after]
  kinds = {x.dtype.name for x in before}, {x.dtype.name for x in after}
  assert kinds == ({'float32', 'int32'}, {'bfloat16', 'int32'})
  for k in shapes:
    difference = np.abs(moved[1][k] - moved[0][k]).max()
    assert 0 < difference < 0.02 * np.abs(moved[0][k]).max(), k


def test_an_unknown_type():
  with pytest.raises(ValueError, match="moments_dtype is 'float16'; it must"):
    make_optimizer(adamw(moments_dtype='float16'), lambda step: 0.1, AXES)
