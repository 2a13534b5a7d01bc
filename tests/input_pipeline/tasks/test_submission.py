"""Files of predictions, read back."""

import csv
import json
import os
from typing import NamedTuple

import pytest

from input_pipeline.tasks import catalog, submission
from input_pipeline.tasks.metrics import classes


class Answer(NamedTuple):
  text: str
  null: float


def indexed(count):
  return [{'idx': i} for i in range(count)]


def rows(path):
  with open(path, encoding='utf-8', newline='') as file:
    return list(csv.reader(file, delimiter='\t', quoting=csv.QUOTE_NONE))


def objects(path):
  with open(path, encoding='utf-8') as file:
    return [json.loads(line) for line in file]


def text(path):
  with open(path, encoding='utf-8', newline='') as file:
    return file.read()


@pytest.mark.parametrize(
  ('task', 'name', 'found', 'expected'),
  [
    ('cola', 'CoLA.tsv', ['acceptable', 'unacceptable'], ['1', '0']),
    ('sst2', 'SST-2.tsv', ['negative', 'positive'], ['0', '1']),
    ('mrpc', 'MRPC.tsv', ['equivalent', 'not_equivalent'], ['1', '0']),
    ('qqp', 'QQP.tsv', ['not_duplicate', 'duplicate'], ['0', '1']),
    ('wnli', 'WNLI.tsv', ['entailment', 'not_entailment'], ['1', '0']),
    ('stsb', 'STS-B.tsv', [3.8, 0.123456789], ['3.8', '0.123457']),
  ],
)
def test_glue(tmp_path, task, name, found, expected):
  folder = tmp_path / 'new'
  written = submission.write_glue(task, indexed(2), found, str(folder))
  assert written == (str(folder / name), 2, 0)
  first, *others = rows(folder / name)
  assert first == ['index', 'prediction']
  assert others == [['0', expected[0]], ['1', expected[1]]]


@pytest.mark.parametrize(
  ('task', 'name'),
  [
    ('mnli_matched', 'MNLI-m.tsv'),
    ('mnli_mismatched', 'MNLI-mm.tsv'),
    ('qnli', 'QNLI.tsv'),
    ('rte', 'RTE.tsv'),
    ('ax', 'AX.tsv'),
  ],
)
def test_glue_by_name(tmp_path, task, name):
  found = list(submission.GLUE[task][1])
  assert found[0] == 'entailment'
  submission.write_glue(task, indexed(len(found)), found, str(tmp_path))
  assert [row[1] for row in rows(tmp_path / name)[1:]] == found


def test_all_files_of_both_benchmarks():
  """Names and lines are those of the servers' sample submissions."""
  glue = 'CoLA SST-2 MRPC STS-B QQP MNLI-m MNLI-mm QNLI RTE WNLI AX'
  found = [name for name, _ in submission.GLUE.values()]
  assert found == [f'{name}.tsv' for name in glue.split()]
  superglue = 'BoolQ CB COPA MultiRC ReCoRD RTE WiC WSC AX-b AX-g'
  found = [name for name, _ in submission.SUPERGLUE.values()]
  assert found == [f'{name}.jsonl' for name in superglue.split()]


def test_classes_are_those_of_the_tasks():
  for group, files in (
    ('glue', submission.GLUE),
    ('super_glue', submission.SUPERGLUE),
  ):
    for name, (_, found) in files.items():
      assert tuple(found) == catalog.TASKS[f'{group}/{name}'].labels, name


def test_what_is_replaced_is_counted(tmp_path):
  found = [None, 'positive']
  written = submission.write_glue('sst2', indexed(2), found, str(tmp_path))
  assert written.replaced == 1
  assert rows(written.path)[1:] == [['0', '0'], ['1', '1']]
  numbers = [None, float('nan'), 1.0, -0.25, 5.5, float('inf'), 0.0, 5.0]
  written = submission.write_glue('stsb', indexed(8), numbers, str(tmp_path))
  assert written.replaced == 5  # the server's scores go from 0 to 5
  expected = ['0', '0', '1', '0', '5', '0', '0', '5']
  assert [row[1] for row in rows(written.path)[1:]] == expected


@pytest.mark.parametrize(
  ('task', 'name', 'found', 'labels'),
  [
    ('boolq', 'BoolQ.jsonl', ['True', 'False'], ['true', 'false']),
    ('wic', 'WiC.jsonl', ['False', 'True'], ['false', 'true']),
    ('wsc', 'WSC.jsonl', ['False', 'True'], ['False', 'True']),
    ('copa', 'COPA.jsonl', ['choice2', 'choice1'], [1, 0]),
    ('cb', 'CB.jsonl', list(classes.CB), list(classes.CB)),
    ('rte', 'RTE.jsonl', ['not_entailment'], ['not_entailment']),
    ('axb', 'AX-b.jsonl', ['entailment'], ['entailment']),
    ('axg', 'AX-g.jsonl', ['not_entailment'], ['not_entailment']),
  ],
)
def test_superglue(tmp_path, task, name, found, labels):
  examples = indexed(len(found))
  submission.write_superglue(task, examples, found, str(tmp_path))
  assert objects(tmp_path / name) == [
    {'idx': i, 'label': label} for i, label in enumerate(labels)
  ]


