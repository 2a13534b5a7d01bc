"""Scores of answers to questions, some of which have no answer.

A prediction is a text, or has the attributes `text` and `null`, which says how
much likelier no answer is than the text (input_pipeline.objectives.reading).
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from input_pipeline.tasks.metrics import scores
from input_pipeline.tasks.metrics.scores import Examples, Scores

NULL_BOUND = 1e9  # for scores of no answer, which may be infinite

Normalise = Callable[[str], str]


def normalise_squad(text: str) -> str:
  """A text as SQuAD's published script compares it.

  Lower case; then without ASCII punctuation; then without the words a, an and
  the; words with one space between (Rajpurkar et al. 2016, 6.1).
  """
  text = ''.join(c for c in text.lower() if c not in string.punctuation)
  return ' '.join(re.sub(r'\b(a|an|the)\b', ' ', text).split())


def normalise_trivia(text: str) -> str:
  """A text as TriviaQA's published script compares it.

  It differs from SQuAD's in that punctuation becomes a space, and that
  typographic quotes are punctuation too.
  """
  marks = string.punctuation + '‘’´`'
  text = ''.join(' ' if c in marks else c for c in text.lower())
  return ' '.join(re.sub(r'\b(a|an|the)\b', ' ', text).split())


def token_f1(gold: str, predicted: str) -> float:
  """F1 (0 to 1) of the words of two normalised texts, counted as bags.

  Two texts without words have no word in common, so F1 is 0 as in SQuAD 1.1's
  script.
  """
  golds, found = gold.split(), predicted.split()
  common = (Counter(golds) & Counter(found)).total()
  return 2 * common / (len(golds) + len(found)) if common else 0.0


def best_match(
  golds: Sequence[str], predicted: str, normalise: Normalise
) -> tuple[float, float]:
  """Exact match and F1 (0 to 1), each the best over the gold answers."""
  predicted = normalise(predicted)
  pairs = [(normalise(gold), predicted) for gold in golds]
  exact = max(float(gold == found) for gold, found in pairs)
  return exact, max(token_f1(gold, found) for gold, found in pairs)


def text_of(prediction: Any) -> str:
  """The text of a prediction; None is the empty text."""
  text = getattr(prediction, 'text', prediction)
  return '' if text is None else text


def given(prediction: Any, threshold: float) -> str | None:
  """The text of a prediction, '' if its `null` is above the threshold."""
  null = getattr(prediction, 'null', None)
  if null is not None and null > threshold:
    return ''
  return getattr(prediction, 'text', prediction)


def squad2_match(golds: Sequence[str], predicted: str) -> tuple[float, float]:
  """Exact match and F1 (0 to 1) by SQuAD 2.0's script.

  A question has no answer if no gold answer has a word. If only one side is
  empty, both scores are 0; if both sides are, both are 1 (Rajpurkar et al.
  2018, 5).
  """
  golds = [gold for gold in golds if normalise_squad(gold)] or ['']
  exact, f1 = best_match(golds, predicted, normalise_squad)
  return exact, max(f1, float(golds == [''] and exact))


def best_threshold(
  kept: np.ndarray, dropped: np.ndarray, null: np.ndarray
) -> tuple[float, float]:
  """The best mean score over all thresholds for no answer, and the threshold.

  A question gets no answer if its `null` is above the threshold. As in SQuAD
  2.0's script, thresholds are values of `null`, and ties go to the lowest.
  Unlike in the script, equal values of `null` stay together: no threshold can
  separate them.

  Args:
    kept: float [N], the score of each question with its answer.
    dropped: float [N], its score with no answer.
    null: float [N], how much likelier no answer is.

  Returns:
    The mean score and the threshold, which is the lowest `null` - 1 if it is
    best to answer nothing.
  """
  order = np.argsort(null, kind='stable')
  null, gain = null[order], (kept - dropped)[order]
  totals = dropped.sum() + np.concatenate([[0.0], np.cumsum(gain)])
  # Equal values of `null` are a group, which ends where the next one differs.
  ends = np.append(np.flatnonzero(np.diff(null)), len(null) - 1) + 1
  ends = np.concatenate([[0], ends])
  best = ends[np.argmax(totals[ends])]
  threshold = null[best - 1] if best else null[0] - 1
  return float(totals[best] / len(null)), float(threshold)


def golds_of(
  example: Mapping[str, Any], field: str = 'answers'
) -> Sequence[str]:
  """The gold answers of an example of SQuAD, ReCoRD or TriviaQA.

  The field has a list of texts, or a dict with `text` (SQuAD), or with
  `aliases` and `normalized_aliases` (TriviaQA).
  """
  found = example[field]
  if not isinstance(found, Mapping):
    return found
  if 'text' in found:
    return found['text']
  return [*found['aliases'], *found.get('normalized_aliases', ())]


def squad(examples: Examples, predictions: Sequence[Any]) -> Scores:
  """`exact_match` and `f1` over `answers` {'text': [...]}: SQuAD 1.1.

  Each is the best over a question's answers (Rajpurkar et al. 2016, 6.1).
  """
  return _answered(examples, predictions, 'answers', normalise_squad)


def record(examples: Examples, predictions: Sequence[Any]) -> Scores:
  """`f1` and `exact_match` over `answers` [...], as SQuAD's (ReCoRD).

  Examples with the same passage and query are one question, of which the first
  prediction counts (Zhang et al. 2018; T5).
  """
  scores.check_length(examples, predictions)
  first = {}
  for example, prediction in zip(examples, predictions, strict=True):
    question = example['passage'], example['query']
    if 'idx' in example:
      question = example['idx']['passage'], example['idx']['query']
    first.setdefault(question, (example, prediction))
  found = squad(
    [example for example, _ in first.values()],
    [prediction for _, prediction in first.values()],
  )
  return {'f1': found.pop('f1'), **found}


def trivia(examples: Examples, predictions: Sequence[Any]) -> Scores:
  """`exact_match` and `f1` over `answer` {'aliases': [...], ...}: TriviaQA.

  Each is the best over the aliases (Joshi et al. 2017, 6).
  """
  return _answered(examples, predictions, 'answer', normalise_trivia)


def squad2(
  examples: Examples, predictions: Sequence[Any], threshold: float = 0.0
) -> Scores:
  """`exact_match` and `f1` of SQuAD 2.0, where some questions have no answer.

  The text '' means no answer, and so does a `null` (see above) over the
  threshold. If predictions have `null`, there are also the scores at the
  thresholds that are best for these examples, as BERT and later papers report
  them on dev: `best_exact_match`, `best_f1`, and the thresholds themselves,
  `best_f1_threshold` and so on (Rajpurkar et al. 2018; Devlin et al. 2019,
  4.3).

  Raises:
    ValueError: only some predictions have `null`.
  """
  scores.check_length(examples, predictions)
  nulls = [getattr(p, 'null', None) for p in predictions]
  if 0 < nulls.count(None) < len(nulls):
    raise ValueError(
      'Some predictions have `null`, the score of no answer, and some have not.'
    )
  scored = bool(nulls) and nulls[0] is not None
  names = ('exact_match', 'f1')
  if not predictions:
    return scores.percents(dict.fromkeys(names))
  golds = [golds_of(example) for example in examples]
  match = squad2_match
  kept = np.float64(
    [
      match(gold, text_of(p))
      for gold, p in zip(golds, predictions, strict=True)
    ]
  )
  dropped = np.float64([match(gold, '') for gold in golds])
  null = np.clip(np.float64(nulls if scored else -1.0), -NULL_BOUND, NULL_BOUND)
  no_answer = scored & (null > threshold)
  means = np.where(no_answer[..., None], dropped, kept).mean(axis=0)
  found = scores.percents(dict(zip(names, means, strict=True)))
  for i, name in enumerate(names if scored else ()):
    best, at = best_threshold(kept[:, i], dropped[:, i], null)
    found |= {f'best_{name}': 100 * best, f'best_{name}_threshold': at}
  return found


def _answered(examples, predictions, field, normalise):
  """Exact match and F1, each the best over the answers in a field."""
  scores.check_length(examples, predictions)
  pairs = []
  for i, (example, found) in enumerate(zip(examples, predictions, strict=True)):
    golds = golds_of(example, field)
    if not golds:
      raise ValueError(
        f'Example {i} has no answer in {field!r}, but this metric needs gold'
        ' answers. For a test split, write the predictions. For questions'
        ' without an answer, use the metric squad2.'
      )
    pairs.append(best_match(golds, text_of(found), normalise))
  means = np.mean(pairs, axis=0) if pairs else (None, None)
  return scores.percents(dict(zip(('exact_match', 'f1'), means, strict=True)))
