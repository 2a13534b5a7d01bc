"""Every scheme of positions equals its definition."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import positions
from models.build import build
from tests.helpers.decoders import POSITIONS, tiny_decoder
from tests.helpers.t5_reference import random_params, tiny_config
from train.learning.state import abstract_params


def test_sinusoids():
  table = positions.sinusoids(jnp.arange(50), 8)
  for position in (0, 1, 49):
    for i in range(4):
      angle = position / 10_000 ** (2 * i / 8)
      assert table[position, i] == pytest.approx(np.sin(angle), abs=1e-5)
      assert table[position, 4 + i] == pytest.approx(np.cos(angle), abs=1e-5)


def test_rope_turns_by_distance_alone():
  config = tiny_decoder('rope')
  rng = np.random.default_rng(0)
  q, k = rng.normal(size=(2, 1, 1, 1, config.head_dim)).astype('float32')

  def product(at, other):
    turned = [
      positions.rotate(x, positions.rope_angles(config, jnp.array([[place]])))
      for x, place in ((q, at), (k, other))
    ]
    return float(jnp.sum(turned[0] * turned[1]))

  assert product(3, 1) == pytest.approx(product(13, 11), abs=1e-5)
  assert abs(product(3, 1) - product(3, 2)) > 1e-3


def test_partial_rope_leaves_the_rest():
  config = tiny_decoder('rope')
  assert config.rope_dim < config.head_dim
  x = np.ones((1, 4, 2, config.head_dim), 'float32')
  angles = positions.rope_angles(config, jnp.arange(4)[None])
  y = positions.rotate(x, angles)
  np.testing.assert_array_equal(y[..., config.rope_dim :], 1)
  # Pair 0 turns by one radian a position.
  np.testing.assert_allclose(y[0, 1, 0, 0], np.cos(1) - np.sin(1), rtol=1e-6)


@pytest.mark.parametrize(
  'scaling', [(8.0, 1.0, 4.0, 8192.0), (32.0, 2.0, 3.0, 512.0)]
)
def test_llama_stretches_long_wavelengths(scaling):
  """The expected are those of LLaMA 3.1's `apply_scaling` (model.py)."""
  plain = tiny_decoder('rope', head_dim=64, rope_dim=64, rope_theta=5e5)
  factor, low, high, former = scaling
  kinds = set()
  expected = []
  for i in range(32):
    rate = 5e5 ** (-2 * i / 64)
    wavelength = 2 * math.pi / rate
    if wavelength < former / high:
      kinds.add('short')
    elif wavelength > former / low:
      kinds.add('long')
      rate = rate / factor
    else:
      kinds.add('between')
      smooth = (former / wavelength - low) / (high - low)
      rate = (1 - smooth) * rate / factor + smooth * rate
    expected.append(1000 * rate)
  assert len(kinds) == 3
  stretched = dataclasses.replace(plain, rope_scaling=scaling)
  angles = positions.rope_angles(stretched, jnp.array([[1000]]))[0, 0]
  np.testing.assert_allclose(angles, expected, rtol=1e-5)


def test_alibi_slopes():
  np.testing.assert_allclose(
    positions.alibi_slopes(8), [2.0**-n for n in range(1, 9)]
  )
  # 12 heads: the slopes of 8, then every second slope of 16.
  np.testing.assert_allclose(
    positions.alibi_slopes(12)[8:], [2.0 ** (-n / 2) for n in (1, 3, 5, 7)]
  )
  assert len(positions.alibi_slopes(1)) == 1


def test_alibi_is_a_slope_times_the_distance():
  """The bias is the same for keys before and after a query."""
  bias = positions.alibi(2, jnp.arange(6) - jnp.array([3, 4])[:, None])
  distances = np.array([[3, 2, 1, 0, 1, 2], [4, 3, 2, 1, 0, 1]])
  expected = [-distances / 16, -distances / 256]
  np.testing.assert_allclose(bias, expected, rtol=1e-6)


