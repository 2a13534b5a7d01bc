"""Whole models with the flash kernel equal those without, also on a mesh."""

import collections
import dataclasses
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo

from models.build import build
from models.kernels import cudnn, sharded, triton
from models.kernels.choice import choose
from tests.helpers import decoders, t5_reference
from tests.models.families import test_rwkv
from train.parallel import sharding
from train.parallel.mesh import make_mesh

B, T = 8, 12
# Fields, the GPU's capability, and the reason.
BIAS = {'relative_buckets': 8, 'relative_max_distance': 12}
NO_ROPE = {'rope_theta': 0.0, 'rope_dim': 0}
DROPS = {'attention_dropout': 0.1}
REFUSED = [
  ({}, '7.5', "kernels need compute capability 8.0 or newer, not '7.5'"),
  ({}, 'gfx942', "not 'gfx942'"),
  ({'dtype': 'float32'}, '9.0', "not model.dtype='float32'"),
  ({'prefix': True}, '9.0', 'no causal rule with a prefix'),
  (
    DROPS | NO_ROPE | {'position': 'alibi'}, '9.0',
    "model.attention_dropout=0.1 has no bias (model.position='alibi')",
  ),
  (
    DROPS | {'head_dim': 136}, '9.0',
    'model.head_dim=136 is above 128, the most of the kernel for',
  ),
  (DROPS | {'dtype': 'float32'}, '9.0', "not model.dtype='float32'"),
  (DROPS | {'prefix': True}, '9.0', 'no causal rule with a prefix'),
  ({'head_dim': 128}, '8.0', 'model.head_dim=128, with 24 for segments'),
  ({'head_dim': 12}, '9.0', 'model.head_dim=12 is no multiple of 8'),
  (
    NO_ROPE | {'position': 'transformer_xl'}, '9.0',
    "model.position='transformer_xl'",
  ),
  (
    NO_ROPE | BIAS | {'position': 'relative_bias', 'window': 4,
    'window_every': 1}, '9.0', 'no window (model.window=4)',
  ),
]  # fmt: skip


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
  't5': t5_reference.tiny_config(
    encoder_layers=2, decoder_layers=1, kv_heads=1, attention_dropout=0.2
  ),
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


def assert_near(ours, truth):
  """Within 5e-4 of each array's largest: cuDNN's segments round logits."""
  for a, b in zip(*map(jax.tree.leaves, (ours, truth)), strict=True):
    limit = 1e-5 + 5e-4 * np.abs(b).max()
    np.testing.assert_allclose(a, b, rtol=0, atol=limit)


# Bias with a gradient, bands of scanned layers, cross-attention.
CUDNN = {
  't5': t5_reference.tiny_config(encoder_layers=2, decoder_layers=1),
  'bands': decoders.tiny_decoder(
    'alibi', window=4, window_every=2, remat='dots'
  ),
}


@pytest.mark.parametrize('name', CUDNN)
def test_cudnn_equals_xla(name, monkeypatch):
  monkeypatch.setattr(cudnn, 'IMPLEMENTATION', 'xla')
  config = CUDNN[name]
  params = build(config).init(jax.random.key(0), **batch(config))['params']
  params = nn.unbox(params)
  truth = value_and_gradients(config, params)
  ours = dataclasses.replace(config, attention='cudnn')
  ours = value_and_gradients(ours, params)
  assert_near(ours, truth)


MESH = {'data': 2, 'fsdp': 2, 'tensor': 2}
SMALL = {'vocab_size': 32, 'decoder_layers': 1}
MESHED = {
  'flash': decoders.tiny_decoder(
    'alibi', attention='flash', attention_dropout=0.2, heads=4, kv_heads=2,
    **SMALL,
  ),
  'cudnn': decoders.tiny_decoder(
    'relative_bias', attention='cudnn', heads=4, kv_heads=2, **SMALL
  ),
  'rwkv': test_rwkv.make_config(attention='flash', mlp_dim=48, **SMALL),
}  # fmt: skip


@pytest.mark.parametrize('name', MESHED)
def test_on_a_mesh(name, monkeypatch):
  """Rows and heads of 8 devices: the same values, and the same dropout."""
  monkeypatch.setattr(cudnn, 'IMPLEMENTATION', 'xla')
  config = MESHED[name]
  params = build(config).init(jax.random.key(0), **batch(config))['params']
  params = nn.unbox(params)
  truth = value_and_gradients(config, params)
  sizes = dict.fromkeys(sharding.AXES, 1)
  sizes |= MESH
  mesh = make_mesh(sizes, 'fsdp_tensor')
  rules = sharding.make_rules('fsdp_tensor')
  with jax.set_mesh(mesh), nn.logical_axis_rules(rules):
    ours = value_and_gradients(config, params)
  assert_near(ours, truth)


