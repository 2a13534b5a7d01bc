import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from configs import common
from train.learning.optimizer import make_optimizer, state_axes


def adafactor(**settings):
  group = common.base().optimizer
  group.update(
    name='adafactor',
    decay_rate=0.8,
    epsilon1=1e-30,
    epsilon2=1e-3,
    clip_threshold=1.0,
    factor_from=128,
    parameter_scale=True,
    b1=0.0,
    weight_decay=0.0,
  )
  group.update(settings)
  return group


def adamw(**settings):
  group = common.base().optimizer
  group.update(
    name='adamw',
    b1=0.9,
    b2=0.98,
    epsilon=1e-6,
    bias_correction=True,
    weight_decay=0.1,
  )
  group.update(settings)
  return group


AXES = {
  'kernel': ('embed', 'mlp'),
  'narrow': ('embed', 'heads'),
  'scale': ('norm',),
  'scalar': (),
  'experts': ('experts', 'embed', 'mlp'),
}
SHAPES = {
  'kernel': (12, 20),
  'narrow': (12, 3),
  'scale': (12,),
  'scalar': (),
  'experts': (2, 8, 10),
}


def normal(rng, shapes, scale=1.0):
  return {
    k: scale * rng.standard_normal(shape).astype('float32')
    for k, shape in shapes.items()
  }


def rate(step):
  return 0.1 / jnp.sqrt(step + 1.0)


def train(tx, params, gradients):
  state = tx.init(params)

  @jax.jit
  def step(params, state, gradient):
    updates, state = tx.update(gradient, state, params)
    return optax.apply_updates(params, updates), state

  for gradient in gradients:
    params, state = step(params, state, gradient)
  return params, state


def paper_adafactor(x, gradients, o):
  """Shazeer & Stern 2018, algorithms 4 and 5, in float64, as it is printed."""
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
  """PaLM's: of a constant rate, optax's decay a step is its square."""
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


def test_adamw_without_bias_correction_is_berts():
  rng = np.random.default_rng(6)
  shapes = {'kernel': (12, 20), 'scale': (12,)}
  params = normal(rng, shapes)
  gradients = [normal(rng, shapes, 3.0**i) for i in range(-5, 5)]
  optimizer = adamw(bias_correction=False, b2=0.999, weight_decay=0.01)
  ours, state = train(
    make_optimizer(optimizer, rate, {k: AXES[k] for k in shapes}),
    params,
    gradients,
  )
  assert state[1].count == len(gradients)
  for k, x in params.items():
    x, m, v = np.float64(x), 0.0, 0.0
    for step, gradient in enumerate(gradients):
      g = np.float64(gradient[k])
      m = 0.9 * m + 0.1 * g
      v = 0.999 * v + 0.001 * g**2
      decay = 0.01 * x if k == 'kernel' else 0
      x = x - float(rate(step)) * (m / (np.sqrt(v) + 1e-6) + decay)
    np.testing.assert_allclose(ours[k], x, rtol=2e-5, atol=2e-6)


def test_multipliers_of_the_rate():
  rng = np.random.default_rng(7)
  axes = {
    'mixer': {
      'time_decay': ('layers', 'embed'),
      'time_first': ('layers', 'embed'),
      'key': {'kernel': ('layers', 'embed', 'mlp')},
    }
  }
  params = {
    'mixer': {
      'time_decay': np.ones((2, 4), 'float32'),
      'time_first': np.ones((2, 4), 'float32'),
      'key': {'kernel': np.ones((2, 4, 4), 'float32')},
    }
  }
  gradient = jax.tree.map(
    lambda x: rng.standard_normal(x.shape).astype('float32'), params
  )
  optimizer = adamw()
  plain = make_optimizer(optimizer, rate, axes)
  optimizer.multipliers.time_decay = 2.0
  optimizer.multipliers.time_first = 3.0
  multiplied = make_optimizer(optimizer, rate, axes)
  ones, _ = plain.update(gradient, plain.init(params), params)
  ours, state = multiplied.update(gradient, multiplied.init(params), params)
  for name, factor in (('time_decay', 2), ('time_first', 3), ('key', 1)):
    jax.tree.map(
      lambda x, y, factor=factor: np.testing.assert_allclose(
        x, factor * y, rtol=1e-6
      ),
      ours['mixer'][name],
      ones['mixer'][name],
    )
  assert state_axes(state, axes)[1].mu == axes
  optimizer.multipliers.time_mixed = 5.0
  with pytest.raises(ValueError, match='time_mixed is 5.0, but .* time_decay'):
    make_optimizer(optimizer, rate, axes)


@pytest.mark.parametrize('decay', ['matrices', 'all'])
@pytest.mark.parametrize('clip', [0.0, 1.0])
def test_torch_adamw(clip, decay):
  rng = np.random.default_rng(3)
  axes = {
    'kernel': ('layers', 'embed', 'mlp'),
    'embedding': ('vocab', 'embed'),
    'scale': ('layers', 'norm'),
    'relative': ('buckets', 'heads_bias'),
    'content_bias': ('layers', 'heads', 'head_dim'),
  }
  shapes = {
    'kernel': (2, 4, 6),
    'embedding': (8, 4),
    'scale': (2, 4),
    'relative': (4, 2),
    'content_bias': (2, 3, 4),
  }
  params = normal(rng, shapes)
  gradients = [normal(rng, shapes, 3.0**i) for i in range(-5, 5)]
  ours, _ = train(
    make_optimizer(adamw(clip=clip, decay=decay), rate, axes), params, gradients
  )
  theirs = {
    k: torch.tensor(v.copy(), requires_grad=True) for k, v in params.items()
  }
  decaying = [theirs[k] for k in ('kernel', 'embedding')]
  others = [theirs[k] for k in ('scale', 'relative', 'content_bias')]
  optimizer = torch.optim.AdamW(
    [
      {'params': decaying, 'weight_decay': 0.1},
      # fairseq has one group, so that biases and gains decay as well.
      {'params': others, 'weight_decay': 0.1 if decay == 'all' else 0.0},
    ],
    betas=(0.9, 0.98),
    eps=1e-6,
  )
  for step, gradient in enumerate(gradients):
    for group in optimizer.param_groups:
      group['lr'] = float(rate(step))
    for k, x in theirs.items():
      x.grad = torch.tensor(gradient[k])
    if clip:
      torch.nn.utils.clip_grad_norm_(theirs.values(), clip)
    optimizer.step()
  for k, x in theirs.items():
    np.testing.assert_allclose(ours[k], x.detach(), rtol=2e-5, atol=2e-6)


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
  else:
    assert placed[1].mu == placed[1].nu == axes


def test_axes_that_do_not_fit_are_errors():
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
  ],
)
def test_errors(optimizer, message):
  with pytest.raises(ValueError, match=message):
    make_optimizer(optimizer, rate, AXES)
