"""The folder of a sweep: what its runs share, and how far they are."""

import fcntl
import json
import os
from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

from configs.differences import differences
from input_pipeline.sources import paths
from train.reporting.metrics import read_metrics
from train.runs import changes, folders, workdir
from train.sweeping.children import LOG, Run

COMMON = 'common.json'  # in the folder of all runs: what they share
NAME = 'sweep.json'  # beside it: how each run stands


def check_same(
  config: ConfigDict, source: str, folder: str, flag: str = '--workdir'
) -> None:
  """The runs of a folder differ in their points alone.

  The config before the points' keys, and where the runs start, are written at
  the first call and compared at the next ones.

  Args:
    config: before the points' keys.
    source: where the runs start; '': at their seeds.
    folder: of all runs.
    flag: the command's, whose value it is.

  Raises:
    ValueError: the folder's runs have another config, or started elsewhere.
  """
  path = os.path.join(folder, COMMON)
  ours = json.loads(config.to_json_best_effort()) | {'from': source}
  if not os.path.exists(path):
    os.makedirs(folder, exist_ok=True)
    paths.write(path, f'{json.dumps(ours, indent=2)}\n'.encode())
    return
  with open(path, encoding='utf-8') as file:
    theirs = json.load(file)
  if theirs['train'].get('epochs'):  # older recipes had steps that none read
    theirs['train']['steps'] = 0
  changed = [
    f'{key}: {old!r} there, {new!r} now'
    for key, old, new in differences(theirs, ours)
    if not changes.is_free(key)
  ]
  if changed:
    raise ValueError(
      f'{path} is of another command than this: {"; ".join(changed)}. Give '
      f'another {flag}, or repeat the command that made these runs.'
    )


def check_own(folder: str, config: ConfigDict) -> None:
  """Raises ValueError if a run has begun in `folder` with another config."""
  if not workdir.begun(folder):
    return
  old, new = (workdir.plain(x) for x in (workdir.read_config(folder), config))
  if keys := changes.fixed(old, new, saved=True):
    lines = '\n'.join(changes.lines(old, new, keys))
    raise ValueError(
      f'{folder} holds the run of another config. Different are:\n{lines}\n'
      'Give another --out, or move this folder away.'
    )


def evaluations(folder: str, name: str = 'eval/loss') -> list[dict[str, Any]]:
  """The evaluations with this number of a run that has ended; else [].

  The last one comes after the last checkpoint, so that nothing is left to do.
  """
  if not os.path.exists(os.path.join(folder, workdir.NAME)):
    return []
  if not os.path.exists(os.path.join(folder, 'metrics.jsonl')):
    return []
  steps = workdir.read_config(folder).train.steps
  found = [row for row in read_metrics(folder) if name in row]
  return found if found and found[-1]['step'] == steps else []


def is_trained(folder: str) -> bool:
  """Whether a process trains a run there now, or is about to.

  A process of a sweep has its log locked from its start on, any other one its
  workdir once it has looked at its settings.
  """
  for name in LOG, folders.LOCK:
    try:
      with open(os.path.join(folder, name), 'rb') as file:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
      return True
    except OSError:  # there is no file, or the disk has no locks
      continue
  return False


def write(folder: str, runs: Iterable[Run]) -> None:
  """Writes how each run stands into NAME."""
  found = [
    {
      'name': run.name,
      'state': run.state,
      'why': run.why,
      'keys': dict(run.keys),
      'command': run.command,
    }
    for run in runs
  ]
  text = json.dumps({'runs': found}, indent=2)
  paths.write(os.path.join(folder, NAME), f'{text}\n'.encode())
