"""Initial weights: the distribution, spread and cut of each `model.init`.

The table below is typed from the papers and the published code:

  t5     Mesh TensorFlow, T5X: embeddings N(0, 1); queries N(0, 1/(D H)) where
         logits are not scaled, else N(0, 1/D); keys, values and outputs of
         attention N(0, 1/fan in); the MLP and the head the same, but cut at two
         (uncorrected) deviations; buckets of positions uniform with variance
         1/fan average.
  fan_in PaLM (Chowdhery et al. 2022, 5): N(0, 1/fan in), embeddings N(0, 1).
  glorot uniform with variance 2 / (fan in + fan out) (Glorot and Bengio 2010);
         embeddings N(0, 1/D) (tensor2tensor).
  truncated_normal  BERT: N(0, std^2), cut at two std. In
         ELECTRA's code the projection of the embeddings and the discriminator's
         last layer have TensorFlow's default, Glorot's uniform.
  normal            N(0, std^2).
  gpt2, megatron    N(0, std^2), outputs of the residual branches divided by the
         root of their number, 2 L (Radford et al. 2019, 2.3; Shoeybi et al.
         2019, 4); positions of GPT-2's code N(0, (std / 2)^2).
"""

import flax.linen as nn
import jax
import numpy as np
import pytest

from models.build import build
from models.config import TransformerConfig
from models.embed import Embed
from tests.helpers.decoders import BASE, POSITIONS
from tests.helpers.t5_reference import BASE as T5
from tests.helpers.t5_reference import init_params
from tests.models.families import test_electra, test_rwkv

# No two sizes are equal, so that no fan can be taken for another.
D, F, N, K, H, V, E = 64, 210, 6, 2, 16, 500, 40
SIZES = {
  'vocab_size': V,
  'embed_dim': D,
  'mlp_dim': F,
  'heads': N,
  'kv_heads': K,
  'head_dim': H,
}
STD, CUT = 0.05, 0.8796  # the deviation of N(0, 1) cut at two deviations

NORMAL, UNIFORM, TRUNCATED = 3.0, 1.8, 2.376  # fourth moments over variance^2


def expected(config, role, shape):
  """(deviation, kind) of weights [..., inputs, outputs] by their role."""
  fan_in, fan_out = shape[-2:]
  table = role in ('table', 'type', 'position')
  residual = role in ('attention/output', 'mlp/output')
  layers = config.encoder_layers + config.decoder_layers
  match config.init:
    case 't5' if table:
      return 1.0, NORMAL
    case 't5' if role == 'query':
      return (D if config.scale_attention else D * H) ** -0.5, NORMAL
    case 't5' if role.startswith(('mlp', 'vocabulary')):
      return fan_in**-0.5, TRUNCATED
    case 't5' | 'fan_in':
      return (1.0 if table else fan_in**-0.5), NORMAL
    case 'glorot' if table:
      return config.table_width**-0.5, NORMAL
    case 'glorot':
      return (2 / (fan_in + fan_out)) ** 0.5, UNIFORM
    case 'truncated_normal' if role in ('projection', 'replaced/output'):
      return (2 / (fan_in + fan_out)) ** 0.5, UNIFORM
    case 'truncated_normal':
      return STD * CUT, TRUNCATED
    case 'gpt2' | 'megatron' if residual:
      return STD / (2 * layers) ** 0.5, NORMAL
    case 'gpt2' if role == 'position':
      return STD / 2, NORMAL
    case 'normal' | 'gpt2' | 'megatron':
      return STD, NORMAL


def flat(params):
  leaves = jax.tree_util.tree_leaves_with_path(params)
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): np.asarray(x)
    for path, x in leaves
  }


def check(config, found, name, role, births=None):
  """Weights have the moments of the distribution of their role."""
  x = found.pop(name).astype('float64')
  std, kind = births or expected(config, role, x.shape)
  assert x.std() == pytest.approx(std, rel=6 / (2 * x.size) ** 0.5), name
  assert abs(x.mean()) < 5 * std / x.size**0.5, name
  fourth = (x**4).mean() / (x**2).mean() ** 2
  assert fourth == pytest.approx(kind, abs=6 * (24 / x.size) ** 0.5), name
  if kind == TRUNCATED:
    assert np.abs(x).max() <= 2 * std / CUT * 1.001, name
  if kind == UNIFORM:
    assert np.abs(x).max() <= 3**0.5 * std * 1.001, name
  if '/layers/' in name:  # each layer has its own
    assert np.abs(x[0] - x[1]).max() > std / 2, name


def check_blocks(config, found, stack, cross=False):
  blocks = f'{stack}/layers'
  for attention in ('attention', 'cross_attention')[: 1 + cross]:
    for role in ('query', 'key', 'value'):
      check(config, found, f'{blocks}/{attention}/{role}/kernel', role)
    name = f'{blocks}/{attention}/output/kernel'
    check(config, found, name, 'attention/output')
  for role in ('mlp/input', 'mlp/output', 'mlp/gate')[: 2 + config.gated]:
    check(config, found, f'{blocks}/{role}/kernel', role)


def check_rest(found):
  """Scales start at 1, all biases at 0."""
  for name, x in found.items():
    assert name.endswith(('scale', 'bias')), name
    assert (x == name.endswith('scale')).all(), name


