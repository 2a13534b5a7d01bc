"""Any mesh computes the same: states, steps, accumulation; and errors."""

import flax.linen as nn
import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from configs import t5
from input_pipeline import pipeline
from input_pipeline.config import DataConfig
from input_pipeline.streams import cursors
from models.build import build
from models.config import TransformerConfig
from tests.helpers import runs
from train.fingerprint import fingerprint
from train.learning.optimizer import make_optimizer
from train.learning.schedules import make_schedule
from train.learning.state import (
  TrainState,
  abstract_params,
  abstract_state,
  create_state,
)
from train.learning.step import compile_train_step, configured_step
from train.learning.tuning import make_tuning
from train.parallel import sharding
from train.parallel.mesh import make_mesh, mesh_shape
from train.runs.checkpoint import Checkpoints

STEPS = 3
MESHES = {
  'replicated': {'data': 8},
  'fsdp': {'data': 2, 'fsdp': 4},
  'tensor': {'data': 2, 'tensor': 4},
  'fsdp_tensor': {'data': 2, 'fsdp': 2, 'tensor': 2},
}


def make_config(**overrides):
  config = t5.get_config('tiny')
  model = {
    'vocab_size': 64,
    'embed_dim': 16,
    'mlp_dim': 32,
    'heads': 4,
    'kv_heads': 4,
    'head_dim': 8,
    'dropout': 0.2,
  }
  data = {
    'source': 'synthetic',
    'sentinels': 8,
    'batch': 16,
    'length': 32,
    'block': 4,
  }
  overrides = {
    **{f'model.{key}': value for key, value in model.items()},
    **{f'data.{key}': value for key, value in data.items()},
    'train.z_loss': 1e-3,
    'optimizer.factor_from': 8,  # so that second moments are factored
    **overrides,
  }
  config.update_from_flattened_dict(overrides)
  return config


@pytest.fixture(scope='module')
def host_batches():
  config = make_config()
  own, family = DataConfig(**config.data), config.model.family
  data = pipeline.open_data(own, config.seed, 64, family=family)
  batches = data.batches(data.start(), np.arange(16))
  batches = [next(batches) for _ in range(STEPS)]
  # Some rows have few tokens to predict, or none.
  for batch in batches:
    batch['weights'][::4] = 0
    batch['weights'][5, 3:] = 0
  return batches


def mesh_sizes(**sizes):
  return dict.fromkeys(sharding.AXES, 1) | sizes


def train(host_batches, preset, sizes, devices=None, **overrides):
  return train_config(
    make_config(**overrides), host_batches, preset, sizes, devices
  )


def train_config(config, host_batches, preset, sizes, devices=None):
  """Trains as the loop does; returns the first parameters, state, metrics."""
  model = build(TransformerConfig(**config.model))
  schedule = make_schedule(config.schedule, config.train.steps)
  _, axes = abstract_params(model)
  optimizer = make_optimizer(config.optimizer, schedule, axes)
  mesh = make_mesh(mesh_sizes(**sizes), preset, devices)
  rules, optimizer_rules = (
    sharding.make_rules(preset, mesh.shape, config.model.kv_heads, own)
    for own in (False, True)
  )
  if config.sharding.context == 'ring':
    rules = sharding.ring(rules)
  shape = abstract_state(
    model,
    optimizer,
    (config.data.streams, 4),
    mesh,
    rules,
    optimizer_rules=optimizer_rules,
  )
  start = np.tile(cursors.START, [config.data.streams, 1])
  state = create_state(model, optimizer, shape, start, config.seed)

  place = NamedSharding(mesh, sharding.BATCH)
  batches = [jax.device_put(batch, place) for batch in host_batches]
  tuning = make_tuning(config)
  step = configured_step(config, model, optimizer, schedule, tuning)
  with jax.set_mesh(mesh), nn.logical_axis_rules(rules):
    batch_shape = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
      batches[0],
    )
    compiled = compile_train_step(step, shape, batch_shape)
  first = jax.device_get(state.params)
  metrics = []
  for batch in batches:
    state, values = compiled(state, batch)
    metrics.append(jax.device_get(values))
  return first, state, metrics


def assert_same_training(ours, expected):
  for a, b in zip(ours[2], expected[2], strict=True):
    for name in ('loss', 'z_loss', 'grad_norm'):
      assert a[name] == pytest.approx(float(b[name]), rel=1e-5), name
    assert a['tokens'] == b['tokens']
    np.testing.assert_array_equal(a['cursor'], b['cursor'])
  np.testing.assert_array_equal(ours[1].cursor, expected[1].cursor)
  pairs = zip(
    jax.tree_util.tree_leaves_with_path(jax.device_get(ours[1].params)),
    jax.tree.leaves(jax.device_get(expected[1].params)),
    jax.tree.leaves(expected[0]),
    strict=True,
  )
  for (path, a), b, first in pairs:
    moved = np.abs(b - first).max()
    assert moved > 1e-4, path
    assert np.abs(a - b).max() <= 1e-3 * moved, path


