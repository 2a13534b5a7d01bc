"""What cuDNN is asked for equals `attend`, and is asked of cuDNN.

No GPU is needed: `jax.nn.dot_product_attention` computes the same arguments by
'xla', and programs for 'cuda' are lowered on the CPU, forward and backward.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo

from models.attention import attend
from models.kernels import cudnn
from models.masks import Rules
from models.positions import alibi

B, N, H = 2, 4, 8
BIAS = '__cudnn$fmhaScaleBiasSoftmax'
PLAIN = '__cudnn$fmhaSoftmax'

# What is asked, and the custom call that it becomes.
CASES = {
  'padding': ({'packed': False}, PLAIN),
  'segments': ({}, PLAIN),
  'causal': ({'causal': True, 'packed': False, 'K': 1}, PLAIN),
  'causal segments': ({'causal': True, 'K': 2}, PLAIN),
  'window': ({'causal': True, 'window': 7, 'packed': False}, PLAIN),
  'window of segments': ({'causal': True, 'window': 7, 'K': 2}, PLAIN),
  'band': ({'causal': True, 'window': 7, 'banded': True}, PLAIN),
  'no band': ({'causal': True, 'window': 7, 'banded': False}, PLAIN),
  'alibi': ({'causal': True, 'fixed': True, 'packed': False}, PLAIN),
  'alibi, all': (
    {'causal': True, 'fixed': True, 'window': 9, 'K': 2, 'T': 300, 'S': 300},
    PLAIN,
  ),
  'learned': ({'learned': True, 'packed': False}, BIAS),
  'learned, segments': ({'learned': True, 'T': 31, 'S': 31, 'K': 2}, BIAS),
  'learned, causal': (
    {'learned': True, 'causal': True, 'packed': False, 'T': 33, 'S': 33},
    BIAS,
  ),
  'learned, causal segments': ({'learned': True, 'causal': True}, BIAS),
  'cross': ({'T': 20, 'packed': False}, PLAIN),
  'cross segments': ({'T': 21, 'K': 2}, PLAIN),
}


@pytest.fixture
def by_xla(monkeypatch):
  monkeypatch.setattr(cudnn, 'IMPLEMENTATION', 'xla')


@pytest.fixture
def gpu(monkeypatch):
  """The version of cuDNN, which jax asks of a library that is not here."""
  monkeypatch.setattr(
    fused_attention_stablehlo, 'check_cudnn_version', lambda: 91_000
  )


def arrays(
  K=N, T=32, S=32, causal=False, packed=True, fixed=False, learned=False,
  dtype='float32', **fields,
):  # fmt: skip
  """Arguments (q, k, v, bias, rules) and options of cudnn.attend."""
  rng = np.random.default_rng(0)

  def normal(*shape):
    return jnp.asarray(rng.normal(size=shape), dtype)

  def segments(length):
    cuts = np.sort(rng.integers(1, 6 if packed else 2, (B, length)), axis=1)
    cuts[0, -3:] = 0
    return jnp.asarray(cuts, 'int32')

  queries = segments(T)
  keys = queries if T == S else segments(S)
  bias = None
  if fixed:
    bias = alibi(N, S - 1 - jnp.arange(T + S - 1))
  elif learned:
    bias = jnp.asarray(rng.normal(size=(N, T + S - 1)), 'float32')
  rules = Rules(queries, keys, causal=causal)
  if 'banded' in fields:
    fields['banded'] = jnp.asarray(fields['banded'])
  qkv = normal(B, T, N, H), normal(B, S, K, H), normal(B, S, K, H)
  return (*qkv, bias, rules), fields | {'packed': packed, 'fixed': fixed}


def reference(q, k, v, rules, bias, window=0, banded=True, **_):
  """`attend`, with a mask and a bias for each query and key."""
  distance = jnp.arange(q.shape[1])[:, None] - jnp.arange(k.shape[1])
  mask = rules.mask()
  if window:
    mask &= (distance < window) | ~jnp.asarray(banded)
  if bias is not None:
    bias = bias[:, distance + k.shape[1] - 1]
  return attend(q, k, v, mask, bias)


def program(function, args, options):
  """Of arrays to the output and all gradients; padding's output is 0."""
  q, *_, bias, rules = args
  learned = bias is not None and not options['fixed']
  probe = np.random.default_rng(1).normal(size=q.shape)
  seen = (rules.queries > 0)[..., None, None]

  def both(q, k, v, bias):
    def call(q, k, v, learned_bias):
      own = learned_bias if learned else bias
      return jnp.where(seen, function(q, k, v, rules, own, **options), 0)

    out, pull = jax.vjp(call, q, k, v, bias if learned else None)
    return out, pull(jnp.asarray(probe, out.dtype))

  return jax.jit(both)


