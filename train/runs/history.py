"""The history of a run: how it began, what was changed, what made it.

A list of JSON objects, oldest first, each with `event`, `step`, `time` and the
`command`. It is in WORKDIR/history.json and in every checkpoint's metadata.

  begun           `from`: the run, step and digests of the parameters' source
  config changed  `changed`: key -> [old value, new value]
  data changed    `changed`: a line for each difference
  averaged        `steps`: the checkpoints of `workdir` whose mean it is
  rewound         the `loss` of step `spike` was above `limit`: the run went
                  back to `step`, from the checkpoint of step `checkpoint`, and
                  skips `batches` there, the numbers `skipped` [first, last]
"""

import contextlib
import datetime
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from input_pipeline.sources import paths
from train.parallel import software

NAME = 'history.json'
CONFIG_CHANGED = 'config changed'
Entry = dict[str, Any]


def entry(event: str, step: int, **more: Any) -> Entry:
  """An entry of this process, made now."""
  return {
    'event': event,
    'step': step,
    'time': _now(),
    'command': shlex.join(sys.orig_argv),
    **more,
  }


def made_by() -> dict[str, Any]:
  """What made a checkpoint: JSON-able."""
  return {
    'command': shlex.join(sys.orig_argv),
    'commit': software.commit(),
    'versions': software.versions(),
    'devices': f'{jax.device_count()} x {jax.devices()[0].device_kind}',
    'processes': jax.process_count(),
    'time': _now(),
  }


def read(folder: str) -> list[Entry]:
  """The history of a workdir; empty if it has none, a ValueError if damaged."""
  path = os.path.join(folder, NAME)
  if not paths.exists(path):
    return []
  try:
    found = json.loads(paths.read(path))
    for one in found:
      one['event'], one['step'] + 0, one['time']
  except (ValueError, TypeError, KeyError, RecursionError) as error:
    raise ValueError(
      f'{path} is damaged: it is not a history ({error}). Move it away; each '
      'checkpoint holds it too.'
    ) from error
  return found


def write(folder: str, entries: list[Entry]) -> None:
  text = json.dumps(entries, indent=1)
  paths.write(os.path.join(folder, NAME), f'{text}\n'.encode())


def go_on(
  folder: str,
  saved: Mapping[str, Any] | None,  # metadata of the checkpoint it resumes from
  step: int,
  begun_from: Entry | None = None,  # source of its parameters; None: its seed
  config: Mapping[str, Any] | None = None,  # key -> [old value, new value]
  data: Sequence[str] = (),  # a line for each accepted difference
) -> list[Entry]:
  """The history of a run that starts now at `step`."""
  entries = read(folder) or (saved or {}).get('history', [])
  if saved is None:
    more = {'from': begun_from} if begun_from else {}
    return [entry('begun', step, **more)]
  if config:
    entries = [*entries, entry(CONFIG_CHANGED, step, changed=dict(config))]
  if data:
    entries = [*entries, entry('data changed', step, changed=list(data))]
  return entries


def first_step(entries: list[Entry]) -> int:
  """The step a run began at: not 0 if it took another's optimizer state."""
  return entries[0]['step'] if entries else 0


def source(entries: list[Entry]) -> Entry | None:
  """Where the run's first parameters came from; None: from its seed."""
  return entries[0].get('from') if entries else None


def keys_changed_since(entries: list[Entry], step: int) -> dict[str, Any]:
  """The keys of the config changed since a step, with their newest values."""
  return {
    key: new
    for one in entries
    if one['event'] == CONFIG_CHANGED and one['step'] >= step
    for key, (_, new) in one['changed'].items()
  }


def trained(folder: str) -> bool:
  """Whether a run has made a step: until then its config may change freely."""
  first = first_step(read(folder))
  steps = [*saved_steps(folder), _last_step(folder)]
  return any(step > first for step in steps)


def saved_steps(folder: str) -> list[int]:
  """The steps of the finished checkpoints, oldest first."""
  path = os.path.join(folder, 'checkpoints')
  steps = sorted(int(name) for name in paths.names(path) if name.isdigit())
  if not paths.is_remote(path):
    return steps
  # In a bucket a folder has its name from the start: this file finishes it.
  done = 'commit_success.txt'
  return [x for x in steps if paths.exists(os.path.join(path, str(x), done))]


def _last_step(folder: str) -> int:
  """The last step in metrics.jsonl, whose rows are in order; 0 if none."""
  path = os.path.join(folder, 'metrics.jsonl')
  if not paths.exists(path):
    return 0
  with paths.opened(path) as file:
    file.seek(max(0, paths.size(path) - 2**20))
    lines = file.read().split(b'\n')[:-1]  # the last may be cut short
  for line in reversed(lines):
    with contextlib.suppress(ValueError, TypeError, KeyError):
      return json.loads(line)['step']
  return 0


def _now() -> str:
  """The time in UTC, in ISO 8601."""
  return datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
