"""Trains several seeds and the points of a grid, and makes their table."""

import json
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any

from configs.commands import terminal
from configs.commands.command import UserError, is_fixable
from configs.grids import Point
from input_pipeline.sources import paths
from train.finetuning.scoring import SCORE
from train.runs import workdir
from train.sweeping import children, partition, record
from train.sweeping.table import Table

NAME = 'scores.json'  # in the folder of all runs
_SCORE = f'eval/{SCORE}'  # of a row of metrics.jsonl


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
    if failed is None:
      return
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
  left: Sequence[Point], folders: dict[Point, str], jobs: int
) -> dict[Point, str] | None:
  """Trains runs as processes of this command.

  Returns why runs failed; None if a stop was asked for.
  """
  shared = children.shared_flags(sys.argv[1:], 'workdir|seeds|grid|jobs')
  runs = [
    children.run_of(point, folders[point], 'train.finetune', shared)
    for point in left
  ]
  live = Table(runs)
  went = children.train_all(
    runs,
    partition.parts(jobs),
    lambda folder: score(folder) is not None,
    live.changed,
    live.look,
  )
  live.close()
  if not went:
    return None
  return {
    point: run.why
    for point, run in zip(left, runs, strict=True)
    if run.state == 'failed'
  }


def rows_of(folder: str) -> list[dict[str, Any]]:
  """The scored evaluations of a run; [] if it has not ended."""
  return record.evaluations(folder, _SCORE)


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
