"""Metrics of classes and of numbers."""

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from input_pipeline.tasks.metrics import scores
from input_pipeline.tasks.metrics.scores import Examples, Scores

CB = ('entailment', 'contradiction', 'neutral')
POSITIVE = ('equivalent', 'duplicate')  # what MRPC and QQP look for
NO_NUMBER = -1.0  # T5's value of a text that is not a number


def accuracy(examples: Examples, predictions: Sequence[Any]) -> Scores:
  """`accuracy`: the share of predictions that equal the example's `label`."""
  golds = scores.labels(examples, predictions)
  if not golds:
    return scores.percents({'accuracy': None})
  right = np.mean([g == p for g, p in zip(golds, predictions, strict=True)])
  return scores.percents(
    {'accuracy': right}, invalid=scores.invalid(predictions)
  )


def matthews(examples: Examples, predictions: Sequence[Any]) -> Scores:
  """`matthews`: the correlation coefficient of any number of classes.

  None is a class of its own that is never right, as in T5 (-1). If all labels
  or all predictions are one class, the coefficient is undefined and given as 0,
  as in scikit-learn and the published tables.
  """
  golds = scores.labels(examples, predictions)
  invalid = scores.invalid(predictions)
  if len(set(golds)) < 2 or len(set(predictions)) < 2:
    return scores.percents({'matthews': None}, invalid=invalid)
  with scores.extra():
    from sklearn.metrics import matthews_corrcoef
  names = sorted({*golds, *predictions} - {None})
  number = {name: i for i, name in enumerate([*names, None])}
  value = matthews_corrcoef(
    [number[gold] for gold in golds], [number[p] for p in predictions]
  )
  return scores.percents({'matthews': value}, invalid=invalid)


def f1_accuracy(
  examples: Examples,
  predictions: Sequence[Any],
  *,
  positive: Collection[str] = POSITIVE,
) -> Scores:
  """`f1` of the positive class, and `accuracy` (MRPC, QQP).

  None counts as the wrong class, as in T5: if the label is negative, it is a
  false positive.

  Args:
    examples: with a `label`.
    predictions: classes.
    positive: names of the positive class.
  """
  golds = [gold in positive for gold in scores.labels(examples, predictions)]
  f1 = _binary_f1(golds, _binary(golds, predictions, positive))
  return _with_accuracy({'f1': f1}, examples, predictions)


def f1_macro_accuracy(
  examples: Examples,
  predictions: Sequence[Any],
  *,
  classes: Sequence[str] = CB,
) -> Scores:
  """`f1_macro`, the mean of the F1 of each class, and `accuracy` (CB).

  A class that neither labels nor predictions have gets an F1 of 0, as in T5's
  metric, and is counted in `undefined`.

  Args:
    examples: with a `label`.
    predictions: classes.
    classes: the names of all classes.

  Raises:
    ValueError: a label is not one of the classes.
  """
  golds = scores.labels(examples, predictions)
  if unknown := set(golds) - set(classes):
    raise ValueError(f'Labels {sorted(unknown)} are not among {classes}.')
  if not golds:
    return scores.percents({'f1_macro': None, 'accuracy': None})
  with scores.extra():
    from sklearn.metrics import f1_score
  # scikit-learn needs labels of one type: numbers, and -1 for no class.
  number = {name: i for i, name in enumerate(classes)}
  each = f1_score(
    [number[gold] for gold in golds],
    [number.get(prediction, -1) for prediction in predictions],
    labels=range(len(classes)),
    average=None,
    zero_division=np.nan,
  )
  empty = int(np.isnan(each).sum())
  values = {'f1_macro': np.nan_to_num(each).mean()}
  return _with_accuracy(values, examples, predictions, empty)


def multirc(examples: Examples, predictions: Sequence[Any]) -> Scores:
  """`f1` over all answers, and `exact_match`: questions with no wrong answer.

  An example is one answer of a question, with `label` 'True' or 'False' and
  `idx` {paragraph, question, answer} (Khashabi et al. 2018; Wang et al. 2019).
  None counts as the wrong class.
  """
  labels = scores.labels(examples, predictions)
  golds = [gold == 'True' for gold in labels]
  questions = defaultdict(list)
  for example, gold, found in zip(examples, labels, predictions, strict=True):
    place = example['idx']['paragraph'], example['idx']['question']
    questions[place].append(gold == found)
  exact = [all(right) for right in questions.values()]
  f1 = _binary_f1(golds, _binary(golds, predictions, ('True',)))
  values = {'f1': f1, 'exact_match': np.mean(exact) if exact else None}
  return scores.percents(values, invalid=scores.invalid(predictions))


def pearson_spearman(
  examples: Examples, predictions: Sequence[float | None]
) -> Scores:
  """`pearson` and `spearman` correlation with the number `label` (STS-B).

  A prediction that is not a finite number counts as -1, as in T5. Both are
  undefined if all labels, or all predictions, are equal.
  """
  golds = np.float64(scores.labels(examples, predictions))
  valid = [p is not None and math.isfinite(p) for p in predictions]
  found = np.float64(
    [p if ok else NO_NUMBER for p, ok in zip(predictions, valid, strict=True)]
  )
  invalid = len(valid) - sum(valid)
  if len(set(golds)) < 2 or len(set(found)) < 2:
    return scores.percents({'pearson': None, 'spearman': None}, invalid=invalid)
  with scores.extra():
    from scipy.stats import pearsonr, spearmanr
  values = {
    'pearson': pearsonr(golds, found).statistic,
    'spearman': spearmanr(golds, found).statistic,
  }
  return scores.percents(values, invalid=invalid)


def _binary(golds, predictions, positive):
  """Whether each prediction is positive; None counts as the wrong class."""
  return [
    (not gold) if found is None else found in positive
    for gold, found in zip(golds, predictions, strict=True)
  ]


def _binary_f1(golds, found):
  """F1 (0 to 1) of True; None if neither side has a True."""
  if not any(golds) and not any(found):
    return None
  with scores.extra():
    from sklearn.metrics import f1_score
  return f1_score(golds, found)


def _with_accuracy(values, examples, predictions, undefined=0):
  """Scores of `values`, and the accuracy."""
  found = scores.percents(values, undefined=undefined)
  other = accuracy(examples, predictions)
  counts = {
    name: found.pop(name, 0) + other.pop(name, 0)
    for name in ('undefined', 'invalid')
  }
  return found | other | {k: v for k, v in counts.items() if v}
