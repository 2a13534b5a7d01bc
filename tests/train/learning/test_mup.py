"""muP: activations keep their size when models widen, and rates transfer.

Yang et al. 2022; the coordinate check is that of its appendix D.1. Models of
the three branches have one layer in each stack, and two widths.
"""

import functools

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from configs import bert, llama, t5
from models.build import build
from models.config import TransformerConfig
from tests.helpers.optimizers import adafactor, adamw, lion, muon, rate
from train.learning.mup import is_hidden
from train.learning.optimizer import make_optimizer
from train.learning.state import abstract_params

NARROW, WIDE = 32, 128
V, B, T = 64, 8, 16
SYSTEMS = {'decoder': llama, 'encoder': bert, 'encoder_decoder': t5}
OWN = {
  'decoder': {'decoder_layers': 1, 'rope_dim': 8},
  'encoder': {'encoder_layers': 1, 'head': 'mlm', 'token_types': 0},
  'encoder_decoder': {'encoder_layers': 1, 'decoder_layers': 1},
}
SEEN = 'Embed', 'Attention', 'Mlp', 'Vocabulary'  # whose outputs are measured


def config_of(family, width, mup, **changes):
  fields = SYSTEMS[family].get_config('tiny').model.to_dict()
  fields.update(vocab_size=V, embed_dim=width, mlp_dim=2 * width, head_dim=8)
  fields.update(heads=width // 8, kv_heads=width // 8)
  fields.update(dropout=0.0, attention_dropout=0.0, dtype='float32')
  fields.update(scan=False, remat='none', base_dim=NARROW if mup else 0)
  return TransformerConfig(**fields | OWN[family] | changes)


def batches(count):
  """Inputs and targets of each step: what follows a token is mostly its own."""
  rng = np.random.default_rng(0)
  following = rng.integers(1, V, (V, 2))
  for _ in range(count):
    rows = rng.integers(1, V, (B, 1))
    for _ in range(T):
      chosen = following[rows[:, -1], rng.integers(0, 2, B)]
      rows = np.concatenate([rows, chosen[:, None]], axis=1)
    yield rows[:, :-1].astype('int32'), rows[:, 1:].astype('int32')


@functools.cache
def prepared(family, width, mup):
  """The first parameters, and a step that is compiled once for all rates."""
  config = config_of(family, width, mup)
  model = build(config)
  _, axes = abstract_params(model)
  settings = adamw(weight_decay=0.0, epsilon=1e-12)

  def inputs(tokens):
    ones = np.ones((B, T), 'int32')
    places = np.broadcast_to(np.arange(T, dtype='int32'), (B, T))
    known = {
      'inputs': tokens,
      'encoder_inputs': tokens,
      'segments': ones,
      'encoder_segments': ones,
      'positions': places,
      'predict_at': places,
    }
    return {name: known[name] for name in model.INPUTS}

  def loss(params, tokens, targets):
    outputs, kept = model.apply(
      {'params': params},
      **inputs(tokens),
      capture_intermediates=lambda module, name: (
        type(module).__name__ in SEEN and name == '__call__'
      ),
      mutable='intermediates',
    )
    logits = outputs['logits'] if isinstance(outputs, dict) else outputs
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    seen = flatten_dict(kept['intermediates'], sep='/')
    sizes = {
      name.removesuffix('/__call__'): abs(x).mean()
      for name, (x, *_) in seen.items()
    }
    return losses.mean(), sizes

  @jax.jit
  def step(params, state, rate, tokens, targets):
    optimizer = make_optimizer(settings, lambda n: rate, axes, config.widening)
    (value, sizes), grads = jax.value_and_grad(loss, has_aux=True)(
      params, tokens, targets
    )
    updates, state = optimizer.update(grads, state, params)
    return optax.apply_updates(params, updates), state, value, sizes

  one = inputs(np.ones((B, T), 'int32'))
  params = jax.jit(lambda: nn.unbox(model.init(jax.random.key(0), **one)))()
  optimizer = make_optimizer(settings, rate, axes, config.widening)
  return params['params'], optimizer.init(params['params']), step


def train(family, width, mup, rate, steps):
  """The losses of the steps, and the sizes of activations at the last one."""
  params, state, step = prepared(family, width, mup)
  losses = []
  for tokens, targets in batches(steps):
    params, state, loss, sizes = step(
      params, state, np.float32(rate), tokens, targets
    )
    losses.append(float(loss))
  return np.array(losses), sizes


@pytest.mark.parametrize('family', SYSTEMS)
def test_coordinates(family):
  """After five steps all activations are as large in a model 4 times as wide.

  Without muP those that a hidden weight makes grow. T5's weights are large at
  first, so that it takes larger steps to see it.
  """
  rate, grown = 0.02 if family == 'encoder_decoder' else 0.01, {}
  for mup in (True, False):
    narrow, wide = (
      train(family, width, mup, rate, 6)[1] for width in (NARROW, WIDE)
    )
    grown[mup] = {name: float(wide[name] / narrow[name]) for name in narrow}
  assert all(1 / 1.7 < x < 1.7 for x in grown[True].values()), grown
  for name, x in grown[False].items():
    assert name == 'embed' or x > 1.5 * grown[True][name], grown
  assert max(grown[False].values()) > 2, grown


def test_the_best_rate_transfers():
  """It stays with muP, and is 4 times smaller without (or less still)."""
  rates, moved = 2.0 ** np.arange(-9, -2), {}
  for mup in (True, False):
    narrow, wide = (
      [train('decoder', width, mup, x, 40)[0][-5:].mean() for x in rates]
      for width in (NARROW, WIDE)
    )
    moved[mup] = int(np.argmin(wide) - np.argmin(narrow))
    lost = wide[np.argmin(narrow)] - min(wide)
    assert lost < 0.05 if mup else lost > 0.1, (narrow, wide)
  assert abs(moved[True]) <= 1, moved
  assert moved[False] <= -2, moved


@pytest.mark.parametrize(
  ('family', 'changes', 'outside'),
  [
    ('decoder', {}, set()),
    (
      'encoder',
      {'head': 'mlm_nsp'},
      {'pooler/dense/kernel', 'vocabulary/dense/kernel'},
    ),
    (
      'encoder_decoder',
      {'tie_embeddings': False, 'scale_output': False},
      set(),
    ),
  ],
)
def test_hidden_weights(family, changes, outside):
  """The kernels of the layers, and the dense layers of heads."""
  _, axes = abstract_params(build(config_of(family, 32, True, **changes)))
  flat = flatten_dict(axes, sep='/')
  found = {name for name, names in flat.items() if is_hidden(names)}
  inside = {x for x in flat if 'layer_' in x and x.endswith('kernel')}
  assert found == inside | outside


AXES = {
  'embed': {'table': ('vocab', 'embed')},
  'layers': {
    'mlp': {'kernel': ('layers', 'embed', 'mlp')},
    'norm': {'scale': ('layers', 'norm')},
  },
  'pooler': {'kernel': ('embed', 'hidden')},
  'relative_bias': {'table': ('buckets', 'heads')},
  'output': ('embed', 'vocab'),
}
SIZES = {'layers': 2, 'embed': 8, 'mlp': 12, 'hidden': 8, 'vocab': 10}
SIZES |= {'buckets': 4, 'heads': 6, 'norm': 8}


def steps(optimizer, widening, still=False):
  """The steps of all parameters from one gradient, or from none."""
  rng = np.random.default_rng(0)
  shapes = {
    name: tuple(SIZES[x] for x in names)
    for name, names in flatten_dict(AXES).items()
  }
  params, gradient = (
    unflatten_dict(
      {k: rng.standard_normal(v).astype('float32') for k, v in shapes.items()}
    )
    for _ in range(2)
  )
  if still:
    gradient = jax.tree.map(np.zeros_like, gradient)
  tx = make_optimizer(optimizer, rate, AXES, widening)
  updates, _ = jax.jit(tx.update)(gradient, tx.init(params), params)
  return flatten_dict(updates, sep='/')


@pytest.mark.parametrize(
  ('optimizer', 'layers', 'pooler'),
  [
    (adamw(weight_decay=0.0), 1 / 4, 1 / 4),
    (lion(weight_decay=0.0), 1 / 4, 1 / 4),
    (adafactor(parameter_scale=False), 1 / 4, 1 / 4),
    # Relative to a weight that is half as large.
    (adafactor(), 1 / 2, 1 / 2),
    (adamw(name='lamb'), 1 / 2, 1 / 2),
    (adamw(name='lamb', decay_except=('layers',)), 1 / 4, 1 / 2),
    (muon(weight_decay=0.0), 1, 1 / 4),  # orthogonal; AdamW
  ],
)
def test_rates(optimizer, layers, pooler):
  """How much smaller steps are in a model that is four times as wide."""
  base, wide = (steps(optimizer, widening) for widening in (1.0, 4.0))
  own = {'layers/mlp/kernel': layers, 'pooler/kernel': pooler}
  for name, x in base.items():
    np.testing.assert_allclose(wide[name], own.get(name, 1) * x, rtol=1e-5)


@pytest.mark.parametrize('optimizer', [adamw(), lion(), muon()])
def test_decay_stays(optimizer):
  """As in the authors' code: weights shrink by the rate that was found."""
  base, wide = (steps(optimizer, m, still=True) for m in (1.0, 4.0))
  assert np.any(base['layers/mlp/kernel'])
  for name, x in base.items():
    np.testing.assert_array_equal(wide[name], x)
