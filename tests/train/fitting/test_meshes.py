"""Meshes as words, and slices by their names."""

import math
import re

import pytest

from configs import llama, mt_nlg
from input_pipeline.config import data_config
from train.fitting import chips, meshes
from train.parallel.checks import check_mesh


@pytest.mark.parametrize(
  ('text', 'sizes'),
  [
    ('fsdp=8,tensor=4', {'fsdp': 8, 'tensor': 4}),
    ('data=2, fsdp=-1', {'data': 2, 'fsdp': 16}),
    ('data=32', {'data': 32}),
  ],
)
def test_a_mesh(text, sizes):
  found = meshes.parse(text, 32, 'v5e:4x8')
  assert found == dict.fromkeys(meshes.AXES, 1) | sizes
  assert meshes.parse(meshes.words(found), 32, 'v5e:4x8') == found


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('fsdp=8,tensor=4', '32 devices; v5e:4x4 has 16. --mesh=fsdp=4,tensor=4'),
    ('fsdp=4,tensor=3', '12 devices; v5e:4x4 has 16. --mesh=fsdp=4,tensor=4 w'),
    ('fsdp=4', '--mesh=fsdp=16 or --mesh=data=4,fsdp=4 would do'),
    ('fsdp=-1,tensor=3', 'a multiple of 3 devices'),
    ('fsdp=-1,data=-1', 'only one size'),
    ('fdsp=8', "'fdsp=8' is not AXIS=SIZE; the axes are data, fsdp"),
    ('fsdp', 'not AXIS=SIZE'),
    ('fsdp=0', 'a number from 1'),
    ('fsdp=x', 'a number from 1'),
  ],
)
def test_a_wrong_mesh(text, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    meshes.parse(text, 16, 'v5e:4x4')


def test_a_mesh_and_the_rules_that_cut_along_it():
  config = llama.get_config('7b')
  config.sharding.rules = 'fsdp'
  shown = meshes.flags(
    config, meshes.changed(config, {'fsdp': 64, 'tensor': 4})
  )
  assert shown == (
    '--config.sharding.mesh.fsdp=64 --config.sharding.mesh.tensor=4 '
    '--config.sharding.rules=fsdp_tensor'
  )
  meshes.apply(config, {'fsdp': 64, 'tensor': 4})
  assert config.sharding.rules == 'fsdp_tensor'
  assert (config.sharding.mesh.data, config.sharding.mesh.fsdp) == (1, 64)
  shown = meshes.flags(config, meshes.changed(config, {'data': 256}))
  assert '--config.sharding.mesh.fsdp=1' in shown
  meshes.apply(config, {'data': 256})
  assert config.sharding.rules == 'replicated'


def test_another_mesh_drops_what_is_of_axes_that_it_lacks():
  """MT-NLG's microbatches: every mesh of a sweep would be refused."""
  config = mt_nlg.get_config('530b')
  config.data.batch = config.data.streams = 2240
  sizes = {'fsdp': 280, 'tensor': 8}
  for n, found in enumerate((config, meshes.changed(config, sizes))):
    assert bool(found.sharding.microbatches) == (n == 0)
  check_mesh(found, data_config(found), 2240)
  assert '--config.sharding.microbatches=0' in meshes.flags(config, found)
  config.sharding.context, config.sharding.repeats = 'ring', 3
  own = meshes.changed(config, {'data': 8, 'sequence': 8, 'stage': 35}).sharding
  assert (own.context, own.microbatches, own.repeats) == ('ring', 240, 3)
  own = meshes.changed(config, sizes).sharding
  assert (own.context, own.microbatches, own.repeats) == ('gather', 0, 1)


def test_usual_meshes():
  found = meshes.usual(16, 12)
  assert 'fsdp=4,tensor=4' in map(meshes.words, found)
  assert all(x.get('tensor', 1) != 8 for x in found)  # 12 heads
  for sizes in found:
    meshes.parse(meshes.words(sizes), 16, 'here')


@pytest.mark.parametrize(
  ('name', 'expected'),
  [
    ('v4-256', ('v4', '4x4x8', 128)),  # two cores a chip
    ('v5p-128', ('v5p', '4x4x4', 64)),
    ('v5litepod-256', ('v5e', '16x16', 256)),
    ('v5e-16', ('v5e', '4x4', 16)),
    ('v6e-256', ('v6e', '16x16', 256)),
    ('v5p:4x4x6', ('v5p', '4x4x6', 96)),
    ('v4:16x16x12', ('v4', '16x16x12', 3072)),
    ('h100:8', ('h100', '8', 8)),
    ('a100:4x8', ('a100', '8', 32)),
    ('h100-nvl:4', ('h100-nvl', '4', 4)),
  ],
)
def test_names_of_slices(name, expected):
  chip, shape, count = chips.resolve(name)
  assert (chip.name, shape, count) == expected


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('v5e-17', 'there are v5e:1x1 (v5litepod-1)'),
    ('v4-7', 'v4:2x2x1 (v4-8)'),
    ('v4:2x2', 'v4 has 3 dimensions'),
    ('v5e:4x4x4', 'v5e has 2 dimensions'),
    ('v5p:0x4x4', 'does not exist: there are v5p:2x2x1 (v5p-8)'),
    ('v5e:100x100', 'does not exist: there are v5e:1x1'),
    ('v5e:32x32', 'no slice has more than 256 chips'),
    ('v4:16x16x24', 'no slice has more than 4,096 chips'),
    ('h100:0', 'h100:0 has no GPUs'),
    ('tpu', 'Chips: v4, v5e, v5p, v6e, a100, h100-pcie, h100-nvl, h100, h200'),
  ],
)
def test_names_of_no_slice(name, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    chips.resolve(name)


def test_shapes_multiply():
  for shapes in chips.SHAPES.values():
    for count, shape in shapes.items():
      assert math.prod(map(int, shape.split('x'))) == count


def test_kinds_of_devices():
  """The more special kind comes first."""
  for kind, name in (
    ('TPU v4', 'v4'),
    ('NVIDIA H100 PCIe', 'h100-pcie'),
    ('NVIDIA H100 NVL', 'h100-nvl'),
    ('TPU v5 lite', 'v5e'),
    ('TPU v5', 'v5p'),
    ('TPU v6 lite', 'v6e'),
    ('NVIDIA H200', 'h200'),
    ('NVIDIA H100 80GB HBM3', 'h100'),
  ):
    assert chips.chip_of(kind).name == name
  assert chips.chip_of('cpu') is None
