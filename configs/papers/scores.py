"""Our cells: numbers that runs have written, averaged over their seeds."""

import json
import os
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from configs.papers import records
from configs.papers.records import ALONE, PRETRAIN, Row, Table

# Task -> the metrics whose mean is its score; others take their first metric.
AVERAGED = {
  'cnn_dailymail': ('rouge2',),
  'glue/mrpc': ('f1', 'accuracy'),
  'glue/qqp': ('f1', 'accuracy'),
  'glue/stsb': ('pearson', 'spearman'),
  'super_glue/cb': ('f1_macro', 'accuracy'),
  'super_glue/multirc': ('f1', 'exact_match'),
  'super_glue/record': ('f1', 'exact_match'),
  'xsum': ('rouge2',),
}
# A task's own score among several, and a count: see docs/tasks.md.
NO_METRICS = 'score', 'cut'
# Beside a benchmark, but not in its score.
HELPERS = (
  *('glue/wnli', 'glue/ax', 'super_glue/axb', 'super_glue/axg'),
  'super_glue/dpr',
)


class Ours(NamedTuple):
  """What our runs reached for a cell.

  Attributes:
    value: the mean or the median over the seeds; None: no run has ended.
    spread: the standard deviation of a sample; None for fewer than two runs.
    runs: how many have ended.
    left: how many have begun and not ended.
    numbers: of the runs that have ended.
  """

  value: float | None
  spread: float | None = None
  runs: int = 0
  left: int = 0
  numbers: Sequence[float] = ()


class _Ended(NamedTuple):
  rows: list[dict[str, Any]]  # the scored evaluations, in the order of steps
  best: bool  # each task takes the best one, not the last


def ours(
  tables: Mapping[str, Table], table: Table, row: Row, runs: str
) -> list[Ours]:
  """Our cells of a row, one for each column, from the folder of all runs.

  Raises:
    ValueError: a line of a metrics.jsonl cannot be read; names it.
  """
  found = {
    column.name: _cell(tables, table, row, column, runs)
    for column in table.columns
    if (column.task or column.metric) and not column.asked
  }
  for column in table.columns:
    if column.average:
      found[column.name] = _average(column, found)
  return [found.get(column.name, Ours(None)) for column in table.columns]


def _average(column, found):
  """The mean of other columns, if all of them have a number.

  The spread is that of the averages of all first runs, all second runs, ...
  """
  values = [[found[name].value for name in group] for group in column.average]
  if any(value is None for group in values for value in group):
    return Ours(None)
  count = min(found[name].runs for group in column.average for name in group)
  value = statistics.mean(map(statistics.mean, values))
  averages = [
    statistics.mean(
      statistics.mean(found[name].numbers[n] for name in group)
      for group in column.average
    )
    for n in range(count)
  ]
  return Ours(value, _spread(averages), count, numbers=averages)


def _spread(numbers):
  return statistics.stdev(numbers) if len(numbers) > 1 else None


def _cell(tables, table, row, column, runs):
  home, source = records.resolve(tables, table, row)
  alone = column.task and (source.recipe or home.recipe) == ALONE
  row_folder, place = f'{home.name}/{source.name}', column.place
  if alone:
    place = PRETRAIN
  elif not column.task:
    row_folder = records.begun_from(tables, table, row)
  folder = os.path.join(runs, *row_folder.split('/'), *place.split('/'))
  evaluated = 'eval/score' if column.task else f'eval/{column.metric}'
  groups, left = {}, 0
  for workdir, name in _workdirs(folder):
    ended = _read(workdir, alone, evaluated)
    if ended is None:
      left += 1
    else:
      others = [x for x in name.split(',') if not x.startswith('seed=')]
      groups.setdefault(','.join(others), []).append(ended)
  if not groups:
    return Ours(None, left=left)
  chosen = next(iter(groups.values()))
  if len(groups) > 1:  # the point of a grid that is best on validation counts
    chosen = max(
      groups.values(),
      key=lambda group: statistics.mean(_number(e, column.task) for e in group),
    )
  numbers = [_number(e, column.task, column.metric) for e in chosen]
  middle = statistics.median if table.over == 'median' else statistics.mean
  return Ours(middle(numbers), _spread(numbers), len(numbers), left, numbers)


def _workdirs(folder):
  """(workdir, its name in the folder) of a run, or of all its seeds."""
  if os.path.exists(os.path.join(folder, 'config.json')):
    return [(folder, '')]
  if not os.path.isdir(folder):
    return []
  return [
    (os.path.join(folder, name), name)
    for name in sorted(os.listdir(folder))
    if '=' in name and os.path.exists(os.path.join(folder, name, 'config.json'))
  ]


def _read(workdir: str, best: bool, evaluated: str) -> _Ended | None:
  """The evaluations of a run, the rows that have a number; None: it goes on."""
  with open(os.path.join(workdir, 'config.json'), encoding='utf-8') as file:
    config = json.load(file)
  path = os.path.join(workdir, 'metrics.jsonl')
  rows = {}
  if os.path.exists(path):
    with open(path, encoding='utf-8') as file:
      for number, line in enumerate(file, 1):
        try:
          found = json.loads(line)
        except ValueError as error:
          raise ValueError(
            f'{path}:{number}: this line is not JSON ({error}): remove it.'
          ) from error
        if evaluated in found:
          rows[found['step']] = found
  if config['train']['steps'] not in rows:
    return None
  best = best or config['checkpoint']['best'] == 'score'
  return _Ended([rows[step] for step in sorted(rows)], best)


def _number(ended: _Ended, task: str, metric: str = '') -> float:
  """A metric of a run; '': the score of a task or of a mixture's tasks."""
  if metric:
    key = f'eval/{metric}'
    _require(key in ended.rows[-1], key, ended)
    chosen = ended.rows[-1:]
    if ended.best:
      chosen = sorted(ended.rows, key=lambda row: _scores(row)[task])
    return chosen[-1][key]
  names = [
    name
    for name in _scores(ended.rows[-1])
    if name == task or (name.startswith(f'{task}/') and name not in HELPERS)
  ]
  _require(names, f'eval/{task}/...', ended)
  rows = ended.rows if ended.best else ended.rows[-1:]
  return statistics.mean(
    max(_scores(row)[name] for row in rows) for name in names
  )


def _require(there: object, key: str, ended: _Ended) -> None:
  if not there:
    known = [k for k in ended.rows[-1] if k.count('/') > 1]
    raise ValueError(
      f'A run has no metric {key!r}. It has {", ".join(known)}: it is of '
      'another task, or of another version of Treeline.'
    )


def _scores(row: Mapping[str, Any]) -> dict[str, float]:
  """Task -> its score in an evaluation; splits of one task are averaged."""
  metrics = {}
  for key, value in row.items():
    name, _, metric = key.removeprefix('eval/').rpartition('/')
    if key.startswith('eval/') and name and metric not in NO_METRICS:
      metrics.setdefault(name, {})[metric] = value
  parts: dict[str, list[float]] = {}
  for name, own in metrics.items():
    task = name.partition('@')[0]
    wanted: Sequence[str] = AVERAGED.get(task, tuple(own)[:1])
    parts.setdefault(task, []).append(
      statistics.mean(own[metric] for metric in wanted)
    )
  return {task: statistics.mean(values) for task, values in parts.items()}
