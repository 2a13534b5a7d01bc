"""A user's own task: a record in a Python file, or a table with named columns.

FILE.py:NAME is the Task called NAME in a Python file. A table (tsv, csv or
jsonl) is

  tsv:TRAIN,validation=FILE,text=COLUMN,text2=COLUMN,label=COLUMN,kind=KIND

Its classes are those of the training file, sorted.
"""

import functools
import os
import runpy
from collections.abc import Iterator, Mapping, Sequence

from input_pipeline.choices import unknown
from input_pipeline.sources import paths
from input_pipeline.tasks import files, formats, metrics
from input_pipeline.tasks.task import Example, Task

READERS = {'tsv': files.tsv, 'csv': files.csv_rows, 'jsonl': files.jsonl}
# Kinds that a table can have -> their metrics.
_METRICS = {
  'classification': metrics.accuracy,
  'regression': metrics.pearson_spearman,
}
_KEYS = {
  'validation': 'a file of examples to evaluate',
  'test': 'a file of examples to predict',
  'text': 'the column of the text',
  'text2': 'the column of a second text',
  'label': "the column of the label; 'label' if left out",
  'kind': 'classification or regression; classification if left out',
  'name': "what a text-to-text model reads first; the file's name if left out",
  'length': 'tokens of a row of an encoder; 128 if left out',
}


def is_own(name: str) -> bool:
  """Whether a name is of a user's own task."""
  return '.py:' in name or name.partition(':')[0] in READERS


def find(name: str) -> Task:
  """The task that FILE.py:NAME, or FORMAT:TRAIN,KEY=VALUE,..., describes.

  Raises:
    ValueError: the description or the training file is wrong.
  """
  if '.py:' in name:
    return _from_python(name)
  return _from_table(name)


# ---- A Python file ----
def _from_python(name):
  path, _, variable = name.rpartition(':')
  if not os.path.isfile(path):
    raise ValueError(f'task {name!r}: there is no file {path}.')
  found = runpy.run_path(path)
  tasks = {key: x for key, x in found.items() if isinstance(x, Task)}
  if variable not in tasks:
    raise ValueError(
      unknown(f'task {name!r}: the Task', variable, tasks)
      if tasks
      else f'task {name!r}: {path} defines no Task. See docs/tasks.md.'
    )
  return tasks[variable]


# ---- A table ----
def _from_table(name):
  layout, _, rest = name.partition(':')
  train, *pairs = rest.split(',')
  options = _options(name, pairs)
  kind = options.get('kind', 'classification')
  if kind not in _METRICS:
    raise ValueError(f'task {name!r}: {unknown("kind", kind, _METRICS)}')
  if not train or 'text' not in options:
    raise ValueError(
      f'task {name!r} names no {"column text" if train else "training file"}:'
      f' write {layout}:TRAIN,text=COLUMN,label=COLUMN,validation=FILE. The'
      f' keys are: {", ".join(_KEYS)}.'
    )
  fields = tuple(options[key] for key in ('text', 'text2') if key in options)
  label = options.get('label', 'label')
  if label in fields:
    raise ValueError(f'task {name!r}: column {label!r} is both text and label.')
  split_files = {'train': train, **options}
  splits = [x for x in ('train', 'validation', 'test') if x in split_files]
  read = functools.partial(
    read_table, layout=layout, fields=fields, label=label, kind=kind
  )
  labels = ()
  if kind == 'classification':
    labels = _classes(name, read, train)
    read = functools.partial(read, labels=labels)
  stem = os.path.splitext(os.path.basename(train))[0]
  prefix = options.get('name', stem)
  write = formats.classified if labels else formats.scored
  return Task(
    name=f'{layout}/{prefix}',
    kind=kind,
    splits={split: split for split in splits},
    files={split: (_absolute(split_files[split]),) for split in splits},
    read=read,
    labels=labels,
    texts=functools.partial(formats.texts, fields=fields),
    length=_length(name, options.get('length', '128')),
    text_to_text=functools.partial(write, prefix=prefix, fields=fields),
    decode=functools.partial(formats.as_class, labels=labels)
    if labels
    else formats.as_number,
    metrics=_METRICS[kind],
    averaged=() if labels else ('pearson', 'spearman'),
  )


def _options(name: str, pairs: Sequence[str]) -> Mapping[str, str]:
  options = {}
  for pair in pairs:
    key, equals, value = pair.partition('=')
    if key not in _KEYS:
      raise ValueError(f'task {name!r}: {unknown("key", key, _KEYS)}')
    if not equals or not value or key in options:
      raise ValueError(
        f'task {name!r}: {key!r} must have one value, {_KEYS[key]}. A file or'
        ' column whose name has a comma must be named in a Python file'
        ' (docs/tasks.md).'
      )
    options[key] = value
  return options


def _length(name, text):
  if not text.isdecimal() or not int(text):
    raise ValueError(
      f'task {name!r}: length={text} must be a whole number > 0.'
    )
  return int(text)


def _absolute(path):
  return path if paths.is_remote(path) else os.path.abspath(path)


def _classes(name, read, train):
  """The classes of the training file, sorted."""
  found = {example['label'] for example in read(_absolute(train))}
  if None in found:
    raise ValueError(f'task {name!r}: {train} has examples without a label.')
  if len(found) < 2:
    raise ValueError(
      f'task {name!r}: {train} has only one class, {found.pop()!r}. There is'
      ' nothing to learn: check label=COLUMN.'
    )
  return tuple(sorted(found))


def read_table(
  path: str,
  *,
  layout: str,
  fields: Sequence[str],
  label: str,
  kind: str,
  labels: Sequence[str] = (),
) -> Iterator[Example]:
  """Examples of a table; without a column `label`, all labels are secret.

  `labels` are the classes of the training file; (): any label is accepted.

  Raises:
    ValueError: a column is missing, or a label is not among `labels`.
  """
  for n, (place, row) in enumerate(READERS[layout](path, fields)):
    value = row.get(label)
    if value is not None and kind == 'regression':
      value = files.number(place, value, label)
    elif value is not None:
      value = str(value) or None
      if labels and value is not None and value not in labels:
        message = unknown(f'{place}: {label}', value, labels)
        raise ValueError(f'{message} These are those of the training file.')
    texts = {name: str(row[name]) for name in fields}
    yield {**texts, 'label': value, 'idx': n}
