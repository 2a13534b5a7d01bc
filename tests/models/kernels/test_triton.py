"""The kernel of GPUs that drops weights equals `attend`, and becomes Triton's.

No GPU is needed: it runs in Python, and programs for 'cuda' are lowered on the
CPU, forward and backward.
"""

import collections
import contextlib
import dataclasses
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import tree
from models.build import build
from models.config import TransformerConfig
from models.kernels import sharded, triton
from models.kernels.choice import choose
from models.kernels.flash import Kind
from tests.models.kernels.test_flash import compared
from train.parallel import sharding
from train.parallel.mesh import make_mesh

B, N = 2, 4


# Every feature beside every other that can meet it, in few programs.
CASES = {
  'both directions': {'causal': False, 'H': 80, 'K': 4, 'rate': 0.2},
  'causal': {'causal': True, 'H': 64, 'rate': 0.1},
  'window': {'causal': True, 'H': 24, 'K': 1, 'window': 19, 'rate': 0.3},
  'cross': {'causal': False, 'H': 128, 'T': 20, 'S': 61, 'rate': 0.1},
  'evaluation': {'causal': True, 'H': 8, 'T': 7, 'S': 7},
}


@pytest.mark.parametrize('case', CASES)
def test_equals_attend(case):
  given = {'T': 75, 'S': 75, 'block': 16} | CASES[case]
  ours, truth = compared(attention=triton.attend, **given)
  for a, b in zip(ours, truth, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=3e-5)


def test_in_bfloat16():
  ours, truth = compared(
    T=40, S=40, H=16, block=32, attention=triton.attend, dtype='bfloat16',
    causal=True, rate=0.1,
  )  # fmt: skip
  for a, b in zip(ours, truth, strict=True):
    assert a.dtype == b.dtype == 'bfloat16'
    a, b = (np.asarray(x, 'float32') for x in (a, b))
    np.testing.assert_allclose(a, b, rtol=0, atol=0.02 * np.abs(b).max())


# What hides the other half of a row: fields, segments, and where NaN stands.
FIRST, LAST = slice(0, 16), slice(16, 32)
HIDING = {
  'causal': ({'causal': True}, [1, 1, 1, 1], LAST),
  'window': ({'causal': True, 'window': True}, [1, 1, 1, 1], FIRST),
  'segments': ({'causal': False}, [1, 1, 2, 2], LAST),
  'padding': ({'causal': False}, [1, 1, 0, 0], LAST),
  'segment, padding': ({'causal': False}, [1, 1, 2, 0], LAST),
}


@pytest.mark.parametrize('case', HIDING)
def test_passes_over_hidden_blocks(case):
  """A block that no query sees is not computed: its NaN reach nothing."""
  fields, cuts, where = HIDING[case]
  kind = Kind(block=16, interpret=True, **fields)
  rng = np.random.default_rng(0)
  q, k, v = (rng.normal(size=(1, 32, 1, 16)).astype('float32') for _ in 'qkv')
  k[:, where] = v[:, where] = np.nan
  cuts = jnp.repeat(jnp.array([cuts], 'int32'), 8, axis=1)
  meta = jnp.array([0, 1, 0, 0, 0, 0], 'int32')
  seen = LAST if where is FIRST else FIRST

  @jax.jit
  @jax.value_and_grad
  def half(q):
    out = triton.attend(kind, q, k, v, None, cuts, cuts, None, meta)
    return jnp.sum(jnp.sin(out[:, seen]))

  value, d_q = half(q)
  assert np.isfinite(value)
  assert np.isfinite(d_q[:, seen]).all()


def lowered(function, *args):
  """The program for GPUs."""
  traced = jax.jit(function).trace(*args)
  return traced.lower(lowering_platforms=('cuda',)).as_text()


def calls(text):
  """How often a result of each kernel is used; XLA drops calls without use."""
  found = collections.Counter()
  call = r'(%\d+)\S* = stablehlo.custom_call @__gpu\$xla\.gpu\.triton\(.*'
  for function in text.split('func.func'):
    for result, name in re.findall(call + r', name = "(\w+)"', function):
      found[name] += len(re.findall(rf'{result}\b', function)) > 1
  return found


@pytest.mark.parametrize('H', [64, 80, 128])
def test_is_lowered_to_triton(H):
  """Three kernels, and no array of all weights."""
  T, kind = 1000, Kind(causal=True, window=True, rate=0.1, block=triton.BLOCK)

  def array(*shape, dtype='bfloat16'):
    return jax.ShapeDtypeStruct(shape, dtype)

  def gradients(q, k, v, probe, segments, meta):
    def attend(q, k, v):
      return triton.attend(kind, q, k, v, None, *[segments] * 2, None, meta)

    return jax.vjp(attend, q, k, v)[1](probe)

  heads, keys = array(B, T, N, H), array(B, T, 2, H)
  numbers = array(B, T, dtype='int32'), array(6, dtype='int32')
  text = lowered(gradients, heads, keys, keys, heads, *numbers)
  assert calls(text) == {'_attend': 1, '_d_query': 1, '_d_key': 1}
  # Whole blocks of 64; none of the arrays has queries beside keys.
  shapes = re.findall(r'tensor<([\dx]+)x(?:bf16|f32|i32|i1)>', text)
  rows = {'1000', '1024'}
  assert max(len(rows & {*s.split('x')}) for s in shapes) == 1
  assert not [s for s in shapes if sum(x in rows for x in s.split('x')) > 1]


