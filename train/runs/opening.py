"""A run opened from its workdir alone, to be looked at: nothing is changed."""

import dataclasses
import math
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from input_pipeline import pipeline, tokenizing
from input_pipeline.config import DataConfig
from models.build import build
from models.config import TransformerConfig
from train.learning.state import abstract_params
from train.parallel import sharding
from train.runs import history, workdir
from train.runs.checkpoint import Checkpoints
from train.settings import check_settings

# Keys of the model that nothing but training uses.
UNUSED = (
  *('attention_dropout', 'dropout', 'dropout_kind', 'init', 'init_std'),
  'remat',
)


@dataclasses.dataclass(frozen=True)
class Run:
  """A run at the step of one of its checkpoints."""

  folder: str
  step: int
  config: ConfigDict
  own: bool  # the config is the one the run was begun with
  data: DataConfig
  model: nn.Module
  mesh: Mesh
  rules: sharding.Rules
  params: Any
  fingerprint: dict  # of the data it was trained on


def open_run(
  folder: str, step: int | None = None, config: ConfigDict | None = None
) -> Run:
  """The parameters of a checkpoint, on the devices that are here.

  Where they do not make the run's mesh, each of them holds the whole model.

  Args:
    folder: the workdir.
    step: of the checkpoint; None: the newest.
    config: None: the one the run was begun with.

  Raises:
    ValueError: no such folder, no run in it, or a config that cannot work.
    CheckpointError: no such checkpoint, a damaged one, or of another model.
  """
  if not os.path.isdir(folder):
    raise ValueError(f'--workdir={folder}: there is no such folder.')
  own = config is None
  config = workdir.read_config(folder) if own else config
  checkpoints = Checkpoints(folder, read_only=True)
  step = checkpoints.find(step)
  saved = checkpoints.run(step)
  if own:
    config = workdir.at_step(saved['config'], config)
  else:
    _compare_models(saved['config'], config)
  data = DataConfig(**config.data)
  model = build(TransformerConfig(**config.model))
  mesh, preset = _mesh(config, own)
  rules = sharding.make_rules(preset)
  shapes, axes = abstract_params(model)
  places = sharding.shardings(mesh, rules, axes, shapes)
  abstract = jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    shapes,
    places,
  )
  return Run(
    folder=folder,
    step=step,
    config=config,
    own=own,
    data=data,
    model=model,
    mesh=mesh,
    rules=rules,
    params=checkpoints.restore_params(abstract, step),
    fingerprint=saved['data'],
  )


def _compare_models(saved: dict, config: ConfigDict) -> None:
  """Reports what a config's model computes differently from a checkpoint's."""
  old = workdir.checked(saved, "The checkpoint's config").model
  for key in sorted(old):
    if key not in UNUSED and old[key] != config.model[key]:
      _warn(
        f'other model than in training: model.{key}: {old[key]!r}, now '
        f'{config.model[key]!r}'
      )


def _mesh(config: ConfigDict, own: bool) -> tuple[Mesh, str]:
  """The config's mesh and preset, or what stands in for the run's own."""
  preset = config.sharding.rules
  try:
    check_settings(config, jax.device_count())
    return sharding.make_mesh(config.sharding.mesh, preset), preset
  except ValueError as error:
    if not own or jax.process_count() > 1:
      raise
    reason = error
  count = math.gcd(config.data.batch, jax.device_count())
  _warn(
    f"the devices here do not make the run's mesh ({reason}) Each of "
    f'{count} holds the whole model instead.'
  )
  sizes = dict.fromkeys(sharding.AXES, 1) | {'data': count}
  devices = jax.devices()[:count]
  return sharding.make_mesh(sizes, 'replicated', devices), 'replicated'


def open_tokenizer(run: Run) -> Any:
  """The tokenizer in the workdir.

  Raises:
    ValueError: there is none, or another one than in training.
  """
  path = tokenizing.path_in(run.folder, run.data.tokenizer_kind)
  if run.data.source != 'synthetic' and not os.path.exists(path):
    raise ValueError(
      f"{path} is missing: bring the run's tokenizer back into its workdir."
    )
  tokenizer = tokenizing.prepare(
    run.data, run.config.seed, run.config.model.vocab_size, run.folder
  )
  if run.own and run.data.source != 'synthetic':
    check_tokenizer(tokenizer, path, run.fingerprint)
  return tokenizer


