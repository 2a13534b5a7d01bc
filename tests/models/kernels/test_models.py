"""Whole models with the flash kernel equal those without, also on a mesh."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.build import build
from models.kernels import sharded
from models.kernels.choice import choose
from tests.helpers import decoders, t5_reference
from tests.models.families import test_rwkv
from train.parallel import sharding

B, T = 8, 12


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch):
  monkeypatch.setattr(sharded, 'INTERPRET', True)


def batch(config):
  rng = np.random.default_rng(0)
  tokens = jnp.asarray(rng.integers(2, 30, (B, T)), 'int32')
  segments = jnp.asarray(np.sort(rng.integers(1, 3, (B, T)), axis=1), 'int32')
  segments = segments.at[:, -2:].set(0)
  found = {'inputs': tokens, 'segments': segments}
  if config.family == 'encoder_decoder':
    found |= {'encoder_inputs': tokens[:, ::-1], 'encoder_segments': segments}
  if config.prefix:
    found['prefix'] = jnp.asarray(rng.integers(0, 2, (B, T)), 'int32')
  return found


def value_and_gradients(config, params):
  model, arrays = build(config), batch(config)
  seen = (arrays['segments'] > 0)[..., None]

  @jax.jit
  @jax.value_and_grad
  def loss(params):
    rngs = {'dropout': jax.random.key(1)}
    logits = model.apply({'params': params}, **arrays, rngs=rngs)
    return jnp.sum(jnp.sin(logits) * seen)

  return loss(params)


CONFIGS = {
  't5': t5_reference.tiny_config(encoder_layers=2, decoder_layers=1),
  'bands and dropout': decoders.tiny_decoder(
    'alibi', window=4, window_every=2, attention_dropout=0.2, remat='dots'
  ),
  'prefix': decoders.tiny_decoder('rope', prefix=True, scan=False),
  'rwkv': test_rwkv.make_config(decoder_layers=1, remat='dots'),
}


@pytest.mark.parametrize('name', CONFIGS)
def test_equals_xla(name):
  config = CONFIGS[name]
  model = build(config)
  params = model.init(jax.random.key(0), **batch(config))['params']
  params = nn.unbox(params)
  truth = value_and_gradients(config, params)
  flash = dataclasses.replace(config, attention='flash')
  ours = value_and_gradients(flash, params)
  for a, b in zip(*map(jax.tree.leaves, (ours, truth)), strict=True):
    np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)


ON_MESHES = {
  'alibi': decoders.tiny_decoder(
    'alibi', attention_dropout=0.2, attention='flash', vocab_size=32,
    heads=4, kv_heads=2, decoder_layers=1,
  ),
  'rwkv': test_rwkv.make_config(
    attention='flash', vocab_size=32, mlp_dim=48, decoder_layers=1
  ),
}  # fmt: skip


@pytest.mark.parametrize('name', ON_MESHES)
def test_on_a_mesh(name):
  """Rows and heads of 8 devices: the same values, and the same dropout."""
  config = ON_MESHES[name]
  params = build(config).init(jax.random.key(0), **batch(config))['params']
  params = nn.unbox(params)
  truth = value_and_gradients(config, params)
  sizes = dict.fromkeys(sharding.AXES, 1)
  sizes |= {'data': 2, 'fsdp': 2, 'tensor': 2}
  mesh = sharding.make_mesh(sizes, 'fsdp_tensor')
  rules = sharding.make_rules('fsdp_tensor')
  with jax.set_mesh(mesh), nn.logical_axis_rules(rules):
    ours = value_and_gradients(config, params)
  for a, b in zip(*map(jax.tree.leaves, (ours, truth)), strict=True):
    np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)


def test_steps_of_decoding_have_a_mask():
  """With flash, decoding gives the logits of whole rows."""
  config = decoders.tiny_decoder('alibi', window=4, window_every=2)
  flash = dataclasses.replace(config, attention='flash')
  tokens = batch(config)['inputs'][:1]
  whole = build(config)
  params = nn.unbox(whole.init(jax.random.key(0), tokens, tokens)['params'])
  expected = whole.apply({'params': params}, tokens, jnp.ones_like(tokens))
  found = decoders.decoded(build(flash), params, tokens, prompt=4)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_what_auto_takes():
  config = decoders.tiny_decoder('rope', head_dim=16)
  assert choose(config, 'tpu')[0] == 'flash'
  assert choose(config, 'cpu') == (
    'xla', "there is a kernel for TPUs, none for 'cpu'"
  )  # fmt: skip
  relative = decoders.tiny_decoder('transformer_xl', attention='flash')
  with pytest.raises(ValueError, match="position='transformer_xl'"):
    choose(relative, 'tpu')
  rwkv = test_rwkv.make_config()
  assert [choose(rwkv, name)[0] for name in ('tpu', 'cpu')] == ['flash', 'xla']
  narrow = dataclasses.replace(config, head_dim=12, attention='flash')
  with pytest.raises(ValueError, match='head_dim=12 is no multiple of 8'):
    choose(narrow, 'tpu')
