"""All prompted tasks by name, their questions, and examples before them."""

import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence

import numpy as np

from input_pipeline.choices import unknown
from input_pipeline.prompted import arithmetic, choices, cloze, texts
from input_pipeline.prompted.task import Item, Prompted
from input_pipeline.sources import paths
from input_pipeline.tasks import files

TASKS = {
  task.name: task
  for group in (cloze, texts, choices, arithmetic)
  for task in group.TASKS
}
OWN = 'choice', 'cloze', 'answer'


def find(name: str) -> Prompted:
  """The task with a name, or a user's own, KIND:FILE.jsonl.

  A line of their own has, as choice, `context`, `choices` and `label` (from 0);
  as cloze, `context` and `continuation`; as answer, `question` and `answer`,
  whose last number counts.

  Raises:
    ValueError: the name is unknown; the message has the nearest name.
  """
  kind, colon, path = name.partition(':')
  if colon:
    if kind not in OWN:
      raise ValueError(unknown('kind of task', kind, OWN))
    return _own(kind, path)
  if name not in TASKS:
    raise ValueError(unknown('task', name, TASKS))
  return TASKS[name]


def _own(kind, path):
  read = functools.partial(read_own, kind=kind)
  more = {}
  if kind == 'answer':
    like = TASKS['gsm8k']
    more = {'stop': like.stop, 'length': like.length, 'extract': like.extract}
  return Prompted(
    name=f'{kind}:{path}', kind=kind, files={'test': (path,)}, read=read,
    asked='test', shots='', norm='byte', **more,
  )  # fmt: skip


def read_own(path: str, kind: str) -> Iterator[Item]:
  """The questions of a JSONL file; see `find`."""
  if kind == 'choice':
    for place, row in files.jsonl(path, ('context', 'choices', 'label')):
      label, found = row['label'], row['choices']
      if not isinstance(found, list) or len(found) < 2 or not all(found):
        raise ValueError(
          f'{place}: choices must be a list of two or more, none of them empty.'
        )
      if not isinstance(label, int) or label not in range(len(found)):
        raise ValueError(
          f'{place}: label {label!r} must be 0 to {len(found) - 1}.'
        )
      options = ((row['context'], f' {text}') for text in found)
      yield Item((*options,), label)
  elif kind == 'cloze':
    for _, row in files.jsonl(path, ('context', 'continuation')):
      yield Item(((row['context'], f' {row["continuation"].strip()}'),))
  else:
    for place, row in files.jsonl(path, ('question', 'answer')):
      answer = str(row['answer']).strip()
      if arithmetic.number(answer) is None:
        raise ValueError(f'{place}: the answer {answer[:40]!r} has no number.')
      yield Item(((f'Q: {row["question"]}\nA:', f' {answer}'),))


def items(
  task: Prompted, folder: str = '', split: str = '', limit: int = 0
) -> list:
  """The questions or texts of a split, in the order of its files.

  Args:
    task: the record of the task.
    folder: that has its files as their authors publish them.
    split: '': the one that is asked.
    limit: the first so many; 0: all.

  Raises:
    ValueError: there is no such file, or it is not as published.
  """
  split = split or task.asked
  names = [os.path.join(folder, name) for name in task.files[split]]
  found = next(filter(None, map(paths.match, names)), None)
  if not found:
    raise ValueError(
      f'{task.name}: there is no file of split {split!r}. Looked for '
      f'{", ".join(names)}. Name the folder of the published files with '
      '--task_folder.'
    )
  read = [item for name in found for item in _read(task, name)]
  if not read:
    raise ValueError(f'{task.name}: {", ".join(found)} has no question.')
  return read[:limit] if limit else read


def _read(task, path):
  """A file's items; what is no published file is a ValueError."""
  try:
    return list(task.read(path))
  except (TypeError, AttributeError, KeyError) as error:
    raise ValueError(
      f'{task.name}: {path} is not as published: a field has another type than '
      f'it should ({error}).'
    ) from error


def with_shots(
  task: Prompted,
  asked: Sequence[Item],
  examples: Sequence[Item],
  shots: int,
  seed: int = 0,
) -> list[Item]:
  """Questions with so many examples before each.

  Each question has its own drawn examples (Brown et al. 2020, 2.4), or the
  first ones of its group; they depend on the seed and its number alone.

  Raises:
    ValueError: there are too few examples.
  """
  groups: dict[str, list[Item]] = {}
  for example in examples:
    group = example.group if task.in_order else ''
    groups.setdefault(group, []).append(example)
  found = []
  for n, item in enumerate(asked):
    own = groups.get(item.group if task.in_order else '', [])
    if not task.in_order and shots:
      draw = np.random.default_rng((seed, n))
      more = min(shots + 1, len(own))  # one may be the question itself
      own = [own[x] for x in draw.choice(len(own), more, replace=False)]
    chosen = [x for x in own if x.options != item.options][:shots]
    if len(chosen) < shots:
      raise ValueError(
        f'{task.name}: there are {len(chosen)} examples for --shots={shots}.'
      )
    before = task.lead(item.group) + ''.join(
      x.example + task.between for x in chosen
    )
    options = ((before + x, y) for x, y in item.options)
    found.append(item._replace(options=(*options,)))
  return found


def open_task(
  task: Prompted,
  folder: str = '',
  shots: int = 0,
  limit: int = 0,
  seed: int = 0,
  shots_file: str = '',
) -> list:
  """Questions with examples before each, or texts.

  Args:
    task: the record of the task.
    folder: that has its files as their authors publish them.
    shots: how many examples.
    limit: the first so many questions; 0: all.
    seed: of the examples that are drawn.
    shots_file: a file of examples, as `find` describes those of an own task,
      in place of the task's own.

  Raises:
    ValueError: there are no such files, or the task has no examples.
  """
  asked = items(task, folder, limit=limit)
  if task.kind == 'text':
    if shots:
      raise ValueError(f'{task.name} is a text, without examples: --shots=0.')
    return asked
  if not shots:
    return with_shots(task, asked, [], 0)
  teacher = TASKS[task.teacher] if task.teacher else task
  if shots_file:
    read = functools.partial(read_own, kind=task.kind)
    examples = _read(dataclasses.replace(task, read=read), shots_file)
  elif teacher.shots:
    examples = items(teacher, folder, teacher.shots)
  else:
    raise ValueError(
      f'{task.name} has no split of examples for --shots={shots}: give some '
      'with --shots_file.'
    )
  return with_shots(task, asked, examples, shots, seed)
