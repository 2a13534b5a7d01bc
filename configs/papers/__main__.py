"""Prints the papers' tables: the commands of each row, and its numbers.

  python -m configs.papers                          # lists the tables
  python -m configs.papers t5.table2
  python -m configs.papers t5.table2 --row=decoder-LM
  python -m configs.papers bert.table1 --runs=runs  # our numbers beside them
  python -m configs.papers bert.table1 --row=BERT-base --tiny --data=GLUE

The runs of a row are in RUNS/TABLE/ROW: its pretraining in `pretrain`, the
fine-tuning on a task in a folder with the task's name. The printed commands
write there, and --runs=RUNS reads from there. A number that ends in m is from
memory; the others are from a copy of the paper. Our numbers are those of the
last evaluation, or with checkpoint.best='score' of the best one for each task.
Tables of prompted tasks ask published weights, in the folder `checkpoints`, or
the row's pretraining run, and keep the scores in RUNS/TABLE/ROW/shots_N.json.

--tiny makes the runs of a row: its commands at the tiny size with few steps, on
text of the installed packages (--text: another source), in --runs, or else in
the folder tiny_runs. It takes minutes and shows that the row can be run.
--tasks=glue/rte,glue/mrpc leaves out all other tasks.
"""

import os
from collections.abc import Sequence

from absl import flags

from configs import arguments
from configs.commands import command
from configs.papers import asked, records, scores, texts, tiny
from configs.papers.records import Row, Run, Table
from configs.papers.tables import TABLES

ACROSS = 7  # columns side by side
WIDTH = 12  # of a column, or more if its name is longer


def find(name: str) -> Table:
  """The table with a name.

  Raises:
    ValueError: there is none; the message has the nearest name.
  """
  if name not in TABLES:
    raise ValueError(arguments.unknown('table', name, TABLES))
  return TABLES[name]


def find_row(table: Table, name: str) -> Row:
  """The row of a table with a name.

  Raises:
    ValueError: there is none; the message has the nearest name.
  """
  rows = {row.name: row for row in table.rows}
  if name not in rows:
    raise ValueError(arguments.unknown(f'row of {table.name}', name, rows))
  return rows[name]


def listed() -> str:
  """All tables, one a line."""
  lines = []
  for table in TABLES.values():
    able = sum(1 for row in table.rows if _reason(table, row) == '')
    lines.append(
      f'{table.name:29}{able:3} of {len(table.rows):2} rows can be run   '
      f'{table.title}'
    )
  return '\n'.join(lines)


def shown(
  table: Table,
  row: str = '',
  runs: str = '',
  data: str = '',
  tasks: Sequence[str] = (),
) -> str:
  """A table as text.

  Args:
    table: the table.
    row: one row; '': all.
    runs: the folder of all runs, with our numbers; '': only published numbers,
      and commands that write under 'runs'.
    data: the folder of the tasks' files; '': from TFDS.
    tasks: the commands are on these tasks alone; none: on all.

  Raises:
    ValueError: the table has no such row, no such task, or a file of a run
      cannot be read.
  """
  lines = [f'{table.name}: {table.title}']
  if table.note:
    lines.append(table.note)
  if table.texts:
    lines.append(
      "Pretraining reads C4, unless a row's command has another source. The "
      "paper's texts, and where they can be had:"
    )
    lines += texts.where(table.texts)
  lines.append('Numbers with m are from memory.')
  for one in (find_row(table, row),) if row else table.rows:
    lines += ['', one.name]
    lines += [f'  {text}' for text in (one.note,) if text]
    if reason := _reason(table, one):
      lines.append(f'  It cannot be run. {reason}')
    elif one.same:
      lines.append(f'  Its runs are those of {one.same}:')
    for run in records.limited(records.runs(TABLES, table, one), tasks):
      lines.append(f'  {run.command(runs or "runs", data)}')
      if not run.task:
        lines.append(f'    {flops(run):.3g} FLOPs')
    for run in asked.asked(TABLES, table, one):
      lines.append(f'  {run.command(runs or "runs", data)}')
    lines += _numbers(table, one, runs)
  return '\n'.join(lines)


