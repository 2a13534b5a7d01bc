"""Metrics of written texts and of tags."""

import numpy as np
import pytest
import sacrebleu
from rouge_score import rouge_scorer

from input_pipeline.tasks import metrics
from input_pipeline.tasks.metrics import tags

GOLD = 'The cat sat on the mat . It was happy .\nThe dog slept .'
FOUND = 'A cat sat on a mat . The dog barked . It was happy .'


def test_rouge_of_one_example_is_the_librarys():
  """Every bootstrap sample of one example is that example."""
  found = metrics.rouge([{'highlights': GOLD}], [FOUND])
  scorer = rouge_scorer.RougeScorer(list(found), use_stemmer=False)
  lines = [text.replace(' . ', ' .\n') for text in (GOLD, FOUND)]
  expected = scorer.score(*lines)
  assert found == {
    name: pytest.approx(100 * score.fmeasure)
    for name, score in expected.items()
  }
  assert list(found) == ['rouge1', 'rouge2', 'rougeLsum']
  # Sentences matter: as one line each, the LCS would be another.
  unsplit = scorer.score(GOLD, FOUND)['rougeLsum'].fmeasure
  assert found['rougeLsum'] != pytest.approx(100 * unsplit)


@pytest.mark.parametrize('seed', range(5))
def test_rouge_beside_the_library_on_random_texts(seed):
  rng = np.random.default_rng(seed)
  gold, found = (
    ' . '.join(' '.join(rng.choice(list('abcdefgh'), 6)) for _ in range(3))
    for _ in range(2)
  )
  scores = metrics.rouge([{'summary': gold}], [found], field='summary')
  expected = rouge_scorer.RougeScorer(list(scores), use_stemmer=False).score(
    *(text.replace(' . ', ' .\n') for text in (gold, found))
  )
  for name, score in scores.items():
    assert score == pytest.approx(100 * expected[name].fmeasure)


def test_rouge_by_hand():
  # 3 of 4 words, 2 of 3 pairs; the LCS has 3 words.
  scores = metrics.rouge([{'summary': 'a b c d'}], ['a b c x'], field='summary')
  assert scores == {
    'rouge1': pytest.approx(75),
    'rouge2': pytest.approx(200 / 3),
    'rougeLsum': pytest.approx(75),
  }


def test_rouge_is_near_the_mean_and_leaves_the_generator_alone():
  rng = np.random.default_rng(0)
  words = list('abcdefgh')
  examples, found, each = [], [], []
  for _ in range(60):
    gold, own = (' '.join(rng.choice(words, 8)) for _ in range(2))
    examples.append({'highlights': gold})
    found.append(own)
    each.append(metrics.rouge(examples[-1:], [own])['rouge1'])
  np.random.seed(5)
  first = metrics.rouge(examples, found)
  assert np.random.random() == np.random.RandomState(5).random()
  assert metrics.rouge(examples, found) == first
  # The median of bootstrap means is within a standard error of the mean.
  error = np.std(each) / np.sqrt(len(each))
  assert abs(first['rouge1'] - np.mean(each)) < error


def test_rouge_of_nothing():
  assert metrics.rouge([], [])['undefined'] == 3
  assert set(metrics.rouge([{'highlights': GOLD}], ['']).values()) == {0}


def test_bleu_is_sacrebleus():
  golds = ['Der Hund schläft, sagt er.', 'Es kostet 3,5 %.', 'Gut „so“.']
  found = ['Der Hund schläft sagt sie.', 'es kostet 3,5 %.', 'Gut „so“.']
  examples = [{'en': 'x', 'de': gold} for gold in golds]
  expected = sacrebleu.corpus_bleu(
    found, [golds], smooth_method='exp', tokenize='intl', lowercase=False
  )
  scores = metrics.bleu(examples, found, language='de')
  assert scores == {'bleu': pytest.approx(expected.score)}
  others = [{}, {'tokenize': 'intl', 'lowercase': True}]
  for options in others:  # the choices matter here
    other = sacrebleu.corpus_bleu(found, [golds], **options).score
    assert other != pytest.approx(expected.score)


@pytest.mark.parametrize('seed', range(5))
def test_bleu_beside_sacrebleu_on_random_texts(seed):
  """Near copies, and one empty translation."""
  rng = np.random.default_rng(seed)
  words = ['Der', 'Hund', 'schläft,', 'sagt', 'er.', '3,5', '„so“', 'U.S.', '-']
  golds = [' '.join(rng.choice(words, rng.integers(5, 12))) for _ in range(9)]
  found = [
    ' '.join(w if rng.random() < 0.8 else rng.choice(words) for w in x.split())
    for x in golds
  ]
  found[seed] = ''
  expected = sacrebleu.corpus_bleu(found, [golds], tokenize='intl').score
  scores = metrics.bleu([{'de': gold} for gold in golds], found, language='de')
  assert scores == {'bleu': pytest.approx(expected)}
  assert 5 < expected < 95


def test_bleu_smoothing():
  """'exp' counts half a match if no 4-gram matches (Chen and Cherry 2014)."""
  scores = metrics.bleu([{'de': 'a b c x'}], ['a b c d'], language='de')
  expected = (3 / 4 * 2 / 3 * 1 / 2 * 1 / 2) ** 0.25
  assert scores == {'bleu': pytest.approx(100 * expected)}


