"""A user's own chats: messages, or instructions with answers, in JSONL files.

  messages:TRAIN,validation=FILE,test=FILE,name=NAME,metric=METRIC
  instructions:TRAIN,...

A line of messages has `messages`, a list of {'role': ..., 'content': ...}; see
chat/messages.py. A line of instructions has `instruction`, perhaps `input`, and
`output`; or, as Self-Instruct's seed tasks, `instruction` and `instances`, a
list of objects with `input` and `output`, which are examples one by one.
"""

import functools
import os
from collections.abc import Iterator

from input_pipeline.chat import messages as chat
from input_pipeline.choices import FILE_LAST, unknown
from input_pipeline.tasks import files, metrics
from input_pipeline.tasks.task import Example, Task

METRICS = {
  'rouge': functools.partial(metrics.rouge, field='label'),
  'accuracy': metrics.accuracy,  # the answer, to the letter
}
_KEYS = {
  'validation': 'a file of chats to evaluate',
  'test': 'a file of chats to predict',
  'name': "the task's name; the file's if left out",
  'metric': 'rouge, if left out, or accuracy (of the answer, to the letter)',
}


def read_messages(path: str) -> Iterator[Example]:
  """Chats of a JSONL file. Raises ValueError, naming a line that is bad."""
  for n, (place, row) in enumerate(files.jsonl(path, ('messages',))):
    chat.check(row['messages'], place)
    yield _example(n, row['messages'])


def read_instructions(path: str) -> Iterator[Example]:
  """Instructions of a JSONL file as chats of one turn."""
  n = 0
  for place, row in files.jsonl(path, ('instruction',)):
    several = row.get('instances')
    if several is not None and not (isinstance(several, list) and several):
      raise ValueError(f'{place}: instances must be a list with objects.')
    for own in several or [row]:
      files.checked(place, own, ('output',))
      for name in ('instruction', 'input', 'output'):
        _check_text(place, name, (row if name == 'instruction' else own))
      said = str(row['instruction']).strip()
      more = str(own.get('input') or '').strip()
      said += f'\n\n{more}' * bool(more)
      messages = chat.exchange(said, str(own['output']).strip())
      chat.check(messages, place)
      yield _example(n, messages)
      n += 1


def _check_text(place, name, fields):
  """Raises ValueError if a field is neither a text nor a number."""
  value = fields.get(name)
  if not isinstance(value, str | int | float | None):
    raise ValueError(
      f'{place}: the field {name!r} is {str(value)[:40]}, which is no text.'
    )


def _example(n, messages):
  plain = [{key: x[key] for key in ('role', 'content')} for x in messages]
  return {'messages': plain, 'label': plain[-1]['content'].strip(), 'idx': n}


READERS = {'messages': read_messages, 'instructions': read_instructions}


def is_own(name: str) -> bool:
  """Whether a task's name is of a user's own chats."""
  return name.partition(':')[0] in READERS


def find(name: str) -> Task:
  """The task of a user's own chats.

  Raises:
    ValueError: a key is unknown, or no file is named.
  """
  layout, _, rest = name.partition(':')
  train, *pairs = rest.split(',')
  options = {}
  for pair in pairs:
    key, found, value = pair.partition('=')
    if key not in _KEYS or not (found and value):
      hint = unknown(f'task {name!r}: key', key, _KEYS)
      raise ValueError(f'{hint} Write KEY=VALUE. {FILE_LAST}')
    options[key] = value
  if not train:
    raise ValueError(f'task {name!r} names no file: write {layout}:FILE.')
  metric = options.get('metric', 'rouge')
  if metric not in METRICS:
    raise ValueError(unknown(f'task {name!r}: metric', metric, METRICS))
  stem = os.path.splitext(os.path.basename(train))[0]
  places = {'train': train} | {
    split: options[split]
    for split in ('validation', 'test')
    if split in options
  }
  return Task(
    name=f'{layout}/{options.get("name", stem)}',
    kind='text',
    splits={split: split for split in places},
    files={split: (os.path.abspath(x),) for split, x in places.items()},
    read=READERS[layout],
    text_to_text=_pair,
    chats=_chats,
    decode=_answer,
    metrics=METRICS[metric],
    averaged=('rougeLsum',) if metric == 'rouge' else (),
  )


def _chats(example, draw):
  del draw
  return [example['messages']]


def _pair(example):
  *before, answer = example['messages']
  return [('\n\n'.join(x['content'] for x in before), answer['content'])]


def _answer(text, example):
  return text.strip()
