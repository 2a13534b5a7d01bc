"""A user's own chats, from files of messages and of instructions."""

import json

import pytest

from input_pipeline.instructions.catalog import find
from input_pipeline.tasks import catalog

USER = {'role': 'user', 'content': 'Hi'}
REPLY = {'role': 'assistant', 'content': 'Hello!'}


def write(path, *rows):
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return path


def test_messages(tmp_path):
  path = write(tmp_path / 'a.jsonl', {'messages': [USER, REPLY | {'x': 1}]})
  task = find(f'messages:{path},validation={path},name=talk,metric=accuracy')
  assert (task.name, task.kind) == ('messages/talk', 'text')
  [example] = catalog.examples(task, 'validation')
  assert task.chats(example, None) == [[USER, REPLY]]
  assert task.text_to_text(example) == [('Hi', 'Hello!')]
  found = [task.decode(' Hello!\n', example)]
  assert task.metrics([example], found)['accuracy'] == 100


def test_instructions(tmp_path):
  """Rows with one answer, and Self-Instruct's with instances."""
  several = [{'input': 'x', 'output': 'y'}, {'input': '', 'output': ' z '}]
  path = write(
    tmp_path / 'seeds.jsonl',
    {'instruction': 'Do it.', 'input': 'Here.', 'output': 'Done.'},
    {'instruction': 'Try.', 'instances': several},
  )
  task = find(f'instructions:{path}')
  assert task.name == 'instructions/seeds'
  pairs = [
    tuple(x['content'] for x in example['messages'])
    for example in catalog.examples(task, 'train')
  ]
  assert pairs == [
    ('Do it.\n\nHere.', 'Done.'),
    ('Try.\n\nx', 'y'),
    ('Try.', 'z'),
  ]


BAD = [
  ('messages', {'messages': [REPLY, USER]}, 'line 1: message 1 is of the ass'),
  ('messages', {'messages': [USER]}, 'must be of the assistant'),
  ('messages', {'messages': [USER, REPLY | {'content': ''}]}, 'empty, or no'),
  ('messages', {'text': 'a'}, "no field 'messages'"),
  ('instructions', {'instruction': 'a', 'output': ' '}, 'assistant is empty'),
  ('instructions', {'instruction': 'a'}, "no field 'output'"),
  ('instructions', {'instruction': 'a', 'instances': []}, 'must be a list'),
  ('instructions', {'instruction': 'a', 'output': ['b']}, r"'output' is \['b'"),
]


@pytest.mark.parametrize(('layout', 'row', 'message'), BAD)
def test_bad_rows_name_their_line(layout, row, message, tmp_path):
  path = write(tmp_path / 'bad.jsonl', row)
  task = find(f'{layout}:{path}')
  with pytest.raises(ValueError, match=message):
    catalog.examples(task, 'train')


def test_bad_names():
  with pytest.raises(ValueError, match="Did you mean 'validation'"):
    find('messages:a.jsonl,validate=b.jsonl')
  with pytest.raises(ValueError, match='such as size=, come before task='):
    find('messages:a.jsonl,size=tiny')
  with pytest.raises(ValueError, match='names no file'):
    find('messages:')
  with pytest.raises(ValueError, match="metric 'bleu' is unknown"):
    find('messages:a.jsonl,metric=bleu')
