"""A user's own task: a table with named columns, or a record in a file."""

import pytest

from configs.finetune import bert, t5
from input_pipeline.objectives import reading
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
  rows = 'body,label\n"a, b",1.53\nc,0\nd,-1e-7\n'
  name = spec(tmp_path, 'csv', train=rows, validation=rows)
  task = catalog.find(f'{name},text=body,kind=regression,length=64')
  examples = catalog.examples(task, 'train')
  assert [x['label'] for x in examples] == [1.53, 0.0, -1e-7]
  assert task.length == 64
  pairs = [pair for x in examples for pair in task.text_to_text(x)]
  assert pairs[0] == ('train body: a, b', '1.53')
  assert [text for _, text in pairs[1:]] == ['0', '-0.0000001']
  found = [task.decode(text, None) for _, text in pairs]
  assert found == [1.53, 0.0, -1e-7]
  assert task.decode('nan', None) is task.decode('warm', None) is None
  rows = '{"body": "a", "label": 1}\n{"body": "b", "label": 0}\n'
  name = spec(tmp_path, 'jsonl', train=rows, validation=rows)
  task = catalog.find(f'{name},text=body')
  assert task.labels == ('0', '1')
  assert [x['label'] for x in catalog.examples(task, 'train')] == ['1', '0']


def test_a_table_of_texts_that_are_written(tmp_path):
  rows = 'body\tshort\na b c.\ta b.\nd e f.\td e.\n'
  name = spec(tmp_path, train=rows, validation=rows)
  task = catalog.find(f'{name},text=body,label=short,kind=text,name=sum')
  examples = catalog.examples(task, 'validation')
  assert task.text_to_text(examples[0]) == [('sum body: a b c.', 'a b.')]
  assert task.texts is None
  assert task.metrics(examples, ['a b.', 'd e.'])['rouge1'] == 100
  other = catalog.find(f'{name},text=body,label=short,kind=text,metric=bleu')
  assert list(other.metrics(examples, ['a b.', 'd.'])) == ['bleu']


def test_a_table_of_other_tags(tmp_path):
  """Parts of speech mark no entities: words are counted."""
  rows = 'words\ttags\nhe ran\tPRP VB\nso\tRB\n'
  name = spec(tmp_path, train=rows, validation=rows)
  name += ',text=words,label=tags,kind=tagging'
  with pytest.raises(ValueError, match="'PRP' is not a tag.*metric=accuracy"):
    catalog.find(name)
  task = catalog.find(f'{name},metric=accuracy')
  examples = catalog.examples(task, 'validation')
  found = task.metrics(examples, [['PRP', 'RB'], [None]])
  assert found == {'accuracy': pytest.approx(100 / 3), 'invalid': 1}
  assert task.metrics([], [])['undefined'] == 1
  with pytest.raises(ValueError, match="metric 'rouge' is unknown"):
    catalog.find(f'{name},metric=rouge')


def test_a_table_of_tags(tmp_path):
  rows = 'words\ttags\nAda of Rome\tB-PER O B-LOC\nhe ran\tO O\n'
  name = spec(tmp_path, train=rows, validation=rows)
  name += ',text=words,label=tags,kind=tagging'
  task = catalog.find(name)
  assert task.labels == ('B-LOC', 'B-PER', 'O')
  examples = catalog.examples(task, 'validation')
  assert task.texts(examples[0]) == ['Ada', 'of', 'Rome']
  (pair,) = task.text_to_text(examples[0])
  assert pair == ('train words: Ada of Rome', 'B-PER O B-LOC')
  assert task.decode('O O X', examples[0]) == ['O', 'O', None]
  found = task.metrics(examples, [['B-PER', 'O', 'O'], ['O', 'O']])
  assert (found['precision'], found['recall']) == (100, 50)
  (tmp_path / 'validation.tsv').write_text(rows.replace('O B-LOC', 'O'))
  with pytest.raises(ValueError, match='line 2 has 3 words and 2 tags'):
    catalog.examples(task, 'validation')


