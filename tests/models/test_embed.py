"""Tables of tokens on a mesh: what is looked up, gathered, and its gradient."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from models.embed import look_up
from models.sharding import gathered, shard_residual
from tests.helpers.jaxprs import equations
from train.parallel import sharding
from train.parallel.mesh import make_mesh

B, T, E = 8, 6, 24


@pytest.fixture
def on_mesh():
  """Runs a compiled function on a mesh with these axes."""

  def run(function, *arrays, **axes):
    sizes = dict.fromkeys(sharding.AXES, 1) | axes
    rules = sharding.make_rules('auto', sizes)
    mesh = make_mesh(sizes, 'auto')
    with jax.set_mesh(mesh), nn.logical_axis_rules(rules):
      traced = jax.jit(function).trace(*arrays)
      return traced.jaxpr, traced.lower().compile()(*arrays)

  return run


def gradients(function):
  """(results, gradient) of the first argument, for the last as cotangent."""

  def both(x, *others):
    *others, given = others
    result, backward = jax.vjp(lambda x: function(x, *others), x)
    return result, backward(given)[0]

  return both


@pytest.mark.parametrize('V', [40, 41])
@pytest.mark.parametrize(
  'axes',
  [
    {'data': 8},
    {'data': 2, 'fsdp': 4},
    {'data': 2, 'fsdp': 2, 'tensor': 2},
    {'fsdp': 2, 'sequence': 2, 'tensor': 2},
    {'data': 2, 'tensor': 4},
  ],
  ids=str,
)
def test_lookups_and_their_gradients(on_mesh, axes, V):
  """Equal to those of one device; each device keeps its part of the sum."""
  rng = np.random.default_rng(0)
  table = rng.integers(-9, 9, (V, E)).astype('float32')  # sums are exact
  tokens = rng.integers(0, V, (B, T))
  given = rng.integers(-9, 9, (B, T, E)).astype('float32')
  wanted = np.zeros_like(table)
  np.add.at(wanted, tokens, given)

  jaxpr, (found, d_table) = on_mesh(
    gradients(look_up), table, tokens, given, **axes
  )
  np.testing.assert_array_equal(found, table[tokens])
  np.testing.assert_array_equal(d_table, wanted)
  kinds = {x.primitive.name for x in equations(jaxpr)}
  assert ('reduce_scatter' in kinds) == ('fsdp' in axes)


@pytest.mark.parametrize('V', [40, 41])
@pytest.mark.parametrize('names', [('embed', 'vocab'), ('vocab', 'embed')])
def test_vocabularies_of_any_size(on_mesh, names, V):
  """What a product reads, and the gradient's place, have the weight's shape."""
  axes = {'fsdp': 2, 'tensor': 4}
  shape = [V if name == 'vocab' else E for name in names]
  rng = np.random.default_rng(1)
  weight, given = rng.normal(size=(2, *shape)).astype('float32')
  function = gradients(lambda weight: gathered(weight, names))
  _, (whole, d_weight) = on_mesh(function, weight, given, **axes)
  np.testing.assert_array_equal(whole, weight)
  np.testing.assert_array_equal(d_weight, given)
  cut = {'embed': ('fsdp', 'tensor'), 'vocab': None}
  if V % 4 == 0:
    cut = {'embed': 'fsdp', 'vocab': 'tensor'}
  spec = PartitionSpec(*(cut[name] for name in names))
  place = jax.NamedSharding(d_weight.sharding.mesh, spec)
  assert d_weight.sharding.is_equivalent_to(place, 2)


@pytest.mark.parametrize(
  ('T', 'spec'),
  [
    (8, (('data',), ('tensor',), None)),
    (6, (('data',), None, ('tensor',))),  # the width, which 4 divides
    (1, (('data',), None, None)),  # a step of decoding
  ],
)
def test_between_the_blocks(on_mesh, T, spec):
  x = jnp.ones((B, T, E))
  _, found = on_mesh(shard_residual, x, data=2, tensor=4)
  place = jax.NamedSharding(found.sharding.mesh, PartitionSpec(*spec))
  assert found.sharding.is_equivalent_to(place, 3)
