"""The runs below a folder as points: sizes, tokens and held-out losses."""

import hashlib
import os
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from configs.differences import differences
from configs.scaling.counts import embedding_params
from input_pipeline.config import data_config
from input_pipeline.sources import paths
from models.build import build
from models.config import TransformerConfig
from train.comparing.groups import TASK
from train.learning.state import abstract_params, count_params
from train.reporting import flops
from train.reporting.metrics import read_metrics
from train.runs import workdir
from train.scaling.points import PER_PAIR, Points, make

# Keys of which runs that one law describes must have one value.
ALIKE = (
  *TASK,
  'model.family',
  'model.vocab_size',
  'data.source',
  'data.mixture',
  'data.tokenizer',
  'data.tokenizer_kind',
  'eval.source',
)


def read_folder(
  folder: str,
  counted: str = 'total',
  convention: str = '6nd',
  curves: bool = False,
) -> Points:
  """The runs below a folder; a run's loss is its last eval/loss.

  Args:
    folder: of workdirs, at any depth.
    counted: as N, 'total' parameters or the 'non_embedding' ones.
    convention: of FLOPs: '6nd'; 'palm', the products that the step makes; or
      'exact' (configs/scaling/flops.py).
    curves: all evaluations of a run are points, also of unfinished ones; else
      only the last, of runs that made all of their steps.

  Raises:
    ValueError: there is no such run, or runs differ in what their losses are
      of (vocabulary, objective, text).
  """
  found, notes, unfinished = [], [], []
  for place in _workdirs(folder):
    name = os.path.relpath(place, folder)
    config = workdir.read_config(place)
    rows = [
      (row['step'], row['eval/loss'])
      for row in read_metrics(place)
      if row.get('eval/loss') is not None and row['step'] > 0
    ]
    if not rows or (rows[-1][0] < config.train.steps and not curves):
      unfinished.append(name)
      continue
    found.append((name, place, config, rows if curves else rows[-1:]))
  if unfinished:
    shown = [*unfinished[:8], *['...'] * (len(unfinished) > 8)]
    notes.append(
      f'{len(unfinished)} runs have no evaluation after their last step and '
      f'are left out: {", ".join(shown)}.'
    )
  if not found:
    raise ValueError(
      f'{folder} has no workdir with an evaluation (eval/loss in '
      f'metrics.jsonl) after the last step. {" ".join(notes)}'.strip()
    )
  _check_alike(folder, found)
  columns = {'params': [], 'tokens': [], 'flops': [], 'loss': [], 'steps': []}
  runs = []
  for name, _, config, rows in found:
    N, plan = size_of(config, counted), data_config(config).plan
    for step, loss in rows:
      phase = next(p for p in plan if p.last is None or step <= p.last)
      tokens = phase.counts(step)['tokens']
      made = PER_PAIR * N * tokens
      if convention != '6nd':
        part = config.copy_and_resolve_references().unlock()
        part.train.steps = step
        made = flops.run_flops(part, convention)
      row = N, tokens, made, loss, step
      for column, value in zip(columns.values(), row, strict=True):
        column.append(float(value))
      runs.append(name)
  notes.append(f'N counts {counted} parameters; FLOPs by {convention}.')
  values = {name: np.array(x) for name, x in columns.items()}
  return make(folder, values, runs, notes)


def size_of(config: ConfigDict, counted: str) -> int:
  """N of a run's model: its 'total' or its 'non_embedding' parameters."""
  shapes, _ = abstract_params(build(TransformerConfig(**config.model)))
  tables = embedding_params(config.model) if counted != 'total' else 0
  return count_params(shapes) - tables


def _workdirs(folder):
  """The folders below that hold a run's config and its numbers."""
  if not paths.is_folder(folder):
    raise ValueError(f'{folder} is neither a table (.csv) nor a folder.')
  found, waiting = [], [folder]
  while waiting:
    place = waiting.pop()
    names = paths.names(place)
    if workdir.NAME in names:
      if 'metrics.jsonl' in names:
        found.append(place)
      continue
    inner = [os.path.join(place, name) for name in names]
    waiting += [path for path in inner if paths.is_folder(path)]
  return sorted(found)


def _check_alike(folder, found):
  """Raises ValueError if the losses of two runs are of different things."""
  (first, place, config, _), *others = found
  kind = _kind(place, config)
  for name, other, its, _ in others:
    found = differences(kind, _kind(other, its))
    if found:
      key, here, there = found[0]
      raise ValueError(
        f'Runs below {folder} cannot be compared: {key} is {here!r} in '
        f'{first} and {there!r} in {name}, so their losses are of different '
        'things. Fit each kind of run in a folder of its own.'
      )


def _kind(place, config) -> dict[str, Any]:
  kind = {}
  for key in ALIKE:
    group, name = key.split('.')
    kind[key] = config[group][name]
  for name in workdir.TOKENIZERS:
    path = os.path.join(place, name)
    if paths.exists(path):
      kind[name] = hashlib.sha256(paths.read(path)).hexdigest()[:12]
  return kind
