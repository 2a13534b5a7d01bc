"""What a table of a paper is, and the commands of its rows."""

import importlib
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from configs import arguments
from configs.finetune.t5 import MIXTURES

PRETRAIN = 'pretrain'  # the folder of a row's pretraining run
ALONE = 'none'  # Row.recipe of a row that is not fine-tuned
TRUNK = 'configs/'
MIXTURE = 'data.mixture'


class Column(NamedTuple):
  """A column of published cells, and where ours come from.

  Attributes:
    name: its heading.
    task: what is fine-tuned for it, a task or a mixture; '': nothing.
    metric: under 'eval/' in metrics.jsonl; '': the task's score, of a mixture
      the mean of its tasks' scores. Without a task it is one of pretraining.
    average: the columns whose mean it is, in groups that are averaged first.
    tuned: keys that are changed in the recipe for it: it has its own run.
    asked: a prompted task; see papers/asked.py.
    shots: examples before each of its questions.
  """

  name: str
  task: str = ''
  metric: str = ''
  average: tuple[tuple[str, ...], ...] = ()
  tuned: Mapping[str, Any] = {}
  asked: str = ''
  shots: int = 0

  @property
  def place(self) -> str:
    """The folder of its run under that of the row."""
    if self.tuned:
      return self.name
    return self.task or PRETRAIN


class Row(NamedTuple):
  """A row of a table.

  Attributes:
    name: one word, also the name of its folder.
    cells: a number for each column, '-' if the paper has none; a number that
      ends in m is from memory.
    config: of the pretraining, FILE.py:ARG under configs/.
    keys: what is changed in it.
    each: task -> keys, if every task has its own pretraining run.
    same: 'TABLE/ROW' that has the same runs.
    start: 'TABLE/ROW' whose pretraining run this row starts from. With a
      `config` the row pretrains further: parameters, the optimizer's state and
      the step are those of that run.
    recipe: of the fine-tuning, in place of the table's; ALONE: none.
    tuned: keys that are changed in it.
    by_task: task -> keys that are changed for it alone.
    flags: of train.finetune, or of train.evaluate, in place of the table's.
    after: task -> the task whose fine-tuned run it starts from.
    checkpoint: published weights that are asked, in place of a run.
    why: the reason why it cannot be run; '': it can.
    note: what differs from the paper.
  """

  name: str
  cells: str
  config: str = ''
  keys: Mapping[str, Any] = {}
  each: Mapping[str, Mapping[str, Any]] = {}
  same: str = ''
  start: str = ''
  recipe: str = ''
  tuned: Mapping[str, Any] = {}
  by_task: Mapping[str, Mapping[str, Any]] = {}
  flags: tuple[str, ...] | None = None
  after: Mapping[str, str] = {}
  checkpoint: str = ''
  why: str = ''
  note: str = ''


class Table(NamedTuple):
  """A table of a paper.

  Attributes:
    name: 'PAPER.tableN'.
    title: what it compares, and the published split.
    columns: in the order of the cells.
    rows: in the order of the paper.
    recipe: of the fine-tuning, FILE.py[:ARG] under configs/finetune/.
    flags: of train.finetune, seeds and grids; or of train.evaluate.
    over: how our cell sums up the seeds, 'mean' or 'median'.
    memory: whether all cells are from memory.
    note: what is true of all rows.
    texts: the corpora that the paper pretrains on, of texts.CORPORA.
  """

  name: str
  title: str
  columns: tuple[Column, ...]
  rows: tuple[Row, ...]
  recipe: str
  flags: tuple[str, ...] = ()
  over: str = 'mean'
  memory: bool = False
  note: str = ''
  texts: tuple[str, ...] = ('C4',)

  @property
  def tasks(self) -> tuple[str, ...]:
    """What each row is fine-tuned on."""
    return tuple(dict.fromkeys(c.task for c in self.columns if c.task))

  @property
  def tunings(self) -> Mapping[str, Column]:
    """Folder -> the first column of each fine-tuning run of a row."""
    found = {}
    for column in self.columns:
      if column.task:
        found.setdefault(column.place, column)
    return found


class Cell(NamedTuple):
  """A published number; None where the paper has none."""

  value: float | None
  mark: str  # read or memory
  text: str  # as the paper prints it; 'm' follows what is from memory


class Run(NamedTuple):
  """One run of a row.

  Attributes:
    task: what is fine-tuned; '': it is pretraining.
    config: as --config has it, with its argument.
    keys: what is changed in it.
    folder: its workdir, under the folder of all runs.
    origin: the workdir that it starts from, '' for none; a pretraining run
      goes on where that one ended.
    flags: more flags.
  """

  task: str
  config: str
  keys: Mapping[str, Any]
  folder: str
  origin: str = ''
  flags: tuple[str, ...] = ()

  @property
  def mixture(self) -> tuple[tuple[str, float], ...]:
    """(source, number) of each source of a mixture, of others ()."""
    named = tuple(
      (f'task:{name}', n) for name, n in MIXTURES.get(self.task, ())
    )
    return self.keys.get(MIXTURE, named)

  @property
  def members(self) -> list[str]:
    """The tasks of a mixture."""
    return [x[5:] for x, _ in self.mixture if x.startswith('task:')]

  def words(self, runs: str, data: str = '') -> list[str]:
    """The command: 'python' and its arguments.

    Args:
      runs: the folder of all runs.
      data: the folder of the tasks' files; '': from TFDS.
    """
    words = ['python', '-m', 'train.finetune' if self.task else 'train']
    words.append(f'--config={self.config}')
    if self.origin and self.task:
      words.append(f'--from={runs}/{self.origin}')
    elif self.origin:
      words += [f'--init_from={runs}/{self.origin}', '--init_state']
    words += [f'--workdir={runs}/{self.folder}', *self.flags]
    keys = dict(self.keys)
    if data and (self.task or self.members):
      keys['data.task_folder'] = data
    return words + [f'--config.{key}={value}' for key, value in keys.items()]

  def command(self, runs: str, data: str = '') -> str:
    """The command, for the shell."""
    return ' '.join(shlex.quote(word) for word in self.words(runs, data))