def test_bleu_of_nothing():
  assert metrics.bleu([], [], language='de') == {'bleu': 0, 'undefined': 1}
  assert metrics.bleu([{'de': 'a b'}], [''], language='de') == {'bleu': 0}


def test_bleu_signature():
  found = metrics.bleu_signature().split('|')
  expected = {'nrefs:1', 'case:mixed', 'eff:no', 'tok:intl', 'smooth:exp'}
  assert expected | {f'version:{sacrebleu.__version__}'} == set(found)


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    ('O O', []),
    ('B-PER I-PER O', [(0, 1, 'PER')]),
    ('B-PER B-PER', [(0, 0, 'PER'), (1, 1, 'PER')]),
    ('I-PER I-PER', [(0, 1, 'PER')]),
    ('O I-PER I-LOC', [(1, 1, 'PER'), (2, 2, 'LOC')]),
    ('B-PER I-LOC', [(0, 0, 'PER'), (1, 1, 'LOC')]),
    ('I-PER B-PER I-PER', [(0, 0, 'PER'), (1, 2, 'PER')]),
    ('B-A-B I-A-B', [(0, 1, 'A-B')]),
    ('', []),
  ],
)
def test_entities(text, expected):
  """Entities are found by the rules of CoNLL's script."""
  assert tags.entities(text.split()) == expected


def conll_entities(words):
  """Where entities begin and end, asked of each word as CoNLL's script does."""
  starts, ends = [], []
  padded = ['O', *words, 'O']
  for i, (before, tag, after) in enumerate(
    zip(padded, padded[1:], padded[2:], strict=False)
  ):
    if tag == 'O':
      continue
    if tag[0] == 'B' or before == 'O' or before[2:] != tag[2:]:
      starts.append(i)
    if after == 'O' or after[0] == 'B' or after[2:] != tag[2:]:
      ends.append((i, tag[2:]))
  return {(a, b, kind) for a, (b, kind) in zip(starts, ends, strict=True)}


@pytest.mark.parametrize('seed', range(5))
def test_entity_f1_on_random_tags(seed):
  """Beside CoNLL's rules; sequences that no scheme allows are among them."""
  rng = np.random.default_rng(seed)
  known = ['O', 'O', 'B-PER', 'I-PER', 'B-LOC', 'I-LOC', 'B-A-B', 'I-A-B']
  golds = [list(rng.choice(known, rng.integers(12))) for _ in range(30)]
  found = [
    [tag if rng.random() < 0.6 else rng.choice(known) for tag in tags]
    for tags in golds
  ]
  ours, theirs = (
    {(n, *x) for n, tags in enumerate(every) for x in conll_entities(tags)}
    for every in (golds, found)
  )
  right = len(ours & theirs)
  precision, recall = right / len(theirs), right / len(ours)
  examples = [{'ner': tags} for tags in golds]
  assert metrics.entity_f1(examples, found) == {
    'f1': pytest.approx(100 * 2 * precision * recall / (precision + recall)),
    'precision': pytest.approx(100 * precision),
    'recall': pytest.approx(100 * recall),
  }
  assert 0 < right < len(ours)


def test_entity_f1():
  examples = [
    {'ner': ['B-PER', 'I-PER', 'O', 'B-LOC']},
    {'ner': ['O', 'B-ORG']},
    {'ner': ['O', 'B-ORG']},
  ]
  found = [
    ['B-PER', 'O', 'O', 'B-LOC'],  # one is cut short: wrong
    ['B-ORG', 'B-ORG'],
    ['O', 'B-LOC'],
  ]
  # Right 2; predicted 5; there are 4.
  assert metrics.entity_f1(examples, found) == {
    'f1': pytest.approx(100 * 4 / 9),
    'precision': pytest.approx(40),
    'recall': pytest.approx(50),
  }


def test_tags_that_are_missing():
  examples = [{'ner': ['B-PER', 'O', 'B-LOC', 'I-LOC']}]
  scores = metrics.entity_f1(examples, [['B-PER', None]])
  assert scores == {
    'f1': pytest.approx(200 / 3),
    'precision': 100,
    'recall': 50,
    'invalid': 3,
  }


def test_no_entities():
  none = [{'ner': ['O', 'O']}]
  some = [{'ner': ['O', 'B-PER']}]
  zero = {'f1': 0, 'precision': 0, 'recall': 0}
  assert metrics.entity_f1([], []) == zero | {'undefined': 3}
  assert metrics.entity_f1(none, [['O', 'O']]) == zero | {'undefined': 3}
  assert metrics.entity_f1(some, [['O', 'O']]) == zero | {'undefined': 1}
  assert metrics.entity_f1(none, [['O', 'B-PER']]) == zero | {'undefined': 1}
  # An empty prediction: both words are 'O'.
  scores = metrics.entity_f1(some, [[]])
  assert scores == zero | {'undefined': 1, 'invalid': 2}


def test_bad_tags():
  with pytest.raises(ValueError, match='has 1 words, and 2 predicted tags'):
    metrics.entity_f1([{'ner': ['O']}], [['O', 'O']])
  for tag in ('PER', 'B-', 'S-PER', '-PER'):
    with pytest.raises(ValueError, match='is not a tag'):
      metrics.entity_f1([{'ner': ['O']}], [[tag]])
