"""The examples of a labelled task as a source: `task:NAME[@SPLIT]`."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from input_pipeline.choices import PAIRS
from input_pipeline.instructions.catalog import find
from input_pipeline.sources import hashes
from input_pipeline.sources.files import Source
from input_pipeline.tasks.catalog import examples
from input_pipeline.tasks.task import Example, Task

TRAIN = 'train'
_SPLIT = re.compile(r'(.+)@(\w+)')


def split_name(name: str) -> tuple[str, str]:
  """'NAME[@SPLIT]' -> the task's name and the split, 'train' by default.

  >>> split_name('glue/mnli@validation_matched')
  ('glue/mnli', 'validation_matched')
  """
  found = _SPLIT.fullmatch(name)
  return (found[1], found[2]) if found else (name, TRAIN)


def fill_in(data: Any, family: str) -> list['Labelled']:
  """Sets the keys data.* of a config that the records of its tasks decide.

  Lengths that are 0 and, of a task that is not text to text, the objective,
  which is its kind, and `data.choices`.

  Args:
    data: the config's group, which is changed.
    family: of the model.

  Returns:
    The training split of each task.

  Raises:
    ValueError: no task is named, or one cannot be read.
  """
  names = {f'data.mixture[{n}]': x for n, (x, _) in enumerate(data.mixture)}
  names = names or {'data.source': data.source}
  tasks = {key: x for key, x in names.items() if x.startswith('task:')}
  if not tasks:
    raise ValueError(
      f'data.source={data.source!r} is not a task: name one, '
      '--config=FILE.py:task=NAME or --config.data.source=task:NAME.'
    )
  opened = [
    Labelled(x.partition(':')[2], data.task_folder, key)
    for key, x in tasks.items()
  ]
  if data.objective in PAIRS:
    lengths = [source.task.lengths for source in opened]
    data.length = data.length or max(length for length, _ in lengths)
    if family == 'encoder_decoder' and not data.target_length:
      data.target_length = max(length for _, length in lengths)
    return opened
  task = opened[0].task
  data.objective = task.kind
  data.length = data.length or task.length
  if task.kind != 'regression':
    data.label_scale = 0.0
  if task.kind == 'choice':
    data.choices = len(task.texts(opened[0].examples[0]))
  return opened


class Labelled(Source):
  """A split of a task, in the order of its file.

  Attributes:
    task: the record of the task.
    split: our name of the split.
    examples: all of them.
    validations: the sources that are evaluated beside the training split.
  """

  unit = 'example'
  validations = ()

  def __init__(self, name: str, folder: str, key: str):
    """`name` is NAME[@SPLIT], `folder` data.task_folder.

    Raises ValueError, naming the config's `key`, for an unknown task or split,
    and for bad files.
    """
    whole = name
    name, self.split = split_name(name)
    try:
      self.task: Task = find(name)
      self.examples: Sequence[Example] = examples(self.task, self.split, folder)
    except ValueError as error:
      raise ValueError(f"{key}='task:{whole}': {error}") from error
    self.files = [f'task:{name}@{self.split}']
    self.lengths = [len(self.examples)]
    splits = [x for x in self.task.splits if x.startswith('validation')]
    if self.split == TRAIN:
      self.validations = [f'task:{name}@{split}' for split in splits]
      self.validation = next(iter(self.validations), '')

  @property
  def fingerprint(self) -> dict:
    lines = (json.dumps(x, sort_keys=True) for x in self.examples)
    return {
      'task': self.task.name,
      'split': self.split,
      'examples': len(self.examples),
      'sha256': hashes.sha256('\n'.join(lines).encode()),
    }

  def records(self, file: int, start: int) -> Iterator[tuple[int, Example]]:
    return enumerate(self.examples[start:], start)

  def open(self, file: int) -> Callable[[list[int]], list[tuple[int, Example]]]:
    return lambda indices: [(i, self.examples[i]) for i in indices]

  def text(self, record: Example) -> bytes:
    """What a text-to-text model reads and writes, to train a tokenizer on."""
    pairs = self.task.text_to_text(record)
    return '\n'.join(text for pair in pairs for text in pair).encode()
