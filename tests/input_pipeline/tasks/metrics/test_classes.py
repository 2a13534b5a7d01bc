"""Metrics of classes and numbers, beside scikit-learn and SciPy."""

import json

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from input_pipeline.tasks import metrics

NLI = ('entailment', 'contradiction', 'neutral')
CLASSES = (
  metrics.accuracy,
  metrics.matthews,
  metrics.f1_accuracy,
  metrics.f1_macro_accuracy,
)


def labelled(labels):
  return [{'label': label} for label in labels]


def drawn(rng, classes, size=40):
  return [classes[i] for i in rng.integers(len(classes), size=size)]


@pytest.mark.parametrize('seed', range(5))
def test_classes_beside_scikit_learn(seed):
  rng = np.random.default_rng(seed)
  golds, found = drawn(rng, NLI), drawn(rng, NLI)
  examples = labelled(golds)
  # By name: scikit-learn as a reader of the papers would call it.
  accuracy = 100 * sklearn.metrics.accuracy_score(golds, found)
  macro = 100 * sklearn.metrics.f1_score(golds, found, average='macro')
  matthews = 100 * sklearn.metrics.matthews_corrcoef(golds, found)
  assert metrics.accuracy(examples, found) == {
    'accuracy': pytest.approx(accuracy)
  }
  assert metrics.matthews(examples, found) == {
    'matthews': pytest.approx(matthews)
  }
  assert metrics.f1_macro_accuracy(examples, found) == {
    'f1_macro': pytest.approx(macro),
    'accuracy': pytest.approx(accuracy),
  }


@pytest.mark.parametrize(
  ('no', 'yes'),
  [('not_equivalent', 'equivalent'), ('not_duplicate', 'duplicate')],
)
def test_f1_of_the_positive_class(no, yes):
  rng = np.random.default_rng(1)
  golds, found = drawn(rng, (no, yes)), drawn(rng, (no, yes))
  expected = sklearn.metrics.f1_score(golds, found, pos_label=yes)
  scores = metrics.f1_accuracy(labelled(golds), found)
  assert scores['f1'] == pytest.approx(100 * expected)
  assert list(scores) == ['f1', 'accuracy']


def test_f1_of_a_users_positive_class():
  scores = metrics.f1_accuracy(
    labelled(['1', '1', '0']), ['1', '0', '1'], positive=('1',)
  )
  assert scores['f1'] == pytest.approx(50)


def test_no_class_is_wrong_as_in_t5():
  """T5 makes it the opposite of the label for F1, and -1 for Matthews."""
  yes, no = 'equivalent', 'not_equivalent'
  golds = [yes, yes, no, no, no]
  found = [yes, None, None, no, yes]
  examples = labelled(golds)
  # True positives 1, false positives 2 (one of them None), false negatives 1.
  assert metrics.f1_accuracy(examples, found) == {
    'f1': pytest.approx(100 * 2 / (2 + 2 + 1)),
    'accuracy': pytest.approx(40),
    'invalid': 2,
  }
  numbers = {no: 0, yes: 1, None: -1}
  expected = sklearn.metrics.matthews_corrcoef(
    [numbers[x] for x in golds], [numbers[x] for x in found]
  )
  scores = metrics.matthews(examples, found)
  assert scores['matthews'] == pytest.approx(100 * expected)
  assert scores['invalid'] == 2
  macro = metrics.f1_macro_accuracy(labelled(NLI), [NLI[0], None, None])
  assert macro == {
    'f1_macro': pytest.approx(100 / 3),
    'accuracy': pytest.approx(100 / 3),
    'invalid': 2,
  }


def test_all_predictions_no_class():
  examples = labelled(['equivalent', 'not_equivalent'])
  found = [None, None]
  assert metrics.accuracy(examples, found) == {'accuracy': 0, 'invalid': 2}
  assert metrics.f1_accuracy(examples, found) == {
    'f1': 0,
    'accuracy': 0,
    'invalid': 2,
  }
  assert metrics.matthews(examples, found) == {
    'matthews': 0,
    'invalid': 2,
    'undefined': 1,
  }


@pytest.mark.parametrize(
  ('golds', 'found'),
  [('aaaa', 'abab'), ('abab', 'aaaa'), ('aaaa', 'aaaa'), ('aaaa', 'bbbb')],
)
def test_matthews_of_one_class_is_0_and_counted(golds, found):
  assert metrics.matthews(labelled(golds), list(found)) == {
    'matthews': 0,
    'undefined': 1,
  }
  assert sklearn.metrics.matthews_corrcoef(list(golds), list(found)) == 0