def test_a_table_of_questions(tmp_path):
  rows = 'ask\ttext\tanswer\nWho?\tIt was Ada.\tAda\nWhy?\tSo.\t\n'
  name = spec(tmp_path, train=rows, validation=rows)
  name += ',text=ask,text2=text,label=answer,kind=span'
  task = catalog.find(name)
  examples = catalog.examples(task, 'validation')
  assert task.texts(examples[0]).answers == ((7, 'Ada'),)
  assert task.texts(examples[1]).answers == ()
  answers = [reading.Answer('Ada', -1.0), reading.Answer('So.', 1.0)]
  assert task.metrics(examples, answers)['exact_match'] == 100
  assert 'HasAns' not in str(task.metrics(examples[:1], answers[:1]))
  (tmp_path / 'train.tsv').write_text(rows.replace('\tAda\n', '\tada\n'))
  with pytest.raises(ValueError, match="line 2: the answer 'ada' is not in"):
    catalog.examples(task, 'train')


def test_a_table_as_the_argument_of_a_recipe():
  table = 'tsv:a.tsv,validation=b.tsv,text=x,length=64'
  config = bert.get_config(f'vocabulary=cased,task={table}')
  assert config.data.source == f'task:{table}'
  assert config.model.vocab_size == 28996
  config = t5.get_config('task=jsonl:a.jsonl,text=x')
  assert config.data.source == 'task:jsonl:a.jsonl,text=x'
  with pytest.raises(ValueError, match='names several tasks'):
    bert.get_config(f'task=glue/rte,task={table}')


@pytest.mark.parametrize(
  ('rest', 'message'),
  [
    (',text=body,kind=tagging,text2=other', 'kind=tagging needs no text2'),
    (',text=body,kind=span', 'kind=span needs text2, the column of the con'),
    (',text=body,kind=text,metric=bleus', "metric 'bleus' is unknown. Did"),
    (',text=body,label=kind,metric=bleu', 'of kind=classification metric'),
    (',text=body,labels=kind', "key 'labels' is unknown. Did you mean 'label'"),
    (',text=body,size=tiny', 'such as size=, come before task='),
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
  (tmp_path / 'train.tsv').write_text(TRAIN.split('\n')[0])
  with pytest.raises(ValueError, match='train.tsv is empty: it has no example'):
    catalog.find(name)


@pytest.mark.parametrize(
  ('layout', 'row', 'message'),
  [
    ('jsonl', '{"body": null, "kind": "x"}', "the field 'body' is null"),
    ('jsonl', '{"body": ["a"], "kind": "x"}', r"body \['a'\] is not a text"),
    ('tsv', 'body\tkind\tkind\nb\tx\ty', "2 columns have the name 'kind'"),
    ('csv', 'body,body,kind\nb,a,y', "2 columns have the name 'body'"),
  ],
)
def test_texts_that_are_missing_or_named_twice(tmp_path, layout, row, message):
  name = spec(tmp_path, layout, train=row) + ',text=body,label=kind'
  with pytest.raises(ValueError, match=f'train.{layout}, line 1: {message}'):
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


@pytest.mark.parametrize('kind', ['text', 'span', 'classification'])
def test_a_misspelt_label(tmp_path, kind):
  """Not a secret label, an empty text or a question without an answer."""
  rows = 'q\tc\ta\nwho\tAnn ran\tAnn\nwhen\tBob sat at 3\t3\n'
  name = spec(tmp_path, train=rows, validation=rows, test='q\tc\nx\ty\n')
  name += f',test={tmp_path}/test.tsv,text=q,text2=c,kind={kind}'
  with pytest.raises(ValueError, match='label'):
    catalog.examples(catalog.find(f'{name},label=answer'), 'train')
  task = catalog.find(f'{name},label=a')
  assert len(catalog.examples(task, 'train')) == 2
  (secret,) = catalog.examples(task, 'test')
  assert secret[task.label] is None
  assert len(task.text_to_text(secret)) == 1