@pytest.fixture(scope='module')
def one_device(host_batches):
  return train(host_batches, 'replicated', {'data': 1}, jax.devices()[:1])


@pytest.mark.parametrize('preset', MESHES)
def test_eight_devices_equal_one(host_batches, one_device, preset):
  """Dropout is on: its masks do not depend on the mesh."""
  ours = train(host_batches, preset, MESHES[preset])
  # The first weights are equal bit for bit.
  for a, b in zip(
    jax.tree.leaves(ours[0]), jax.tree.leaves(one_device[0]), strict=True
  ):
    np.testing.assert_array_equal(a, b)
  assert_same_training(ours, one_device)
  check_places(ours[1], MESHES[preset], preset)


def test_shared_stacks_on_eight_devices(host_batches):
  """The weights of both stacks get gradients from both, on any mesh."""
  shared = {'model.shared_stacks': True}
  sizes = MESHES['fsdp_tensor']
  ours = train(host_batches, 'fsdp_tensor', sizes, **shared)
  one = jax.devices()[:1]
  theirs = train(host_batches, 'replicated', {'data': 1}, one, **shared)
  assert_same_training(ours, theirs)
  check_places(ours[1], sizes, 'fsdp_tensor', 'decoder', 16)


def check_places(state, sizes, preset, stack='encoder', arrays=26, moments=0):
  """After training, each device still holds what the preset says."""
  sizes = mesh_sizes(**sizes)
  f = sizes['fsdp'] if 'fsdp' in preset else 1
  t = sizes['tensor'] if 'tensor' in preset else 1
  D, F, N, H, V = 16, 32, 4, 8, 64
  held = {
    'embed/table': (V // t, D // f),
    'encoder/layers/attention/query/kernel': (2, D // f, N * H // t),
    'encoder/layers/attention/key/kernel': (2, D // f, N * H // t),
    'encoder/layers/attention/value/kernel': (2, D // f, N * H // t),
    'encoder/layers/attention/output/kernel': (2, N * H // t, D // f),
    'encoder/layers/mlp/input/kernel': (2, D // f, F // t),
    'encoder/layers/mlp/output/kernel': (2, F // t, D // f),
    'encoder/layers/mlp_norm/scale': (2, D),
    'encoder/layers/attention_norm/scale': (2, D),
    'encoder/norm/scale': (D,),
    'encoder/relative_bias/table': (32, N // t),
  }
  leaves = {
    jax.tree_util.keystr(path, simple=True, separator='/'): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(state.params)
  }
  assert len(leaves) == arrays
  for name, leaf in leaves.items():
    name = name.replace('decoder', 'encoder').replace('cross_', '')
    for shard in leaf.addressable_shards:
      assert shard.data.shape == held[name], name
  # Factored second moments are laid out like their weights' dimensions.
  kept = state.opt_state[1].moments[stack]['layers']
  for name, shape in (
    ('row', (2, D // (moments or f))),
    ('column', (2, F // t)),
  ):
    moment = kept['mlp']['input']['kernel'][name]
    assert moment.addressable_shards[0].data.shape == shape


def test_state_is_the_same_on_any_mesh(tmp_path):
  """A state saved on 8 devices and restored on 1, 2 and 4 has the same bits."""
  host = runs.small_state(7)
  names = TrainState(
    step=(),
    params={'a': {'kernel': ('layers', 'embed', 'mlp')}},
    opt_state=({'row': ('layers', 'embed')}, ()),
    cursor=('norm', 'norm'),
  )

  def abstract(devices, preset, **sizes):
    sizes = dict.fromkeys(sharding.AXES, 1) | sizes
    mesh = make_mesh(sizes, preset, jax.devices()[:devices])
    places = sharding.shardings(mesh, sharding.make_rules(preset), names, host)
    return jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      host,
      places,
    )

  def save(folder, state):
    checkpoints = Checkpoints(str(folder))
    checkpoints.save(state, 7, {'config': {}, 'data': {'files': 3}})
    checkpoints.wait()
    checkpoints.close()
    return fingerprint(str(folder))

  eight = abstract(8, 'fsdp_tensor', fsdp=4, tensor=2)
  state = jax.tree.map(lambda x, s: jax.device_put(x, s.sharding), host, eight)
  expected = save(tmp_path / '8', state)
  for devices, preset, sizes in (
    (4, 'tensor', {'tensor': 4}),
    (2, 'fsdp', {'fsdp': 2}),
    (1, 'replicated', {}),
  ):
    target = abstract(devices, preset, **sizes)
    checkpoints = Checkpoints(str(tmp_path / '8'))
    restored, run = checkpoints.restore_newest(target)
    checkpoints.close()
    assert run['data'] == {'files': 3}
    for x, wanted, original in zip(
      *map(jax.tree.leaves, (restored, target, host)), strict=True
    ):
      assert x.sharding == wanted.sharding
      np.testing.assert_array_equal(x, original)
    assert save(tmp_path / str(devices), restored) == expected


def test_accumulated_gradients_are_the_whole_batchs(host_batches):
  """The parts may have very different weights."""
  runs = {
    parts: train(
      host_batches,
      'replicated',
      {'data': 2},
      jax.devices()[:2],
      **{
        'model.dropout': 0.0,  # its masks depend on the parts
        'model.attention_dropout': 0.0,
        'optimizer.factor_from': 1000,
        'train.accumulate': parts,
      },
    )
    for parts in (1, 4, 8)
  }
  for parts in (4, 8):
    assert_same_training(runs[parts], runs[1])
    for a, b in zip(runs[parts][2], runs[1][2], strict=True):
      assert a['accuracy'] == pytest.approx(float(b['accuracy']), rel=1e-6)


def test_one_host_needs_all_rows():
  """A single host's global batch is its own, sharded over the mesh."""
  own = np.random.default_rng(0).integers(0, 100, (16, 3))
  for preset, sizes in MESHES.items():
    mesh = make_mesh(mesh_sizes(**sizes), preset)
    rows = sharding.batch_rows(mesh, 16)
    np.testing.assert_array_equal(rows, np.arange(16))
    batch = sharding.global_batch({'inputs': own}, rows, mesh, 16)
    np.testing.assert_array_equal(batch['inputs'], own)
    assert batch['inputs'].sharding == NamedSharding(mesh, sharding.BATCH)


def test_the_rest_of_the_devices():
  sizes = mesh_sizes(data=-1, tensor=2)
  assert mesh_shape(sizes, 8) == (4, 1, 1, 2, 1, 1)
  sizes = mesh_sizes(data=2, fsdp=-1)
  assert mesh_shape(sizes, 8) == (2, 4, 1, 1, 1, 1)
  assert mesh_shape(sizes, 2) == (2, 1, 1, 1, 1, 1)


@pytest.mark.parametrize(
  ('preset', 'sizes', 'message'),
  [
    ('replicated', {'data': 3}, r'mesh \(data=3\) takes 3 devices, .* are 8'),
    ('replicated', {'data': 16}, 'takes 16 devices'),
    ('replicated', {'data': -1, 'fsdp': 3}, 'takes 3 devices'),
    ('fsdp', {'data': -1, 'fsdp': -1}, 'one may be -1'),
    ('replicated', {'data': 0}, 'sizes must be positive'),
    ('replicated', {}, r'\(all 1\) takes 1 devices'),
    ('zero', {'data': 8}, "sharding.rules is 'zero'; it must be auto, repl"),
    ('fsdp', {'data': 8}, "the mesh axis 'fsdp', whose size is 1"),
    ('fsdp_tensor', {'data': 4, 'fsdp': 2}, "the mesh axis 'tensor', whose"),
    ('replicated', {'data': 4, 'tensor': 2}, 'mesh.tensor is 2, but'),
    ('tensor', {'tensor': 4, 'stage': 2}, 'mesh.stage is 2, but'),
  ],
)
def test_impossible_meshes(preset, sizes, message):
  with pytest.raises(ValueError, match=message):
    make_mesh(mesh_sizes(**sizes), preset)


def test_weights_that_a_mesh_cannot_divide():
  mesh = make_mesh(mesh_sizes(tensor=8), 'tensor')
  rules = sharding.make_rules('tensor')

  def place(shape, *names):
    leaf = jax.ShapeDtypeStruct(shape, 'float32')
    return sharding.shardings(
      mesh, rules, {'a': {'b': names}}, {'a': {'b': leaf}}
    )

  assert place((3, 16), 'embed', 'mlp')['a']['b'].spec == PartitionSpec(
    None, 'tensor'
  )
  with pytest.raises(
    ValueError, match=r"a/b has shape \(3, 12\): .*'mlp' of 12"
  ):
    place((3, 12), 'embed', 'mlp')
  with pytest.raises(
    ValueError, match="a/b: the axis name 'mpl' is in no rule"
  ):
    place((3, 16), 'embed', 'mpl')
  with pytest.raises(ValueError, match='a/b: axis names'):
    place((3, 16), 'embed')