def check_tokenizer(tokenizer: Any, path: str, data: dict) -> None:
  """Compares a run's tokenizer with the fingerprint in a checkpoint.

  Args:
    tokenizer: as it was read.
    path: of its file, for the message.
    data: the fingerprint of the data; see `Checkpoints.run`.

  Raises:
    ValueError: it is another one.
  """
  if tokenizer.fingerprint != data['tokenizer']:
    raise ValueError(
      f'{path} is not the tokenizer that the checkpoint was trained with: its '
      f'sha256 is {tokenizer.fingerprint}, and was {data["tokenizer"]}. Bring '
      "the run's own file back."
    )


def open_data(run: Run) -> pipeline.Data:
  """The run's data, or what its config was changed to, in the step's phase.

  Raises:
    ValueError: they cannot be read, or are not the data of the checkpoint
      though the config is the run's own.
  """
  open_tokenizer(run)
  data = pipeline.open_data(
    run.data,
    run.config.seed,
    run.config.model.vocab_size,
    run.config.eval.source,
    run.folder,
    family=run.config.model.family,
  )
  if run.own:
    since = history.changed_keys(history.read(run.folder), run.step)
    kinds = ('eval_source',) * ('eval.source' in since)
    check_data(run.fingerprint, data.fingerprint, run.folder, kinds)
  else:
    for line in pipeline.differences(run.fingerprint, data.fingerprint):
      _warn(f'other data than in training: {line}')
  phases = run.data.phases(run.config.train.steps)
  return data.phase(
    next((c for last, c in phases if run.step <= last), run.data)
  )


def check_data(
  saved: dict, now: dict, folder: str, accept: tuple[str, ...] = ()
) -> list[str]:
  """Makes sure that the data are still those of a checkpoint.

  Other tokens, or another way to make rows, are never accepted.

  Args:
    saved: the fingerprint in the checkpoint.
    now: that of the data.
    folder: the workdir, for messages.
    accept: of 'source' and 'eval_source', whose documents may be others.

  Returns:
    A line for each difference that was accepted; they are reported.

  Raises:
    ValueError: they are not; says what changed.
  """
  changed = pipeline.differences(saved, now)
  documents = all(x.startswith(('source', 'eval_source')) for x in changed)
  if changed and accept and all(x.startswith(accept) for x in changed):
    _warn('other data than before, as accepted:\n  ' + '\n  '.join(changed))
  elif changed:
    raise ValueError(
      f'The data has changed since the checkpoint in {folder}:\n  '
      + '\n  '.join(changed)
      + '\nBring the old data back, or begin anew in another --workdir.'
      + documents
      * (
        ' Where a file was mended: python -m train --accept_changed_data goes '
        'on at the same place of the new data.'
      )
    )


def place(
  host_batches: Iterable[dict[str, np.ndarray]],
  rows: np.ndarray,
  mesh: Mesh,
  batch: int,
) -> Iterator[dict[str, jax.Array]]:
  """Host batches -> global arrays, laid out over the mesh.

  Args:
    host_batches: of the positions `rows`, from `pipeline`.
    rows: from `sharding.batch_rows`.
    mesh: the mesh.
    batch: rows of a global batch.
  """
  layout = NamedSharding(mesh, sharding.BATCH)
  for arrays in host_batches:
    layouts = dict.fromkeys(arrays, layout)
    yield pipeline.global_batch(arrays, rows, layouts, batch)


def evaluation_batches(
  run: Run, data: pipeline.Data
) -> Iterator[dict[str, jax.Array]]:
  """Global batches of the held-out split, then of padding without end."""
  rows = sharding.batch_rows(run.mesh, run.data.batch)
  batches = data.evaluation(rows, run.data.batch)
  return place(batches, rows, run.mesh, run.data.batch)


def _warn(text: str) -> None:
  if jax.process_index() == 0:
    print(f'Warning: {text}', file=sys.stderr, flush=True)
