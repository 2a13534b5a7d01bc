"""How activations are sharded: every constraint of every model, by preset.

The table is Megatron-LM's (Shoeybi et al. 2019, 3): rows of the batch over data
and fsdp; heads, the MLP's hidden layer, RWKV's channels and the vocabulary over
tensor. Between the blocks the length is (Korthikanti et al. 2022, 4.2.2).
"""

from collections import Counter

import flax.linen as nn
import jax
import pytest
from jax.sharding import PartitionSpec

from models.build import build
from models.config import TransformerConfig
from tests.helpers.decoders import BASE, POSITIONS
from tests.helpers.jaxprs import equations
from tests.helpers.t5_reference import BASE as T5
from tests.models.families import test_electra as electra
from tests.models.families.test_rwkv import FIELDS as RWKV
from train.learning.state import abstract_params
from train.parallel import sharding
from train.parallel.mesh import make_mesh

B, T, P, S = 8, 10, 3, 14
D, F, N, K, H, V = 24, 36, 4, 2, 8, 40
SIZES = {
  'vocab_size': V,
  'embed_dim': D,
  'mlp_dim': F,
  'heads': N,
  'kv_heads': K,
  'head_dim': H,
  'scan': False,
}
PRESETS = {
  'replicated': {'data': 8},
  'fsdp': {'data': 2, 'fsdp': 4},
  'tensor': {'data': 4, 'tensor': 2},
  'fsdp_tensor': {'data': 2, 'fsdp': 2, 'tensor': 2},
}


def mesh_of(preset):
  sizes = dict.fromkeys(sharding.AXES, 1) | PRESETS[preset]
  return make_mesh(sizes, preset)


def constraints(fields, preset, weights=False):
  """Counts of (shape, what cuts each dimension) of a forward pass.

  They are of activations; with `weights` of weights and their gradients.
  """
  model = build(TransformerConfig(**fields | {'scan': False}))
  params, _ = abstract_params(model)
  lengths = {'predict_at': P, 'targets': P, 'weights': P}
  batch = {
    name: jax.ShapeDtypeStruct(
      (B, S if name.startswith('encoder_') else lengths.get(name, T)), 'int32'
    )
    for name in model.INPUTS
  }
  rules = sharding.make_rules(preset)
  with jax.set_mesh(mesh_of(preset)), nn.logical_axis_rules(rules):

    def run(p, batch):
      return model.apply({'params': p}, **batch)

    if weights:
      run = jax.grad(lambda p, batch: model.apply({'params': p}, **batch).sum())
    traced = jax.make_jaxpr(run)(params, batch)
  found = Counter()
  for equation in equations(traced.jaxpr):
    if equation.primitive.name == 'sharding_constraint':
      aval = equation.outvars[0].aval
      shape = aval.shape
      if aval.dtype != 'float32' or (len(shape) == 2) != weights:
        continue  # tokens, too, are cut along the length
      spec = tuple(equation.params['sharding'].spec)
      found[shape, spec + (None,) * (len(shape) - len(spec))] += 1
  return found


@pytest.fixture(params=PRESETS)
def preset(request):
  return request.param


def wanted(items):
  """(shape, cuts, count), ... as `constraints` counts them."""
  total = Counter()
  for shape, cut, count in items:
    total[shape, cut] += count
  return total


def cuts(preset):
  """The mesh axes that cut rows, and those that cut heads, MLP, vocabulary."""
  return ('data', 'fsdp'), 'tensor' if 'tensor' in preset else None


def test_decoder(preset):
  """The decoder has two layers; alibi's bias is cut with the heads."""
  own = {'position': 'alibi', 'decoder_layers': 2}
  rows, t = cuts(preset)
  assert constraints(BASE | SIZES | own, preset) == wanted(
    [
      ((N, T, T), (t, None, None), 1),
      ((B, T, D), (rows, t, None), 1 + 2 * 2),
      ((B, T, D), (rows, None, None), 2 * 2),  # what the products read
      ((B, T, N, H), (rows, None, t, None), 2),
      ((B, T, K, H), (rows, None, t, None), 2 * 2),
      ((B, T, F), (rows, None, t), 2),
      ((B, T, V), (rows, None, t), 1),
    ]
  )


def test_encoder_decoder(preset):
  own = {'encoder_layers': 1, 'decoder_layers': 1}
  rows, t = cuts(preset)
  assert constraints(T5 | SIZES | own, preset) == wanted(
    [
      ((N, S, S), (t, None, None), 1),
      ((N, T, T), (t, None, None), 1),
      ((B, S, D), (rows, t, None), 1 + 2),
      ((B, T, D), (rows, t, None), 1 + 3),
      ((B, S, D), (rows, None, None), 2),
      ((B, T, D), (rows, None, None), 3),
      ((B, S, N, H), (rows, None, t, None), 1),
      ((B, T, N, H), (rows, None, t, None), 2),
      ((B, S, K, H), (rows, None, t, None), 2 + 2),  # cross-attention's as well
      ((B, T, K, H), (rows, None, t, None), 2),
      ((B, S, F), (rows, None, t), 1),
      ((B, T, F), (rows, None, t), 1),
      ((B, T, V), (rows, None, t), 1),
    ]
  )