def flops(run: Run) -> float:
  """The floating-point operations of a pretraining run, in the whole.

  The convention is that of train.reporting.flops: matrix products alone.
  """
  from train.reporting.flops import run_flops  # imports jax

  return run_flops(records.pretraining(run))


def _reason(table, row):
  return records.resolve(TABLES, table, row)[1].why


def _numbers(table: Table, row: Row, runs: str) -> list[str]:
  """The published cells, and ours below them."""
  published = records.cells(table, row)
  lines = {
    '': [column.name for column in table.columns],
    'published': [cell.text for cell in published],
  }
  if runs:
    found = [
      asked.cell(table, row, column, runs) if column.asked else ours
      for column, ours in zip(
        table.columns, scores.ours(TABLES, table, row, runs), strict=True
      )
    ]
    lines['ours'] = [_text(ours.value) for ours in found]
    lines['spread'] = [_text(ours.spread) for ours in found]
    lines['difference'] = [
      '-'
      if None in (ours.value, cell.value)
      else _text(ours.value - cell.value, '+.2f')
      for ours, cell in zip(found, published, strict=True)
    ]
    lines['runs'] = [
      f'{ours.runs}' + f' of {ours.runs + ours.left}' * bool(ours.left)
      for ours in found
    ]
  shown = []
  widths = [max(WIDTH, len(name) + 2) for name in lines['']]
  for first in range(0, len(table.columns), ACROSS):
    for heading, cells in lines.items():
      part = zip(widths, cells, strict=True)
      part = [*part][first : first + ACROSS]
      shown.append(
        f'  {heading:11}' + ''.join(f'{text:>{width}}' for width, text in part)
      )
  return shown


def _text(value, form='.2f'):
  return '-' if value is None else format(value, form)


def make(
  table: Table, row: str, runs: str, data: str, tasks: Sequence[str], text: str
) -> None:
  """Makes the runs of a row at the tiny size and prints its numbers.

  Raises:
    ValueError: no row is named, or it cannot be run.
    UserError: a run has failed.
  """
  if not row:
    names = ', '.join(one.name for one in table.rows)
    raise ValueError(f'--tiny makes one row: give --row, one of {names}.')
  one = find_row(table, row)
  if reason := _reason(table, one):
    raise ValueError(f'{table.name}/{row} cannot be run. {reason}')
  if one.checkpoint:
    raise ValueError(
      f'{table.name}/{row} asks published weights: it has no tiny size.'
    )
  found = records.limited(records.runs(TABLES, table, one), tasks, True)
  found = [tiny.shrunk(x, text) for x in found]
  found += [tiny.shortened(x) for x in asked.asked(TABLES, table, one)]
  failed = tiny.run_all(found, runs, data)
  print('\n'.join([f'\n{row}', *_numbers(table, one, runs)]))
  if failed:
    raise command.UserError(
      f'{len(failed)} of {len(found)} runs failed:\n  ' + '\n  '.join(failed)
      + '\nThe same command goes on; --tasks leaves out tasks.'
    )  # fmt: skip


def main(names: list[str]) -> None:
  options = flags.FLAGS
  if not names:
    print(listed())
  for name in names:
    table = find(name)
    if options.runs and not options.tiny and not os.path.isdir(options.runs):
      raise ValueError(f'--runs={options.runs} is no folder.')
    if options.tiny:
      make(
        table, options.row, options.runs or 'tiny_runs', options.data,
        options.tasks, options.text,
      )  # fmt: skip
    else:
      print(
        shown(table, options.row, options.runs, options.data, options.tasks)
      )


if __name__ == '__main__':
  flags.DEFINE_string('row', '', 'one row of the table')
  flags.DEFINE_string('runs', '', 'the folder RUNS of all runs')
  flags.DEFINE_string(
    'data', '', "the folder of the tasks' files as their authors publish them"
  )
  flags.DEFINE_list('tasks', [], 'tasks, or groups of them; default: all')
  flags.DEFINE_bool('tiny', False, 'make the runs of a row at the tiny size')
  flags.DEFINE_string('text', '', "--tiny: the text's source; default: docs")
  command.run_words(main)