def initial(fields):
  config = TransformerConfig(**fields)
  return config, flat(init_params(build(config)))


def named(init):
  with_std = init in ('normal', 'truncated_normal', 'gpt2', 'megatron')
  return {'init': init, 'init_std': STD if with_std else 0.0}


INITS = ('t5', 'fan_in', 'glorot', 'normal', 'truncated_normal', 'gpt2')


@pytest.mark.parametrize('init', [*INITS, 'megatron'])
def test_decoder(init):
  """The decoder has learned positions, a gate, a projection, two tables."""
  own = {
    'position': 'learned',
    'max_length': 70,
    'decoder_layers': 3,
    'gated': True,
    'tie_embeddings': False,
    'table_dim': E,
    'embed_norm': True,
  }
  config, found = initial(BASE | SIZES | own | named(init))
  check(config, found, 'embed/table', 'table')
  check(config, found, 'embed/position', 'position')
  check(config, found, 'decoder/projection/kernel', 'projection')
  check_blocks(config, found, 'decoder')
  check(config, found, 'vocabulary/output', 'vocabulary')
  check_rest(found)


@pytest.mark.parametrize('init', ['t5', 'megatron'])
def test_encoder_decoder(init):
  """T5 1.1 does not scale logits; both stacks have residual branches."""
  own = {'gated': True, 'tie_embeddings': False, 'scale_output': False}
  config, found = initial(T5 | SIZES | own | named(init))
  check(config, found, 'embed/table', 'table')
  for stack in ('encoder', 'decoder'):
    check_blocks(config, found, stack, stack == 'decoder')
    buckets = (2 / (config.relative_buckets + N)) ** 0.5, UNIFORM
    name = f'{stack}/relative_bias/table'
    check(config, found, name, '', buckets)
  check(config, found, 'vocabulary/output', 'vocabulary')
  check_rest(found)


def test_transformer_xl():
  own = {'position': 'transformer_xl', 'decoder_layers': 2, 'init': 'fan_in'}
  own |= POSITIONS['transformer_xl'] | {'init_std': 0.0}
  config, found = initial(BASE | SIZES | own)
  name = 'decoder/layers/attention/relative/kernel'
  check(config, found, name, 'relative')
  check(config, found, 'embed/table', 'table')
  check_blocks(config, found, 'decoder')
  check_rest(found)


HEADS = {
  'mlm_nsp': ('vocabulary/dense', 'pooler/dense', 'next_sentence/dense'),
  'rtd': ('replaced/dense', 'replaced/output'),
  'sequence': ('pooler/dense', 'classes/dense'),
  'tokens': ('classes/dense',),
  'span': ('span/dense',),
}


@pytest.mark.parametrize('head', HEADS)
def test_encoders_heads(head):
  """BERT draws every weight in the same way."""
  own = {'head': head, 'encoder_layers': 2, 'table_dim': E, 'token_types': 2}
  if head in ('sequence', 'tokens'):
    own['classes'] = 300
  own |= {'max_length': 70} | named('truncated_normal')
  config, found = initial(test_electra.ENCODER | SIZES | own)
  for role in ('table', 'position', 'type'):
    check(config, found, f'embed/{role}', role)
  check(config, found, 'encoder/projection/kernel', 'projection')
  check_blocks(config, found, 'encoder')
  for name in HEADS[head]:
    check(config, found, f'{name}/kernel', name)
  check_rest(found)


@pytest.mark.parametrize('head', HEADS)
def test_heads_whose_fans_count(head):
  own = {'head': head, 'encoder_layers': 2, 'table_dim': E} | named('glorot')
  if head in ('sequence', 'tokens'):
    own['classes'] = 300
  config, found = initial(test_electra.ENCODER | SIZES | own)
  for name in HEADS[head]:
    check(config, found, f'{name}/kernel', name)


def test_electras_pair():
  """The generator, a third as wide, is initialised as the discriminator."""
  own = {'embed_dim': 66, 'mlp_dim': 210, 'vocab_size': V, 'table_dim': E}
  own |= named('truncated_normal')
  config, found = initial(test_electra.FIELDS | own)
  for stack in ('encoder', 'generator'):
    check(config, found, f'{stack}/projection/kernel', 'projection')
    check_blocks(config, found, stack)
  for name in ('vocabulary/dense', 'replaced/dense', 'replaced/output'):
    check(config, found, f'{name}/kernel', name)
  for role in ('table', 'position', 'type'):
    check(config, found, f'embed/{role}', role)
  check_rest(found)


def test_types_are_drawn_like_tokens():
  """Types are not drawn like positions, where these have another way."""
  own = {'token_types': 70, 'max_length': 70} | named('gpt2')
  config = TransformerConfig(**test_electra.ENCODER | SIZES | own)
  tokens = np.ones((1, 1), 'int32')
  variables = Embed(config).init(jax.random.key(0), tokens)
  found = flat(nn.unbox(variables['params']))
  for role in ('table', 'position', 'type'):
    check(config, found, role, role)
  check_rest(found)


def test_rwkvs_table_is_uniform():
  """test_rwkv.py has its other weights."""
  config, found = initial(test_rwkv.FIELDS | {'vocab_size': V})
  check(config, found, 'embed/table', '', (1e-4 / 3**0.5, UNIFORM))
