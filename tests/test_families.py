"""Every topology trains under every preset as on one device."""

import functools
import importlib

import flax.linen as nn
import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding

from input_pipeline import pipeline
from input_pipeline.config import DataConfig
from models.build import build
from models.config import TransformerConfig
from tests.test_sharding import MESHES, mesh_sizes
from train import sharding
from train.optimizer import make_optimizer
from train.schedules import make_schedule
from train.settings import check_settings
from train.state import abstract_params, abstract_state, create_state
from train.step import compile_train_step, train_step

FAMILIES = ('gpt2', 'bert', 'roberta', 'electra', 'rwkv')
STEPS = 2


def make_config(name):
  config = importlib.import_module(f'configs.{name}').get_config('tiny')
  config.update_from_flattened_dict(
    {
      'model.vocab_size': 320,
      'data.source': 'synthetic',
      'data.batch': 16,
      'data.length': 32,
      'data.block': 4,
    }
  )
  if config.data.predictions:
    config.data.predictions = 6
  return config


def train(config, preset, sizes, devices=None):
  """A few steps as the loop makes them: the state and each step's metrics."""
  check_settings(config, 1)
  family = config.model.family
  data = pipeline.open_data(DataConfig(**config.data), 0, 320, family=family)
  model = build(TransformerConfig(**config.model))
  schedule = make_schedule(config.schedule, config.train.steps)
  _, axes = abstract_params(model)
  optimizer = make_optimizer(config.optimizer, schedule, axes)
  mesh = sharding.make_mesh(mesh_sizes(**sizes), preset, devices)
  rules = sharding.make_rules(preset)
  shape = abstract_state(model, optimizer, config.data.streams, mesh, rules)
  state = create_state(model, optimizer, shape, data.start(), config.seed)
  place = NamedSharding(mesh, sharding.BATCH)
  batches = data.batches(data.start(), np.arange(16))
  batches = [jax.device_put(next(batches), place) for _ in range(STEPS)]
  step = functools.partial(
    train_step, model=model, optimizer=optimizer, schedule=schedule, seed=0
  )
  with jax.set_mesh(mesh), nn.logical_axis_rules(rules):
    batch_shape = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
      batches[0],
    )
    compiled = compile_train_step(step, shape, batch_shape)
  metrics = []
  for batch in batches:
    state, values = compiled(state, batch)
    metrics.append(jax.device_get(values))
  return state, metrics


@pytest.fixture(scope='module', params=FAMILIES)
def one_device(request):
  config = make_config(request.param)
  return config, train(config, 'replicated', {'data': 1}, jax.devices()[:1])


@pytest.mark.slow
@pytest.mark.parametrize('preset', MESHES)
def test_eight_devices_equal_one(one_device, preset):
  """Dropout and ELECTRA's samples are on: they do not depend on the mesh."""
  config, (_, expected) = one_device
  state, metrics = train(config, preset, MESHES[preset])
  for ours, theirs in zip(metrics, expected, strict=True):
    for name, value in theirs.items():
      np.testing.assert_allclose(ours[name], value, rtol=2e-5, err_msg=name)
  # Nothing large lies whole on each device where the weights are cut up.
  for path, x in jax.tree_util.tree_leaves_with_path(state.params):
    if 'fsdp' in preset and x.size > 10_000:
      where = jax.tree_util.keystr(path, simple=True, separator='/')
      assert x.addressable_shards[0].data.size < x.size, where
