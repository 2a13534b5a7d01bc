"""The decoder: what it sees, and that caching and packing change nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.build import build
from tests.helpers.decoders import POSITIONS, decoded, tiny_decoder
from tests.helpers.t5_reference import random_params

T = 12
SEGMENTS = np.array([[1] * 5 + [2] * 6 + [0]])
PLACES = np.array([[*range(5), *range(6), 0]])

# The block's other choices, each with one scheme of positions.
VARIANTS = [
  *POSITIONS,
  pytest.param('rope window', id='window'),
  pytest.param('rope parallel', id='parallel'),
  pytest.param('alibi post', id='post'),
  pytest.param('rope one_norm', id='one_norm'),  # PaLM's, GPT-J's
  pytest.param('learned window', id='learned window'),  # GPT-3's
]


def variant(name) -> dict:
  position, _, other = name.partition(' ')
  changes = {
    '': {},
    'window': {'window': 3, 'window_every': 2},
    'parallel': {'parallel': 'two_norms', 'bias': 'mlp'},
    'one_norm': {'parallel': 'one_norm', 'kv_heads': 1, 'bias': 'none'},
    'post': {'norm_placement': 'post', 'embed_norm': True},
  }[other]
  return tiny_decoder(position, **changes)


def prepared(name):
  config = variant(name)
  model = build(config)
  return config, model, random_params(model)


def tokens(rng=0):
  return np.random.default_rng(rng).integers(1, 50, (1, T))


@pytest.mark.parametrize('name', VARIANTS)
def test_causality_by_gradient(name):
  """No logit depends on a later token or on another segment."""
  config, model, params = prepared(name)
  table = params['embed']['table']

  def logits(x):  # a gradient needs vectors in place of tokens
    rows = jnp.concatenate([table, x[0]])
    changed = params | {'embed': params['embed'] | {'table': rows}}
    wide = dataclasses.replace(config, vocab_size=len(rows))
    places = 50 + jnp.arange(T)[None]
    out = build(wide).apply({'params': changed}, places, SEGMENTS, PLACES)
    return out[0, :, :50].sum(-1)

  jacobian = jax.jacobian(logits)(jnp.asarray(table[tokens()]))
  influence = np.abs(np.asarray(jacobian)[:, 0]).max(-1)  # [T, T]
  same = SEGMENTS[0][:, None] == SEGMENTS[0][None]
  seen = np.tril(same)
  real = SEGMENTS[0] > 0
  assert ((influence > 0) == seen)[real].all()
  assert not influence[real][~seen[real]].any()


@pytest.mark.parametrize('name', VARIANTS)
def test_packed_equals_separate(name):
  _, model, params = prepared(name)
  x = tokens()
  packed = model.apply({'params': params}, x, SEGMENTS, PLACES)
  for start, stop in ((0, 5), (5, 11)):
    part = x[:, start:stop]
    alone = model.apply({'params': params}, part, np.ones_like(part))
    np.testing.assert_allclose(
      packed[:, start:stop], alone, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize('name', VARIANTS)
def test_cached_equals_whole(name):
  """A prompt of five tokens is read at once, then one token at a time."""
  _, model, params = prepared(name)
  x = tokens()
  whole = model.apply({'params': params}, x, np.ones_like(x))
  np.testing.assert_allclose(
    decoded(model, params, x, 5), whole, rtol=1e-4, atol=1e-4
  )


@pytest.mark.parametrize(
  'name', ['transformer_xl', 'rope window', 'alibi post']
)
def test_scan_equals_loop_and_remat(name):
  config, model, params = prepared(name)
  x = tokens()

  def loss(config, params):
    out = build(config).apply({'params': params}, x, SEGMENTS, PLACES)
    return jnp.sum(jnp.sin(out))

  scanned = jax.grad(loss, argnums=1)(config, params)
  layers = params['decoder']['layers']
  looped = params | {'decoder': dict(params['decoder'])}
  del looped['decoder']['layers']
  for i in range(config.decoder_layers):
    looped['decoder'][f'layer_{i}'] = jax.tree.map(lambda p, i=i: p[i], layers)
  other = dataclasses.replace(config, scan=False, remat='full')
  grads = jax.grad(loss, argnums=1)(other, looped)
  for i in range(config.decoder_layers):
    jax.tree.map(
      lambda a, b, i=i: np.testing.assert_allclose(
        a[i], b, rtol=1e-3, atol=1e-3
      ),
      scanned['decoder']['layers'],
      grads['decoder'][f'layer_{i}'],
    )


def test_a_window_hides_keys_further_back():
  config, model, params = prepared('rope window')
  one = dataclasses.replace(config, decoder_layers=1, window_every=1)
  model = build(one)
  params = random_params(model)
  x = tokens()
  ones = np.ones_like(x)
  changed = x.copy()
  changed[0, 0] = x[0, 0] % 49 + 1
  a, b = (model.apply({'params': params}, t, ones)[0] for t in (x, changed))
  differs = np.abs(np.asarray(a - b)).max(-1) > 0
  assert differs.tolist() == [True] * 3 + [False] * (T - 3)