SIZES = {
  'vocab_size': 32, 'embed_dim': 32, 'mlp_dim': 64, 'heads': 4, 'kv_heads': 4,
  'head_dim': 8, 'max_length': 24, 'dtype': 'bfloat16',
}  # fmt: skip


def paper(name, **changes):
  """A paper's model in a small size, with the attention that a GPU gets."""
  fields = tree.config_of(name).model.to_dict() | SIZES | changes
  fields[f'{fields["family"]}_layers'] = 1
  fields['rope_scaling'] = tuple(fields['rope_scaling'])
  config = TransformerConfig(**fields)
  assert config.attention_dropout == 0.1
  chosen, why = choose(config, 'gpu', '9.0')
  assert chosen == 'triton'
  assert 'drops weights (model.attention_dropout=0.1)' in why
  return dataclasses.replace(config, attention=chosen)


def batch(config):
  """8 rows of 20 tokens: two segments, then padding."""
  rng = np.random.default_rng(0)
  segments = np.sort(rng.integers(1, 3, (8, 20)), axis=1)
  segments[:, -2:] = 0
  found = {
    'inputs': rng.integers(2, 30, (8, 20)),
    'segments': segments,
    'positions': np.broadcast_to(np.arange(20), (8, 20)),
  }
  if config.token_types:
    found['types'] = segments // 2
  return {name: jnp.asarray(x, 'int32') for name, x in found.items()}


def loss_of(config):
  model, arrays = build(config), batch(config)
  seen = (arrays['segments'] > 0)[..., None]

  @jax.value_and_grad
  def loss(params):
    rngs = {'dropout': jax.random.key(1)}
    found = model.apply({'params': params}, **arrays, rngs=rngs)
    logits = found['logits'] if isinstance(found, dict) else found
    return jnp.sum(jnp.sin(logits) * seen)

  return loss


def init(config):
  arrays = batch(config)
  return nn.unbox(build(config).init(jax.random.key(0), **arrays)['params'])


@contextlib.contextmanager
def on_mesh():
  """8 devices, each with its own rows and heads, and a share of the weights."""
  sizes = dict.fromkeys(sharding.AXES, 1)
  sizes |= {'data': 2, 'fsdp': 2, 'tensor': 2}
  mesh = make_mesh(sizes, 'fsdp_tensor')
  rules = sharding.make_rules('fsdp_tensor')
  with jax.set_mesh(mesh), nn.logical_axis_rules(rules):
    yield


@pytest.mark.parametrize('name', ['bert:base', 'gpt2:small'])
def test_papers_on_a_mesh(monkeypatch, name):
  """What GPUs get equals `xla` on one device, with the papers' dropout."""
  monkeypatch.setattr(sharded, 'INTERPRET', True)
  config = paper(name, remat='dots')
  config = dataclasses.replace(config, dtype='float32', init_std=0.2)
  params = init(config)
  plain = dataclasses.replace(config, attention='xla')
  truth = jax.jit(loss_of(plain))(params)
  with on_mesh():
    ours = jax.jit(loss_of(config))(params)
  for a, b in zip(*map(jax.tree.leaves, (ours, truth)), strict=True):
    limit = 1e-5 + 2e-4 * np.abs(b).max()
    np.testing.assert_allclose(a, b, rtol=0, atol=limit)


@pytest.mark.parametrize('remat', ['full', 'dots', 'none'])
def test_remat_runs_no_kernel_again(remat):
  """One forward and two backward, unless whole layers are recomputed."""
  config = paper('gpt2:small', remat=remat, scan=False)
  text = lowered(loss_of(config), jax.eval_shape(lambda: init(config)))
  again = 2 if remat == 'full' else 1
  assert calls(text) == {'_attend': again, '_d_query': 1, '_d_key': 1}


def test_a_device_has_its_part():
  config = paper('bert:base')
  params = jax.eval_shape(lambda: init(config))
  with on_mesh():
    text = lowered(loss_of(config), params)
  assert calls(text) == {'_attend': 1, '_d_query': 1, '_d_key': 1}
  # 8 rows over 4 devices, 4 heads over 2, filled up to blocks.
  assert 'tensor<2x32x2x16xbf16>' in text
