"""Examples before questions, written answers, and published texts."""

import json
import os
from fractions import Fraction

import pytest

from input_pipeline.prompted import arithmetic, catalog, cloze, texts
from input_pipeline.prompted.task import Item
from tests.helpers.prompted_files import PUBLISHED, write


def test_examples_before_questions(tmp_path):
  """Each question has its own, the same in whatever company it is asked."""
  rows = [{'question': f'{n}?', 'answer': f'So.\n#### {n}'} for n in range(20)]
  lines = ''.join(f'{json.dumps(row)}\n' for row in rows)
  write(tmp_path, {'gsm8k/train.jsonl': lines, 'gsm8k/test.jsonl': lines})
  task, folder = catalog.find('gsm8k'), str(tmp_path)
  found = catalog.open_task(task, folder, shots=3)
  again = catalog.open_task(task, folder, shots=3, limit=5)
  assert found[:5] == again
  other = catalog.open_task(task, folder, shots=3, seed=1)
  assert [x.options for x in other] != [x.options for x in found]
  for n, item in enumerate(found):
    *before, question = item.options[0][0].split('\n\n')
    assert question == f'Q: {n}?\nA:'
    assert len(set(before)) == 3
    for example in before:
      number = example[3 : example.index('?')]
      assert int(number) != n
      assert example == f'Q: {number}?\nA: So. The answer is {number}.'
  with pytest.raises(ValueError, match='there are 19 examples for --shots=20'):
    catalog.open_task(task, folder, shots=20)
  # Questions of SVAMP have examples of GSM8K, or of a file.
  write(tmp_path, PUBLISHED['svamp'][0])
  own = tmp_path / 'own.jsonl'
  own.write_text('{"question": "Two?", "answer": "1 + 1. The answer is 2."}')
  svamp = catalog.find('svamp')
  (item,) = catalog.open_task(svamp, folder, shots=2)
  assert item.options[0][0].count('So. The answer is') == 2
  (item,) = catalog.open_task(svamp, folder, shots=1, shots_file=str(own))
  start = 'Q: Two?\nA: 1 + 1. The answer is 2.\n\nQ: Tom'
  assert item.options[0][0].startswith(start)
  write(tmp_path, PUBLISHED['lambada'][0])
  with pytest.raises(ValueError, match='no split of examples'):
    catalog.open_task(catalog.find('lambada'), folder, shots=1)


def test_examples_of_a_subject_in_order(tmp_path):
  """MMLU's are the first ones of the question's own subject."""
  for subject in ('law', 'art'):
    rows = [f'{subject} {n},a,b,c,d,{"ABCD"[n]}\n' for n in range(4)]
    files = {
      f'dev/{subject}_dev.csv': ''.join(rows[1:]),
      f'test/{subject}_test.csv': rows[0],
    }
    write(tmp_path, files)
  found = catalog.open_task(catalog.find('mmlu'), str(tmp_path), shots=2)
  for subject, item in zip(('art', 'law'), found, strict=True):
    lead, *examples, question = item.options[0][0].split('\n\n')
    assert lead.endswith(f'about {subject}.')
    assert [x[: x.index('\n')] for x in examples] == [
      f'{subject} 1', f'{subject} 2'
    ]  # fmt: skip
    assert examples[0].endswith('Answer: B')
    assert question.endswith('Answer:')


@pytest.mark.parametrize(
  ('text', 'answer'),
  [
    (' She has 3 + 4 = 7. The answer is 7.', 7),
    (' The answer is $1,234.50. The end, of 3.', Fraction('1234.5')),
    (' The answer is: -5', -5),
    (' First the answer is 3. No, the answer is 4 (not 5).', 4),
    (' 10-5=5 and 5-2=3', 3),
    ('5-2', 2),
    (' It costs $.5', Fraction(1, 2)),
    (' one half, 1/2', Fraction(1, 2)),
    (' The answer is 18.0 eggs', 18),
    (' The answer is unknown, 3 or 4', 3),
    (' 1/0', None),
    (' The answer is 2.5/3', Fraction('2.5')),
    (' The answer is \u22125', -5),
    (' no number', None),
    ('', None),
  ],
)
def test_answers_of_written_texts(text, answer):
  assert arithmetic.number(text) == answer


@pytest.mark.parametrize(
  ('form', 'published', 'plain'),
  [
    (
      'wikitext',
      (
        ' = = Early life = = \n He paid $ 1 @,@ 000 @.@ 50 ( then ) ; " it \'s '
        'well @-@ known , " she said . \n'
      ),
      (
        '== Early life ==\nHe paid $1,000.50 (then); "it\'s well-known," she '
        'said.\n'
      ),
    ),
    (
      'wikitext',
      " the ships ' guns , the <unk> 's 5 km / h and it does n't : x \n",
      "the ships' guns, the <unk>'s 5 km/h and it doesn't: x\n",
    ),
    (
      'ptb',
      " mr. <unk> said it is n't N % of $ N million \n the firm 's plan \n",
      "mr. <unk> said it isn't N% of $N million\nthe firm's plan\n",
    ),
    (
      'ptb',
      "`` Oh ! '' said she , `` a -LRB- b -RRB- 's workers ' c \\/ d . ''",
      '"Oh!" said she, "a (b)\'s workers\' c / d."',
    ),
    (
      'lm1b',
      '" He doesn \'t know , " she said , " that it \'s $ 5 ( so far ) . "',
      '"He doesn\'t know," she said, "that it\'s $5 (so far)."',
    ),
  ],
)
def test_published_forms(form, published, plain):
  assert texts.PLAIN[form](published) == plain


def test_words_are_those_of_the_published_form(tmp_path):
  """With an end of each line, as WikiText's 245,569 tokens of its test set."""
  folder = tmp_path / 'wikitext-2'
  folder.mkdir()
  (folder / 'wiki.test.tokens').write_text(' \n = A = \n \n b , c . \n')
  (found,) = catalog.open_task(catalog.find('wikitext2'), str(tmp_path))
  assert found.text == '\n= A =\n\nb, c.\n'
  assert found.words == 3 + 4 + 4
  data = os.environ.get('TREELINE_DATA')
  if data:
    folder = os.path.join(data, 'wikitext2_eval')
    (found,) = catalog.open_task(catalog.find('wikitext2'), folder)
    assert found.words == 245_569
    assert ' @' not in found.text


def test_the_end_of_enwik8(tmp_path, monkeypatch):
  monkeypatch.setattr(texts, 'LAST', 7)
  (tmp_path / 'enwik8').write_bytes('first é last'.encode())
  (found,) = catalog.open_task(catalog.find('enwik8'), str(tmp_path))
  assert found.text == 'é last'
  monkeypatch.setattr(texts, 'LAST', 6)  # cuts the letter
  (found,) = catalog.open_task(catalog.find('enwik8'), str(tmp_path))
  assert found == (' last', 1)


def test_first_words():
  words = [' signs. Then', " don't go", ' on', ' the\n', '. He', ' co-op,', '']
  found = [cloze.first_word(text) for text in words]
  assert found == ['signs', "don't", None, 'the', None, 'co-op', None]
  assert cloze.is_stop_word('The')
  assert not cloze.is_stop_word('signs')


def test_an_example_is_the_question_with_its_answer():
  assert Item((('a', ' b'), ('a', ' c')), 1).example == 'a c'
