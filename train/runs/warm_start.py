"""Beginning a run with another's parameters: `--init_from=WORKDIR[:STEP]`.

STEP is a number, or 'best': the best one by the source's `checkpoint.best`. If
the source learned several tasks, 'best:TASK' is the best one for a task.

The new run has its own config, data and workdir. Its objective, lengths, heads
and sharding may differ from the source's. What happens to a parameter:

  both models have it, in one shape         it is taken
  both have it, in different shapes         an error
  only the new model has it, a head's       the seed draws it, if `model.head`
                                            or the labelled task differs
  only the source has it, a head's          it is left out, if `model.head`
                                            or the labelled task differs
  both have it, a head's of another task    the seed draws it: warm_start_arrays
  only one has it, the trunk's              an error
  the token table has more rows here        the seed draws the further rows
  it is LoRA's or an adapter's, and new     the seed draws it
  it is LoRA's, and only the source's       it is merged into its matrix

Fine-tuning ELECTRA takes its discriminator: its generator is left out, if
`model.family` is 'encoder' here.

`TRUNK` names the parts of the trunk. Steps count from 0, and the optimizer is
new. With `--init_state` the optimizer's state and the step are taken too: the
schedule continues where the source was. The data begin at their start. Of a run
with `train.ema_decay` the parameters' moving average is taken; with
`--init_state` all of its state.

The tokenizer is the source's, unless `data.tokenizer` names one; then both must
have the same number of pieces and, where a task is learned, the same pieces.
The first checkpoint is saved before the first step: after that the run no
longer needs the source.
"""

import dataclasses
import json
import os
import re

import flax.linen as nn
import jax
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from configs.differences import changed_keys
from input_pipeline.sources import hashes, paths
from train.learning.state import TrainState, create_state
from train.learning.tuning import EVERYTHING, Tuning
from train.runs import (
  adapters,
  changes,
  checksums,
  history,
  warm_start_arrays,
  warm_start_lora,
  workdir,
)
from train.runs.checkpoint import BEST, Checkpoints, parse_step
from train.runs.storage import tree_shapes

# Tables that may get more rows: those of tokens.
TABLES = ('params/embed/table',)


@dataclasses.dataclass(frozen=True)
class Origin:
  """The checkpoint that a run takes its first parameters from."""

  folder: str  # its workdir
  step: int
  optimizer: bool  # whether the optimizer's state and the step are taken too
  own: bool  # it is this run's first one; the config has changed since
  saved: dict  # what is saved beside the state: config, data and more
  checkpoints: Checkpoints
  taken: tuple[str, ...]  # names of parameters
  new: tuple[str, ...]  # drawn from the seed
  left: tuple[str, ...]  # left out
  grown: tuple[str, ...]  # tables that have more rows than the source's
  merged: tuple[str, ...]  # LoRA's factors
  part: str  # of the source's state: 'params' or their 'average'


def find(
  folder: str,
  config: ConfigDict,
  shape: TrainState,
  init_from: str = '',
  init_state: bool = False,
  flag: str = '--init_from',
) -> Origin | None:
  """Where a run that starts now takes its first parameters from.

  None if its seed draws them, or if it resumes from its own checkpoint. A run
  whose only checkpoint is of its first step has not trained: if its config has
  changed since, it begins again from the parameters of that checkpoint.

  For a run that has a checkpoint, `init_from` must name the source that the run
  began from, and does nothing. `shape` is from `abstract_state`, `flag` the
  command's that gave `init_from`.

  Raises:
    ValueError: the run began from another source, or its source's parameters
      are gone or do not fit.
    CheckpointError: the source has no checkpoint, or it is damaged.
  """
  if init_state and not init_from:
    raise ValueError('--init_state needs --init_from=WORKDIR[:STEP].')
  steps, entries = history.saved_steps(folder), history.read(folder)
  if not steps and init_from:
    if history.trained(folder):
      raise ValueError(
        f'--workdir={folder} holds a run that has trained: {flag} begins a new '
        'one. Take another --workdir.'
      )
    path, step = parse(init_from)
    if not paths.is_folder(path):
      raise ValueError(f'{flag}={init_from}: there is no folder {path}.')
    checkpoints = adapters.open_checkpoints(path, read_only=True)
    step, path = checkpoints.find(step), paths.real(path)
    return _make(path, checkpoints, step, config, shape, init_state, False)
  if not steps:
    if history.source(entries):
      raise ValueError(
        f'--workdir={folder} was begun with --init_from, but its checkpoints '
        'are gone: give --init_from again, or take another --workdir.'
      )
    return None
  # Steps after the first checkpoint are made again if no later one exists.
  trained = steps[-1] > history.first_step(entries)
  if trained and not init_from:
    return None
  checkpoints = adapters.open_checkpoints(folder, read_only=True)
  saved = checkpoints.run(steps[-1])
  entries = entries or saved.get('history', [])
  if init_from:
    _check_source(folder, entries, init_from, init_state, flag)
  if trained:
    return None
  keys = changed_keys(saved['config'], workdir.plain(config))
  if all(map(changes.is_free, keys)):
    return None
  state = (history.source(entries) or {}).get('optimizer', False)
  return _make(folder, checkpoints, steps[-1], config, shape, state, True)


