"""A pipeline over stages trains as one device does; its errors."""

import functools

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from input_pipeline import pipeline
from input_pipeline.config import DataConfig
from models.build import build
from models.config import TransformerConfig
from models.pipelining import Schedule, scheduled
from tests.train.parallel.test_families import make_config
from tests.train.parallel.test_sharding import mesh_sizes, train_config
from train.fingerprint import fingerprint
from train.learning.optimizer import make_optimizer
from train.learning.schedules import make_schedule
from train.learning.state import abstract_params, abstract_state
from train.parallel import sharding
from train.parallel.mesh import make_mesh
from train.runs.checkpoint import Checkpoints
from train.settings import check_settings

STEPS, ROWS = 3, 16
# An update is almost proportional to the gradients, where Adam's and
# Adafactor's would enlarge what is rounded.
LINEAR = {
  'optimizer.name': 'adamw',
  'optimizer.epsilon': 1.0,
  'optimizer.clip': 0.0,
  'optimizer.b1': 0.9,
  'optimizer.b2': 0.999,
  'optimizer.bias_correction': True,
  'optimizer.weight_decay': 0.0,
  'schedule.name': 'constant',
  'schedule.learning_rate': 1.0,
  'schedule.warmup_steps': 0,
  **{
    f'optimizer.{key}': None
    for key in (
      *('decay_rate', 'epsilon1', 'epsilon2', 'clip_threshold'),
      *('factor_from', 'parameter_scale'),
    )
  },
  'schedule.end_fraction': None,
  'schedule.constant_steps': None,
}
SMALL = {
  'model.embed_dim': 32,
  'model.mlp_dim': 64,
  'model.heads': 4,
  'model.kv_heads': 4,
  'model.head_dim': 8,
  'model.dropout': 0.2,
}
WEIGHTS = {'model.attention_dropout': 0.2}
# Beside what test_invariance.py has.
CASES = {  # system, overrides, mesh, microbatches, repeats
  'rope, packed, GPipe, recomputed': (
    'llama',
    WEIGHTS | {'model.remat': 'full', 'model.rope_dim': 8},
    {'data': 2, 'stage': 4},
    8,
    1,
  ),
  'alibi, norm of embeddings, accumulated, two repeats': (
    'bloom',
    WEIGHTS | {'train.accumulate': 2},
    {'fsdp': 2, 'tensor': 2, 'stage': 2},
    4,
    2,
  ),
  'encoder, microbatches that fit nothing': (
    'bert',
    WEIGHTS,
    {'data': 2, 'stage': 4},
    3,
    1,
  ),
  'encoder-decoder': (
    't5',
    {'model.encoder_layers': 4},
    {'data': 2, 'tensor': 2, 'stage': 2},
    0,
    2,
  ),
}


@functools.cache
def case(name):
  """The config, batches of rows, and the training of one device."""
  system, changes, *_ = CASES[name]
  config = make_config(system)
  layers = {
    f'model.{stack}': 4
    for stack in ('encoder_layers', 'decoder_layers')
    if config.model[stack]
  }
  config.update_from_flattened_dict(LINEAR | SMALL | layers | changes)
  data = pipeline.open_data(
    DataConfig(**config.data), 0, 320, family=config.model.family
  )
  batches = data.batches(data.start(), np.arange(ROWS))
  batches = [next(batches) for _ in range(STEPS)]
  one = train_config(
    config, batches, 'replicated', {'data': 1}, jax.devices()[:1]
  )
  return config, batches, one


@pytest.mark.parametrize('name', CASES)
def test_stages_equal_one_device(name):
  """Losses, and parameters after three steps; dropout is on."""
  *_, sizes, microbatches, repeats = CASES[name]
  config, batches, (first, expected, metrics) = case(name)
  preset = '_'.join(x for x in sharding.WORDS if sizes.get(x, 1) > 1)
  with scheduled(Schedule(microbatches, repeats)):
    _, state, own = train_config(config, batches, preset, sizes)
  for a, b in zip(own, metrics, strict=True):
    assert a['loss'] == pytest.approx(float(b['loss']), rel=1e-5)
    assert a['grad_norm'] == pytest.approx(float(b['grad_norm']), rel=1e-4)
  first, expected, found = (
    flatten_dict(jax.device_get(x))
    for x in (first, expected.params, state.params)
  )
  moved = {path: np.abs(expected[path] - first[path]).max() for path in first}
  # What every gradient is rounded to. Some are nothing else: those of biases of
  # keys, which shift all logits of a query alike.
  rounding = 1e-7 * max(moved.values())
  for path, x in found.items():
    assert moved[path] > 0, path
    wrong = np.abs(x - expected[path]).max()
    assert wrong <= 1e-3 * moved[path] + rounding, path
  check_layers(state, sizes['stage'])


