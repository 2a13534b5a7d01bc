"""The tables of a report beside its results: runs, configs, speed, origins."""

import json
import math
import statistics
from collections.abc import Sequence

from input_pipeline.sources import hashes
from train.comparing import groups as grouping
from train.comparing import series
from train.comparing.cells import (
  NONE,
  Cell,
  Links,
  Table,
  hours,
  large,
  number,
  percent,
)
from train.comparing.groups import Group
from train.comparing.runs import COMPLETE, EMPTY, Run

TOKENS, HOURS = 'data/tokens_seen', 'train/wall_seconds'
SHOWN = 20  # evaluations in the table of a run, besides those linked to


def of_runs(runs: Sequence[Run], names: Sequence[str], links: Links) -> Table:
  """Every folder with its state, and the first number where it is newest."""
  names = names[:1]
  rows = []
  for run in runs:
    name = Cell(run.name, f'#{links.run(run)}')
    if not run.numbers:
      rows.append([name, Cell(run.note), *[Cell(NONE)] * (4 + len(names))])
      continue
    flops = series.along(run, 'flops', [run.step])[0]
    rows.append(
      [
        name,
        Cell(run.note),
        Cell(f'{run.step:,}', links(run, run.step)),
        links.cell(run, TOKENS, large, None),
        Cell(large(flops), links(run, run.step)),
        links.cell(run, HOURS, hours, None),
        *(links.cell(run, name, number, None) for name in names),
      ]
    )
  header = (
    *('run', 'state', 'step', 'tokens', 'FLOPs', 'hours'),
    *(f'newest {grouping.title(name)}' for name in names),
  )
  return Table('How far each run is', header, rows)


def of_differences(groups: Sequence[Group], runs: Sequence[Run]) -> Table:
  """The keys in which configs differ, alone; runs alike share a column."""
  found = grouping.differing([run for run in runs if run.config])
  single = [group.runs[0] for group in groups]
  between = [x for x in grouping.differing(single) if x[0] != 'seed']
  rows = [
    [Cell(key), *(Cell(grouping.shown(x)) for x in values)]
    for key, values in between
  ]
  seeds = [', '.join(str(r.config.seed) for r in g.runs) for g in groups]
  rows.append([Cell('seed'), *map(Cell, seeds)])
  header = ['key', *(group.name for group in groups)]
  inside = {key for key, _ in found} - {key for key, _ in between} - {'seed'}
  note = ''
  if inside:
    note = f'Within a column the runs also differ in {", ".join(inside)}.'
  caption = 'Keys of the configs that differ; all others are the same'
  if len(groups) > len(rows):  # keys side by side are fewer
    columns = [[Cell(name) for name in header], *rows]
    header, *rows = map(list, zip(*columns, strict=True))
    header = [cell.text for cell in header]
    header[0] = 'runs'
  return Table(caption, header, rows, note)


def of_speed(runs: Sequence[Run], links: Links) -> Table:
  """Throughput, MFU, goodput, restarts, memory."""
  rows = []
  for run in (run for run in runs if run.numbers):
    at = links(run, run.step)
    row = [Cell(run.name, f'#{links.run(run)}'), Cell(_devices(run))]
    for name, form in (
      ('train/tokens_per_second', large),
      ('train/steps_per_second', number),
      ('train/mfu', percent),
    ):
      values = [x[name] for x in run.numbers.values() if name in x]
      found = (
        Cell(form(statistics.median(values)), at) if values else Cell(NONE)
      )
      row.append(found)
    life = run.life
    back = sum(one['event'] == 'rewound' for one in run.history)
    row += [
      Cell(percent(life.goodput), at) if life else Cell(NONE),
      Cell(str(max(life.starts - 1, 0)), at) if life else Cell(NONE),
      Cell(str(back), at),
    ]
    device = run.newest('train/peak_device_bytes')
    name = f'train/{"peak_device" if device else "peak_host"}_bytes'
    row.append(links.cell(run, name, lambda x: f'{x / 1e9:.2f} GB', None))
    rows.append(row)
  header = (
    *('run', 'devices', 'tokens/s', 'steps/s', 'MFU', 'goodput', 'restarts'),
    *('rewinds', 'peak memory'),
  )
  note = (
    'Tokens and steps per second and MFU are medians over the rows of '
    'metrics.jsonl. MFU is left out where the peak of the devices is not '
    'known, as on CPUs. Goodput is the share of the time since the first start '
    'that went into steps that count; rewinds are returns from spikes of the '
    'loss. Memory is that of the fullest device, or else of the host.'
  )
  return Table('Throughput, goodput and memory', header, rows, note)


