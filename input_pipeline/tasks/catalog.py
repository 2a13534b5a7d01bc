"""All labelled tasks by name, and the examples of their splits."""

import collections
import os
from collections.abc import Iterable

from input_pipeline.choices import either, unknown
from input_pipeline.sources import paths
from input_pipeline.tasks import (
  choice,
  glue,
  own,
  reading,
  summarization,
  superglue,
  tagging,
  tfds,
  translation,
)
from input_pipeline.tasks.task import Example, Task

TASKS = {
  task.name: task
  for group in (
    *(glue, superglue, reading, choice, tagging, summarization, translation),
  )
  for task in group.TASKS
}
# A group -> the tasks to train on. GLUE has no WNLI and SuperGLUE has DPR, as
# in T5 (2.4).
GROUPS = {
  'glue': (
    *('glue/cola', 'glue/sst2', 'glue/mrpc', 'glue/qqp', 'glue/stsb'),
    *('glue/mnli', 'glue/qnli', 'glue/rte'),
  ),
  'super_glue': (
    *('super_glue/boolq', 'super_glue/cb', 'super_glue/copa'),
    *('super_glue/multirc', 'super_glue/record', 'super_glue/rte'),
    *('super_glue/wic', 'super_glue/wsc', 'super_glue/dpr'),
  ),
  'squad': ('squad/v1.1',),
  'summarization': ('cnn_dailymail',),
  'translation': ('wmt/en_de', 'wmt/en_fr', 'wmt/en_ro'),
}


def find(name: str) -> Task:
  """The task with a name, such as 'glue/cola', or a user's own (see own.py).

  Raises:
    ValueError: the name is unknown; the message has the nearest name.
  """
  if own.is_own(name):
    return own.find(name)
  if name in GROUPS:
    members = [x for x in TASKS if x.startswith(f'{name}/')] or GROUPS[name]
    if len(members) == 1:
      raise ValueError(f'{name!r} is a group of one task: name {members[0]}.')
    raise ValueError(
      f'{name!r} is several tasks: name one, {either(members)}. (A model that'
      ' writes learns them together: --config=finetune/t5.py:task=glue, or'
      ' data.mixture.)'
    )
  if name not in TASKS:
    raise ValueError(unknown('task', name, TASKS))
  return TASKS[name]


def examples(task: Task, split: str, folder: str = '') -> list[Example]:
  """All examples of a split of a task, in their published order.

  Prints how many there are, of which class, and where they come from.

  Args:
    task: the record of the task.
    split: our name of the split.
    folder: the folder of the published files; '': TFDS is read.

  Raises:
    ValueError: there is no such split or file, a file is not as published, a
      label is unknown or, except for a test split, missing.
  """
  if split not in task.splits:
    raise ValueError(
      f'task {task.name} has no split {split!r}, only'
      f' {", ".join(map(repr, task.splits))}.'
    )
  if task.make:
    where, found = 'a program', list(task.make(split))
  elif task.tfds and not folder:
    where = ', '.join(f'tfds:{name}@{task.splits[split]}' for name in task.tfds)
    found = list(_from_tfds(task, split))
  else:
    names = _files(task, split, folder)
    where = ', '.join(names)
    found = [example for name in names for example in task.read(name)]
    # The lines of each file are numbered from 0.
    if len(names) > 1 and found and isinstance(found[0].get('idx'), int):
      found = [x | {'idx': n} for n, x in enumerate(found)]
  if not found:
    raise ValueError(
      f'split {split!r} of task {task.name} is empty: {where} has no example.'
    )
  counts = _count(task, split, found, where)
  print(f'{task.name}, {split}: {len(found)} examples of {where}{counts}.')
  return found


def _from_tfds(task: Task, split: str) -> Iterable[Example]:
  for name in task.tfds:
    for record in tfds.records(name, task.splits[split], task):
      if task.convert:
        yield from task.convert(record)
      elif task.kind == 'regression' and record[task.label] < 0:
        yield {**record, task.label: None}  # TFDS has -1 for a secret number
      else:
        yield record


def _files(task: Task, split: str, folder: str) -> list[str]:
  """The files of a split in a folder: those of the first layout found."""
  names = [os.path.join(folder, name) for name in task.files.get(split, ())]
  for name in names:
    if found := paths.match(name):
      return found
  where = f'{folder!r} (data.task_folder)' if folder else 'the current folder'
  looked = f' Looked for {", ".join(names)}.' if names else ''
  raise ValueError(
    f'there is no file of split {split!r} of task {task.name} in {where}.'
    f'{looked} Name the folder that has the published files'
    f'{", or leave it out to read TFDS" if task.tfds else ""}.'
  )


def _count(task, split, found, where):
  """' (CLASS NUMBER, ...)'; checks that each example has a known label.

  Examples with an empty text, which are read as they are, are counted too.
  """
  empty = sum(_has_empty(task, example) for example in found)
  empty = f' ({empty} with an empty text)' * bool(empty)
  free = task.kind in ('text', 'span')
  labels = [example.get(task.label, '') for example in found]
  if missing := sum(label is None for label in labels):
    if not split.startswith('test'):
      raise ValueError(
        f'{missing} of the {len(found)} examples of split {split!r} of task'
        f' {task.name} ({where}) have no {task.label!r}: this may be a test'
        ' file, or a name of a column may be wrong.'
      )
    return f' ({missing} without a label)' + empty
  if free:
    return empty
  if task.kind == 'regression':
    return f' (numbers from {min(labels):g} to {max(labels):g})' + empty
  if task.kind == 'tagging':
    labels = [tag for tags in labels for tag in tags]
  counts = collections.Counter(labels)
  if unknown := sorted(counts.keys() - set(task.labels)):
    raise ValueError(
      f'split {split!r} of task {task.name} ({where}) has the unknown label'
      f' {unknown[0]!r}. The task has {either(map(repr, task.labels))}.'
    )
  numbers = ', '.join(f'{name} {counts[name]}' for name in task.labels)
  return f' ({numbers})' + empty


def _has_empty(task, example):
  match task.kind:
    case 'classification' | 'regression':
      texts = task.texts(example)
    case 'text':
      texts = example.values()
    case _:
      return False
  return any(isinstance(x, str) and not x.strip() for x in texts)