def pretraining(run: Run) -> ConfigDict:
  """The config of a pretraining run, with what the row changes in it."""
  file, _, argument = run.config.removeprefix(TRUNK).partition(':')
  module = importlib.import_module(f'configs.{file.removesuffix(".py")}')
  config = module.get_config(argument).unlock()
  config.update_from_flattened_dict(dict(run.keys))
  return config


def cells(table: Table, row: Row) -> list[Cell]:
  """The published cells of a row, one for each column."""
  found = []
  for text in row.cells.split():
    mark = 'memory' if table.memory or text.endswith('m') else 'read'
    number = text.removesuffix('m')
    if number == '-':
      found.append(Cell(None, mark, number))
    else:
      shown = number + 'm' * (mark == 'memory')
      found.append(Cell(float(number), mark, shown))
  return found


def resolve(
  tables: Mapping[str, Table], table: Table, row: Row
) -> tuple[Table, Row]:
  """The table and the row that the runs of a row belong to."""
  while row.same:
    table, row = _find(tables, row.same)
  return table, row


def begun_from(tables: Mapping[str, Table], table: Table, row: Row) -> str:
  """'TABLE/ROW' whose pretraining run a row starts from, often itself."""
  table, row = resolve(tables, table, row)
  place = f'{table.name}/{row.name}'
  while row.start and not row.config:
    place = row.start
    row = _find(tables, place)[1]
  return place


def runs(tables: Mapping[str, Table], table: Table, row: Row) -> Iterator[Run]:
  """All runs of a row, in the order to train them.

  A row that cannot be run has none.
  """
  tunings = table.tunings
  table, row = resolve(tables, table, row)
  if row.why or row.checkpoint:
    return
  home = f'{table.name}/{row.name}'
  origin = begun_from(tables, table, row)
  yield from _pretraining(tables, origin, row.each)
  recipe = row.recipe or table.recipe
  if recipe == ALONE:
    return
  file, _, argument = recipe.partition(':')
  flags = table.flags if row.flags is None else row.flags
  # Runs that others start from come first.
  for place in sorted(tunings, key=lambda x: tunings[x].task in row.after):
    task = tunings[place].task
    begin = f'{origin}/{PRETRAIN}' + f'/{task}' * bool(row.each)
    if task in row.after:
      begin = f'{home}/{row.after[task]}'
    argued = f'task={task}' + f',{argument}' * bool(argument)
    yield Run(
      task,
      f'{TRUNK}finetune/{file}:{argued}',
      {**row.tuned, **row.by_task.get(task, {}), **tunings[place].tuned},
      f'{home}/{place}',
      begin,
      flags,
    )


def _pretraining(tables, place, each):
  """The pretraining runs of 'TABLE/ROW', after the one that it goes on from.

  `each` is that of the row that begins from them.
  """
  row, before = _find(tables, place)[1], ''
  if row.start:
    before = begun_from(tables, *_find(tables, row.start))
    yield from _pretraining(tables, before, {})
    before += f'/{PRETRAIN}'
  for task in each or ('',):
    folder = f'{place}/{PRETRAIN}' + f'/{task}' * bool(task)
    keys = {**row.keys, **each.get(task, {})}
    yield Run('', TRUNK + row.config, keys, folder, before)


def limited(
  runs: Iterable[Run], tasks: Sequence[str], pretraining: bool = False
) -> list[Run]:
  """The runs on some tasks alone; mixtures keep these tasks and their texts.

  Args:
    runs: of a row.
    tasks: names of tasks, or of groups such as 'glue'; none: all.
    pretraining: whether the mixture of a pretraining run is limited too.

  Raises:
    ValueError: a name that no run has, or a run that starts from one on a task
      that is left out.
  """
  runs = list(runs)
  if not tasks:
    return runs
  known = {name for run in runs for name in (run.task, *run.members) if name}
  known |= {name.partition('/')[0] for name in known if '/' in name}
  for name in tasks:
    if name not in known:
      raise ValueError(
        arguments.unknown('--tasks: the task', name, sorted(known))
      )

  def wanted(task):
    return any(task == name or task.startswith(f'{name}/') for name in tasks)

  found, left_out = [], {}
  for run in runs:
    kept = [name for name in run.members if wanted(name)]
    if run.task and not (kept or wanted(run.task)):
      left_out[run.folder] = run.task
      continue
    for folder, task in left_out.items():
      if run.origin.startswith(folder):
        raise ValueError(
          f'--tasks: {run.task} starts from the run on {task}: name it too.'
        )
    if run.members and not wanted(run.task) and (run.task or pretraining):
      sources = tuple(
        (source, number)
        for source, number in run.mixture
        if not source.startswith('task:') or source[5:] in kept
      )
      run = run._replace(keys={**run.keys, MIXTURE: sources})
    found.append(run)
  begun = {run.origin for run in found if run.task}
  begun |= {run.origin for run in found if run.folder in begun}
  return [run for run in found if run.task or not begun or run.folder in begun]


def _find(tables, place):
  """'TABLE/ROW' -> the table and the row."""
  name, _, row = place.partition('/')
  return tables[name], next(r for r in tables[name].rows if r.name == row)
