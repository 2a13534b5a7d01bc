"""AdamW, LAMB and Lion beside their papers, torch and optax; multipliers."""

import jax
import numpy as np
import optax
import pytest
import torch

from tests.helpers.optimizers import (
  AXES,
  adamw,
  lion,
  normal,
  paper_adamw,
  rate,
  train,
)
from train.learning.optimizer import make_optimizer, state_axes


def paper_lamb(x, gradients, o, shrinks):
  """You et al. 2020, algorithm 2, phi(z) = z; one layer is one weight."""
  m = v = 0.0
  for t, g in enumerate(gradients, 1):
    m = o.b1 * m + (1 - o.b1) * g
    v = o.b2 * v + (1 - o.b2) * g**2
    r = m / (1 - o.b1**t) / (np.sqrt(v / (1 - o.b2**t)) + o.epsilon)
    u = r + o.weight_decay * x
    norm = np.linalg.norm(x) / np.linalg.norm(u)
    # As published code does, biases and norms move as in Adam.
    x = x - float(rate(t - 1)) * (norm * u if shrinks else r)
  return x


def paper_lion(x, gradients, o, shrinks):
  """Chen et al. 2023, algorithm 2."""
  m = 0.0
  for t, g in enumerate(gradients):
    u = np.sign(o.b1 * m + (1 - o.b1) * g)
    x = x - float(rate(t)) * (u + o.weight_decay * shrinks * x)
    m = o.b2 * m + (1 - o.b2) * g
  return x


@pytest.mark.parametrize(
  ('optimizer', 'paper'),
  [
    (adamw(), paper_adamw),
    (adamw(name='lamb'), paper_lamb),
    (lion(), paper_lion),
    (lion(b1=0.95, b2=0.98, decay='all'), paper_lion),
  ],
)
def test_the_papers_algorithms(optimizer, paper):
  """In float64; each of the stacked layers by itself."""
  rng = np.random.default_rng(5)
  shapes = {'kernel': (2, 12, 20), 'scale': (12,)}
  axes = {'kernel': ('layers', 'embed', 'mlp'), 'scale': ('norm',)}
  params = normal(rng, shapes)
  gradients = [normal(rng, shapes, 3.0**i) for i in range(-5, 5)]
  gradients[3]['scale'][:] = 0
  ours, _ = train(make_optimizer(optimizer, rate, axes), params, gradients)
  shrinks = {'kernel': True, 'scale': optimizer.decay == 'all'}

  def expected(name, *layer):
    own = [np.float64(g[name][layer]) for g in gradients]
    x = np.float64(params[name][layer])
    return paper(x, own, optimizer, shrinks[name])

  for layer in range(2):
    np.testing.assert_allclose(
      ours['kernel'][layer], expected('kernel', layer), rtol=2e-5, atol=2e-6
    )
  np.testing.assert_allclose(
    ours['scale'], expected('scale'), rtol=2e-5, atol=2e-6
  )


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
      # fairseq has one group: biases and gains decay as well.
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


def test_lamb_is_optax_s():
  """Where every weight decays; optax knows no other."""
  rng = np.random.default_rng(8)
  shapes = {'kernel': (12, 20), 'scale': (12,)}
  params = normal(rng, shapes) | {'zeros': np.zeros(3, 'float32')}
  gradients = [normal(rng, shapes | {'zeros': (3,)}) for _ in range(6)]
  axes = {k: AXES.get(k, ('norm',)) for k in params}
  lamb = make_optimizer(adamw(name='lamb', decay='all'), rate, axes)
  ours, state = train(lamb, params, gradients)
  theirs, _ = train(
    optax.lamb(rate, 0.9, 0.98, 1e-6, weight_decay=0.1), params, gradients
  )
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
    ours,
    theirs,
  )
  assert state_axes(state, axes)[1].mu == axes


def test_lamb_scales_each_layer_by_itself():
  """And what does not decay moves as AdamW moves it."""
  rng = np.random.default_rng(9)
  shapes = {'kernel': (2, 12, 20), 'scale': (2, 12)}
  axes = {'kernel': ('layers', 'embed', 'mlp'), 'scale': ('layers', 'norm')}
  params = normal(rng, shapes)
  params['kernel'] *= np.float32([1, 50])[:, None, None]
  gradients = [normal(rng, shapes) for _ in range(4)]

  def trained(name, axes, own=lambda x: x):
    tx = make_optimizer(adamw(name=name), rate, axes)
    found, _ = train(tx, own(params), [own(x) for x in gradients])
    return found

  stacked = trained('lamb', axes)
  np.testing.assert_allclose(
    stacked['scale'], trained('adamw', axes)['scale'], rtol=1e-6
  )
  single = {k: names[1:] for k, names in axes.items()}
  for n in range(2):
    layer = trained(
      'lamb', single, lambda x, n=n: {k: v[n] for k, v in x.items()}
    )
    for k, x in layer.items():
      np.testing.assert_allclose(stacked[k][n], x, rtol=1e-5, atol=1e-6)
