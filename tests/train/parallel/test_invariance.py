"""One computation, whatever carries it out: mesh, scan, remat, kernels, parts.

Each family makes STEPS steps in many ways. The way decides who computes what,
and in which order sums are taken; losses and gradients are equal but for that.
Half of the rows hold two segments. Dropout is on where no word is said of it:
its bits, and ELECTRA's samples, are the same whatever the mesh.
"""

import functools
import json
import sys

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from models.build import build
from models.config import TransformerConfig
from models.kernels import sharded
from models.stack import written_out
from tests.helpers import processes
from tests.helpers.invariance import (
  BLOCKS,
  FAMILIES,
  LOSS,
  NO_DROPOUT,
  Program,
  assert_equal,
  assert_equal_metrics,
  config_of,
  on_one,
)


def mesh(**sizes):
  return {f'sharding.mesh.{axis}': n for axis, n in sizes.items()}


# way -> overrides. Every axis, and every word of the presets.
MESHES = {
  'data': mesh(data=8),
  'fsdp, two slices': mesh(data=2, fsdp=4) | {'sharding.slices': 2},
  'tensor': mesh(data=2, tensor=4),
  'fsdp and tensor': mesh(data=2, fsdp=2, tensor=2),
  'sequence, gathered': mesh(data=1, fsdp=2, sequence=2, tensor=2),
  'sequence, a ring': mesh(data=2, sequence=4) | {'sharding.context': 'ring'},
  'stages, zero1 and tensor': mesh(data=2, tensor=2, stage=2)
  | {'sharding.rules': 'zero1_tensor_stage', 'sharding.microbatches': 4},
}
# What a family refuses, and what it says.
REFUSED = {
  ('rwkv', 'sequence, gathered'): "sequence is 2, but model.family='rwkv'",
  ('rwkv', 'sequence, a ring'): "sequence is 4, but model.family='rwkv'",
  ('rwkv', 'remat attention'): "'rwkv' has no attention: model.remat",
}
ONE = {
  'remat full': {'model.remat': 'full'},
  'remat dots, two layers a turn': {
    'model.remat': 'dots',
    'model.scan_unroll': 2,
  },
  'remat mlp': {'model.remat': 'mlp'},
  'remat attention': {'model.remat': 'attention'},
  'remat offload': {'model.remat': 'offload'},
  'chunks of logits': {'train.loss_chunk': 5},
}
# Dropout depends on the part, so that it is off.
PARTS = {
  '2 parts': {'train.accumulate': 2},
  '4 parts': {'train.accumulate': 4},
}

# Each family's steps in one of several processes, whose first prints them.
PROGRAM = """
import json, sys
import jax
address, count, number = (flag.partition('=')[2] for flag in sys.argv[1:])
jax.distributed.initialize(address, int(count), int(number))
from tests.train.parallel import test_invariance as own
found = {}
for family in own.FAMILIES:
  program = own.Program(family, own.MESHES['fsdp and tensor'])
  metrics, _ = program.metrics(program.start())
  found[family] = [
    {k: float(step[k]) for k in ('loss', 'grad_norm', 'tokens')}
    for step in metrics
  ]
print(json.dumps(found))
"""


def refused(family, way, overrides):
  """Whether a family cannot do it, which it must then say."""
  message = REFUSED.get((family, way))
  if message:
    with pytest.raises(ValueError, match=message):
      Program(family, overrides)
  return bool(message)


def test_the_weights_move():
  """So that comparing them compares gradients; and dropout changes them.

  A bias of keys adds the same to all logits of a query, which changes nothing.
  """
  for family in FAMILIES:
    found, without = on_one(family), on_one(family, NO_DROPOUT)
    leaves = jax.tree_util.tree_leaves_with_path(found.first)
    for (path, a), b in zip(leaves, jax.tree.leaves(found.last), strict=True):
      name = jax.tree_util.keystr(path, simple=True, separator='/')
      moved = np.abs(a - b).max()
      assert moved > 1e-6 or name.endswith('key/bias'), (family, name, moved)
    with pytest.raises(AssertionError):
      assert_equal(found, without, BLOCKS, BLOCKS)


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('way', MESHES)
def test_meshes(family, way):
  """They equal one device; twice the same mesh, they are equal in every bit."""
  if refused(family, way, MESHES[way]):
    return
  program = Program(family, MESHES[way])
  ours, again = program.run(), program.run()
  assert_equal(ours, on_one(family))
  for name in ('metrics', 'last'):
    pair = getattr(ours, name), getattr(again, name)
    for a, b in zip(*map(jax.tree.leaves, pair), strict=True):
      np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize('way', ONE)
@pytest.mark.parametrize('family', FAMILIES)
def test_programs(family, way):
  if refused(family, way, ONE[way]):
    return
  tolerance = BLOCKS if 'chunks' in way else LOSS
  ours = Program(family, ONE[way], 1).run()
  assert_equal(ours, on_one(family), tolerance, 2 * tolerance)


@pytest.mark.parametrize('family', FAMILIES)
def test_loops(family):
  """Every layer is written out, with the weights of the stacked ones.

  Without dropout, of which written-out layers draw other bits.
  """
  stacked = on_one(family, NO_DROPOUT)
  model = build(TransformerConfig(**config_of(family, {}).model))
  given, last = (
    jax.device_get(written_out(model, params)[1])
    for params in (stacked.first, stacked.last)
  )
  assert set(flatten_dict(given)) != set(flatten_dict(stacked.first))
  ours = Program(family, {'model.scan': False}, 1, NO_DROPOUT, given).run()
  assert_equal(ours, stacked._replace(first=given, last=last))


@pytest.mark.parametrize('parts', PARTS)
@pytest.mark.parametrize('family', FAMILIES)
def test_parts(family, parts, monkeypatch):
  """ELECTRA's samples depend on the part: it takes the likeliest tokens."""
  one = on_one
  if family == 'electra':
    monkeypatch.setattr(jax.random, 'gumbel', lambda _, shape: np.zeros(shape))
    one = likeliest
  ways = PARTS[parts] | mesh(data=2, fsdp=2)
  ours = Program(family, ways, 4, NO_DROPOUT).run()
  assert_equal(ours, one(family, NO_DROPOUT))


@functools.cache
def likeliest(family, changes):
  return Program(family, {}, 1, changes).run()


@pytest.mark.parametrize('family', FAMILIES)
def test_kernels(family, monkeypatch):
  """The kernels of TPUs in Python, on a mesh, drop what `attend` drops."""
  monkeypatch.setattr(sharded, 'INTERPRET', True)
  monkeypatch.setattr('train.setup.choose', lambda *_: ('flash', 'a test'))
  ours = Program(family, mesh(data=2, fsdp=2, tensor=2)).run()
  monkeypatch.undo()
  assert_equal(ours, on_one(family), BLOCKS, BLOCKS)


@pytest.mark.slow
@pytest.mark.parametrize('count', [2, 4])
def test_processes(count):
  """The second step's numbers are those of the first one's gradients."""
  stdout, *_ = processes.finish(
    processes.start_all(
      count, lambda *flags: [sys.executable, '-c', PROGRAM, *flags]
    )
  )
  found = json.loads(stdout.strip().split('\n')[-1])
  assert [*found] == [*FAMILIES]
  for family, metrics in found.items():
    assert_equal_metrics(metrics, on_one(family).metrics)