def test_encoder(preset):
  """The encoder has tables of positions and types, and logits [B,P,V]."""
  own = {'encoder_layers': 1, 'head': 'mlm', 'table_dim': 10}
  rows, t = cuts(preset)
  fields = electra.ENCODER | SIZES | own
  E = fields['table_dim']
  assert constraints(fields, preset) == wanted(
    [
      ((B, T, E), (rows, t, None), 1),
      ((B, T, D), (rows, t, None), 2),
      ((B, T, D), (rows, None, None), 2),
      ((B, T, N, H), (rows, None, t, None), 1),
      ((B, T, K, H), (rows, None, t, None), 2),
      ((B, T, F), (rows, None, t), 1),
      ((B, P, V), (rows, None, t), 1),
    ]
  )


def test_rwkv(preset):
  own = {'embed_dim': D, 'mlp_dim': F, 'vocab_size': V, 'decoder_layers': 1}
  rows, t = cuts(preset)
  assert constraints(RWKV | own, preset) == wanted(
    [
      ((B, T, D), (rows, t, None), 1 + 2),
      ((B, T, D), (rows, None, t), 3),  # keys, values, receptance: channels
      ((B, T, F), (rows, None, t), 1),
      ((B, T, V), (rows, None, t), 1),
    ]
  )


# ---- Weights ----------------------------------------------------------------


def test_weights_are_gathered_and_their_gradients_cut(preset):
  """Autodiff alone would give each device the gradient of a whole weight."""
  own = {'position': 'none', 'decoder_layers': 1, 'gated': False}
  t = cuts(preset)[1]
  f = 'fsdp' if 'fsdp' in preset else None
  total = wanted([])
  for names in (
    *[('embed', 'heads')] * 3,
    ('heads', 'embed'),
    ('embed', 'mlp'),
    ('mlp', 'embed'),
    ('embed', 'vocab'),  # the table's, for the logits
  ):
    sizes = {'embed': D, 'heads': N * H, 'mlp': F, 'vocab': V}
    for embed in (None, f):
      spec = tuple(embed if name == 'embed' else t for name in names)
      total[tuple(sizes[name] for name in names), spec] += 1
  total[(V, D), (t, f)] += 1  # the gradient of lookups in the table
  fields = BASE | SIZES | own | {'kv_heads': N}
  assert constraints(fields, preset, weights=True) == total


# Which dimension of a kernel tensor parallelism cuts; 1 is its outputs.
CUT = {
  'attention/query/kernel': 1,
  'attention/key/kernel': 1,
  'attention/value/kernel': 1,
  'attention/output/kernel': 0,
  'mlp/input/kernel': 1,
  'mlp/output/kernel': 0,
  'time_mix/key/kernel': 1,
  'time_mix/value/kernel': 1,
  'time_mix/receptance/kernel': 1,
  'time_mix/output/kernel': 0,
  'channel_mix/key/kernel': 1,
  'channel_mix/value/kernel': 0,
  'vocabulary/output': 1,
  'embed/table': 0,
  # Biases of these kernels, and RWKV's channels.
  'attention/query/bias': 0,
  'attention/key/bias': 0,
  'attention/value/bias': 0,
  'mlp/input/bias': 0,
  'vocabulary/bias': 0,
  'time_mix/time_decay': 0,
  'time_mix/time_first': 0,
  'relative_bias/table': 1,
  'attention/relative/kernel': 1,
  'content_bias': 0,
  'position_bias': 0,
}


@pytest.mark.parametrize(
  'fields',
  [
    BASE | SIZES | {'position': 'transformer_xl'},
    BASE | SIZES | {'position': 'relative_bias'} | POSITIONS['relative_bias'],
    electra.ENCODER
    | {'head': 'mlm_nsp', 'table_dim': 0, 'tie_embeddings': False},
    electra.ENCODER | {'head': 'rtd', 'table_dim': 0},
    RWKV,
  ],
  ids=['transformer_xl', 'relative', 'bert', 'discriminator', 'rwkv'],
)
def test_weights(fields, preset):
  """fsdp cuts the dimension of the model's width, tensor the one in CUT."""
  model = build(TransformerConfig(**fields | {'scan': True}))
  width = fields['embed_dim']
  shapes, names = abstract_params(model)
  sizes = dict.fromkeys(sharding.AXES, 1) | {'fsdp': 2, 'tensor': 2, 'data': 2}
  mesh = make_mesh(sizes, 'fsdp_tensor')
  rules = sharding.make_rules(preset)
  places = sharding.shardings(mesh, rules, names, shapes)
  leaves = jax.tree_util.tree_leaves_with_path(shapes)
  for (path, leaf), place in zip(leaves, jax.tree.leaves(places), strict=True):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    first = int('/layers/' in name)
    wanted = [None] * leaf.ndim
    cut = [first + dim for end, dim in CUT.items() if name.endswith(end)]
    for dim in cut if 'tensor' in preset else ():
      wanted[dim] = 'tensor'
    if leaf.ndim - first == 2 and 'fsdp' in preset:
      # A square kernel that tensor does not cut is cut along its inputs.
      wide = [i for i in (first, first + 1) if leaf.shape[i] == width]
      for dim in [i for i in wide if i not in cut][:1]:
        wanted[dim] = 'fsdp'
    assert place.spec == PartitionSpec(*wanted), name