def _devices(run):
  return run.saved[-1]['made_by'].get('devices', NONE) if run.saved else NONE


def of_provenance(runs: Sequence[Run]) -> list[Table]:
  """What the runs were made of: commits, versions, data. Alike runs share."""
  made, data = {}, {}
  for run in (run for run in runs if run.config):
    for saved in run.saved:
      by = saved['made_by']
      for item, value in (
        ('git commit', by.get('commit', '') or 'not in a repository'),
        *by.get('versions', {}).items(),
      ):
        made.setdefault(item, {}).setdefault(str(value), set()).add(run.name)
    for item, value in _of_data(run):
      data.setdefault(item, {}).setdefault(value, set()).add(run.name)
  names = {run.name for run in runs if run.config}
  return [
    _shared('Commit and versions', made, names),
    _shared('Data', data, names),
  ]


def _shared(caption, found, names):
  rows = []
  for item, values in found.items():
    for value, own in values.items():
      whose = 'all' if own == names else ', '.join(sorted(own))
      rows.append([Cell(item), Cell(value), Cell(whose)])
  note = '' if rows else 'No run has a checkpoint yet, which would have it.'
  return Table(caption, ('item', 'value', 'runs'), rows, note)


def _of_data(run):
  found = run.fingerprint
  yield 'tokenizer (sha256)', run.tokenizer[:16] or 'not known yet'
  yield 'vocabulary', f'{run.config.model.vocab_size:,} entries'
  if not found:
    yield 'fingerprint', 'no checkpoint yet'
    return
  # Seeds draw other rows of the same data.
  yield 'fingerprint without the seed (sha256)', _digest(found | {'seed': 0})
  yield 'source', run.config.data.source or 'a mixture'
  for item in ('source', 'eval_source'):
    files = found.get(item) if isinstance(found.get(item), list) else []
    several = f', {len(files)} entries' if files else ''
    if found.get(item):
      yield f'contents of {item} (sha256)', f'{_digest(found[item])}{several}'


def _digest(value):
  text = json.dumps(value, sort_keys=True)
  return hashes.hash_bytes(text.encode())


def of_run(run: Run, names: Sequence[str], links: Links) -> Table:
  """A run's numbers at its evaluations, and at steps that are linked to."""
  places = series.evenly(len(run.evaluated), SHOWN) if run.evaluated else []
  steps = links.steps(run) | {run.evaluated[i] for i in places}
  columns = [name for name in names if run.newest(name)]
  rows = []
  steps = sorted(steps & run.numbers.keys())
  for step in steps:
    flops = series.along(run, 'flops', [step])[0]
    used = [series.along(run, axis, [step])[0] for axis in ('tokens', 'hours')]
    own = [run.at(step, name) for name in columns]
    rows.append(
      [
        Cell(f'{step:,}'),
        *(Cell(NONE if x is None else number(x)) for x in own),
        *(Cell(large(x)) for x in (used[0], flops)),
        Cell(f'{used[1]:.3g}' if math.isfinite(used[1]) else NONE),
        Cell(', '.join(map(str, run.lines[step]))),
      ]
    )
  header = [
    'step',
    *map(grouping.title, columns),
    *('tokens', 'FLOPs', 'hours', 'lines of metrics.jsonl'),
  ]
  anchors = [links.row(run, step) for step in steps]
  return Table(f'Numbers of {run.name}', header, rows, anchors=anchors)


def states(runs: Sequence[Run]) -> str:
  """How many runs are in which state, in words."""
  counts = {}
  for run in runs:
    counts[run.state] = counts.get(run.state, 0) + 1
  order = sorted(counts, key=lambda x: (x != COMPLETE, x == EMPTY, x))
  return ', '.join(f'{counts[state]} {state}' for state in order)