def check_layers(state, stages):
  """After training, each device still holds its stage's layers alone."""
  for path, x in flatten_dict(state.params).items():
    if 'layers' in path:
      assert x.addressable_shards[0].data.shape[0] * stages == x.shape[0], path


def test_a_checkpoint_moves_to_a_mesh_without_stages_and_back(tmp_path):
  """And has the same bits there."""
  config, batches, _ = case('rope, packed, GPipe, recomputed')
  *_, sizes, microbatches, repeats = CASES['rope, packed, GPipe, recomputed']
  with scheduled(Schedule(microbatches, repeats)):
    _, state, _ = train_config(config, batches[:1], 'stage', sizes)

  def abstract(preset, **sizes):
    model = build(TransformerConfig(**config.model))
    schedule = make_schedule(config.schedule, config.train.steps)
    optimizer = make_optimizer(
      config.optimizer, schedule, abstract_params(model)[1]
    )
    return abstract_state(
      model, optimizer, state.cursor.shape,
      make_mesh(mesh_sizes(**sizes), preset), sharding.make_rules(preset),
    )  # fmt: skip

  marks, folder = [], tmp_path / '0'
  for number, target in enumerate(
    (
      abstract('fsdp', fsdp=8),
      abstract('tensor_stage', data=2, tensor=2, stage=2),
    )
  ):
    checkpoints = Checkpoints(str(folder))
    if not number:
      checkpoints.save(state, 1, {'config': {}, 'data': {}})
    checkpoints.wait()
    restored, _ = checkpoints.restore_newest(target)
    checkpoints.close()
    marks.append(fingerprint(str(folder)))
    for x, y, wanted in zip(
      *map(jax.tree.leaves, (restored, state, target)), strict=True
    ):
      assert x.sharding == wanted.sharding
      np.testing.assert_array_equal(x, y)
    folder = tmp_path / str(number + 1)
    checkpoints = Checkpoints(str(folder))
    checkpoints.save(restored, 1, {'config': {}, 'data': {}})
    checkpoints.wait()
    checkpoints.close()
  assert [*marks, fingerprint(str(folder))] == marks[:1] * 3


CHANGES = {'sharding.mesh.data': 2, 'sharding.mesh.stage': 4}


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (
      {'sharding.microbatches': 4},
      'sharding.microbatches is 4, but sharding.mesh.stage is 1',
    ),
    ({'sharding.repeats': 2}, 'sharding.repeats is 2, but sharding.mesh.stage'),
    (CHANGES | {'model.scan': False}, 'stage is 4, but model.scan=False'),
    (
      CHANGES | {'model.decoder_layers': 6},
      r'decoder_layers is 6: 4 stages .* could be 1, 2\.',
    ),
    (
      CHANGES | {'sharding.repeats': 2},
      r'decoder_layers is 4: 4 stages .* with 2 groups',
    ),
    (
      CHANGES | {'sharding.microbatches': 3},
      r'gives each device 8 rows .* one of 1, 2, 4, 8; 4 stages',
    ),
    (
      CHANGES | {'train.accumulate': 4},
      'gives each device 2 rows .* sharding.microbatches=4 does not div',
    ),
    (
      CHANGES
      | {
        'model.decoder_layers': 8,
        'sharding.repeats': 2,
        'sharding.microbatches': 2,
      },
      'must be a multiple of sharding.mesh.stage, which is 4',
    ),
    (CHANGES | {'sharding.repeats': 0}, 'sharding.repeats is 0; it must be at'),
  ],
)
def test_impossible_stages(changes, message):
  config = make_config('gpt2')
  config.model.decoder_layers = 4
  config.update_from_flattened_dict(changes)
  with pytest.raises(ValueError, match=message):
    check_settings(config, 8)


def test_stacks_of_unequal_depth():
  config = make_config('electra')
  config.model.encoder_layers, config.model.generator_layers = 4, 3
  config.update_from_flattened_dict(CHANGES)
  with pytest.raises(ValueError, match='model.generator_layers is 3: 4 st'):
    check_settings(config, 8)
