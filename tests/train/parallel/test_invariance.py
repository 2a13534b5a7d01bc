"""One computation, whatever carries it out: mesh, scan, remat, kernels, parts.

Each family makes STEPS steps in many ways. The way decides who computes what,
and in which order sums are taken; losses and gradients are equal but for that.

AdamW with a large epsilon and no memory moves a weight in proportion to its
gradient, so that equal weights after the steps are equal gradients.
"""

import functools
import importlib
import json
import sys

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from configs import common
from input_pipeline import pipeline
from input_pipeline.config import data_config
from models.build import build
from models.config import TransformerConfig
from models.kernels import sharded
from models.stack import written_out
from tests.helpers import processes
from train.learning.state import abstract_params, create_state
from train.setup import set_up

STEPS = 2
ROWS = 16
# float32 sums in another order: the losses of 2 steps differ by less than 1e-6
# of themselves, the gradients by about 1e-6 of the largest. LOSS and GRADIENT
# leave room for ten times that.
LOSS, GRADIENT = 1e-5, 2e-5
# Weights are below 1, where float32 numbers are so far apart.
ROUNDING = 1.2e-7
# Chunks and kernels by blocks take sums in pieces, with running maxima.
BLOCKS = 1e-4

FAMILIES = {
  'decoder': 'llama',
  'encoder': 'bert',
  'encoder_decoder': 't5',
  'electra': 'electra',
  'rwkv': 'rwkv',
}
SIZES = {
  'model.vocab_size': 96,
  'model.embed_dim': 32,
  'model.mlp_dim': 64,
  'data.source': 'synthetic',
  'data.batch': ROWS,
  'data.length': 32,
  'data.block': 4,
  'train.steps': 9,
  'train.phases': (),
  'optimizer.name': 'adamw',
  'optimizer.b1': 0.0,
  'optimizer.b2': 0.0,
  'optimizer.epsilon': 1e3,
  'optimizer.bias_correction': False,
  'optimizer.weight_decay': 0.0,
  'optimizer.clip': 0.0,
  'schedule.name': 'constant',
  'schedule.learning_rate': 1e3,
  'schedule.warmup_steps': 0,
}
HEADS = {'model.heads': 4, 'model.kv_heads': 4, 'model.head_dim': 8}
OWN = {
  'decoder': HEADS | {'model.kv_heads': 2, 'model.rope_dim': 8},
  'encoder': HEADS | {'data.predictions': 6},
  'encoder_decoder': HEADS | {'data.sentinels': 8},
  'electra': HEADS | {'data.predictions': 6, 'model.generator_divisor': 1},
  'rwkv': {},
}
DROPOUT = {'model.dropout': 0.1, 'model.attention_dropout': 0.1}
NO_DROPOUT = dict.fromkeys(DROPOUT, 0.0)


def mesh(**sizes):
  return {f'sharding.mesh.{axis}': n for axis, n in sizes.items()}


# way -> overrides, devices, tolerance of the losses. Dropout is on where no
# word is said of it.
MESHES = {
  'data': mesh(data=8),
  'fsdp': mesh(data=2, fsdp=4),
  'tensor': mesh(data=2, tensor=4),
  'fsdp and tensor': mesh(data=2, fsdp=2, tensor=2),
  'zero1 and tensor': mesh(data=4, tensor=2)
  | {'sharding.rules': 'zero1_tensor'},
  'two slices': mesh(data=4, fsdp=2) | {'sharding.slices': 2},
}
ONE = {
  'two layers a turn': {'model.scan_unroll': 2},
  **{
    f'remat {name}': {'model.remat': name}
    for name in ('full', 'dots', 'mlp', 'attention')
  },
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
  metrics, *_ = own.steps(family, own.MESHES['fsdp and tensor'])
  found[family] = [
    {k: float(step[k]) for k in ('loss', 'grad_norm', 'tokens')}
    for step in metrics
  ]
print(json.dumps(found))
"""


def config_of(family, overrides):
  config = importlib.import_module(f'configs.{FAMILIES[family]}')
  config = config.get_config('tiny')
  with config.unlocked():
    for group in ('optimizer', 'schedule'):
      config[group] = common.base()[group]
  config.update_from_flattened_dict(SIZES | OWN[family])
  if family != 'rwkv':
    config.update_from_flattened_dict(DROPOUT)
  config.update_from_flattened_dict(overrides)
  return config


@functools.cache
def host_batches(family, changes, rows):
  """These rows of each step's batch."""
  config = config_of(family, dict(changes))
  data = pipeline.open_data(
    data_config(config), config.seed, 96, family=config.model.family
  )
  rows = np.array(rows)
  batches = data.batches(data.start(), rows)
  batches = [next(batches) for _ in range(STEPS)]
  for batch in batches:  # rows with little to predict, or nothing
    batch['weights'][rows % 4 == 0] = 0
    batch['weights'][rows == 5, 3:] = 0
  return batches


@functools.cache
def weights(family):
  """The first ones. RWKV's own are zeros, through which no gradient goes."""
  config = config_of(family, {})
  model = build(TransformerConfig(**config.model))
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda x: rng.normal(0, 0.2, x.shape).astype('float32'),
    abstract_params(model)[0],
  )


