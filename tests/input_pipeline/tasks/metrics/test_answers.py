"""Answers to questions, by the rules of the published scripts."""

import itertools
import os
import string
from typing import NamedTuple

import numpy as np
import pytest
import sklearn.metrics

from input_pipeline.tasks import metrics
from input_pipeline.tasks.metrics import answers


class Answer(NamedTuple):
  text: str
  null: float


def asked(*golds):
  return {'id': '0', 'answers': {'text': list(golds)}}


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    ('The  Cat', 'cat'),
    ('A.B. an AN;\tthe end!', 'ab end'),
    ("the cat's", 'cats'),
    ('theatre', 'theatre'),
    ('the-cat', 'thecat'),  # punctuation goes before articles
    ('50%', '50'),
    ('the', ''),
    ('—the “cat”', '— “cat”'),  # not ASCII: not punctuation
    (string.punctuation, ''),
  ],
)
def test_squad_normalisation(text, expected):
  assert answers.normalise_squad(text) == expected


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    ('The_Beatles', 'beatles'),
    ('rock-and-roll', 'rock and roll'),
    ('‘Quoted’ `thing´', 'quoted thing'),
    ("a cat's", 'cat s'),
  ],
)
def test_trivia_normalisation(text, expected):
  assert answers.normalise_trivia(text) == expected


@pytest.mark.parametrize(
  ('golds', 'found', 'exact', 'f1'),
  [
    (['The Cat.'], 'cat', 100, 100),
    (['cat'], 'dog', 0, 0),
    # Precision 1/2, recall 1/1.
    (['cat'], 'black cat', 0, 200 / 3),
    # The best over the answers, each score by itself.
    (['big black cat', 'cat'], 'black cat', 0, 80),
    # Words are counted: 'a b' has one b.
    (['no no yes'], 'no yes yes', 0, 200 / 3),
    (['cat'], '', 0, 0),
    (['cat'], None, 0, 0),
    # Nothing is left of both: equal, but no word in common.
    (['the'], 'an', 100, 0),
  ],
)
def test_squad(golds, found, exact, f1):
  assert metrics.squad([asked(*golds)], [found]) == {
    'exact_match': pytest.approx(exact),
    'f1': pytest.approx(f1),
  }


@pytest.mark.parametrize('metric', [metrics.squad, metrics.trivia])
def test_f1_beside_scikit_learn_on_random_answers(metric):
  """Of words that come once, F1 is that of a yes or no for each word."""
  rng = np.random.default_rng(0)
  words = np.array(['cat', 'dog', 'owl', 'fox', 'elk', 'bee', 'ant', 'yak'])
  examples, found, f1s, exact = [], [], [], []
  for _ in range(40):
    golds = rng.integers(0, 2, (3, len(words)))
    golds[:, 0] = 1  # none is empty
    own = rng.integers(0, 2, len(words))  # all of them may be 0
    texts = [' '.join(words[gold > 0]) for gold in golds]
    examples.append(asked(*texts) | {'answer': {'aliases': texts}})
    found.append('The ' + ', '.join(words[own > 0]))
    f1s.append(max(sklearn.metrics.f1_score(gold, own) for gold in golds))
    exact.append((golds == own).all(1).any())
  assert metric(examples, found) == {
    'exact_match': pytest.approx(100 * np.mean(exact)),
    'f1': pytest.approx(100 * np.mean(f1s)),
  }


def test_squad_is_the_mean_over_questions():
  examples = [asked('cat'), asked('cat'), asked('a dog', 'dogs')]
  found = ['cat', 'black cat', Answer('dog', 3.0)]
  assert metrics.squad(examples, found) == {
    'exact_match': pytest.approx(200 / 3),
    'f1': pytest.approx((100 + 200 / 3 + 100) / 3),
  }


@pytest.mark.parametrize('metric', [metrics.squad, metrics.trivia])
def test_a_question_without_an_answer(metric):
  example = {'answers': {'text': []}, 'answer': {'aliases': []}}
  with pytest.raises(ValueError, match='Example 0 has no answer'):
    metric([example], ['x'])


@pytest.mark.parametrize(
  'metric', [metrics.squad, metrics.squad2, metrics.trivia, metrics.record]
)
def test_no_examples_and_wrong_numbers(metric):
  assert metric([], []) == {'exact_match': 0, 'f1': 0, 'undefined': 2}
  with pytest.raises(ValueError, match='2 predictions for 1 examples'):
    metric([asked('x')], ['x', 'y'])


def test_trivia():
  example = {
    'answer': {
      'value': 'The Beatles',
      'aliases': ['The Beatles', 'Fab Four'],
      'normalized_aliases': ['beatles', 'fab four', 'beatles band'],
    }
  }
  scores = metrics.trivia([example, example], ['Fab-Four!', 'a_Beatles band x'])
  assert scores == {
    'exact_match': 50,
    'f1': pytest.approx((100 + 80) / 2),
  }


def cloze(passage, query, *golds):
  return {
    'passage': 'p',
    'query': 'q',
    'answers': list(golds),
    'idx': {'passage': passage, 'query': query},
  }


