"""Trains several seeds and the points of a grid, and makes their table."""

import itertools
import json
import os
import re
import runpy
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from configs.commands import terminal
from configs.commands.command import UserError, is_fixable
from configs.differences import differences
from input_pipeline.sources import paths
from train.finetuning.scoring import SCORE
from train.reporting.metrics import read_metrics
from train.runs import changes, workdir

NAME = 'scores.json'  # in the folder of all runs
COMMON = 'common.json'  # beside it: what the runs share
RECIPE = 'recipe'  # in place of a key of --grid: the grid of the recipe
_SCORE = f'eval/{SCORE}'  # of a row of metrics.jsonl


class Point(NamedTuple):
  """One run: pairs of (key of the config, value), with the seed."""

  keys: tuple[tuple[str, Any], ...]

  @property
  def name(self) -> str:
    """Its folder: 'learning_rate=2e-05,seed=1'."""
    return ','.join(f'{key.rpartition(".")[2]}={x}' for key, x in self.keys)

  @property
  def group(self) -> str:
    """The name without the seed."""
    others = tuple((key, x) for key, x in self.keys if key != 'seed')
    return Point(others).name


def published(config: str) -> list[Mapping[str, Any]]:
  """The points of a recipe's own grid, its `sweep(ARG)`: --grid=recipe.

  `config` is FILE.py[:ARG].

  Raises:
    ValueError: the recipe has none.
  """
  path, _, argument = config.partition(':')
  found = runpy.run_path(path).get('sweep')
  if found is None:
    raise ValueError(
      f'--grid={RECIPE}: {path} has no grid of its own. Give --grid '
      'KEY=VALUE,VALUE.'
    )
  return list(found(argument))


def points(
  grid: Sequence[str], seeds: int, recipe: Sequence[Mapping[str, Any]] = ()
) -> list[Point]:
  """The runs of --grid KEY=VALUE,VALUE and --seeds=N; by default one.

  `recipe` are the points of --grid=recipe, which other keys multiply.

  Raises:
    ValueError: a grid that cannot be read.

  >>> [p.name for p in points(['data.batch=16,32'], 2)][:3]
  ['batch=16,seed=0', 'batch=16,seed=1', 'batch=32,seed=0']
  """
  if seeds < 1:
    raise ValueError(f'--seeds={seeds} must be at least 1.')
  axes = []
  for text in grid:
    if text == RECIPE:
      axes.append([tuple((k, str(x)) for k, x in p.items()) for p in recipe])
      continue
    key, equals, values = text.partition('=')
    if not (equals and values) or '' in values.split(','):
      raise ValueError(f"--grid={text} must be KEY=VALUE,VALUE, or '{RECIPE}'.")
    axes.append([((key, value),) for value in values.split(',')])
  if seeds > 1 or axes:
    axes.append([(('seed', seed),) for seed in range(seeds)])
  return [Point(sum(chosen, ())) for chosen in itertools.product(*axes)]


def configured(config: ConfigDict, point: Point) -> ConfigDict:
  """The config with a point's keys.

  Raises:
    ValueError: an unknown key, or a value of another type.
  """
  config = config.copy_and_resolve_references().unlock()
  for key, value in point.keys:
    *groups, name = key.split('.')
    group = config
    for part in groups:
      group = group.get(part)
      if not isinstance(group, ConfigDict):
        break
    if not isinstance(group, ConfigDict) or name not in group:
      raise ValueError(f'--grid={key}: the config has no key {key!r}.')
    kind = group.get_type(name)
    try:
      read = json.loads(value.lower()) if kind is bool else kind(value)
    except (ValueError, TypeError) as error:
      raise ValueError(
        f'--grid={key}: {value!r} is not of type {kind.__name__}.'
      ) from error
    group[name] = read
  return config.lock()