def test_multirc(tmp_path):
  places = [(0, 0, 0), (0, 0, 1), (0, 1, 2), (5, 2, 3)]
  examples = [
    {'idx': {'paragraph': p, 'question': q, 'answer': a}} for p, q, a in places
  ]
  found = ['True', 'False', None, 'True']
  written = submission.write_superglue(
    'multirc', examples, found, str(tmp_path)
  )
  assert written == (str(tmp_path / 'MultiRC.jsonl'), 4, 1)
  first = [
    {'idx': 0, 'answers': [{'idx': 0, 'label': 1}, {'idx': 1, 'label': 0}]},
    {'idx': 1, 'answers': [{'idx': 2, 'label': 0}]},
  ]
  second = [{'idx': 2, 'answers': [{'idx': 3, 'label': 1}]}]
  assert objects(written.path) == [
    {'idx': 0, 'passage': {'questions': first}},
    {'idx': 5, 'passage': {'questions': second}},
  ]


@pytest.mark.skipif(
  not os.environ.get('TREELINE_DATA'),
  reason='set TREELINE_DATA to a folder with real data (README.md)',
)
def test_real_multirc_gets_its_labels_back(tmp_path):
  """The file has the shape of the published one, which has the labels too."""
  path = os.path.join(
    os.environ['TREELINE_DATA'], 'superglue', 'MultiRC', 'val.jsonl'
  )
  published = objects(path)
  examples, found = [], []
  for line in published:
    for question in line['passage']['questions']:
      for answer in question['answers']:
        place = (line['idx'], question['idx'], answer['idx'])
        names = ('paragraph', 'question', 'answer')
        examples.append({'idx': dict(zip(names, place, strict=True))})
        found.append(('False', 'True')[answer['label']])
        answer.pop('text')
      question.pop('question')
    line['passage'].pop('text')
    line.pop('version', None)
  written = submission.write_superglue(
    'multirc', examples, found, str(tmp_path)
  )
  assert objects(written.path) == published


def test_record(tmp_path):
  examples = [{'idx': {'passage': 3, 'query': q}} for q in (8, 9, 10, 11)]
  found = ['Élodie "Lee"', None, Answer('Paris', 1.5), Answer(None, 2.0)]
  written = submission.write_superglue('record', examples, found, str(tmp_path))
  assert written.replaced == 2
  assert objects(written.path) == [
    {'idx': 8, 'label': 'Élodie "Lee"'},
    {'idx': 9, 'label': ''},
    {'idx': 10, 'label': 'Paris'},
    {'idx': 11, 'label': ''},
  ]


def test_squad(tmp_path):
  examples = [{'id': i} for i in 'abcd']
  found = ['Paris', None, Answer('über', -1.0), Answer('x', 2.5)]
  path = str(tmp_path / 'predictions.json')
  written = submission.write_squad(examples, found, path)
  assert written == (path, 4, 1)
  expected = {'a': 'Paris', 'b': '', 'c': 'über', 'd': ''}
  assert json.loads(text(path)) == expected


def test_squad2_with_null_odds(tmp_path):
  examples = [{'id': i} for i in 'abc']
  found = [Answer('x', 1.0), Answer('y', 3.0), Answer('', float('inf'))]
  path, odds = str(tmp_path / 'p.json'), str(tmp_path / 'null_odds.json')
  submission.write_squad(examples, found, path, threshold=2.0, null_odds=odds)
  assert json.loads(text(path)) == {'a': 'x', 'b': '', 'c': ''}
  assert json.loads(text(odds)) == {'a': 1.0, 'b': 3.0, 'c': 1e9}
  with pytest.raises(ValueError, match='score of no answer'):
    submission.write_squad(examples, ['x'] * 3, 'other', null_odds='odds')


def test_only_squad2_leaves_questions_without_an_answer(tmp_path):
  """SQuAD 1.1 has an answer to each question, however unlikely."""
  examples = [{'id': 'a'}, {'id': 'b'}]
  found = [Answer('x', 1.0), Answer('y', 3.0)]

  def written(name, **options):
    folder = tmp_path / f'{len(os.listdir(tmp_path))}'
    path = submission.write(
      catalog.find(name), 'validation', examples, found, str(folder), **options
    ).path
    return json.loads(text(path)), sorted(os.listdir(folder))

  files = ['squad-v1.1.json']
  assert written('squad/v1.1') == ({'a': 'x', 'b': 'y'}, files)
  files = ['squad-v2.0-null_odds.json', 'squad-v2.0.json']
  assert written('squad/v2.0') == ({'a': '', 'b': ''}, files)
  both = written('squad/v2.0', threshold=2.0)
  assert both == ({'a': 'x', 'b': ''}, files)