@pytest.mark.parametrize('both', [False, True])
def test_relative_shift(both):
  T = 5
  distances = T - 1 - np.arange(2 * T - 1 if both else T)
  x = np.arange(T)[:, None] * 100 + distances
  shifted = positions.relative_shift(jnp.asarray(x))
  for i in range(T):
    for j in range(T if both else i + 1):
      assert shifted[i, j] == i * 100 + i - j


def test_transformer_xl_equals_its_formula():
  """The four terms are summed one by one (Dai et al. 2019, 3.3)."""
  config = tiny_decoder('transformer_xl', decoder_layers=1, scan=False)
  model = build(config)
  params = random_params(model)
  from models.attention import Attention

  own = params['decoder']['layer_0']['attention']
  rng = np.random.default_rng(0)
  T, N, H, D = 6, config.heads, config.head_dim, config.embed_dim
  x = rng.normal(size=(1, T, D)).astype('float32')
  mask = np.tril(np.ones((1, T, T), bool))

  def run(module, x):
    distances = T - 1 - jnp.arange(T)
    return module(x, module.keys_values(x), mask, distances=distances)

  ours = Attention(config).apply({'params': own}, x, method=run)

  def heads(name, x):
    y = x @ own[name]['kernel'] + own[name].get('bias', 0)
    return y.reshape(len(x), -1, H)

  q, k, v = (heads(name, x[0]) for name in ('query', 'key', 'value'))
  mixed = np.zeros((T, N, H))
  for n in range(N):
    m = n // (N // config.kv_heads)
    logits = np.full((T, T), -np.inf)
    for i in range(T):
      for j in range(i + 1):
        r = (
          positions.sinusoids(jnp.array([i - j]), D) @ own['relative']['kernel']
        )
        r = np.asarray(r).reshape(N, H)[n]
        u, w = own['content_bias'][n], own['position_bias'][n]
        logits[i, j] = (
          q[i, n] @ k[j, m] + q[i, n] @ r + u @ k[j, m] + w @ r
        ) * H**-0.5
    weights = np.exp(logits - logits.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    mixed[:, n] = weights @ v[:, m]
  truth = mixed.reshape(T, -1) @ own['output']['kernel']
  truth = truth + own['output'].get('bias', 0)
  np.testing.assert_allclose(ours[0], truth, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('position', POSITIONS)
def test_order_matters_to_every_scheme(position):
  """With 'none', a decoder only knows which tokens came before."""
  config = tiny_decoder(position)
  model = build(config)
  params = random_params(model)
  tokens = jnp.array([[5, 6, 7, 8]])
  swapped = tokens[:, jnp.array([1, 0, 2, 3])]
  last = [
    model.apply({'params': params}, t, jnp.ones_like(t))[0, -1]
    for t in (tokens, swapped)
  ]
  assert float(jnp.max(jnp.abs(last[0] - last[1]))) > 1e-4


@pytest.mark.parametrize(('offset', 'places'), [(0, 4), (2, 2)])
def test_learned_positions_end(offset, places):
  config = tiny_decoder('learned', max_length=4, position_offset=offset)
  init = build(config).init
  tokens = jnp.ones((1, places + 1), 'int32')
  rest = tokens[:, 1:]
  jax.eval_shape(init, jax.random.key(0), rest, rest)
  with pytest.raises(
    ValueError, match=f'model.max_length=4 has positions for {places}'
  ):
    jax.eval_shape(init, jax.random.key(0), tokens, tokens)


def test_what_transformer_xl_adds_to_a_layer():
  """Cross-attention has no distances, so nothing is added to it."""
  no_buckets = {'relative_buckets': 0, 'relative_max_distance': 0}
  config = tiny_config(position='transformer_xl', **no_buckets)
  params, _ = abstract_params(build(config))
  layer = params['decoder']['layers']
  added = layer['attention'].keys() - layer['cross_attention'].keys()
  assert added == {'relative', 'content_bias', 'position_bias'}
  assert layer['attention']['relative'].keys() == {'kernel'}