def parse(init_from: str) -> tuple[str, int | str | None]:
  """The workdir and the step of WORKDIR[:STEP]; None is the newest."""
  found = re.fullmatch(rf'(?s)(.+?):({BEST}:.+)', init_from)
  found = found or re.fullmatch(rf'(?s)(.+):(\d+|{BEST})', init_from)
  if not found or paths.is_folder(init_from):
    return init_from, None
  return found[1], parse_step(found[2])


def _check_source(
  folder: str, entries: list[history.Entry], init_from: str, init_state: bool,
  flag: str,
) -> None:  # fmt: skip
  """Raises ValueError unless the run was begun with these flags."""
  source = history.source(entries)
  path, step = parse(init_from)
  same = source and (
    source['workdir'] == paths.real(path)
    and (isinstance(step, str) or step in (None, source['step']))
    and source['optimizer'] == init_state
  )
  if not same:
    begun = 'with other parameters'
    if source:
      state = ' --init_state' if source['optimizer'] else ''
      begun = f'with {flag}={source["workdir"]}:{source["step"]}{state}'
    other = '--config' if flag == '--from' else '--init_state'
    raise ValueError(
      f'--workdir={folder} holds a run that was begun {begun}. Parameters are '
      f'taken once, at the beginning: leave {flag} and {other} out to resume, '
      'or take another --workdir.'
    )


def _make(
  folder: str,
  checkpoints: Checkpoints,
  step: int,
  config: ConfigDict,
  shape: TrainState,
  optimizer: bool,
  own: bool,
) -> Origin:
  if optimizer and step >= config.train.steps:
    raise ValueError(
      f'train.steps is {config.train.steps}, but --init_state continues from '
      f'step {step} of {folder}: raise train.steps.'
    )
  saved = checkpoints.run(step)
  theirs = saved['config']['schedule'].get('first_step', 0)
  if optimizer and not own and config.schedule.first_step != theirs:
    raise ValueError(
      f'schedule.first_step is {config.schedule.first_step}, but --init_state '
      f"continues the step count of the run in {folder}: set it to that run's, "
      f'{theirs}.'
    )
  other_task = warm_start_arrays.other_task(saved['config'], config)
  if optimizer and other_task:
    raise ValueError(
      f'--init_state continues the run in {folder}, but that one learns '
      f'{saved["config"]["data"]["source"]!r}, and this one '
      f'{config.data.source!r}, whose head is new: leave --init_state out.'
    )
  parts = ('params/', 'opt_state/') if optimizer else ('params/',)
  shapes = checkpoints.shapes(step), tree_shapes(shape)
  averaged, averages = (
    any(x.startswith('average/') for x in s) for s in shapes
  )
  if optimizer and averaged != averages:
    raise ValueError(
      f'--init_state continues the run in {folder}, which keeps '
      f'{"a" if averaged else "no"} moving average of its parameters: with '
      f'train.ema_decay={config.train.ema_decay} this run keeps '
      f'{"one" if averages else "none"}. Set the key as there.'
    )
  there, here = (
    {name: x for name, x in s.items() if name.startswith(parts)} for s in shapes
  )
  merged = warm_start_lora.merged(folder, there, here, saved['config'], config)
  there = {name: x for name, x in there.items() if name not in merged}
  model = saved['config']['model']
  heads = not optimizer and (
    other_task or model.get('head') != config.model.head
  )
  if heads:
    new = warm_start_arrays.redrawn(there, here, saved['config'], config)
    there = {name: x for name, x in there.items() if name not in new}
  grown = tuple(
    name
    for name in TABLES
    if not optimizer
    and name in here.keys() & there.keys()
    and here[name][1:] == there[name][1:]
    and here[name][0] > there[name][0]
  )
  here |= {name: there[name] for name in grown}
  names = warm_start_arrays.compare(
    there, here, heads, folder, model, config.model
  )
  grown = tuple(name.removeprefix('params/') for name in grown)
  # The average has the names and shapes of the parameters.
  part = 'average' if averaged and not optimizer else 'params'
  return Origin(
    folder, step, optimizer, own, saved, checkpoints, *names, grown, merged,
    part,
  )  # fmt: skip