@pytest.mark.parametrize('remat', ['full', 'dots'])
def test_cudnn_on_a_mesh_is_asked_of_cudnn(monkeypatch, remat):
  """A model's gradients lowered for GPUs: cuDNN's calls, on a device's part."""
  monkeypatch.setattr(
    fused_attention_stablehlo, 'check_cudnn_version', lambda: 91_000
  )
  config = t5_reference.tiny_config(
    dtype='bfloat16', attention='cudnn', head_dim=8, heads=4, kv_heads=4,
    vocab_size=32, remat=remat,
  )  # fmt: skip
  model, arrays = build(config), batch(config)
  params = nn.unbox(jax.eval_shape(model.init, jax.random.key(0), **arrays))
  mesh = make_mesh(dict.fromkeys(sharding.AXES, 1) | MESH, 'fsdp_tensor')

  def loss(params):
    return jnp.sum(model.apply(params, **arrays))

  rules = sharding.make_rules('fsdp_tensor')
  with jax.set_mesh(mesh), nn.logical_axis_rules(rules):
    traced = jax.jit(jax.grad(loss)).trace(params)
    text = traced.lower(lowering_platforms=('cuda',)).as_text()
  calls = collections.Counter(re.findall(r'custom_call @(__cudnn[\w$]+)', text))
  # The encoder's, the decoder's and cross-attention, each computed again where
  # whole layers are; two of the three have a bias.
  times = 2 if remat == 'full' else 1
  assert calls == {
    '__cudnn$fmhaScaleBiasSoftmax': 2 * times,
    '__cudnn$fmhaScaleBiasSoftmaxBackward': 2,
    '__cudnn$fmhaSoftmax': times,
    '__cudnn$fmhaSoftmaxBackward': 1,
  }
  # 8 rows over 4 devices, 4 heads over 2; 8 dimensions and 16 for segments.
  assert f'tensor<{B // 4}x2x{T}x24xbf16>' in text


def test_what_auto_takes_on_a_gpu(monkeypatch):
  config = decoders.tiny_decoder('rope', head_dim=64, dtype='bfloat16')
  assert choose(config, 'gpu', '9.0')[0] == 'cudnn'
  assert choose(config, 'gpu', '8.0', packed=False)[0] == 'cudnn_unpacked'
  drops = dataclasses.replace(config, **DROPS, head_dim=128)
  for packed in (True, False):
    name, why = choose(drops, 'gpu', '8.0', packed)
    assert name == 'triton'
    assert 'by blocks that drops weights (model.attention_dropout=0.1)' in why
  values = dataclasses.replace(drops, head_dim=64, dropout_kind='t5')
  assert choose(values, 'gpu', '9.0')[0] == 'cudnn'
  for fields, given, reason in REFUSED:
    asked = dataclasses.replace(config, attention='flash', **fields)
    with pytest.raises(ValueError, match=re.escape(reason)):
      choose(asked, 'gpu', given)
    auto = dataclasses.replace(asked, attention='auto')
    name, why = choose(auto, 'gpu', given)
    assert name == 'xla'
    assert reason in why
  monkeypatch.setattr(triton, 'pltriton', None)  # as in a later jax
  name, why = choose(drops, 'gpu', '9.0')
  assert name == 'xla'
  assert 'needs the Triton of Pallas, which this jax lacks' in why
  resolved = dataclasses.replace(config, attention='cudnn')
  with pytest.raises(ValueError, match="model.attention is 'cudnn'"):
    choose(resolved, 'gpu', '9.0')


def test_what_auto_takes_where_devices_share_rows():
  """Triton's kernel knows where parts of rows begin; cuDNN's does not."""
  config = decoders.tiny_decoder('rope', head_dim=64, dtype='bfloat16')
  assert choose(config, 'tpu', sequence=4)[0] == 'flash'
  name, why = choose(config, 'gpu', '9.0', sequence=4)
  assert name == 'triton'
  assert 'reads parts of rows (sharding.mesh.sequence=4)' in why
  alibi = dataclasses.replace(config, **NO_ROPE, position='alibi')
  assert choose(alibi, 'gpu', '9.0')[0] == 'cudnn'
  name, why = choose(alibi, 'gpu', '9.0', sequence=4)
  assert name == 'xla'
  assert 'kernel for sharding.mesh.sequence=4 has no bias' in why
  asked = dataclasses.replace(alibi, attention='flash')
  with pytest.raises(ValueError, match=r'sharding\.mesh\.sequence=4 has no'):
    choose(asked, 'gpu', '9.0', sequence=4)


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
    'xla', "there is a kernel for TPUs and for GPUs, none for 'cpu'"
  )  # fmt: skip
  relative = decoders.tiny_decoder('transformer_xl', attention='flash')
  with pytest.raises(ValueError, match="position='transformer_xl'"):
    choose(relative, 'tpu')
  rwkv = test_rwkv.make_config()
  assert [choose(rwkv, name)[0] for name in ('tpu', 'cpu')] == ['flash', 'xla']
  narrow = dataclasses.replace(config, head_dim=12, attention='flash')
  with pytest.raises(ValueError, match='head_dim=12 is no multiple of 8'):
    choose(narrow, 'tpu')