def test_squad_writes_both_files_or_none(tmp_path):
  odds = tmp_path / 'odds.json'
  odds.write_text('mine')
  path = tmp_path / 'p.json'
  with pytest.raises(FileExistsError, match='odds.json'):
    submission.write_squad(
      [{'id': 'a'}], [Answer('x', 1.0)], str(path), null_odds=str(odds)
    )
  assert not path.exists()
  assert odds.read_text() == 'mine'


def test_trivia(tmp_path):
  """Its script reads {question's id: answer}; ids that repeat have none."""
  task, found = catalog.find('trivia_qa'), ['Bob "B."', None]
  examples = [{'question_id': i} for i in ('tc_1', 'tc_2')]
  folder = str(tmp_path)
  written = submission.write(task, 'test', examples, found, folder)
  assert written == (str(tmp_path / 'trivia_qa.json'), 2, 1)
  assert json.loads(text(written.path)) == {'tc_1': 'Bob "B."', 'tc_2': ''}
  written = submission.write(task, 'test', examples[:1] * 2, found, folder)
  assert written == (str(tmp_path / 'trivia_qa.txt'), 2, 1)


def test_conll(tmp_path):
  examples = [
    {'tokens': ['U.N.', 'chief'], 'ner': ['B-ORG', 'O']},
    {'tokens': ['Rome', '.'], 'ner': ['B-LOC', 'O']},
  ]
  path = str(tmp_path / 'out.txt')
  found = [['B-ORG', 'O'], ['B-PER']]
  assert submission.write_conll(examples, found, path) == (path, 4, 1)
  assert text(path) == (
    'U.N. B-ORG B-ORG\nchief O O\n\nRome B-LOC B-PER\n. O O\n\n'
  )
  secret = [{'tokens': ['Rome'], 'ner': None}]  # of a test file
  path = str(tmp_path / 'secret.txt')
  submission.write_conll(secret, [['B-LOC']], path)
  assert text(path) == 'Rome B-LOC\n\n'


@pytest.mark.parametrize('word', ['a b', '', '\u00a0'])
def test_conll_words_that_are_no_column(tmp_path, word):
  path = str(tmp_path / 'out.txt')
  with pytest.raises(ValueError, match='Example 0'):
    submission.write_conll([{'tokens': [word], 'ner': ['O']}], [['O']], path)
  assert not os.path.exists(path)


def test_lines(tmp_path):
  path = str(tmp_path / 'out.txt')
  found = ['Ein Satz.', 'Two.\nLines.', None, '']
  assert submission.write_lines(found, path) == (path, 4, 2)
  assert text(path) == 'Ein Satz.\nTwo. Lines.\n\n\n'


def test_never_over_another_file(tmp_path):
  there = tmp_path / 'SST-2.tsv'
  there.write_text('mine')
  with pytest.raises(FileExistsError, match='SST-2.tsv exists'):
    submission.write_glue('sst2', indexed(1), ['positive'], str(tmp_path))
  assert there.read_text() == 'mine'
  assert os.listdir(tmp_path) == ['SST-2.tsv']


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda f: submission.write_glue('sst', [], [], f), "no file for 'sst'"),
    (
      lambda f: submission.write_glue('sst2', indexed(1), ['good'], f),
      r"\['good'\] are not among the classes",
    ),
    (
      lambda f: submission.write_glue('sst2', indexed(2), ['positive'], f),
      '1 predictions for 2 examples',
    ),
    (
      lambda f: submission.write_superglue(
        'rte', [{'idx': 4}, {'idx': 4}], ['entailment'] * 2, f
      ),
      'The example 4 occurs twice',
    ),
    (
      lambda f: submission.write_conll(
        [{'tokens': ['a'], 'ner': ['O']}], [['O', 'O']], f
      ),
      'Example 0 has more predicted tags than words',
    ),
  ],
)
def test_bad_input(tmp_path, call, message):
  with pytest.raises(ValueError, match=message):
    call(str(tmp_path / 'new'))
  assert os.listdir(tmp_path) == []


def test_choices_of_a_task_are_written_by_number(tmp_path):
  """Choices are predicted by name, as classes are."""
  task = catalog.find('super_glue/copa')
  written = submission.write(
    task, 'test', indexed(3), ['choice2', 'choice1', None], str(tmp_path)
  )
  assert written == (str(tmp_path / 'COPA.jsonl'), 3, 1)
  assert [line['label'] for line in objects(written.path)] == [1, 0, 0]
