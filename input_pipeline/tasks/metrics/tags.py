"""Metrics of words' tags: the entities that tags mark.

They are counted here, and not by seqeval 1.2.2, which gives the same numbers:
it is published as source alone, last in 2020, and building it fails in some
environments; and it does not count words without a tag.
"""

import operator
from collections.abc import Sequence

from input_pipeline.tasks.metrics import scores
from input_pipeline.tasks.metrics.scores import Examples, Scores

OUTSIDE = 'O'


def entity_f1(
  examples: Examples,
  predictions: Sequence[Sequence[str | None]],
  *,
  field: str = 'ner',
) -> Scores:
  """`f1`, `precision` and `recall` of whole entities of all examples together.

  An entity is right if its first word, last word and type are right, by the
  rules of CoNLL's script (Tjong Kim Sang and De Meulder 2003, 4). Precision is
  undefined without predicted entities, and recall without labelled ones.

  Args:
    examples: with a list of tags, such as 'B-PER', 'I-PER' and 'O'.
    predictions: a tag for each word. None, and a missing tag at the end, are
      'O' and counted as `invalid`.
    field: the field of the tags.

  Raises:
    ValueError: a tag has another form, or there are more tags than words.
  """
  golds, founds, invalid = set(), set(), 0
  for i, (gold, tags) in enumerate(_tags(examples, predictions, field)):
    invalid += scores.invalid(tags)
    tags = [tag or OUTSIDE for tag in tags]
    golds |= {(i, *entity) for entity in entities(gold)}
    founds |= {(i, *entity) for entity in entities(tags)}
  right, total = len(golds & founds), len(golds) + len(founds)
  values = {
    'f1': 2 * right / total if total else None,
    'precision': right / len(founds) if founds else None,
    'recall': right / len(golds) if golds else None,
  }
  return scores.percents(values, invalid=invalid)


def tag_accuracy(
  examples: Examples,
  predictions: Sequence[Sequence[str | None]],
  *,
  field: str = 'ner',
) -> Scores:
  """`accuracy` of the words' tags, of all examples together.

  The arguments are those of `entity_f1`; a word without a predicted tag counts
  as wrong, and as `invalid`.
  """
  right, total, invalid = 0, 0, 0
  for gold, tags in _tags(examples, predictions, field):
    right += sum(map(operator.eq, gold, tags))
    total += len(gold)
    invalid += scores.invalid(tags)
  value = right / total if total else None
  return scores.percents({'accuracy': value}, invalid=invalid)


def _tags(examples, predictions, field):
  """Each example's gold and predicted tags; None for a word without one."""
  scores.check_length(examples, predictions)
  for i, (example, tags) in enumerate(zip(examples, predictions, strict=True)):
    gold = example[field]
    missing = len(gold) - len(tags)
    if missing < 0:
      raise ValueError(
        f'Example {i} has {len(gold)} words, and {len(tags)} predicted tags.'
      )
    yield gold, [*tags, *[None] * missing]


def entities(tags: Sequence[str]) -> list[tuple[int, int, str]]:
  """(first word, last word, type) of the entities that tags mark.

  B- begins an entity, and so does I- after 'O' or after another type, so both
  IOB1 and IOB2 are read. Example: B-PER I-PER I-LOC O -> (0, 1, PER),
  (2, 2, LOC).

  Raises:
    ValueError: a tag is neither 'O' nor begins with B- or I-.
  """
  found, start, kind = [], 0, ''  # no kind: outside
  for i, tag in enumerate([*tags, OUTSIDE]):
    mark, _, new = tag.partition('-')
    if tag != OUTSIDE and (mark not in ('B', 'I') or not new):
      raise ValueError(f"{tag!r} is not a tag: use 'O', B-TYPE or I-TYPE.")
    if kind and (mark == 'B' or new != kind):
      found.append((start, i - 1, kind))
    if mark == 'B' or new != kind:
      start, kind = i, new
  return found
