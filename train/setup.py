"""Builds what a run needs beside its data, from its config and devices."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from input_pipeline import pipeline
from input_pipeline.config import DataConfig, data_config
from models import pipelining
from models.build import build
from models.config import TransformerConfig
from models.kernels.choice import choose
from train.aligning import criteria, methods
from train.learning.criteria import Criterion, criterion_for
from train.learning.layer_decay import layer_decay
from train.learning.optimizer import make_optimizer
from train.learning.schedules import by_step, make_schedule
from train.learning.state import (
  AveragedState,
  TrainState,
  abstract_params,
  abstract_state,
)
from train.learning.step import compile_train_step, configured_step
from train.learning.tuning import Tuning, make_tuning
from train.parallel import compilation, sharding
from train.parallel.checks import least_rows
from train.parallel.mesh import make_mesh
from train.settings import check_settings


@dataclasses.dataclass(frozen=True)
class Setup:
  """What a config describes, on a mesh. No parameter is computed yet."""

  config: ConfigDict  # the whole one
  data: DataConfig  # its group `data`
  model: nn.Module  # its config says what computes attention
  attention: str  # why that: `kernels.choice.choose`
  tuning: Tuning  # which parameters are trained
  schedule: optax.Schedule
  optimizer: optax.GradientTransformation  # applies the schedule
  mesh: Mesh
  rules: sharding.Rules  # logical axis name -> mesh axis
  axes: Any  # a tree like the parameters, a tuple of logical axis names each
  state: TrainState  # of ShapeDtypeStruct with shardings
  rows: np.ndarray  # of the global batch, on this host's devices; sorted

  @property
  def least_rows(self) -> int:
    """The number of rows whose multiples the mesh can share out."""
    return least_rows(self.config, self.mesh.size)

  @property
  def criterion(self) -> Criterion:
    """What is minimised; a ValueError if nothing trains `model.head`."""
    if self.config.align.method:
      return criteria.criterion_for(self.config.align)
    return criterion_for(self.model.config)

  @property
  def averaged(self) -> bool:
    """Whether the state keeps the parameters' average, and it is evaluated."""
    return isinstance(self.state, AveragedState)

  @contextlib.contextmanager
  def on_mesh(self) -> Iterator[None]:
    """Computations inside are sharded over the mesh by the rules."""
    own = self.config.sharding
    schedule = pipelining.Schedule(own.microbatches, own.repeats)
    with (
      jax.set_mesh(self.mesh),
      nn.logical_axis_rules(self.rules),
      pipelining.scheduled(schedule),
    ):
      yield

  @property
  def state_bytes(self) -> int:
    """Of the whole state, as a checkpoint has it."""
    leaves = jax.tree.leaves(self.state)
    return sum(x.size * x.dtype.itemsize for x in leaves)

  @property
  def places(self) -> TrainState:
    """The sharding of each array of the state."""
    return jax.tree.map(lambda x: x.sharding, self.state)

  def place(
    self, host_batches: Iterable[dict[str, np.ndarray]], batch: int = 0
  ) -> Iterator[dict[str, jax.Array]]:
    """Batches of this host's rows -> global arrays, sharded over the mesh.

    `batch` is how many rows the global arrays have; 0: data.batch.
    """
    batch = batch or self.data.batch
    rows = self.rows_of(batch)
    for arrays in host_batches:
      yield sharding.global_batch(arrays, rows, self.mesh, batch)

  def rows_of(self, batch: int) -> np.ndarray:
    """The rows of a global batch on this host's devices, sorted."""
    return sharding.batch_rows(self.mesh, batch)

  def evaluation(self, data: pipeline.Data) -> Iterator[dict[str, jax.Array]]:
    """Global batches of the held-out split, then batches of padding forever."""
    return self.place(data.evaluation(self.rows, self.data.batch))

  def batch(
    self, shapes: Mapping[str, tuple[tuple[int, ...], Any]], rows: int = 0
  ) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and shardings of a global batch.

    Args:
      shapes: name -> (shape without the batch, dtype), as
        `pipeline.batch_shapes` and `pipeline.Data.shapes` give them.
      rows: of the batch; 0: data.batch.
    """
    place = NamedSharding(self.mesh, sharding.BATCH)
    rows = rows or self.data.batch
    return {
      name: jax.ShapeDtypeStruct((rows, *tail), dtype, sharding=place)
      for name, (tail, dtype) in shapes.items()
    }

  def compile_step(
    self,
    batch: dict[str, jax.ShapeDtypeStruct],
    more: Mapping[str, Any] | None = None,
  ) -> Callable:
    """The training step, compiled: state (donated), batch -> state, metrics.

    `more` are further options of the compiler: name -> value. Raises ValueError
    for a method that writes answers, whose step is `reinforcing.learner`.
    """
    if methods.writes(self.config):
      raise ValueError(
        f'align.method={self.config.align.method!r} writes answers in each '
        'step, which is no single program that can be compiled ahead. To see '
        'what its model and optimizer take, fit --config=align/orpo.py with '
        'its family and model.*; its reference and its answers need more.'
      )
    step = configured_step(
      self.config, self.model, self.optimizer, self.schedule, self.tuning,
      self.criterion,
    )  # fmt: skip
    platform = self.mesh.devices.flat[0].platform
    own = self.config.sharding.compiler_options
    options = compilation.options(own, platform) | (more or {})
    with self.on_mesh():
      return compile_train_step(step, self.state, batch, options)


def set_up(
  config: ConfigDict, devices: list[jax.Device] | None = None
) -> Setup:
  """Builds what a config describes, and checks all that needs no data.

  `devices` are those of the mesh; None: all devices of all hosts. They may be
  those of a TPU slice that is not attached (see `train.fit`). Raises ValueError
  for a setting that cannot work on so many devices.
  """
  devices = jax.devices() if devices is None else devices
  check_settings(config, len(devices))
  compilation.options(config.sharding.compiler_options, devices[0].platform)
  for rows in data_config(config).kinds:
    # Raises if the family cannot learn the objective.
    pipeline.batch_shapes(rows, config.model.family)
  preset = config.sharding.rules
  mesh = make_mesh(
    config.sharding.mesh, preset, devices, config.sharding.slices
  )
  return _assemble(mesh, preset, config)


def set_up_replicated(config: ConfigDict) -> Setup:
  """As `set_up`, but each device holds the whole model.

  It takes as many of the devices here as divide the batch. Evaluation falls
  back to it where the devices cannot make the config's own mesh.
  """
  count = math.gcd(config.data.batch, jax.device_count())
  sizes = dict.fromkeys(sharding.AXES, 1) | {'data': count}
  mesh = make_mesh(sizes, 'replicated', jax.devices()[:count])
  return _assemble(mesh, 'replicated', config)


def _assemble(mesh: Mesh, preset: str, config: ConfigDict) -> Setup:
  data = data_config(config)
  described = TransformerConfig(**config.model)
  device = mesh.devices.flat[0]
  capability = getattr(device, 'compute_capability', '')  # of a GPU
  attention, why = choose(
    described,
    device.platform,
    capability,
    data.pack,
    mesh.shape['sequence'],
  )
  remat = described.remat
  if remat == 'auto':
    # Elementwise work and reads of what is kept cost more than they save where
    # attention keeps no weights: docs/attention.md has the figures.
    remat = 'none' if attention == 'xla' else 'dots'
  model = build(
    dataclasses.replace(described, attention=attention, remat=remat)
  )
  tuning = make_tuning(config)
  if tuning.train == 'lora' and tuning.base_dtype and mesh.shape['stage'] > 1:
    raise ValueError(
      f'tuning.base_dtype is {tuning.base_dtype!r}, but sharding.mesh.stage is '
      f'{mesh.shape["stage"]}: a pipeline reads no factors of LoRA. Leave the '
      'base in float32, or cut the mesh along other axes.'
    )
  schedule = make_schedule(
    config.schedule, config.train.steps, data.plan, tuning.stages
  )
  params, axes = tuning.extended(*abstract_params(model))
  updates = max(1, config.align.epochs * config.align.minibatches)  # of a step
  optimizer = make_optimizer(
    config.optimizer,
    by_step(schedule, updates),
    tuning.trained(axes),
    described.widening,
  )
  if decay := config.tuning.layer_decay:
    lower = layer_decay(decay, tuning.trained(params))
    optimizer = optax.chain(optimizer, lower)
  rules, optimizer_rules = (
    sharding.make_rules(preset, mesh.shape, described.kv_heads, own)
    for own in (False, True)
  )
  if config.sharding.context == 'ring':
    rules = sharding.ring(rules)
  state = abstract_state(
    model, optimizer, data.cursor_shape, mesh, rules, tuning,
    averaged=config.train.ema_decay > 0, optimizer_rules=optimizer_rules,
    adapted=config.align.kl_target > 0,
  )  # fmt: skip
  rows = sharding.batch_rows(mesh, data.batch)
  return Setup(
    config,
    data,
    model,
    why,
    tuning,
    schedule,
    optimizer,
    mesh,
    rules,
    axes,
    state,
    rows,
  )
