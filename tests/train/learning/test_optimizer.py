"""The optimizer of a config: clipping, axes of its state, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.helpers.optimizers import (
  AXES,
  adafactor,
  adamw,
  lion,
  muon,
  rate,
)
from train.learning.optimizer import make_optimizer, state_axes


def test_clipping_is_by_the_norm_of_all_gradients():
  axes = {'a': ('norm',), 'b': ('norm',)}
  tx = make_optimizer(
    adamw(clip=5.0, b1=0.0, b2=0.0, epsilon=1e8, weight_decay=0.0),
    lambda step: 1e8,
    axes,
  )  # with a huge epsilon, a step is the clipped gradient itself
  params = {'a': jnp.zeros(1), 'b': jnp.zeros(1)}
  gradient = {'a': jnp.array([6.0]), 'b': jnp.array([8.0])}
  updates, _ = tx.update(gradient, tx.init(params), params)
  np.testing.assert_allclose(updates['a'], [-3.0], rtol=1e-5)
  np.testing.assert_allclose(updates['b'], [-4.0], rtol=1e-5)


@pytest.mark.parametrize(
  'optimizer',
  [
    adafactor(clip=1.0),
    adafactor(b1=0.9, weight_decay=1.0),
    adamw(),
    adamw(bias_correction=False),
    lion(),
    muon(),
  ],
)
def test_every_array_of_the_state_has_axes(optimizer):
  axes = {
    'layers': {
      'kernel': ('embed', 'layers', 'mlp'),
      'scale': ('layers', 'norm'),
    },
    'table': ('vocab', 'embed'),
    'scalar': (),
  }
  params = {
    'layers': {'kernel': jnp.ones((128, 3, 256)), 'scale': jnp.ones((3, 128))},
    'table': jnp.ones((512, 128)),
    'scalar': jnp.ones(()),
  }
  state = jax.eval_shape(make_optimizer(optimizer, rate, axes).init, params)
  placed = state_axes(state, axes)
  sizes = {'layers': 3, 'embed': 128, 'mlp': 256, 'vocab': 512, 'norm': 128}

  def check(array, names):
    assert array.shape == tuple(sizes[name] for name in names)
    assert array.dtype == ('float32' if array.ndim else array.dtype)

  jax.tree.map(check, state, placed)
  if optimizer.name == 'adafactor':
    kernel, table = ('embed', 'layers', 'mlp'), ('vocab', 'embed')
    assert placed[1].moments['layers']['kernel'] == {
      'row': ('embed', 'layers'),
      'column': ('layers', 'mlp'),
    } | ({'mean': kernel} if optimizer.b1 else {})
    assert placed[1].moments['table'] == {
      'row': ('vocab',),
      'column': ('embed',),
    } | ({'mean': table} if optimizer.b1 else {})
  elif optimizer.name == 'lion':
    assert placed[1].mu == axes
  elif optimizer.name == 'muon':
    kernel, table = ('embed', 'layers', 'mlp'), ('vocab', 'embed')
    moments = placed[1].moments
    assert moments['layers']['kernel'] == {'mean': kernel}
    assert moments['table'] == {'mean': table, 'square': table}
  else:
    assert placed[1].mu == placed[1].nu == axes


def test_wrong_axes_are_errors():
  params = {'kernel': jnp.ones((128, 128))}
  axes = {'kernel': ('embed',)}
  with pytest.raises(ValueError, match='needs 2 axis names'):
    make_optimizer(adafactor(), rate, axes).init(params)
  state = make_optimizer(adamw(), rate, axes).init(params)
  with pytest.raises(ValueError, match='needs 2 axis names'):
    state_axes(state, axes)
  with pytest.raises(TypeError, match='TraceState'):
    state_axes(optax.sgd(0.1, momentum=0.9).init(params), axes)


@pytest.mark.parametrize(
  ('optimizer', 'message'),
  [
    (
      adafactor(name='adam'),
      "name is 'adam'; it must be one of adafactor, adamw",
    ),
    (adafactor(epsilon=0.1), 'epsilon is 0.1, but .* does not use'),
    (adafactor(b1=1.0), 'b1 is 1.0; it must be below 1'),
    (adafactor(weight_decay=-1.0), 'weight_decay is -1.0; it must be at least'),
    (
      adafactor(multipliers={'scale': 2.0}),
      r'multipliers is scale: 2.0\s, but .* does not use',
    ),
    (adamw(bias_correction=None), 'bias_correction is not set'),
    (adamw(multipliers={'scale': 0.0}), 'scale is 0.0; it must be above 0'),
    (adafactor(factor_from=None), 'factor_from is not set'),
    (
      adafactor(clip_threshold=0.0),
      'clip_threshold is 0.0; it must be above 0',
    ),
    (adafactor(clip=-1.0), 'clip is -1.0; it must be at least 0'),
    (adamw(b2=1.0), 'b2 is 1.0; it must be below 1'),
    (adamw(decay='kernels'), "decay is 'kernels'; it must be one of matrices"),
    (adamw(decay_rate=0.8), 'decay_rate is 0.8, but .* does not use'),
    (adamw(momentum=0.9), 'momentum is 0.9, but .* does not use'),
    (lion(epsilon=1e-8), 'epsilon is 1e-08, but .*name=lion does not use'),
    (lion(b2=1.0), 'b2 is 1.0; it must be below 1'),
    (muon(momentum=None), 'momentum is not set; optimizer.name=muon uses it'),
    (muon(momentum=1.0), 'momentum is 1.0; it must be below 1'),
    (muon(matrix_rate=0.0), 'matrix_rate is 0.0; it must be above 0'),
    (
      muon(bias_correction=True),
      'bias_correction is True, but .* does not use',
    ),
  ],
)
def test_errors(optimizer, message):
  with pytest.raises(ValueError, match=message):
    make_optimizer(optimizer, rate, AXES)
