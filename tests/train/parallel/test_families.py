"""Every system trains the same on a mesh and on one device."""

import functools
import importlib

import jax
import numpy as np
import pytest

from configs import common, tree
from input_pipeline import choices, pipeline
from input_pipeline.config import DataConfig
from tests.train.parallel.test_sharding import MESHES, train_config
from train.settings import check_settings

# All systems are tested with fsdp_tensor, the preset that cuts most; each
# scheme of positions with one more. test_sharding.py tests T5 with all presets,
# test_invariance.py a system of each family with most.
OTHER_PRESETS = {
  'gpt2': 'replicated',  # learned positions
  'bloom': 'tensor',  # alibi
  'palm': 'tensor',  # rope
  'chinchilla': 'fsdp',  # transformer_xl
}
SYSTEMS = [
  name
  for name in dict.fromkeys(key.partition(':')[0] for key in tree.SYSTEMS)
  if tree.module_of(name).SIZES and name != 't5'  # published
]
STEPS = 2


def make_config(name):
  config = importlib.import_module(f'configs.{name}').get_config('tiny')
  if config.data.mixture:  # of tasks: the steps are those of any pairs
    for key in (
      'mixture',
      'rates',
      'rate_cap',
      'target_length',
      *choices.WORDED,
    ):
      config.data[key] = common.KEYS[f'data.{key}'].default
    config.data.objective, config.data.pack = 'prefix', False
    config.data.holdout = 100
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
@pytest.mark.parametrize(
  ('name', 'preset'),
  [
    (name, preset)
    for name in SYSTEMS
    for preset in ('fsdp_tensor', OTHER_PRESETS.get(name))
    if preset
  ],
)
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
