"""Adafactor against the papers and optax."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import palm
from tests.helpers.optimizers import (
  AXES,
  SHAPES,
  adafactor,
  normal,
  rate,
  train,
)
from train.learning.optimizer import make_optimizer
from train.learning.schedules import make_schedule


def paper_adafactor(x, gradients, o):
  """Shazeer & Stern 2018, algorithms 4 and 5 as printed, in float64."""
  x = np.float64(x)
  factored = x.ndim >= 2 and min(x.shape[-2:]) >= o.factor_from > 0
  R = C = V = M = 0.0
  for t, G in enumerate(gradients, 1):
    G = np.float64(G)
    alpha = float(rate(t - 1))
    decays = x.ndim >= 2 or o.decay == 'all'
    decay = o.weight_decay * alpha**2 if decays else 0  # PaLM, 5
    if o.parameter_scale:
      alpha *= max(o.epsilon2, np.sqrt(np.mean(x**2)))
    beta = 1 - t ** (-0.8)
    square = G**2 + 1e-30
    if factored:
      R = beta * R + (1 - beta) * square.sum(-1)
      C = beta * C + (1 - beta) * square.sum(-2)
      total = R.sum(-1)[..., None, None]
      V = R[..., :, None] * C[..., None, :] / total
    else:
      V = beta * V + (1 - beta) * square
    U = G / np.sqrt(V)
    U = U / max(1, np.sqrt(np.mean(U**2)) / o.clip_threshold)
    M = o.b1 * M + (1 - o.b1) * alpha * U
    x = x - M - decay * x
  return x


PALM = {'factor_from': 0, 'b1': 0.9, 'weight_decay': 1.0}


@pytest.mark.parametrize(
  'settings',
  [
    {},
    {'parameter_scale': False},
    {'clip_threshold': 0.5},
    {'b1': 0.9, 'weight_decay': 0.5},
    {'weight_decay': 0.5, 'decay': 'all'},
    PALM,
  ],
)
def test_adafactor_is_the_papers_algorithm(settings):
  rng = np.random.default_rng(0)
  optimizer = adafactor(**{'factor_from': 8} | settings)
  params = normal(rng, SHAPES, 0.3)
  params['scale'] *= 1e-5  # below epsilon2
  # Gradients of very different sizes, so that clipping and decay matter.
  gradients = [
    normal(rng, SHAPES, 10.0 ** rng.uniform(-6, 2)) for _ in range(20)
  ]
  gradients[3]['kernel'][:] = 0
  trained, state = train(
    make_optimizer(optimizer, rate, AXES), params, gradients
  )
  kinds = {k: set(v) - {'mean'} for k, v in state[1].moments.items()}
  for k in SHAPES:
    factored = k in ('kernel', 'experts') and optimizer.factor_from
    assert kinds[k] == ({'row', 'column'} if factored else {'full'})
    assert ('mean' in state[1].moments[k]) == bool(optimizer.b1)
  for k in SHAPES:
    expected = paper_adafactor(params[k], [g[k] for g in gradients], optimizer)
    moved = np.abs(expected - params[k]).max()
    assert np.abs(trained[k] - expected).max() < 2e-5 * moved, k


@pytest.mark.parametrize('position', [0, 1, 2])
def test_stacked_layers_are_adafactor_layer_by_layer(position):
  rng = np.random.default_rng(1)
  shapes = {'kernel': (16, 24), 'scale': (24,), 'narrow': (16, 4)}
  axes = {k: AXES[k] for k in shapes}
  layers = [normal(rng, shapes, 4.0**i) for i in range(3)]
  steps = [[normal(rng, shapes, 9.0**i) for i in range(3)] for _ in range(5)]

  def place(names):
    return min(position, len(names))

  def stack(trees):
    return {
      k: np.stack([tree[k] for tree in trees], place(axes[k])) for k in shapes
    }

  stacked_axes = {
    k: (*v[: place(v)], 'layers', *v[place(v) :]) for k, v in axes.items()
  }
  optimizer = adafactor(factor_from=16)
  together, state = train(
    make_optimizer(optimizer, rate, stacked_axes),
    stack(layers),
    [stack(step) for step in steps],
  )
  assert set(state[1].moments['kernel']) == {'row', 'column'}
  for i in range(3):
    alone, _ = train(
      make_optimizer(optimizer, rate, axes),
      layers[i],
      [step[i] for step in steps],
    )
    for k in shapes:
      np.testing.assert_allclose(
        jnp.take(together[k], i, place(axes[k])),
        alone[k],
        rtol=1e-6,
        atol=1e-6 * np.abs(alone[k]).max(),
      )


def test_optax_adafactor():
  rng = np.random.default_rng(2)
  shapes = {'kernel': (128, 160), 'scale': (160,)}
  params = normal(rng, shapes)
  gradients = [normal(rng, shapes, 3.0**i) for i in range(-3, 3)]
  ours, _ = train(
    make_optimizer(adafactor(), rate, {k: AXES[k] for k in shapes}),
    params,
    gradients,
  )
  theirs, _ = train(optax.adafactor(rate), params, gradients)
  for k in shapes:
    np.testing.assert_allclose(ours[k], theirs[k], rtol=1e-5, atol=1e-6)


def test_optax_adafactor_with_momentum_and_decay():
  """PaLM decays weights by the squared rate, which is constant in optax."""
  rng = np.random.default_rng(5)
  shapes = {'kernel': (12, 20), 'table': (8, 4)}
  params = normal(rng, shapes)
  gradients = [normal(rng, shapes, 3.0**i) for i in range(-3, 3)]
  axes = {'kernel': ('embed', 'mlp'), 'table': ('vocab', 'embed')}
  ours, _ = train(
    make_optimizer(adafactor(**PALM), lambda step: 0.05, axes),
    params,
    gradients,
  )
  theirs, _ = train(
    optax.adafactor(
      0.05, factored=False, momentum=0.9, weight_decay_rate=0.05**2
    ),
    params,
    gradients,
  )
  for k in shapes:
    np.testing.assert_allclose(ours[k], theirs[k], rtol=1e-5, atol=1e-6)


def test_palms_optimizer_is_that_of_its_paper():
  """Chowdhery et al. 2022, 5, in float64 over the config's whole recipe.

  "Adafactor without factorization", which is "Adam with parameter scaling": the
  rate 10^-2 for 10,000 steps and then 1/sqrt(k) times the RMS of the matrix, b1
  0.9, b2 = 1 - k^-0.8, a global norm of the gradient of at most 1, and a weight
  decay of the squared rate. The floors and the clipping of an update's RMS are
  Adafactor's. The count begins before the rate falls.
  """
  config = palm.get_config('8b')
  schedule = make_schedule(config.schedule, config.train.steps)
  axes = {'kernel': ('embed', 'mlp'), 'scale': ('norm',)}
  tx = make_optimizer(config.optimizer, schedule, axes)
  rng = np.random.default_rng(8)
  params = normal(rng, {'kernel': (12, 20), 'scale': (20,)})
  first, count = 9_990, 20
  state = tx.init(params)
  adafactor_state = state[1]._replace(count=jnp.int32(first))
  moments = {
    k: {'full': rng.uniform(0.1, 2, x.shape), 'mean': 1e-3 * x}
    for k, x in params.items()
  }
  to_float32 = functools.partial(jax.tree.map, np.float32)
  state = (state[0], adafactor_state._replace(moments=to_float32(moments)))
  ours, clipped = params, 0
  update = jax.jit(tx.update)
  x = {k: np.float64(v) for k, v in params.items()}
  for k in range(first + 1, first + count + 1):  # the step's number, from 1
    gradient = normal(rng, {'kernel': (12, 20), 'scale': (20,)})
    gradient = jax.tree.map(lambda g: g * 10.0 ** rng.uniform(-3, 0), gradient)
    updates, state = update(to_float32(gradient), state, ours)
    ours = optax.apply_updates(ours, updates)
    norm = np.sqrt(sum((np.float64(g) ** 2).sum() for g in gradient.values()))
    clipped += norm > 1
    rate = 1e-2 if k <= 10_001 else 1 / np.sqrt(k - 1)  # step k - 1, from 0
    for name, own in moments.items():
      g = np.float64(np.float32(gradient[name])) / max(1, norm)
      b2 = 1 - k**-0.8
      own['full'] = b2 * own['full'] + (1 - b2) * g**2
      u = g / np.sqrt(own['full'])
      u /= max(1, np.sqrt((u**2).mean()))
      scale = max(1e-3, np.sqrt((x[name] ** 2).mean()))
      own['mean'] = 0.9 * own['mean'] + 0.1 * rate * scale * u
      decay = rate**2 if name == 'kernel' else 0
      x[name] = x[name] - own['mean'] - decay * x[name]
  assert 0 < clipped < count
  for name in x:
    moved = np.abs(x[name] - params[name]).max()
    assert np.abs(ours[name] - x[name]).max() < 1e-4 * moved, name