def steps(family, overrides, devices=8, changes=(), given=None):
  """The metrics of each step, the weights before them, and the state after."""
  first = weights(family) if given is None else given
  config = config_of(family, dict(changes) | overrides)
  setup = set_up(config, jax.devices()[:devices])
  cursor = np.zeros(setup.data.cursor_shape, 'int32')
  state = create_state(
    *(setup.model, setup.optimizer, setup.state, cursor, config.seed),
    given=jax.tree.map(
      lambda x, place: jax.device_put(x, place.sharding),
      first,
      setup.state.params,
    ),
  )
  rows = tuple(setup.rows.tolist())
  batches = list(setup.place(host_batches(family, changes, rows)))
  shapes = {
    name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
    for name, x in batches[0].items()
  }
  step = setup.compile_step(shapes)
  metrics = []
  for batch in batches:
    state, values = step(state, batch)
    metrics.append(jax.device_get(values))
  return metrics, first, state


def train(*args, **kwargs):
  """As `steps`, but for the weights after them, on the host."""
  metrics, first, state = steps(*args, **kwargs)
  return metrics, first, jax.device_get(state.params)


@functools.cache
def on_one(family, changes=()):
  return train(family, {}, 1, changes)


def assert_equal_metrics(ours, theirs, tolerance=LOSS):
  for a, b in zip(ours, theirs, strict=True):
    assert a['tokens'] == b['tokens']
    for name in ('loss', 'grad_norm'):
      assert a[name] == pytest.approx(float(b[name]), rel=tolerance), name


def assert_equal(ours, theirs, loss=LOSS, gradient=GRADIENT):
  assert_equal_metrics(ours[0], theirs[0], loss)
  largest = max(
    np.abs(new - old).max()
    for new, old in zip(*map(jax.tree.leaves, theirs[1:]), strict=True)
  )
  leaves = jax.tree_util.tree_leaves_with_path(theirs[2])
  ends = jax.tree.leaves(ours[2]), jax.tree.leaves(theirs[1])
  for (path, b), a, start in zip(leaves, *ends, strict=True):
    moved = np.abs(b - start).max() + largest / 100
    assert np.abs(a - b).max() <= gradient * moved + ROUNDING, path


def test_the_weights_move():
  """So that comparing them compares gradients.

  A bias of keys adds the same to all logits of a query, which changes nothing.
  """
  for family in FAMILIES:
    _, first, last = on_one(family)
    leaves = jax.tree_util.tree_leaves_with_path(first)
    for (path, a), b in zip(leaves, jax.tree.leaves(last), strict=True):
      name = jax.tree_util.keystr(path, simple=True, separator='/')
      moved = np.abs(a - b).max()
      assert moved > 1e-6 or name.endswith('key/bias'), (family, name, moved)


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('way', MESHES)
def test_meshes(family, way):
  """Dropout and ELECTRA's samples do not depend on the mesh."""
  assert_equal(train(family, MESHES[way]), on_one(family))


@pytest.mark.parametrize(
  ('way', 'family'),
  [
    (way, family)
    for way in ONE
    for family in FAMILIES
    if (way, family) != ('remat attention', 'rwkv')  # which has none
  ],
)
def test_programs(way, family):
  tolerance = BLOCKS if 'chunks' in way else LOSS
  ours = train(family, ONE[way], 1)
  assert_equal(ours, on_one(family), tolerance, 2 * tolerance)


@pytest.mark.parametrize('family', FAMILIES)
def test_loops(family):
  """Every layer is written out, with the weights of the stacked ones.

  Without dropout, of which written-out layers draw other bits.
  """
  changes = tuple(NO_DROPOUT.items())
  metrics, first, last = on_one(family, changes)
  model = build(TransformerConfig(**config_of(family, {}).model))
  given, last = (
    jax.device_get(written_out(model, params)[1]) for params in (first, last)
  )
  assert set(flatten_dict(given)) != set(flatten_dict(first))
  ours = train(family, {'model.scan': False}, 1, changes, given)
  assert_equal(ours, (metrics, given, last))


@pytest.mark.parametrize('family', [x for x in FAMILIES if x != 'electra'])
def test_parts(family):
  """ELECTRA's samples depend on the part."""
  changes = tuple(NO_DROPOUT.items())
  for overrides in PARTS.values():
    ours = train(family, overrides | mesh(data=2, fsdp=2), 4, changes)
    assert_equal(ours, on_one(family, changes))


@pytest.mark.parametrize('family', ['decoder', 'encoder_decoder', 'encoder'])
def test_kernels(family, monkeypatch):
  """The kernel of TPUs in Python, on a mesh, drops what attend drops."""
  monkeypatch.setattr(sharded, 'INTERPRET', True)
  monkeypatch.setattr('train.setup.choose', lambda *_: ('flash', 'a test'))
  ours = train(family, mesh(data=2, fsdp=2, tensor=2))
  monkeypatch.undo()
  assert_equal(ours, on_one(family), BLOCKS, BLOCKS)


@pytest.mark.parametrize('family', ['decoder', 'encoder_decoder'])
def test_packed_rows_are_on_any_mesh_what_they_are_on_one_device(family):
  changes = (('data.pack', False), *NO_DROPOUT.items())
  ours = train(family, MESHES['fsdp and tensor'], changes=changes)
  assert_equal(ours, on_one(family, changes))


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
    assert_equal_metrics(metrics, on_one(family)[0])


def test_the_same_mesh_twice_is_equal_in_every_bit():
  first, second = (train('electra', MESHES['tensor']) for _ in range(2))
  for a, b in zip(*map(jax.tree.leaves, (first, second)), strict=True):
    np.testing.assert_array_equal(a, b)
