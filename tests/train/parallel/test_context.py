"""Devices that share rows train as one device does."""

import functools
import math

import jax
import numpy as np
import pytest

from tests.train.parallel import test_families
from tests.train.parallel.test_sharding import train_config
from train.parallel import sharding
from train.settings import check_settings

TWO = {'data': 2, 'sequence': 2, 'tensor': 2}
FOUR = {'data': 1, 'fsdp': 2, 'sequence': 4}
# What a cut could harm, beside what test_invariance.py has: name, the context,
# the mesh and changes.
RUNS = {
  # Windows, learned positions; logits by chunks of a row.
  'gpt3': ('gather', TWO, {'train.loss_chunk': 10}),
  'gpt3 ring': ('ring', FOUR, {'train.accumulate': 2}),
  't5 stages': ('ring', {'data': 2, 'sequence': 2, 'stage': 2}, {}),
  # ALiBi; layers are computed again.
  'bloom': ('ring', FOUR, {'train.loss_chunk': 8, 'model.remat': 'full'}),
  'palm': ('ring', TWO, {}),  # one key head, rope, parallel blocks
  'palm gather': ('gather', FOUR, {'model.scan': False}),
}


def train(name, sizes, devices=None, **changes):
  config = test_families.make_config(name)
  mesh = {f'sharding.mesh.{axis}': n for axis, n in sizes.items()}
  config.update_from_flattened_dict(changes | mesh)
  check_settings(config, math.prod(sizes.values()))
  batches = test_families.batches_of(config)
  return train_config(config, batches, 'auto', sizes, devices)


@functools.cache
def one_device(name, changes):
  return train(name, {'data': 1}, jax.devices()[:1], **dict(changes))


def check(name, context, sizes, changes):
  changes = tuple(changes.items())
  own = {'sharding.context': context, **dict(changes)}
  first, state, metrics = train(name, sizes, **own)
  _, whole, expected = one_device(name, changes)
  test_families.assert_equal(metrics, expected)
  pairs = zip(
    jax.tree_util.tree_leaves_with_path(jax.device_get(state.params)),
    *map(jax.tree.leaves, (jax.device_get(whole.params), first)),
    strict=True,
  )
  for (path, a), b, before in pairs:
    # Adam moves a number whose gradient is rounding (that of a bias of keys is)
    # as far as any other.
    moved = np.abs(b - before).mean()
    assert np.abs(a - b).mean() <= 2e-3 * moved + 1e-7, path


@pytest.mark.slow
@pytest.mark.parametrize('name', RUNS)
def test_equals_one_device(name):
  check(name.split()[0], *RUNS[name])


def test_rules_of_lengths():
  """A ring cuts keys as queries; steps of decoding cut no length."""
  sizes = {'fsdp': 2, 'sequence': 2, 'tensor': 2}
  rules = dict(sharding.make_rules('auto', sizes))
  assert rules['embed'] == ('fsdp', 'sequence')
  assert rules['act_residual'] == ('sequence', 'tensor')
  assert (rules['act_length'], rules['act_keys']) == ('sequence', None)
  around = dict(sharding.ring((*rules.items(),)))
  assert around == rules | {'act_keys': 'sequence'}
  whole = dict(sharding.whole_lengths((*around.items(),)))
  lengths = dict.fromkeys(('act_length', 'act_keys', 'act_residual'))
  assert whole == rules | lengths