@pytest.mark.parametrize('case', CASES)
def test_equals_attend(by_xla, case):
  args, options = arrays(**CASES[case][0])
  ours, truth = (
    jax.tree.leaves(program(function, args, options)(*args[:4]))
    for function in (cudnn.attend, reference)
  )
  assert len(ours) == (5 if CASES[case][0].get('learned') else 4)
  exact = not options['packed'] and not CASES[case][0].get('learned')
  limit = 3e-5 if exact else 1e-3
  for a, b in zip(ours, truth, strict=True):
    # A CPU adds the products of bits in an order that rounds: `_segments`.
    np.testing.assert_allclose(a, b, rtol=limit, atol=limit)


def lowered(case):
  args, options = arrays(dtype='bfloat16', **CASES[case][0])
  traced = program(cudnn.attend, args, options).trace(*args[:4])
  return traced.lower(lowering_platforms=('cuda',)).as_text()


@pytest.mark.parametrize('case', CASES)
def test_is_asked_of_cudnn(gpu, case):
  """Forward once and backward once, and no array of all weights."""
  fields, call = CASES[case]
  text = lowered(case)
  twice = 2 if 'banded' in fields else 1
  found = re.findall(r'custom_call @(__cudnn[\w$]+)', text)
  assert sorted(found) == sorted([call, f'{call}Backward'] * twice)
  whole = 8 if call == BIAS else 2
  T, S = (-(-fields.get(x, 32) // whole) * whole for x in 'TS')
  if T != 32 or S != 32:
    assert f'tensor<{B}x{N}x{T}x{S}x' not in text
  assert f'tensor<{B}x1x{T}x{S}x' not in text


def test_options_of_cudnn(gpu):
  """The mask and the window that its calls name, and the bias' gradient."""

  def options(case, name):
    return set(re.findall(rf'\\22{name}\\22: ([^,}}]+)', lowered(case)))

  assert options('padding', 'mask_type') == {'\\22PADDING\\22'}
  assert options('segments', 'mask_type') == {'\\22NO_MASK\\22'}
  assert options('causal segments', 'mask_type') == {'\\22CAUSAL\\22'}
  assert options('learned, causal', 'mask_type') == {'\\22CAUSAL\\22'}
  assert options('window', 'sliding_window_length') == {'7'}
  assert options('band', 'sliding_window_length') == {'0', '7'}
  assert options('causal', 'fmha_scale') == {'1.0'}
  # One for all rows: cuDNN sums it over them.
  assert f'tensor<1x{N}x32x32xbf16>, tensor<0xui8>' in lowered('learned')


@pytest.mark.parametrize('length', [40, 40_000])
def test_segments_hide_each_other(length):
  """By bfloat16's products: 0 within a segment, -512 or less between two."""
  rng = np.random.default_rng(0)
  queries, keys = rng.integers(0, length, (2, 1, length), np.int32)
  keys[0, ::3] = queries[0, ::3]
  of_q, of_k = cudnn._segments(Rules(jnp.asarray(queries), jnp.asarray(keys)))
  assert of_q.shape[-1] == of_k.shape[-1] == (16 if length < 2**15 else 24)
  exact = [np.asarray(x.astype('bfloat16'), 'float64') for x in (of_q, of_k)]
  products = np.sum(exact[0] * exact[1], axis=-1)[0, :, 0]
  same = queries[0] == keys[0]
  assert set(products[same]) == {0.0}
  assert products[~same].max() <= -2 * cudnn.HIDDEN


@pytest.mark.parametrize('length', [40, 300, 70_000])
def test_alibi_by_products(length):
  """Of bfloat16: the bias, but for what is the same for all keys of a query."""
  bias = alibi(12, length - 1 - jnp.arange(2 * length - 1))
  parts = cudnn._slopes(bias, length), cudnn._places(length)
  slopes, places = (np.asarray(x.astype('bfloat16'), 'float64') for x in parts)
  found = slopes[0, 0] @ places[0, :, 0].T  # [N,S]
  # The bias of the last query.
  wanted = np.asarray(bias, 'float64')[:, length - 1 :][:, ::-1]
  np.testing.assert_allclose(
    found - found[:, -1:], wanted - wanted[:, -1:], rtol=1e-6, atol=1e-2
  )