def test_record_counts_a_question_once():
  examples = [
    cloze(0, 0, 'Ann Lee', 'Lee'),
    cloze(0, 0, 'Ann Lee', 'Lee'),
    cloze(0, 1, 'Bob'),
    cloze(1, 1, 'Bob'),
  ]
  found = ['Ann', 'Lee', 'Bob', 'the Bob']
  scores = metrics.record(examples, found)
  assert scores == {
    'f1': pytest.approx((200 / 3 + 100 + 100) / 3),
    'exact_match': pytest.approx(200 / 3),
  }
  assert list(scores) == ['f1', 'exact_match']
  # Without idx, passage and query are the question.
  bare = [{k: v for k, v in x.items() if k != 'idx'} for x in examples]
  assert metrics.record(bare, found)['exact_match'] == 0


@pytest.mark.parametrize(
  ('golds', 'found', 'exact', 'f1'),
  [
    ([], '', 100, 100),
    ([], 'cat', 0, 0),
    (['cat'], '', 0, 0),
    (['cat'], 'black cat', 0, 200 / 3),
    # Gold answers without a word are none; a text without a word is none.
    (['the'], '', 100, 100),
    ([], 'the', 100, 100),
    (['the', 'cat'], '', 0, 0),
  ],
)
def test_squad2(golds, found, exact, f1):
  assert metrics.squad2([asked(*golds)], [found]) == {
    'exact_match': pytest.approx(exact),
    'f1': pytest.approx(f1),
  }


def test_squad2_with_scores_of_no_answer():
  examples = [asked('cat'), asked('dog'), asked(), asked(), asked()]
  found = [
    Answer('cat', -3.0),
    Answer('dog', 1.0),  # right, but no answer is likelier
    Answer('fox', 2.0),
    Answer('owl', -1.0),  # answered, but there is no answer
    Answer('elk', 4.0),
  ]
  assert metrics.squad2(examples, found) == {
    'exact_match': 60,
    'f1': 60,
    # Answering up to -3 or up to 1 is right for four; the lowest is taken.
    'best_exact_match': 80,
    'best_exact_match_threshold': -3,
    'best_f1': 80,
    'best_f1_threshold': -3,
  }
  # At another threshold only the two scores differ.
  for threshold, score in ((-3.0, 80), (1.0, 80), (9.0, 40)):
    scores = metrics.squad2(examples, found, threshold)
    assert scores['exact_match'] == scores['f1'] == score
    assert scores['best_f1_threshold'] == -3


def test_a_threshold_below_all():
  examples = [asked(), asked('cat')]
  found = [Answer('x', -5.0), Answer('y', np.inf)]
  scores = metrics.squad2(examples, found)
  assert scores['exact_match'] == 0
  assert scores['best_f1'] == 50
  assert scores['best_f1_threshold'] == -6


def test_equal_scores_of_no_answer_stay_together():
  examples = [asked('cat'), asked(), asked()]
  found = [Answer('cat', 0.0), Answer('x', 0.0), Answer('x', 0.0)]
  scores = metrics.squad2(examples, found)
  assert scores['best_f1'] == pytest.approx(200 / 3)
  assert scores['best_f1_threshold'] < 0


@pytest.mark.parametrize('seed', range(5))
def test_best_threshold_is_the_best_of_all(seed):
  """Trying every threshold finds the same, with and without ties."""
  rng = np.random.default_rng(seed)
  null = rng.integers(-3, 4, 12) if seed % 2 else rng.normal(size=12)
  words = ('cat', 'dog', 'black cat', '')
  golds = [asked(*([w] if w else [])) for w in rng.choice(words, 12)]
  found = [
    Answer(text, float(n))
    for text, n in zip(rng.choice(words, 12), null, strict=True)
  ]
  scores = metrics.squad2(golds, found)
  for name in ('exact_match', 'f1'):
    tried = {
      threshold: metrics.squad2(
        golds, ['' if a.null > threshold else a.text for a in found]
      )[name]
      for threshold in (*null, min(null) - 1)
    }
    at = scores[f'best_{name}_threshold']
    assert scores[f'best_{name}'] == pytest.approx(max(tried.values()))
    assert tried[at] == pytest.approx(max(tried.values()))


def test_some_scores_of_no_answer():
  with pytest.raises(ValueError, match='Some predictions'):
    metrics.squad2([asked(), asked()], ['', Answer('x', 1.0)])


@pytest.mark.skipif(
  not os.environ.get('TREELINE_DATA'),
  reason='set TREELINE_DATA to a folder with real data (README.md)',
)
def test_real_questions_of_squad2():
  """Each question's first answer is right; without answers only some are."""
  import json

  path = os.path.join(
    os.environ['TREELINE_DATA'], 'squad', 'squad2_dev_5articles.json'
  )
  with open(path, encoding='utf-8') as file:
    articles = json.load(file)['data']
  paragraphs = itertools.chain.from_iterable(x['paragraphs'] for x in articles)
  questions = [q for p in paragraphs for q in p['qas']]
  examples = [asked(*(a['text'] for a in q['answers'])) for q in questions]
  perfect = [q['answers'][0]['text'] if q['answers'] else '' for q in questions]
  assert metrics.squad2(examples, perfect) == {'exact_match': 100, 'f1': 100}
  # No answer at all: the share of questions that have none.
  impossible = np.mean([q['is_impossible'] for q in questions])
  scores = metrics.squad2(examples, [''] * len(examples))
  assert scores['exact_match'] == pytest.approx(100 * impossible)
