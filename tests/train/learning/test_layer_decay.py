"""The learning rate falls from the top layer to the embeddings."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from configs import bert
from models.build import build
from tests.helpers.checkpoints import ENCODER
from tests.helpers.decoders import tiny_decoder
from tests.helpers.t5_reference import tiny_config
from train.learning.layer_decay import layer_decay
from train.learning.state import abstract_params
from train.learning.tuning import Tuning
from train.setup import set_up


def factors(config, decay=0.8, tuning=None):
  """The factor of each parameter's update, from an update of ones."""
  tuning = tuning or Tuning()
  shapes, _ = tuning.extended(*abstract_params(build(config)))
  shapes = tuning.trained(shapes)
  ones = jax.tree.map(lambda x: jnp.ones(x.shape), shapes)
  transform = layer_decay(decay, shapes)
  updates, _ = transform.update(ones, transform.init(ones), ones)
  return flatten_dict(jax.device_get(updates), sep='/')


@pytest.mark.parametrize('scan', [True, False])
def test_rates_fall_as_in_the_published_code_of_electra(scan):
  """The code has decay^(L + 2 - depth).

  The depth of embeddings is 0, of layer l l + 1, of the head L + 2.
  """
  config = dataclasses.replace(ENCODER, scan=scan, table_dim=8)
  L = config.encoder_layers
  found = factors(config)
  depths = {
    'embed': 0,
    'encoder/projection': 0,
    'pooler': L + 2,
    'classes': L + 2,
  }
  for name, x in found.items():
    if 'encoder/layer' in name:
      layer = re.search(r'layer_(\d+)', name)
      depth = int(layer[1]) + 1 if layer else 1 + np.arange(L)
    else:
      depth = next(d for part, d in depths.items() if name.startswith(part))
    expected = 0.8 ** (L + 2.0 - np.asarray(depth))
    expected = (
      expected.reshape(-1, *(1,) * (x.ndim - 1)) if x.ndim else expected
    )
    np.testing.assert_allclose(x, np.broadcast_to(expected, x.shape), rtol=1e-6)


def test_rates_of_other_models():
  found = factors(tiny_decoder('relative_bias'), 0.5)
  assert found['decoder/norm/scale'].tolist() == [0.5] * 24  # above the top
  assert (found['decoder/relative_bias/table'] == 0.5**5).all()
  one = factors(
    tiny_decoder('none'), tuning=Tuning('lora', 2, 1.0, ('mlp/input',))
  )
  stacked = one['lora/decoder/layers/mlp/input/a']
  np.testing.assert_allclose(
    stacked[:, 0, 0], 0.8 ** np.array([4, 3, 2]), rtol=1e-6
  )
  with pytest.raises(ValueError, match=r'2 stacks \(decoder, encoder\)'):
    factors(tiny_config())


def test_the_configs_optimizer_has_the_rates():
  """The rates apply to the whole step, weight decay included."""
  c = bert.get_config('tiny').unlock()
  c.data.source, c.optimizer.clip = 'synthetic', 0.0
  c.schedule.warmup_steps = 0  # else the first rate is 0
  plain = set_up(c, jax.devices()[:1])
  c.tuning.layer_decay = 0.5
  setup = set_up(c, jax.devices()[:1])
  rng = np.random.default_rng(0)
  params, grads = (
    jax.tree.map(
      lambda x: rng.normal(size=x.shape).astype('float32'), setup.state.params
    )
    for _ in range(2)
  )
  one, many = (
    jax.jit(lambda p, g, o=s.optimizer: o.update(g, o.init(p), p)[0])(
      params, grads
    )
    for s in (plain, setup)
  )
  expected = factors(setup.model.config, 0.5)
  for name, x in flatten_dict(many, sep='/').items():
    update = np.asarray(flatten_dict(one, sep='/')[name])
    assert update.any(), name
    np.testing.assert_allclose(x, update * expected[name], rtol=1e-5)
