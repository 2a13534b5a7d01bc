"""Runs as their workdirs have them: finished, under way, or not begun."""

import dataclasses
import functools
import json
import math
import os
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

from configs.commands import terminal
from input_pipeline.sources import hashes, locks, paths
from train.reporting import board, timing
from train.reporting.metrics import read_metrics
from train.runs import folders, history, workdir

# States of a run.
EMPTY, UNREADABLE = 'empty', 'unreadable'
RUNNING, STOPPED, UNFINISHED = 'running', 'stopped', 'unfinished'
COMPLETE, FAILED = 'complete', 'failed'
DEPTH = 4  # folders below one that is given are searched so deep
# Of a sweep: in its folder, how its runs stand; in a run's, what it printed.
_SWEEP, _LOG = 'sweep.json', 'log.txt'
_SIGNS = workdir.NAME, 'metrics.jsonl', 'checkpoints', folders.NOTE


@dataclasses.dataclass
class Run:
  """What a workdir holds.

  Attributes:
    folder: the workdir.
    name: differs from that of each other run of a report.
    state: one of the states above.
    note: the state in words.
    config: the run's; None where it cannot be read.
    numbers: step -> the numbers of all rows of metrics.jsonl at this step.
    lines: step -> the lines of metrics.jsonl that have them, from 1.
    life: what became of its time; None: an older version's.
    history: as history.json has it.
    saved: what the kept checkpoints say of the run, oldest first.
    samples: step -> texts; the newest step's alone, or empty.
  """

  folder: str
  name: str = ''
  state: str = EMPTY
  note: str = 'empty, no run has begun'
  config: ConfigDict | None = None
  numbers: dict[int, dict[str, float]] = dataclasses.field(default_factory=dict)
  lines: dict[int, list[int]] = dataclasses.field(default_factory=dict)
  life: timing.Life | None = None
  history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
  saved: list[dict[str, Any]] = dataclasses.field(default_factory=list)
  samples: dict[int, str] = dataclasses.field(default_factory=dict)

  @functools.cached_property
  def plain(self) -> dict:
    """The config as nested dicts of JSON's types."""
    return workdir.plain(self.config) if self.config else {}

  @property
  def step(self) -> int:
    """The newest step with numbers."""
    return max(self.numbers, default=0)

  @property
  def first_step(self) -> int:
    return history.first_step(self.history)

  @property
  def evaluated(self) -> list[int]:
    """Steps with an evaluation, in order."""
    return [s for s, x in sorted(self.numbers.items()) if 'eval/loss' in x]

  @property
  def fingerprint(self) -> dict[str, Any]:
    """Of the data, as the newest checkpoint has it; empty without one."""
    return self.saved[-1]['data'] if self.saved else {}

  @functools.cached_property
  def tokenizer(self) -> str:
    """Its fingerprint; '' where neither a checkpoint nor a file has it."""
    if self.fingerprint:
      return self.fingerprint['tokenizer']
    for name in workdir.TOKENIZERS:
      path = os.path.join(self.folder, name)
      if paths.exists(path):
        return hashes.sha256(paths.read(path))
    return ''

  def at(self, step: int, name: str) -> float | None:
    """The number of a name at a step; None if the step lacks it."""
    return self.numbers.get(step, {}).get(name)

  def newest(self, name: str) -> tuple[int, float] | None:
    """The newest (step, number) of a name; None if there is none."""
    steps = [step for step, found in self.numbers.items() if name in found]
    return (max(steps), self.numbers[max(steps)][name]) if steps else None


def find(places: Sequence[str]) -> list[str]:
  """The workdirs of runs at or below the given folders, by their names.

  A given folder that is neither a run nor holds one counts as an empty workdir;
  so do empty folders below one that holds runs.

  Raises ValueError if a folder does not exist, or none of them holds a run.
  """
  found = {}  # absolute path -> whether there is a run
  for place in places:
    if not paths.is_folder(place):
      raise ValueError(f'{place}: there is no such folder.')
    place = paths.absolute(place)
    below = dict(_below(place, DEPTH))
    found |= below if any(below.values()) else {place: False}
  if not any(found.values()):
    failed = [why for place in places for why in _failures(place)]
    if failed:
      raise ValueError(
        f'{", ".join(places)}: no run has begun. Of a sweep: '
        + '; '.join(failed)
      )
    raise ValueError(
      f'{", ".join(places)}: no run is there yet, and none in a folder below. '
      'Give workdirs, or a folder that has them. A run begins with '
      'python -m train --config=FILE --workdir=DIR.'
    )
  return sorted(found, key=_in_order)


def _in_order(path: str) -> list[str | float]:
  """So that rate=3e-4 comes before rate=1e-3, and size=32 before size=128."""
  parts = re.split(r'(\d+(?:\.\d+)?(?:e-?\d+)?)', path)
  return [float(x) if i % 2 else x for i, x in enumerate(parts)]


