"""Muon beside its published algorithm in NumPy, and what it moves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jax.sharding import PartitionSpec

from configs import bert, llama, t5
from models.build import build
from models.config import TransformerConfig
from tests.helpers.decoders import tiny_decoder
from tests.helpers.optimizers import (
  lion,
  muon,
  normal,
  paper_adamw,
  rate,
  train,
)
from train.learning.muon import orthogonal
from train.learning.optimizer import make_optimizer
from train.learning.state import abstract_params, abstract_state
from train.parallel import sharding
from train.parallel.mesh import make_mesh

AXES = {
  'layers': {
    'wide': {'kernel': ('layers', 'embed', 'mlp')},
    'tall': {'kernel': ('layers', 'mlp', 'embed')},
    'norm': {'scale': ('layers', 'norm')},
  },
  'layer_0': {'query': {'kernel': ('embed', 'heads')}},
  'embed': {'table': ('vocab', 'embed')},
}
SHAPES = {
  'layers/wide/kernel': (3, 8, 20),
  'layers/tall/kernel': (3, 20, 8),
  'layers/norm/scale': (3, 8),
  'layer_0/query/kernel': (8, 12),
  'embed/table': (9, 8),
}


def paper_step(W):
  """Jordan et al. 2024: NewtonSchulz5 of a matrix [I,O], as published.

  The published code has kernels [O,I]; its step is times max(1, O / I)^1/2.
  """
  X = W.T
  O, I = X.shape
  if O > I:
    X = X.T
  X = X / (np.linalg.norm(X) + 1e-7)
  for _ in range(5):
    A = X @ X.T
    B = -4.7750 * A + 2.0315 * A @ A
    X = 3.4445 * X + B @ X
  if O > I:
    X = X.T
  return max(1, O / I) ** 0.5 * X.T


def paper_muon(x, gradients, o):
  m = np.zeros_like(x)
  for t, g in enumerate(gradients):
    m = o.momentum * m + (1 - o.momentum) * g
    u = paper_step((1 - o.momentum) * g + o.momentum * m)
    own = o.matrix_rate * float(rate(t))
    x = (1 - own * o.weight_decay) * x - own * u
  return x


def nested(flat):
  tree = {}
  for path, x in flat.items():
    *groups, name = path.split('/')
    node = tree
    for group in groups:
      node = node.setdefault(group, {})
    node[name] = x
  return tree


def test_the_published_algorithm():
  """In float64; stacked layers are matrices of their own, the rest AdamW's."""
  rng = np.random.default_rng(0)
  params = normal(rng, SHAPES)
  gradients = [normal(rng, SHAPES, 3.0**i) for i in range(-4, 4)]
  gradients[2]['layers/wide/kernel'][1] = 0
  o = muon()
  ours, _ = train(
    make_optimizer(o, rate, AXES), nested(params), [*map(nested, gradients)]
  )
  ours = flatten_dict(ours, sep='/')
  for name, x in params.items():
    x, own = np.float64(x), [np.float64(g[name]) for g in gradients]
    if name.endswith('kernel') and name.startswith('layers'):
      expected = np.stack(
        [paper_muon(x[n], [g[n] for g in own], o) for n in range(3)]
      )
    elif name.endswith('kernel'):
      expected = paper_muon(x, own, o)
    else:
      expected = paper_adamw(x, own, o, name == 'embed/table')
    moved = np.abs(expected - x).max()
    assert np.abs(ours[name] - expected).max() < 1e-4 * moved, name


@pytest.mark.parametrize('shape', [(16, 16), (16, 40), (40, 16)])
def test_steps_are_nearly_orthogonal(shape):
  """The singular vectors stay; the values come near (O / I)^1/2 or 1."""
  x = np.random.default_rng(1).standard_normal((2, *shape))
  found = np.asarray(orthogonal(jnp.float32(x), (1, 2)), 'float64')
  scale = max(1, shape[1] / shape[0]) ** 0.5
  for before, after in zip(x, found, strict=True):
    left, values, right = np.linalg.svd(before, full_matrices=False)
    turned = left.T @ after @ right.T / scale
    kept = values > 0.05 * np.linalg.norm(before)  # smaller ones take longer
    assert (np.abs(turned.diagonal()[kept] - 1) < 0.35).all()
    assert np.abs(turned - np.diag(turned.diagonal())).max() < 1e-3


@pytest.mark.parametrize('system', [bert, llama, t5])
def test_what_muon_moves(system):
  """The kernels of the layers alone; they have one moment, not two."""
  model = build(TransformerConfig(**system.get_config('tiny').model))
  shapes, axes = abstract_params(model)
  state = jax.eval_shape(make_optimizer(muon(), rate, axes).init, shapes)
  flat = flatten_dict(state[1].moments, sep='/')
  single = {
    name.rpartition('/')[0]
    for name in flat
    if name.replace('/mean', '/square') not in flat
  }
  every = flatten_dict(shapes, sep='/')
  assert single == {
    x for x in every if '/layers/' in x and x.endswith('kernel')
  }
  assert any('attention/key' in x for x in single)
  assert len(flat) == 2 * len(every) - len(single)


@pytest.mark.parametrize('group', [muon, lion])
def test_moments_in_bfloat16(group):
  rng = np.random.default_rng(2)
  params = normal(rng, SHAPES)
  gradients = [nested(normal(rng, SHAPES)) for _ in range(5)]
  tx = make_optimizer(group(moments_dtype='bfloat16'), rate, AXES)
  _, state = train(tx, nested(params), gradients)
  kinds = {x.dtype.name for x in jax.tree.leaves(state[1])}
  assert kinds == {'bfloat16', 'int32'}


@pytest.mark.parametrize('group', [muon, lion])
def test_sharded_weights(group):
  """Cut over fsdp and tensor: the moments like the weights, the same steps."""
  model = build(tiny_decoder('none', decoder_layers=2, heads=4, kv_heads=4))
  shapes, axes = abstract_params(model)
  tx = make_optimizer(group(clip=1.0), rate, axes)
  sizes = dict.fromkeys(sharding.AXES, 1) | {'fsdp': 4, 'tensor': 2}
  mesh = make_mesh(sizes, 'fsdp_tensor')
  rules = sharding.make_rules('fsdp_tensor')
  state = abstract_state(model, tx, (2, 4), mesh, rules)
  rng = np.random.default_rng(3)
  params, gradient = (
    jax.tree.map(
      lambda x: rng.standard_normal(x.shape).astype('float32'), shapes
    )
    for _ in range(2)
  )

  def steps(params, gradient):
    state = tx.init(params)
    _, state = tx.update(gradient, state, params)
    return tx.update(gradient, state, params)

  places = jax.tree.map(lambda x: x.sharding, state)
  cut = jax.device_put((params, gradient), (places.params, places.params))
  kept = places.params, places.opt_state
  found = jax.jit(steps, out_shardings=kept)(*cut)
  moments = found[1][1].mu if group is lion else found[1][1].moments
  kernel = moments['decoder']['layers']['mlp']['input']['kernel']
  kernel = kernel if group is lion else kernel['mean']
  assert kernel.sharding.spec == PartitionSpec(None, 'fsdp', 'tensor')
  for x, y in zip(
    *map(jax.tree.leaves, (found, jax.jit(steps)(params, gradient))),
    strict=True,
  ):
    np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
