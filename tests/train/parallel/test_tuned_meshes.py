"""A model of which a part is trained is the same on any mesh."""

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from input_pipeline import pipeline
from tests.train.parallel.test_sharding import MESHES, STEPS, make_config
from train.learning.state import create_state
from train.setup import set_up

LORA = {
  'tuning.train': 'lora',
  'tuning.rank': 4,
  'tuning.alpha': 8.0,
  'tuning.matrices': ('attention/query', 'cross_attention/key', 'mlp/output'),
}


def train(preset, sizes, devices=None, **overrides):
  """The setup, the first state, the last one and the losses."""
  mesh = {
    f'sharding.mesh.{axis}': n for axis, n in ({'data': 1} | sizes).items()
  }
  config = make_config(**overrides, **mesh, **{'sharding.rules': preset})
  setup = set_up(config, devices)
  data = pipeline.open_data(
    setup.data, config.seed, 64, family=config.model.family
  )
  state = create_state(
    setup.model, setup.optimizer, setup.state, data.start(), config.seed,
    tuning=setup.tuning,
  )  # fmt: skip
  # B is 0 at first, and all of A's gradient with it.
  first = jax.device_get(state.params)
  step = setup.compile_step(setup.batch(data.shapes))
  losses = []
  batches = setup.place(data.batches(data.start(), setup.rows))
  for _ in range(STEPS):
    state, metrics = step(state, next(batches))
    losses.append(float(metrics['loss']))
  return setup, first, state, losses


@pytest.fixture(scope='module')
def one_device():
  return train('replicated', {'data': 1}, jax.devices()[:1], **LORA)


@pytest.mark.parametrize('preset', ['fsdp', 'fsdp_tensor'])
def test_lora_on_eight_devices_equals_one(one_device, preset):
  _, initial, expected, losses = one_device
  setup, first, state, ours = train(preset, MESHES[preset], **LORA)
  jax.tree.map(np.testing.assert_array_equal, first, initial)
  np.testing.assert_allclose(ours, losses, rtol=1e-5)
  flat, other, initial = (
    flatten_dict(jax.device_get(x), sep='/')
    for x in (state.params, expected.params, initial)
  )
  for name, x in flat.items():
    moved = np.abs(other[name] - initial[name]).max()
    assert (moved > 0) == name.startswith('lora/'), name
    assert np.abs(x - other[name]).max() <= 1e-3 * moved, name

  # Each factor is cut as its matrix is.
  factors = setup.places.params['lora']['encoder']['layers']['mlp']['output']
  kernel = setup.places.params['encoder']['layers']['mlp']['output']['kernel']
  assert factors['a'].spec[:2] == kernel.spec[:2]
  assert factors['b'].spec[2] == kernel.spec[2] is not None