def _below(folder: str, depth: int) -> Iterator[tuple[str, bool]]:
  """(workdir, whether it has a run) of runs and empty folders."""
  names = sorted(paths.names(folder))
  if any(name in _SIGNS for name in names):
    yield folder, True
  elif not set(names) - {folders.LOCK, _LOG}:
    yield folder, False
  elif depth:
    for name in names:
      path = os.path.join(folder, name)
      if paths.is_folder(path):
        yield from _below(path, depth - 1)


def read_all(workdirs: Sequence[str]) -> list[Run]:
  """The runs, with names: the parts of their paths in which they differ."""
  found = [read(folder) for folder in workdirs]
  if len(found) == 1:
    found[0].name = os.path.basename(found[0].folder)
    return found
  split = [run.folder.split(os.sep) for run in found]
  shared = len(os.path.commonprefix(split))
  for run, parts in zip(found, split, strict=True):
    run.name = os.sep.join(parts[shared:]) or parts[-1]
  return found


def read(folder: str) -> Run:
  """The run in a workdir. A damaged one is `UNREADABLE`; its note says why."""
  run = Run(paths.absolute(folder))
  failure = _failure(run.folder)
  if not any(paths.exists(os.path.join(folder, name)) for name in _SIGNS):
    if failure:
      run.state, run.note = FAILED, f'failed before it began: {failure}'
    return run
  if folders.unfinished(folder):
    run.note = 'empty, being begun, or its first start was killed'
    return run
  try:
    run.config = workdir.read_config(folder)
    run.history = history.read(folder)
    run.saved = list(_saved(folder))
    _read_numbers(run)
    if paths.exists(os.path.join(folder, timing.NAME)):
      run.life = timing.read(folder)
    texts = board.texts(os.path.join(folder, 'tensorboard'), 'samples')
    run.samples = {step: texts[step] for step in sorted(texts)[-1:]}
  except (ValueError, OSError) as error:
    return Run(run.folder, state=UNREADABLE, note=f'unreadable: {error}')
  run.state, run.note = _state(run, failure)
  return run


def _read_numbers(run):
  """Several rows of a step become one; a number that is null becomes NaN."""
  if not paths.exists(os.path.join(run.folder, 'metrics.jsonl')):
    return
  for line, row in enumerate(read_metrics(run.folder), 1):
    step = row.pop('step')
    numbers = {k: math.nan if x is None else x for k, x in row.items()}
    run.numbers.setdefault(step, {}).update(numbers)
    run.lines.setdefault(step, []).append(line)


def _saved(folder):
  """The metadata of each checkpoint, with its step; damaged ones left out."""
  for step in history.saved_steps(folder):
    path = os.path.join(folder, 'checkpoints', str(step), 'run', 'metadata')
    try:
      found = json.loads(paths.read(path))
      made_by = found.get('made_by', {})  # older runs do not have it
      yield {'step': step, 'data': found['data'], 'made_by': made_by}
    except (OSError, ValueError, KeyError):  # removed meanwhile, or damaged
      continue


def _state(run, failure):
  step, steps = run.step, run.config.train.steps
  at = f'at step {step:,} of {steps:,}'
  if step >= steps and run.at(step, 'eval/loss') is not None:
    return COMPLETE, f'complete, {at}'
  lives = locks.owner_lives(os.path.join(run.folder, folders.LOCK))
  if lives:
    return RUNNING, f'still running, {at}'
  if failure:
    return FAILED, f'failed {at}: {failure}'
  if lives is False:
    return STOPPED, f'not running, {at}: the same command resumes it'
  ago = _age(run)
  return UNFINISHED, f'unfinished, {at}{ago}'


def _failure(folder):
  """Why a run of a sweep failed; '' if it did not, or is of none."""
  above, name = os.path.split(folder)
  found = _swept(above).get(name)
  return found or ('' if found is None else f'{_LOG} says why')


def _failures(folder):
  """The runs that failed in a sweep's folder, each with the reason."""
  return [f'{name}: {why or _LOG}' for name, why in _swept(folder).items()]


def _swept(folder):
  """The failed runs of the sweep in a folder: name -> why."""
  path = os.path.join(folder, _SWEEP)
  if not paths.exists(path):
    return {}
  try:
    runs = json.loads(paths.read(path))['runs']
    return {x['name']: x['why'] for x in runs if x['state'] == FAILED}
  except (OSError, ValueError, TypeError, KeyError):  # the runs say the rest
    return {}


def _age(run):
  """When a run that is not of this machine wrote last."""
  path = os.path.join(run.folder, 'metrics.jsonl')
  if paths.is_remote(path) or not paths.exists(path):
    return ''
  seconds = max(0.0, time.time() - os.path.getmtime(path))
  return f', last written {terminal.duration(seconds)} ago'
