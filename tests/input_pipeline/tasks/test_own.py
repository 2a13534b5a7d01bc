"""A user's own task: a table with named columns, or a record in a file."""

import pytest

from input_pipeline.tasks import catalog
from tests.helpers import REPOSITORY

TRAIN = 'body\tother\tkind\na\tb\tspam\nc\td\tham\ne\tf\tspam\n'


def spec(tmp_path, layout='tsv', **texts):
  """Writes train and validation; the start of the task's name."""
  for name, text in texts.items():
    (tmp_path / f'{name}.{layout}').write_text(text)
  held = f'{tmp_path}/validation.{layout}'
  return f'{layout}:{tmp_path}/train.{layout},validation={held}'


def test_a_table(tmp_path, capsys):
  name = spec(tmp_path, train=TRAIN, validation=TRAIN.rsplit('e\t', 1)[0])
  task = catalog.find(f'{name},text=body,text2=other,label=kind,name=mail')
  assert task.labels == ('ham', 'spam')
  assert list(task.splits) == ['train', 'validation']
  first = catalog.examples(task, 'train')[0]
  assert first == {'body': 'a', 'other': 'b', 'label': 'spam', 'idx': 0}
  assert '(ham 1, spam 2)' in capsys.readouterr().out
  assert len(catalog.examples(task, 'validation', '/elsewhere')) == 2
  assert task.texts(first) == ('a', 'b')
  assert task.text_to_text(first) == [('mail body: a other: b', 'spam')]
  assert task.decode('spam', first) == 'spam'


def test_other_layouts_and_kinds(tmp_path):
  rows = 'body,label\n"a, b",1.5\nc,0\n'
  name = spec(tmp_path, 'csv', train=rows, validation=rows)
  task = catalog.find(f'{name},text=body,kind=regression,length=64')
  examples = catalog.examples(task, 'train')
  assert [x['label'] for x in examples] == [1.5, 0.0]
  assert task.length == 64
  assert task.text_to_text(examples[0]) == [('train body: a, b', '1.6')]
  rows = '{"body": "a", "label": 1}\n{"body": "b", "label": 0}\n'
  name = spec(tmp_path, 'jsonl', train=rows, validation=rows)
  task = catalog.find(f'{name},text=body')
  assert task.labels == ('0', '1')
  assert [x['label'] for x in catalog.examples(task, 'train')] == ['1', '0']


@pytest.mark.parametrize(
  ('rest', 'message'),
  [
    (',text=body,labels=kind', "key 'labels' is unknown. Did you mean 'label'"),
    (',label=kind', 'names no column text'),
    (',text=body,kind=spans', "kind 'spans' is unknown"),
    (',text=body,label=body', "column 'body' is both text and label"),
    (',text=body,text', "'text' must have one value"),
    (',text=bodi', "train.tsv, line 1: there is no column 'bodi'"),
    (',text=body,label=kind,length=no', 'length=no must be a whole number'),
    (',text=body', 'has examples without a label'),
  ],
)
def test_bad_descriptions(tmp_path, rest, message):
  name = spec(tmp_path, train=TRAIN, validation=TRAIN)
  with pytest.raises(ValueError) as error:
    catalog.find(name + rest)
  assert message in str(error.value)


def test_bad_tables(tmp_path):
  other = TRAIN.replace('ham', 'hem')
  name = spec(tmp_path, train=TRAIN, validation=other) + ',text=body,label=kind'
  task = catalog.find(name)
  message = "line 3: kind 'hem' is unknown. Did you mean 'ham'.*training file"
  with pytest.raises(ValueError, match=f'validation.tsv, {message}'):
    catalog.examples(task, 'validation')
  (tmp_path / 'train.tsv').write_text(TRAIN.replace('ham', 'spam'))
  with pytest.raises(ValueError, match="has only one class, 'spam'"):
    catalog.find(name)


RECORD = """
import dataclasses
from input_pipeline.tasks import catalog
from tests.helpers import REPOSITORY
OWN = dataclasses.replace(catalog.find('glue/rte'), name='own/rte', tfds=())
"""


def test_a_python_file(tmp_path):
  path = tmp_path / 'tasks.py'
  path.write_text(RECORD)
  assert catalog.find(f'{path}:OWN').name == 'own/rte'
  with pytest.raises(ValueError, match="the Task 'OWNS' is unknown. Did you"
                     " mean 'OWN'"):  # fmt: skip
    catalog.find(f'{path}:OWNS')
  with pytest.raises(ValueError, match='there is no file .*nothing.py'):
    catalog.find(f'{tmp_path}/nothing.py:OWN')
  path.write_text('OWN = 1')
  with pytest.raises(ValueError, match='tasks.py defines no Task'):
    catalog.find(f'{path}:OWN')


def test_the_example_of_the_documentation(tmp_path):
  document = (REPOSITORY / 'docs/tasks.md').read_text(encoding='utf-8')
  code = document.split('```python\n')[1].split('```')[0]
  path = tmp_path / 'my_tasks.py'
  path.write_text(code)
  (tmp_path / 'train.jsonl').write_text('{"title": "Ball", "topic": "sport"}')
  task = catalog.find(f'{path}:MINE')
  (example,) = catalog.examples(task, 'train', str(tmp_path))
  assert task.text_to_text(example) == [('topics title: Ball', 'sport')]


def test_the_documentation_lists_every_task():
  document = (REPOSITORY / 'docs/tasks.md').read_text(encoding='utf-8')
  rows = [x.split(' | ') for x in document.split('\n') if x.startswith('| `')]
  for name, task in catalog.TASKS.items():
    (row,) = (row for row in rows if f'`{name}`' in row[0])
    assert row[1] == task.kind
    assert row[4].strip() == (str(task.length) if task.texts else '-')
    assert row[5] == '{}, {}'.format(*task.lengths)
