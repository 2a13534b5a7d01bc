"""Columns of prompted tasks: the commands that ask, and what they found."""

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from configs.papers import records
from configs.papers.records import PRETRAIN, Column, Row, Table
from configs.papers.scores import Ours

CHECKPOINTS = 'checkpoints'  # the folder of published weights


class Asked(NamedTuple):
  """The prompted tasks of a row that are asked together.

  Attributes:
    tasks: their names.
    shots: examples before each question.
    flags: more flags of train.evaluate.
    place: the file of the scores, under the folder of all runs.
    origin: the workdir of the model, under that folder; '': it is published.
    checkpoint: of published weights, under CHECKPOINTS.
  """

  tasks: tuple[str, ...]
  shots: int
  flags: tuple[str, ...]
  place: str
  origin: str = ''
  checkpoint: str = ''

  def words(self, runs: str, data: str = '') -> list[str]:
    """The command: 'python' and its arguments; see `records.Run.words`."""
    words = ['python', '-m', 'train.evaluate']
    if self.checkpoint:
      words.append(f'--from={CHECKPOINTS}/{self.checkpoint}')
    else:
      words.append(f'--workdir={runs}/{self.origin}')
    words.append(f'--tasks={",".join(self.tasks)}')
    if data:
      words.append(f'--task_folder={data}')
    if self.shots:
      words.append(f'--shots={self.shots}')
    return [*words, *self.flags, f'--out={runs}/{self.place}']

  def command(self, runs: str, data: str = '') -> str:
    """The command, for the shell."""
    return ' '.join(shlex.quote(word) for word in self.words(runs, data))


def asked(
  tables: Mapping[str, Table], table: Table, row: Row
) -> Iterator[Asked]:
  """The questions of a row, grouped by their number of examples."""
  if row.why:
    return
  groups: dict[int, list[str]] = {}
  for column in table.columns:
    if column.asked:
      groups.setdefault(column.shots, []).append(column.asked)
  flags = table.flags if row.flags is None else row.flags
  origin = ''
  if not row.checkpoint:
    origin = f'{records.begun_from(tables, table, row)}/{PRETRAIN}'
  for shots, names in groups.items():
    tasks = tuple(dict.fromkeys(names))
    place = _place(table, row, shots)
    yield Asked(tasks, shots, flags, place, origin, row.checkpoint)


def _place(table: Table, row: Row, shots: int) -> str:
  """The file of a row's scores, under the folder of all runs."""
  return f'{table.name}/{row.name}/shots_{shots}.json'


def cell(table: Table, row: Row, column: Column, runs: str) -> Ours:
  """Our number of a column, from the file that the command has written.

  Raises:
    ValueError: the file cannot be read, or has no such metric.
  """
  path = os.path.join(runs, *_place(table, row, column.shots).split('/'))
  if not os.path.exists(path):
    return Ours(None)
  try:
    with open(path, encoding='utf-8') as file:
      found = json.load(file)['tasks'].get(column.asked)
    if found is None:
      return Ours(None)
    value = float(found[column.metric])
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(
      f'{path} has no metric {column.metric!r} of {column.asked}: it was not '
      'written by the command of this row.'
    ) from error
  return Ours(value, None, 1, numbers=(value,))
