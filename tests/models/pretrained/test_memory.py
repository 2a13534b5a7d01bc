"""Loading a checkpoint takes little memory, with a mesh and without."""

import tracemalloc

import jax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from models import pretrained
from tests.helpers.checkpoints import assert_equal, make


@pytest.fixture(scope='module')
def deep(tmp_path_factory):
  """A model much larger than any of its tensors."""
  config, params = make(
    encoder_layers=24, embed_dim=64, heads=4, kv_heads=4, head_dim=16,
    mlp_dim=256, head='pooler',
  )  # fmt: skip
  folder = str(tmp_path_factory.mktemp('deep') / 'a')
  pretrained.save(config, params, folder, shard_bytes=10**6)
  return folder, params


def places(params):
  """Shardings that cut the last dimension over four devices, if they can."""
  mesh = jax.make_mesh(
    (2, 4), ('data', 'fsdp'), axis_types=(AxisType.Auto,) * 2
  )

  def place(x):
    axes = [None] * x.ndim
    if x.shape[-1] % 4 == 0:
      axes[-1] = 'fsdp'
    return NamedSharding(mesh, PartitionSpec(*axes))

  return jax.tree.map(place, params)


def peak(folder, shardings):
  """The peak of NumPy's and Python's memory during a load, above the start."""
  pretrained.load(folder, shardings)  # to compile
  tracemalloc.start()
  try:
    loaded = pretrained.load(folder, shardings)[1]
    return loaded, tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()


def test_a_mesh_is_filled_with_the_host_holding_a_tensor_at_a_time(deep):
  folder, params = deep
  shardings = places(params)
  loaded, most = peak(folder, shardings)
  assert_equal(loaded, params)
  for x, place in zip(
    jax.tree.leaves(loaded), jax.tree.leaves(shardings), strict=True
  ):
    assert x.sharding.is_equivalent_to(place, x.ndim)
  whole = sum(x.nbytes for x in jax.tree.leaves(params))
  stacked = params['encoder']['layers']['mlp']['input']['kernel']
  tensor = stacked[0].nbytes
  assert whole > 70 * tensor
  # A tensor as read, a layer in our layout, and Python's own memory.
  assert most < 6 * tensor + 200_000 < stacked.nbytes


def test_without_a_mesh_the_host_holds_the_result_and_a_tensor(deep):
  folder, params = deep
  loaded, most = peak(folder, None)
  assert_equal(loaded, params)
  whole = sum(x.nbytes for x in jax.tree.leaves(params))
  tensor = params['encoder']['layers']['mlp']['input']['kernel'][0].nbytes
  assert whole < most < whole + 6 * tensor + 200_000
