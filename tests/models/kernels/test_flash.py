"""The flash kernel equals `attend`, in values and all gradients."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.attention import attend
from models.kernels import flash as kernel
from models.kernels.keep import all_kept
from models.masks import Rules

B, N = 2, 4
SEED = 77


def plain(q, k, v, bias, rules, window=0, rate=0.0, group=0):
  """`attend` on whole arrays; 0 where a query sees no key."""
  T, S = q.shape[1], k.shape[1]
  distance = jnp.arange(T)[:, None] - jnp.arange(S)
  mask = rules.mask() & (distance < window if window else True)
  if bias is not None:
    bias = bias[:, distance + S - 1]
  keep = all_kept(SEED, rate, (B, N, T, S)) if rate else None
  if group:  # a key head drops keys for all of its queries
    keep = all_kept(SEED, rate, (B, k.shape[2], 1, S)).repeat(group, axis=1)
    keep = jnp.broadcast_to(keep, (B, N, T, S))
  out = attend(q, k, v, mask, bias, keep)
  return jnp.where(mask.any(-1)[..., None, None], out, 0)


def packed(rng, T, S, causal, prefix):
  """Rules of three packed examples, then padding."""

  def segments(length):
    cuts = np.sort(rng.integers(1, 4, (B, length)), axis=1)
    cuts[:, -3:] = 0
    return jnp.asarray(cuts, 'int32')

  queries = segments(T)
  return Rules(
    queries,
    queries if T == S else segments(S),
    jnp.asarray(rng.integers(0, 2, (B, S)), 'int32') if prefix else None,
    causal=causal,
  )


def compared(
  K=2, T=150, S=150, H=8, prefix=False, window=0, block=128,
  attention=kernel.flash, dtype='float32', **fields,
):  # fmt: skip
  """Outputs and gradients of a kernel and of `attend`, as lists."""
  kind = kernel.Kind(window=window > 0, block=block, interpret=True, **fields)
  rng = np.random.default_rng(0)

  def normal(*shape):
    return jnp.asarray(rng.normal(size=shape), dtype)

  rules = packed(rng, T, S, kind.causal, prefix)
  # As `attend` gets queries.
  scaled = (normal(B, T, N, H) * (8 / H) ** 0.5).astype(dtype)
  arrays = scaled, normal(B, S, K, H), normal(B, S, K, H)
  bias = normal(N, T + S - 1) if kind.bias else None
  meta = jnp.array([SEED, window, 0, 0, 0, 0], 'int32')
  probe = normal(B, T, N, H)

  def flash(q, k, v, bias):
    seen = rules.queries, rules.keys, rules.prefix
    return attention(kind, q, k, v, bias, *seen, meta)

  def reference(q, k, v, bias):
    return plain(q, k, v, bias, rules, window, kind.rate, kind.group)

  results = []
  for function in flash, reference:

    @jax.jit
    def both(*args, function=function):
      out, gradients = jax.vjp(function, *args)
      found = gradients(probe)
      return out, found if kind.learned else found[:3]

    results.append(jax.tree.leaves(both(*arrays, bias)))
  return results


# Every feature beside every other that can meet it, in few programs.
CASES = {
  'both directions': {
    'causal': False,
    'bias': True,
    'learned': True,
    'rate': 0.2,
  },
  'causal': {'causal': True, 'K': 1, 'H': 128},
  'prefix': {'causal': True, 'prefix': True, 'bias': True, 'rate': 0.1},
  'window': {'causal': True, 'window': 9, 'K': 4, 'rate': 0.3},
  'all': {
    'causal': True,
    'window': 140,
    'prefix': True,
    'bias': True,
    'learned': True,
    'rate': 0.1,
  },
  'cross': {'causal': False, 'T': 20, 'S': 270, 'H': 128},
  'keys dropped, read in place': {
    'causal': True,
    'bias': True,
    'learned': True,
    'rate': 0.2,
    'group': 2,
    'H': 128,
  },
}


def assert_near(a, b):
  """But for rounding of float32, which grows with the scale of the array."""
  atol = max(3e-5, 2e-6 * np.abs(b).max())
  np.testing.assert_allclose(a, b, rtol=1e-4, atol=atol)


@pytest.mark.parametrize('case', CASES)
def test_equals_attend(case):
  ours, truth = compared(**CASES[case])
  for a, b in zip(ours, truth, strict=True):
    assert_near(a, b)


@pytest.mark.parametrize('H', [64, 128])
def test_lowers_for_tpus_without_weights(H):
  """Forward and backward are kernels, and no array has a weight for a pair."""
  B, N, K, T = 2, 4, 2, 1024
  kind = kernel.Kind(
    causal=True, window=True, bias=True, learned=True, rate=0.1
  )

  def gradients(q, k, v, bias, segments, meta, probe):
    def attend(q, k, v, bias):
      return kernel.flash(
        kind, q, k, v, bias, segments, segments, segments, meta
      )

    return jax.vjp(attend, q, k, v, bias)[1](probe)

  def array(*shape, dtype='bfloat16'):
    return jax.ShapeDtypeStruct(shape, dtype)

  heads, keys = array(B, T, N, H), array(B, T, K, H)
  traced = jax.jit(gradients).trace(
    *(heads, keys, keys, array(N, 2 * T - 1, dtype='float32')),
    *(array(B, T, dtype='int32'), array(6, dtype='int32'), heads),
  )
  text = traced.lower(lowering_platforms=('tpu',)).as_text()
  assert text.count('tpu_custom_call') >= 3
  sizes = re.findall(r'tensor<((?:\d+x)+)', text)
  assert (
    max(math.prod(map(int, x.split('x')[:-1])) for x in sizes) < B * N * T * T
  )


@pytest.mark.parametrize('first', [(300, 0), (0, 140)])
def test_parts_of_a_row(first):
  """Queries and keys that begin later than the row, in several blocks."""
  kind = kernel.Kind(causal=True, block=128, interpret=True)
  rng = np.random.default_rng(0)
  shape = 1, 290, 1, 8
  q, k, v = (rng.normal(size=shape).astype('float32') for _ in 'qkv')
  ones = jnp.ones(shape[:2], 'int32')
  query, key = (n + jnp.arange(shape[1]) for n in first)
  mask = (key <= query[:, None])[None]
  seen = mask.any(-1)[..., None, None]

  def flash(q, k, v):
    meta = jnp.array([0, 0, 0, 0, *first], 'int32')
    return kernel.flash(kind, q, k, v, None, ones, ones, None, meta)

  def reference(q, k, v):
    return jnp.where(seen, attend(q, k, v, mask), 0)

  results = []
  for function in flash, reference:

    @jax.jit
    def both(*args, function=function):
      out, gradients = jax.vjp(function, *args)
      return out, gradients(jnp.cos(out))

    results.append(jax.tree.leaves(both(q, k, v)))
  for a, b in zip(*results, strict=True):
    assert_near(a, b)


def test_passes_over_blocks_of_other_segments():
  """A block that shares no segment is not computed: its NaN reach nothing."""
  kind, H = kernel.Kind(causal=False, block=128, interpret=True), 8
  rng = np.random.default_rng(0)
  q, k, v = (rng.normal(size=(1, 256, 1, H)).astype('float32') for _ in 'qkv')
  cuts = jnp.repeat(jnp.array([[1, 2]], 'int32'), 128, axis=1)
  q[:, 128:] = k[:, 128:] = v[:, 128:] = np.nan
  meta = jnp.zeros(6, 'int32')

  def first_half(*arrays):
    out = kernel.flash(kind, *arrays, None, cuts, cuts, None, meta)
    return jnp.sum(jnp.sin(out[:, :128]))

  value, gradients = jax.value_and_grad(first_half, (0, 1, 2))(q, k, v)
  assert np.isfinite(value)
  for x in gradients:
    assert np.isfinite(x[:, :128]).all()