def check_same(config: ConfigDict, source: str, folder: str) -> None:
  """The runs of a folder differ in their points alone.

  The config before the points' keys, and where the runs start, are written at
  the first call and compared at the next ones.

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
  changed = [
    f'{key}: {old!r} there, {new!r} now'
    for key, old, new in differences(theirs, ours)
    if not changes.is_free(key)
  ]
  if changed:
    raise ValueError(
      f'{path} is of another command than this: {"; ".join(changed)}. Give '
      'another --workdir, or repeat the command that made these runs.'
    )


def run_all(
  found: Sequence[Point],
  folder: str,
  jobs: int,
  run: Callable[[Point, str], None],
) -> None:
  """Trains the runs that have not ended, then prints and writes their table.

  Args:
    found: the runs.
    folder: each run's workdir is a folder in it.
    jobs: how many train at once; several are separate processes of this
      command.
    run: trains one run in a workdir.

  Raises:
    UserError: a run has failed, after the others have been trained.
  """
  folders = {point: os.path.join(folder, point.name) for point in found}
  left = [p for p in found if score(folders[p]) is None]
  if len(left) < len(found):
    terminal.say(f'{len(found) - len(left)} of {len(found)} runs have ended.')
  failed = {}
  if jobs > 1:
    failed = _side_by_side(left, folders, jobs)
  else:
    for number, point in enumerate(left, 1):
      terminal.say(f'Run {number} of {len(left)}: {point.name}')
      try:
        run(point, folders[point])
      except Exception as error:
        if not is_fixable(error):
          raise
        failed[point] = str(error)
        terminal.say(f'This run failed: {error}')
      if point not in failed and score(folders[point]) is None:
        return  # it was asked to stop
  rows = summary(found, folders)
  terminal.say(table(rows))
  os.makedirs(folder, exist_ok=True)
  text = json.dumps(rows, indent=2)
  paths.write(os.path.join(folder, NAME), f'{text}\n'.encode())
  if failed:
    names = '\n'.join(f'  {p.name}: {why}' for p, why in failed.items())
    raise UserError(
      f'{len(failed)} of {len(found)} runs failed:\n{names}\nRun the same '
      'command again to repeat them.'
    )


def _side_by_side(
  left: Iterable[Point], folders: dict[Point, str], jobs: int
) -> dict[Point, str]:
  """Trains runs as processes of this command; returns why runs failed."""
  if jax.default_backend() != 'cpu':
    raise ValueError(
      f'--jobs={jobs}: processes of one command cannot share an accelerator. '
      'Use --jobs=1, or several commands, each with its own devices.'
    )
  args = shared_flags(sys.argv[1:])
  waiting, running, failed = list(left), {}, {}
  try:
    while waiting or running:
      while waiting and len(running) < jobs:
        point = waiting.pop(0)
        os.makedirs(folders[point], exist_ok=True)
        log = open(os.path.join(folders[point], 'log.txt'), 'ab')  # noqa: SIM115
        command = [sys.executable, '-m', 'train.finetune', *args]
        command += [f'--config.{key}={x}' for key, x in point.keys]
        command.append(f'--workdir={folders[point]}')
        terminal.say(f'{point.name}: its log is {log.name}')
        running[point] = subprocess.Popen(command, stdout=log, stderr=log), log
      point = next(
        (p for p in running if running[p][0].poll() is not None), None
      )
      if point is None:
        time.sleep(0.2)
        continue
      process, log = running.pop(point)
      log.close()
      if process.returncode:
        failed[point] = f'see {log.name}'
  finally:
    for process, _ in running.values():
      process.terminate()
      process.wait()
  return failed


def shared_flags(args: Sequence[str]) -> list[str]:
  """The flags of this command that each of its processes gets too.

  Left out are those that say what to run, as '--KEY=VALUE' or '--KEY VALUE'.

  >>> shared_flags(['--grid', 'data.batch=8,16', '-jobs=2', '--from', 'RUN'])
  ['--from', 'RUN']
  """
  kept, rest = [], iter(args)
  for arg in rest:
    found = re.fullmatch(r'--?(workdir|seeds|grid|jobs)(=.*)?', arg, re.DOTALL)
    if not found:
      kept.append(arg)
    elif not found[2]:
      next(rest, None)  # its value
  return kept


def rows_of(folder: str) -> list[dict[str, Any]]:
  """The scored evaluations of a run; [] if it has not ended."""
  if not os.path.exists(os.path.join(folder, workdir.NAME)):
    return []
  steps = workdir.read_config(folder).train.steps
  found = [row for row in read_metrics(folder) if _SCORE in row]
  return found if found and found[-1]['step'] == steps else []


def final(folder: str) -> dict[str, float]:
  """The evaluation of a run that counts; {} if the run has not ended.

  It is the last one, or the best one with checkpoint.best='score'.
  """
  rows = rows_of(folder)
  if not rows:
    return {}
  best = workdir.read_config(folder).checkpoint.best == SCORE
  return max(rows, key=lambda row: row[_SCORE]) if best else rows[-1]


def score(folder: str) -> float | None:
  """The score of a run that has ended, in the unit of its metrics."""
  return final(folder).get(_SCORE)


def summary(
  found: Sequence[Point], folders: dict[Point, str]
) -> list[dict[str, Any]]:
  """A row of numbers for each point of the grid, over its seeds.

  A row has `median`, `best`, `mean` and `spread` of the score, the `scores` of
  the seeds, and the median of each metric. The spread is the standard deviation
  of a sample, None for one run.
  """
  rows = []
  for group in dict.fromkeys(point.group for point in found):
    ended = [final(folders[p]) for p in found if p.group == group]
    ended = [row for row in ended if row]
    scores = [row[_SCORE] for row in ended]
    row = {'group': group, 'runs': len(scores), 'scores': scores}
    if scores:
      # Counts, such as 'TASK/cut', are left out of a row where they are 0.
      names = dict.fromkeys(
        k
        for r in ended
        for k in r
        if k.startswith('eval/') and k.count('/') > 1
      )
      row |= {
        'median': statistics.median(scores),
        'best': max(scores),
        'mean': statistics.mean(scores),
        'spread': statistics.stdev(scores) if len(scores) > 1 else None,
        'metrics': {
          name.removeprefix('eval/'): statistics.median(
            r.get(name, 0.0) for r in ended
          )
          for name in names
        },
      }
    rows.append(row)
  return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
  """The rows of `summary` as text; the best median is marked."""
  best = max((row.get('median', -1) for row in rows), default=-1)
  width = max(len(row['group']) for row in rows) + 2
  lines = [
    f'{"":{width}}{"runs":>5}{"median":>9}{"best":>9}{"mean":>9}{"spread":>9}'
  ]
  for row in rows:
    line = f'{row["group"]:{width}}{row["runs"]:>5}'
    for name in 'median', 'best', 'mean', 'spread':
      value = row.get(name)
      line += f'{"-" if value is None else format(value, ".2f"):>9}'
    marked = len(rows) > 1 and row.get('median') == best
    lines.append(line + ' <' * marked)
  return '\n'.join(lines)
