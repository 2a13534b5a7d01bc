"""Steps of each family that any mesh, program or process must make alike.

AdamW with a large epsilon and no memory moves a weight in proportion to its
gradient, so that equal weights after the steps are equal gradients.
"""

import functools
import importlib
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from configs import common
from input_pipeline import pipeline
from input_pipeline.config import data_config
from models.build import build
from models.config import TransformerConfig
from train.learning.state import abstract_params, create_state
from train.setup import set_up

STEPS = 2
ROWS = 16
# float32 sums in another order: the losses of 2 steps differ by less than 1e-6
# of themselves, the gradients by about 1e-6 of the largest. LOSS and GRADIENT
# leave room for ten times that.
LOSS, GRADIENT = 1e-5, 2e-5
# Chunks and kernels by blocks take sums in pieces, with running maxima.
BLOCKS = 1e-4
# Weights are below 1, where float32 numbers are so far apart.
_ROUNDING = 1.2e-7

FAMILIES = {
  'decoder': 'llama',
  'encoder': 'bert',
  'encoder_decoder': 't5',
  'electra': 'electra',
  'rwkv': 'rwkv',
}
_SIZES = {
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
_HEADS = {'model.heads': 4, 'model.kv_heads': 4, 'model.head_dim': 8}
_DROPOUT = {'model.dropout': 0.1, 'model.attention_dropout': 0.1}
_OWN = {
  'decoder': _DROPOUT | _HEADS | {'model.kv_heads': 2, 'model.rope_dim': 8},
  'encoder': _DROPOUT | _HEADS | {'data.predictions': 6},
  'encoder_decoder': _DROPOUT | _HEADS | {'data.sentinels': 8},
  'electra': _DROPOUT
  | _HEADS
  | {'data.predictions': 6, 'model.generator_divisor': 1},
  'rwkv': {'model.dropout': 0.1},
}
NO_DROPOUT = tuple(dict.fromkeys(_DROPOUT, 0.0).items())


def config_of(family: str, overrides: dict[str, Any]):
  """A small config of the family, with dropout."""
  config = importlib.import_module(f'configs.{FAMILIES[family]}')
  config = config.get_config('tiny')
  with config.unlocked():
    for group in ('optimizer', 'schedule'):
      config[group] = common.base()[group]
  config.update_from_flattened_dict(_SIZES | _OWN[family] | overrides)
  return config


@functools.cache
def _host_batches(family, changes, rows):
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
    _pack(batch, rows % 2 == 1)
  return batches


def _pack(batch, some):
  """Some rows get two segments, as packed ones have; a document fills each."""
  for part in ('', 'encoder_'):
    if f'{part}segments' in batch:
      segments = batch[f'{part}segments']
      positions = batch[f'{part}positions']
      T = segments.shape[1]
      second = some[:, None] & (np.arange(T) >= T // 3) & (segments > 0)
      segments[second] += 1
      positions[second] -= T // 3


@functools.cache
def _weights(family, changes):
  """The first ones. RWKV's own are zeros, through which no gradient goes."""
  config = config_of(family, dict(changes))
  model = build(TransformerConfig(**config.model))
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda x: rng.normal(0, 0.2, x.shape).astype('float32'),
    abstract_params(model)[0],
  )


class Run(NamedTuple):
  """The metrics of each step, and the weights before and after all."""

  metrics: list
  first: Any
  last: Any


class Program:
  """A family's compiled step on some devices, which runs as often as asked.

  `overrides` say how it is carried out, `changes`, (key, value) pairs, what is
  computed: its weights, given or of a seed, and its batches depend on these.
  """

  def __init__(self, family, overrides, devices=8, changes=(), given=None):
    config = config_of(family, dict(changes) | overrides)
    self.family, self.changes = family, changes
    self.setup = set_up(config, jax.devices()[:devices])
    self.rows = tuple(self.setup.rows.tolist())
    self.first = _weights(family, changes) if given is None else given
    self.seed = config.seed
    shapes = {
      name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
      for name, x in self._batches()[0].items()
    }
    self.step = self.setup.compile_step(shapes)

  def _batches(self):
    batches = _host_batches(self.family, self.changes, self.rows)
    return list(self.setup.place(batches))

  def start(self):
    """The state before the first step."""
    setup = self.setup
    cursor = np.zeros(setup.data.cursor_shape, 'int32')
    given = jax.tree.map(
      lambda x, place: jax.device_put(x, place.sharding),
      self.first,
      setup.state.params,
    )
    return create_state(
      *(setup.model, setup.optimizer, setup.state, cursor, self.seed),
      given=given,
    )

  def metrics(self, state):
    """(the metrics of each step from `state` on, the state after them)."""
    found = []
    for batch in self._batches():
      state, values = self.step(state, batch)
      found.append(jax.device_get(values))
    return found, state

  def run(self):
    found, state = self.metrics(self.start())
    return Run(found, self.first, jax.device_get(state.params))


@functools.cache
def on_one(family, changes=()):
  """What all programs must do: the steps of one device."""
  return Program(family, {}, 1, changes).run()


def assert_equal_metrics(ours, theirs, tolerance=LOSS):
  for a, b in zip(ours, theirs, strict=True):
    assert a['tokens'] == b['tokens']
    for name in ('loss', 'grad_norm'):
      assert a[name] == pytest.approx(float(b[name]), rel=tolerance), name


def assert_equal(ours, theirs, loss=LOSS, gradient=GRADIENT):
  """Of two runs, within tolerances: losses, norms, and all weights after."""
  assert_equal_metrics(ours.metrics, theirs.metrics, loss)
  largest = max(
    np.abs(new - old).max()
    for new, old in zip(
      *map(jax.tree.leaves, (theirs.last, theirs.first)), strict=True
    )
  )
  leaves = jax.tree_util.tree_leaves_with_path(theirs.last)
  ends = jax.tree.leaves(ours.last), jax.tree.leaves(theirs.first)
  for (path, b), a, start in zip(leaves, *ends, strict=True):
    moved = np.abs(b - start).max() + largest / 100
    assert np.abs(a - b).max() <= gradient * moved + _ROUNDING, path
