"""RWKV-4: initial weights, numbers of parameters, and configs refused."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import rwkv
from models.build import build
from models.config import TransformerConfig
from tests.models.families.test_rwkv import make_config
from train.learning.state import abstract_params, count_params


@pytest.mark.parametrize('scan', [True, False])
def test_initial_weights_are_as_published(scan):
  L, D = 3, 12
  model = build(make_config(scan=scan))
  tokens = jnp.ones((1, 1), 'int32')
  init = jax.jit(lambda key: model.init(key, tokens, tokens)['params'])
  params = nn.unbox(init(jax.random.key(0)))
  decoder = params['decoder']
  i = np.arange(D)
  for number in range(L):
    if scan:
      layer = jax.tree.map(lambda x, n=number: x[n], decoder['layers'])
    else:
      layer = decoder[f'layer_{number}']
    share, rest = number / (L - 1), 1 - number / L
    mix = layer['time_mix']
    for name, expected in (
      ('time_decay', -5 + 8 * (i / (D - 1)) ** (0.7 + 1.3 * share)),
      ('time_first', np.log(0.3) + 0.5 * ((i + 1) % 3 - 1)),
      ('mix_key', (i / D) ** rest),
      ('mix_value', (i / D) ** rest + 0.3 * share),
      ('mix_receptance', (i / D) ** (0.5 * rest)),
    ):
      np.testing.assert_allclose(mix[name], expected, rtol=1e-5, err_msg=name)
    for name in ('mix_key', 'mix_receptance'):
      np.testing.assert_allclose(
        layer['channel_mix'][name], (i / D) ** rest, rtol=1e-5
      )
    for half, name in (
      ('time_mix', 'key'),
      ('time_mix', 'receptance'),
      ('time_mix', 'output'),
      ('channel_mix', 'value'),
      ('channel_mix', 'receptance'),
    ):
      assert not np.any(layer[half][name]['kernel'])
    for kernel, squared in (  # gain (O / I)^1/2 where there are more outputs
      (mix['value']['kernel'], 1),
      (layer['channel_mix']['key']['kernel'], 44 / 12),
    ):
      product = np.asarray(kernel @ kernel.T)
      np.testing.assert_allclose(product, squared * np.eye(D), atol=1e-5)
  head = params['vocabulary']['output']
  np.testing.assert_allclose(
    np.asarray(head @ head.T), 0.25 * 40 / 12 * np.eye(D), atol=1e-5
  )
  table = np.asarray(params['embed']['table'])
  assert np.abs(table).max() <= 1e-4
  assert table.std() == pytest.approx(1e-4 / 3**0.5, rel=0.1)


@pytest.mark.parametrize('size', [s for s in rwkv.SIZES if s != 'tiny'])
def test_parameters_are_the_papers(size):
  """The paper has 2 V D + 13 D^2 L + D (11 L + 4) (Peng et al. 2023, t. 2)."""
  config = TransformerConfig(**rwkv.get_config(size).model)
  L, D, V = config.decoder_layers, config.embed_dim, config.vocab_size
  shapes, axes = abstract_params(build(config))
  assert count_params(shapes) == 2 * V * D + 13 * D * D * L + D * (11 * L + 4)
  published = {
    '169m': 1.693e8,
    '430m': 4.304e8,
    '1.5b': 1.515e9,
    '3b': 2.985e9,
    '7b': 7.393e9,
    '14b': 1.415e10,
  }
  assert count_params(shapes) == pytest.approx(published[size], rel=5e-4)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'init': 'normal', 'init_std': 0.02}, "model.init='normal' does not set"),
    ({'heads': 2}, 'has no attention'),
    ({'norm_placement': 'post'}, 'has a block of its own'),
    ({'gated': True}, 'has a block of its own'),
    ({'bias': 'all'}, 'has a block of its own'),
  ],
)
def test_impossible_models(change, message):
  with pytest.raises(ValueError, match=message):
    make_config(**change)
