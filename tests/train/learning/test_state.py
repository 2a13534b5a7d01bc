"""The state before the first step: on the mesh, from the seed alone."""

import jax
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from models.build import build
from tests.helpers.decoders import tiny_decoder
from train.learning.state import (
  abstract_params,
  abstract_state,
  count_params,
  create_state,
)
from train.parallel import sharding
from train.parallel.mesh import make_mesh

MODEL = build(tiny_decoder('none', decoder_layers=1, heads=4, kv_heads=4))
CURSOR = np.arange(8).reshape(2, 4) + 5


def create(seed):
  sizes = dict.fromkeys(sharding.AXES, 1) | {'fsdp': 4, 'tensor': 2}
  mesh = make_mesh(sizes, 'fsdp_tensor')
  rules = sharding.make_rules('fsdp_tensor')
  optimizer = optax.chain(optax.scale_by_adam(), optax.scale(-0.1))
  shapes = abstract_state(MODEL, optimizer, CURSOR.shape, mesh, rules)
  return shapes, create_state(MODEL, optimizer, shapes, CURSOR, seed)


@pytest.fixture(scope='module')
def created():
  return create(3)


def test_a_state_begins_at_step_0_and_the_given_cursor(created):
  shapes, state = created
  assert (int(state.step), int(state.opt_state[0].count)) == (0, 0)
  np.testing.assert_array_equal(state.cursor, CURSOR)
  for moments in (state.opt_state[0].mu, state.opt_state[0].nu):
    assert not any(np.any(x) for x in jax.tree.leaves(moments))
  for x, shape in zip(*map(jax.tree.leaves, (state, shapes)), strict=True):
    assert x.sharding == shape.sharding
    assert (x.shape, x.dtype) == (shape.shape, shape.dtype)


def test_moments_are_sharded_like_their_weights(created):
  _, state = created
  cut = PartitionSpec(None, 'fsdp', 'tensor')  # layers, embed, mlp
  adam = state.opt_state[0]
  for tree in (state.params, adam.mu, adam.nu):
    kernel = tree['decoder']['layers']['mlp']['input']['kernel']
    assert kernel.sharding.spec == cut
  for x in (state.step, state.cursor, adam.count):
    assert x.sharding.is_fully_replicated


def test_the_seed_decides_the_parameters(created):
  _, state = created
  (_, same), (_, other) = create(3), create(4)
  for a, b in zip(
    *(jax.tree.leaves(x.params) for x in (state, same)), strict=True
  ):
    np.testing.assert_array_equal(a, b)
  table = state.params['embed']['table'], other.params['embed']['table']
  difference = np.asarray(table[0]) - np.asarray(table[1])
  # Two independent draws of N(0, 0.2^2): their difference has twice the
  # variance.
  assert difference.std() == pytest.approx(0.2 * 2**0.5, rel=0.1)


def test_shapes_and_numbers_of_parameters():
  params, names = abstract_params(MODEL)
  D, F, A, V = 24, 40, 40, 50
  layer = 4 * D * A + 3 * A + D + 2 * D * F + F + D + 2 * 2 * D
  assert count_params(params) == V * D + layer + 2 * D
  kernel = params['decoder']['layers']['attention']['output']['kernel']
  assert kernel.shape == (1, A, D)
  output = names['decoder']['layers']['attention']['output']
  assert output == {
    'kernel': ('layers', 'heads', 'embed'),
    'bias': ('layers', 'norm'),
  }