def test_f1_with_nothing_to_find():
  no, yes = 'not_equivalent', 'equivalent'
  assert metrics.f1_accuracy(labelled([no, no]), [no, no]) == {
    'f1': 0,
    'accuracy': 100,
    'undefined': 1,
  }
  # With one wrong prediction F1 is 0 and defined.
  assert metrics.f1_accuracy(labelled([no, no]), [no, yes]) == {
    'f1': 0,
    'accuracy': 50,
  }


def test_macro_f1_of_an_absent_class_is_0_and_counted():
  golds = ['entailment', 'neutral']
  scores = metrics.f1_macro_accuracy(labelled(golds), golds)
  assert scores == {
    'f1_macro': pytest.approx(200 / 3),
    'accuracy': 100,
    'undefined': 1,
  }


@pytest.mark.parametrize('metric', [*CLASSES, metrics.pearson_spearman])
def test_no_examples(metric):
  scores = metric([], [])
  undefined = scores.pop('undefined')
  assert undefined == len(scores)
  assert set(scores.values()) == {0}


@pytest.mark.parametrize('metric', [*CLASSES, metrics.multirc])
def test_bad_input(metric):
  with pytest.raises(ValueError, match='1 predictions for 2 examples'):
    metric(labelled('ab'), ['a'])
  with pytest.raises(ValueError, match='Example 1 has no label'):
    metric(labelled(['neutral', None]), ['neutral', 'neutral'])


def test_a_label_that_is_no_class():
  with pytest.raises(ValueError, match='maybe'):
    metrics.f1_macro_accuracy(labelled(['maybe']), ['neutral'])


def multirc(*labels):
  """An example for each (paragraph, question, label)."""
  return [
    {'idx': {'paragraph': p, 'question': q, 'answer': i}, 'label': label}
    for i, (p, q, label) in enumerate(labels)
  ]


def test_multirc():
  yes, no = 'True', 'False'
  examples = multirc(
    (0, 0, yes), (0, 0, no), (0, 1, no), (1, 0, yes), (1, 0, yes)
  )
  found = [yes, no, yes, yes, None]
  # Questions: right, wrong, wrong. True positives 2, false 1, missed 1.
  assert metrics.multirc(examples, found) == {
    'f1': pytest.approx(100 * 4 / (4 + 1 + 1)),
    'exact_match': pytest.approx(100 / 3),
    'invalid': 1,
  }
  assert metrics.multirc([], []) == {'f1': 0, 'exact_match': 0, 'undefined': 2}
  assert metrics.multirc(multirc((0, 0, no)), [no]) == {
    'f1': 0,
    'exact_match': 100,
    'undefined': 1,
  }


def test_multirc_beside_scikit_learn():
  rng = np.random.default_rng(3)
  golds, found = (drawn(rng, ('True', 'False'), 90) for _ in range(2))
  places = [(i // 9, i // 3) for i in range(90)]
  examples = multirc(
    *((*place, label) for place, label in zip(places, golds, strict=True))
  )
  scores = metrics.multirc(examples, found)
  f1 = sklearn.metrics.f1_score(golds, found, pos_label='True')
  right = np.reshape(golds, (30, 3)) == np.reshape(found, (30, 3))
  assert scores['f1'] == pytest.approx(100 * f1)
  assert scores['exact_match'] == pytest.approx(100 * right.all(1).mean())


def test_correlations_beside_scipy():
  rng = np.random.default_rng(4)
  golds = rng.uniform(0, 5, 50)
  found = golds + rng.normal(size=50)
  found[:9] = 3.8  # ties, as texts of T5 make them
  scores = metrics.pearson_spearman(labelled(golds), list(found))
  assert scores == {
    'pearson': pytest.approx(100 * np.corrcoef(golds, found)[0, 1]),
    'spearman': pytest.approx(
      100
      * np.corrcoef(scipy.stats.rankdata(golds), scipy.stats.rankdata(found))[
        0, 1
      ]
    ),
  }


def test_what_is_no_number():
  """A text that is no number counts as -1, as in T5."""
  golds = [1.0, 2.0, 3.0, 4.0, 0.5]
  examples = labelled(golds)
  found = [1.5, None, 3.0, float('nan'), float('inf')]
  scores = metrics.pearson_spearman(examples, found)
  expected = scipy.stats.pearsonr(golds, [1.5, -1, 3.0, -1, -1]).statistic
  assert scores.pop('pearson') == pytest.approx(100 * expected)
  assert scores.pop('invalid') == 3
  assert set(scores) == {'spearman'}


@pytest.mark.parametrize(
  ('golds', 'found'),
  [([1, 2, 3], [2, 2, 2]), ([2, 2, 2], [1, 2, 3]), ([1], [1])],
)
def test_correlation_with_a_constant(golds, found):
  scores = metrics.pearson_spearman(labelled(golds), found)
  assert scores == {'pearson': 0, 'spearman': 0, 'undefined': 2}
  json.dumps(scores, allow_nan=False)
