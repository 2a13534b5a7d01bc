"""Files of prompted tasks as their authors publish them."""

import pytest

from input_pipeline.prompted import catalog
from tests.helpers.prompted_files import ARC, FOLD, PUBLISHED, write


def test_each_task_has_a_file_here():
  texts = {x.name for x in catalog.TASKS.values() if x.kind == 'text'}
  assert set(PUBLISHED) | texts == set(catalog.TASKS)


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_files(name, tmp_path):
  files, options, right = PUBLISHED[name]
  write(tmp_path, files)
  found = catalog.open_task(catalog.find(name), str(tmp_path))
  assert (found[0].options, found[0].right) == (options, right)
  assert len(found) == sum(not x.endswith('.lst') for x in files)


@pytest.mark.parametrize(
  ('name', 'content', 'message'),
  [
    ('cloze', {'context': 'a'}, "line 1: there is no field 'continuation'"),
    ('choice', {'context': 'a', 'choices': ['b'], 'label': 0}, 'two or more'),
    ('choice', {'context': 'a', 'choices': [*'bc'], 'label': 2}, '0 to 1'),
    ('answer', {'question': 'a', 'answer': 'none'}, 'has no number'),
    ('lambada', {'text': 'word'}, "'word' has no word before"),
    ('lambada', {'words': 'a b'}, "there is no field 'text'"),
    ('arc_easy', ARC | {'answerKey': 'E'}, "'E' must be one of A, B"),
    ('boolq', {'passage': 'a', 'question': 'b', 'label': 1}, 'true or false'),
    ('hellaswag', PUBLISHED['hellaswag'][0], 'no field'),
    ('gsm8k', {'question': 'a', 'answer': '3'}, 'does not end in "#### N"'),
    ('cbt_cn', '1 a .\n1 b .\n', 'line 2: the sentence before has no question'),
    ('cbt_cn', '1 XXXXX .\tx\t\ty|z\n', "'x' must be one of the candidates"),
    ('mmlu', 'a,b,c,d,e,F\n', 'a letter, A to D'),
    ('mmlu', 'a,b,c,d,e,BC\n', 'a letter, A to D'),
    ('svamp', [{'Body': 3, 'Question': 'a', 'Answer': 1}], 'not as published'),
    ('choice', {'context': 'a', 'choices': ['', 'b'], 'label': 0}, 'empty'),
    ('choice', {'context': 'a', 'choices': [*'bc'], 'label': 1.0}, '0 to 1'),
    ('mawps', FOLD.replace(' 2.5', ''), 'a number of the question is missing'),
    ('piqa', '{"goal": "a", "sol1": "b", "sol2": "c"}\n' * 2, '1 labels for'),
    ('text8', 'abc', 'text8 have 100,000,000'),
  ],
)
def test_what_cannot_be_read(name, content, message, tmp_path):
  if name in catalog.OWN:
    path = tmp_path / 'own.jsonl'
    name = f'{name}:{path}'
    write(tmp_path, {'own.jsonl': content})
  else:
    task = catalog.find(name)
    known = PUBLISHED[name][0] if name in PUBLISHED else task.files['test']
    file = 'lambada_test.jsonl' if name == 'lambada' else next(iter(known))
    write(tmp_path, {file: content})
    if name == 'piqa':
      write(tmp_path, {'piqa/dev-labels.lst': '0\n'})
  with pytest.raises(ValueError, match=message):
    catalog.open_task(catalog.find(name), str(tmp_path))


def test_tasks_that_are_not_there(tmp_path):
  with pytest.raises(ValueError, match="'lambda'.*lambada"):
    catalog.find('lambda')
  with pytest.raises(ValueError, match='kind of task'):
    catalog.find('rank:a.jsonl')
  with pytest.raises(ValueError, match=r'no file of split.*--task_folder'):
    catalog.open_task(catalog.find('lambada'), str(tmp_path))