def describe(origin: Origin, config: ConfigDict) -> str:
  """What is taken, what is new or left, and how the models differ."""
  source = f'step {origin.step:,} of {origin.folder}'
  state = ", and the optimizer's state" if origin.optimizer else ''
  part = ' (their moving average)' * (origin.part == 'average')
  lines = [
    f'Parameters{part} from {source}: {len(origin.taken)} arrays{state}.'
  ]
  if origin.new:
    lines.append(f'  new, from the seed: {", ".join(origin.new)}')
  for name in origin.grown:
    lines.append(f'  new rows at the end, from the seed: {name}')
  if origin.merged:
    lines.append(f'  merged: {len(origin.merged)} arrays of LoRA')
  if origin.left:
    lines.append(f'  left out: {", ".join(origin.left)}')
  differing = warm_start_arrays.differing(
    origin.saved['config']['model'], config.model
  )
  lines += [
    f'  model.{key}: {x!r} there, {y!r} here' for key, x, y in differing
  ]
  return '\n'.join(lines)


def provenance(origin: Origin | None) -> dict | None:
  """The source, for the history: JSON-able run, step and digests of both."""
  if not origin or origin.own:
    return None
  folder = origin.checkpoints.folder / str(origin.step)
  sums = os.path.join(folder, checksums.NAME)
  data = json.dumps(origin.saved['data'], sort_keys=True)
  return {
    'workdir': origin.folder,
    'step': origin.step,
    'optimizer': origin.optimizer,
    'checkpoint': hashes.file_sha256(sums) if paths.exists(sums) else None,
    'data': hashes.sha256(data.encode()),
    'tokens_seen': origin.saved.get('counts', {}).get('tokens_seen'),
    'part': origin.part,
    'new': list(origin.new),
    'left': list(origin.left),
    'merged': list(origin.merged),
    'history': origin.saved.get('history', []),
  }


def create(
  origin: Origin,
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  shape: TrainState,
  cursor: np.ndarray,
  seed: int,
  tuning: Tuning = EVERYTHING,
) -> TrainState:
  """The first state of a run: `create_state` with the parameters taken.

  Its step is the source's if the optimizer's state is taken, otherwise 0.
  """
  if origin.optimizer:
    there = origin.checkpoints.shapes(origin.step)['cursor']
    place = shape.cursor.sharding
    old = jax.ShapeDtypeStruct(there, 'int32', sharding=place)
    state = origin.checkpoints.restore(shape.replace(cursor=old), origin.step)
    cursor = np.asarray(cursor, 'int32')
    return state.replace(
      cursor=jax.make_array_from_callback(
        cursor.shape, place, lambda index: cursor[index]
      )
    )
  flat = flatten_dict(shape.params, sep='/')
  there = origin.checkpoints.shapes(origin.step)

  def of_source(name):
    size, place = there[f'params/{name}'], flat[name].sharding
    if name in origin.grown:  # it may not divide over the mesh
      place = NamedSharding(place.mesh, PartitionSpec())
    return jax.ShapeDtypeStruct(size, flat[name].dtype, sharding=place)

  wanted = {name: of_source(name) for name in origin.taken}
  mesh = shape.cursor.sharding.mesh
  given = warm_start_lora.restore(
    origin.checkpoints, origin.step, wanted, origin.merged, mesh, origin.part
  )
  old = {name: given.pop(name) for name in origin.grown}
  given = unflatten_dict(given, sep='/')
  state = create_state(model, optimizer, shape, cursor, seed, given, tuning)
  params = flatten_dict(state.params, sep='/')
  for name, rows in old.items():
    fill = jax.jit(
      lambda new, rows: new.at[: len(rows)].set(rows),
      out_shardings=flat[name].sharding,
    )
    params[name] = fill(params[name], rows)
  return state.beginning(unflatten_dict(params, sep='/'))
