"""Systems of all kinds train the same on a mesh and on one device."""

import functools
import importlib

import jax
import numpy as np
import pytest

from input_pipeline import pipeline
from input_pipeline.config import DataConfig
from tests.train.parallel.test_sharding import MESHES, train_config
from train.settings import check_settings

# Each scheme of positions, and blocks of other kinds. test_sharding.py tests T5
# with all presets, test_invariance.py a system of each family with most.
PRESETS = {
  'gpt2': 'replicated',  # learned positions
  'bert': 'fsdp_tensor',  # sentences, norms after the layers
  'bloom': 'tensor',  # alibi
  'palm': 'fsdp_tensor',  # rope, parallel layers, one head of keys
  'llama': 'tensor',  # gates, fewer heads of keys
  'chinchilla': 'fsdp',  # transformer_xl
  'ul2': 'fsdp_tensor',  # denoisers
}
STEPS = 2


def make_config(name):
  config = importlib.import_module(f'configs.{name}').get_config('tiny')
  config.update_from_flattened_dict(
    {
      'model.vocab_size': 320,
      'data.source': 'synthetic',
      'data.batch': 16,
      'data.length': 128 if config.data.denoisers else 32,
      'data.block': 4,
    }
  )
  if config.data.predictions:
    config.data.predictions = 6
    config.train.phases = ()
  return config


def batches_of(config):
  family = config.model.family
  data = pipeline.open_data(DataConfig(**config.data), 0, 320, family=family)
  batches = data.batches(data.start(), np.arange(16))
  return [next(batches) for _ in range(STEPS)]


def train(config, preset, sizes, devices=None):
  check_settings(config, 1)
  return train_config(config, batches_of(config), preset, sizes, devices)


@functools.cache
def one_device(name):
  *_, metrics = train(
    make_config(name), 'replicated', {'data': 1}, jax.devices()[:1]
  )
  return metrics


def assert_equal(metrics, expected):
  for ours, theirs in zip(metrics, expected, strict=True):
    for (path, value), own in zip(
      jax.tree_util.tree_leaves_with_path(theirs),
      jax.tree.leaves(ours),
      strict=True,
    ):
      np.testing.assert_allclose(own, value, rtol=2e-5, err_msg=str(path))


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'preset'), PRESETS.items())
def test_eight_devices_equal_one(name, preset):
  """Dropout and ELECTRA's samples are on: neither depends on the mesh."""
  _, state, metrics = train(make_config(name), preset, MESHES[preset])
  assert_equal(metrics, one_device(name))
  # If weights are cut, no device holds a large one whole.
  for path, x in jax.tree_util.tree_leaves_with_path(state.params):
    if 'fsdp' in preset and x.size > 10_000:
      where = jax.tree_util.keystr(path, simple=True, separator='/')
      assert x.addressable_shards[0].data.size < x.size, where


@pytest.mark.slow
@pytest.mark.parametrize(
  'changes',
  [
    {
      'model.generator_divisor': 1,
      'model.generator_shares': 'none',
      'tuning.train': 'two_stage',  # a step for each
    },
    {
      'model.generator_divisor': 0,
      'model.generator': 'unigram',
      'model.head': 'all_tokens_mlm',
    },
    {'model.generator': 'adversarial', 'model.head': 'rtd_masked'},
  ],
)
def test_variants_of_electra(changes):
  config = make_config('electra')
  config.update_from_flattened_dict(
    {
      'model.encoder_layers': 1,
      'train.steps': STEPS,
      'schedule.warmup_steps': 0,
      **changes,
    }
  )
  *_, expected = train(config, 'replicated', {'data': 1}, jax.devices()[:1])
  *_, metrics = train(config, 'fsdp_tensor', MESHES['fsdp_tensor'])
  assert_equal(metrics, expected)
