"""Meshes: over slices, beyond the torus' axes; what they must divide."""

import dataclasses

import numpy as np
import pytest

from configs import electra, gpt2, llama, rwkv
from input_pipeline.config import data_config
from train.parallel import compilation, sharding
from train.parallel.checks import check_mesh
from train.parallel.mesh import describe, make_mesh, slices_of, slow_axes


def sizes_of(**sizes):
  return dict.fromkeys(sharding.AXES, 1) | sizes


@dataclasses.dataclass(frozen=True)
class Device:
  """What a mesh asks of a device."""

  id: int
  slice_index: int
  platform: str = 'tpu'
  device_kind: str = 'TPU of a test'
  process_index: int = 0
  coords: tuple = ()
  core_on_chip: int = 0


def numbers(mesh):
  return np.vectorize(lambda x: x.id)(mesh.devices).squeeze()


def test_data_lies_between_the_slices():
  """A data axis of 4 has 2 parts in each of 2 slices; fsdp stays within one."""
  sizes = sizes_of(data=4, fsdp=2)
  found = numbers(make_mesh(sizes, 'auto', slices=2))
  # Rows of the batch: the slices one after the other.
  np.testing.assert_array_equal(found, [[0, 1], [2, 3], [4, 5], [6, 7]])
  assert {*found[:2].flat} == {0, 1, 2, 3}


def test_stages_lie_between_the_slices_where_data_does_not():
  found = numbers(make_mesh(sizes_of(fsdp=4, stage=2), 'auto', slices=2))
  np.testing.assert_array_equal(found.T, [[0, 1, 2, 3], [4, 5, 6, 7]])
  assert slow_axes((2, 4, 1, 1, 1, 6), 4) == (2, 1, 1, 1, 1, 2)


def test_tpus_know_their_slices():
  devices = [Device(n, n % 2) for n in range(6)]
  first, second = slices_of(devices)
  assert [x.id for x in first] == [0, 2, 4]
  assert [x.id for x in second] == [1, 3, 5]
  with pytest.raises(ValueError, match='slices is 3, but the devices are of 2'):
    slices_of(devices, 3)
  with pytest.raises(ValueError, match='slices have 3, 1 devices'):
    slices_of([Device(n, n == 3) for n in range(4)])


def test_the_line_says_which_axis_lies_where():
  mesh = make_mesh(sizes_of(data=4, fsdp=2), 'auto', slices=2)
  assert describe(mesh, 2) == (
    'mesh: data 2 between 2 slices, over the slow network; data 2 x fsdp 2 '
    '(4 x cpu) within each'
  )
  assert describe(mesh) == 'mesh: data 4 x fsdp 2 (8 x cpu)'


@pytest.mark.parametrize(
  ('sizes', 'slices', 'message'),
  [
    ({'fsdp': 8}, 2, r'data=1 x stage=1 must be a multiple of 2.*mesh.data=2'),
    ({'data': 8}, 3, 'slices is 3, which does not divide 8'),
    ({'data': 3, 'fsdp': 3}, 0, r'there are 8. Set sizes that divide 8: 1,'),
    ({'data': 4, 'fsdp': 4}, 0, r'mesh.data=2 or --config.*mesh.fsdp=2 would'),
    ({'data': 4, 'expert': 2}, 0, 'No model here has experts'),
  ],
)
def test_impossible(sizes, slices, message):
  with pytest.raises(ValueError, match=message):
    make_mesh(sizes_of(**sizes), 'auto', slices=slices)


@pytest.mark.parametrize(
  ('config', 'sizes', 'message'),
  [
    (gpt2, {'tensor': 8}, r'model has 12 heads.*tensor could be 1, 2, 4'),
    (electra, {'tensor': 6}, "ELECTRA's generator has"),
    (rwkv, {'data': -1}, ''),
    (gpt2, {'data': 3, 'fsdp': 5}, r'batch is 512; .*data x fsdp = 1 would do'),
    (
      gpt2,
      {'data': 96},
      r'data x fsdp = 32 would do, with a factor of 3 on',
    ),
  ],
)
def test_what_a_mesh_must_divide(config, sizes, message):
  config = config.get_config()
  config.sharding.mesh.update(sizes_of(**sizes))
  devices = abs(int(np.prod([*sizes.values()])))
  if not message:
    check_mesh(config, data_config(config), devices)
    return
  with pytest.raises(ValueError, match=message):
    check_mesh(config, data_config(config), devices)


def test_a_generator_of_a_width_of_its_own():
  config = electra.get_config()
  config.model.update(generator_divisor=0, generator_dim=192)  # 3 of 12 heads
  config.sharding.mesh.update(sizes_of(tensor=4))
  with pytest.raises(ValueError, match="ELECTRA's generator has 3 heads"):
    check_mesh(config, data_config(config), 4)


def test_key_heads_that_devices_cannot_share():
  config = llama.get_config('size=8b,version=3')  # 32 heads, 8 of keys
  for tensor in (2, 8, 16, 32):
    config.sharding.mesh.update(sizes_of(tensor=tensor))
    check_mesh(config, data_config(config), tensor)
  config.model.kv_heads = 32 // 4 - 2
  config.model.heads = 36
  config.sharding.mesh.update(sizes_of(tensor=4))
  with pytest.raises(ValueError, match='36 heads with 6 of keys and values'):
    check_mesh(config, data_config(config), 4)


def torus(*shape, platform='tpu'):
  """Devices with the coordinates of a torus."""
  return [
    Device(n, 0, platform, 'TPU v4', coords=place)
    for n, place in enumerate(np.ndindex(shape))
  ]


@pytest.mark.parametrize(
  ('shape', 'sizes'),
  [
    ((8, 8, 8), {'fsdp': 256, 'tensor': 2}),
    ((8, 8, 8), {'fsdp': 128, 'tensor': 4}),
    ((16, 16, 1), {'fsdp': 32, 'tensor': 8}),
    ((4, 20, 28), {'data': 8, 'tensor': 8, 'stage': 35}),  # MT-NLG's
    ((16, 16, 24), {'data': 2, 'fsdp': 256, 'tensor': 12}),  # PaLM's
  ],
)
def test_axes_that_split_a_torus_axis(shape, sizes):
  """JAX's own mesh refuses most of them."""
  devices = torus(*shape)
  mesh = make_mesh(sizes_of(**sizes), 'auto', devices)
  assert {axis: n for axis, n in mesh.shape.items() if n > 1} == sizes
  assert len({x.id for x in mesh.devices.flat}) == len(devices)
  # Those that exchange most are a block of the torus.
  tensor = sizes['tensor']
  for group in np.moveaxis(mesh.devices, 3, -1).reshape(-1, tensor)[::97]:
    spans = np.ptp([x.coords for x in group], axis=0) + 1
    assert spans.prod() == tensor


def test_options_of_the_compiler():
  """Those of another platform are left out; an unknown one is reported."""
  given = 'xla_tpu_a=true', 'xla_gpu_b=1', 'xla_c=2'
  assert compilation.options(given, 'gpu') == {'xla_gpu_b': '1', 'xla_c': '2'}
  assert compilation.options(given, 'cpu') == {'xla_c': '2'}
  for wrong in (['a=1'], ['xla_a'], ['xla_a='], ['xla_a=1', 'xla_a=2']):
    with pytest.raises(ValueError, match='sharding.compiler_options has'):
      compilation.options(wrong, 'tpu')
