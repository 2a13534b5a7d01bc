"""Questions about a text: windows of the text, and spans of tokens in them.

A context that is too long for a row is read in several windows that overlap, as
in BERT's published code for SQuAD:

  [CLS] question [SEP] tokens 0 to 380 of the context [SEP]
  [CLS] question [SEP] tokens 128 to 508 [SEP]
"""

import re
from typing import Any, NamedTuple

import numpy as np

from input_pipeline.config import DataConfig
from input_pipeline.objectives import framing
from input_pipeline.tasks.task import Span
from input_pipeline.tokenizers.interface import Tokenizer

STRIDE = 128  # tokens from the start of a window to that of the next
QUESTION = 64  # tokens of a question, at most
MOST = 30  # tokens of an answer, at most
LIKELIEST = 20  # starts and ends of a window that are tried

# Parts of a text that a tokenizer of the kind never joins.
_PARTS = {
  'wordpiece': re.compile(r'\w+|[^\w\s]'),
  'byte_bpe': re.compile(
    r"'(?:[sdmt]|ll|ve|re)(?!\w)| ?[^\W\d_]+| ?\d+| ?[^\s\w]+| ?_+|\s+(?!\S)|\s"
  ),
}
_WORDS = re.compile(r'\S+')


class Window(NamedTuple):
  """The part of a context that a row has.

  Attributes:
    first: where in the row the context begins.
    characters: int [tokens, 2], where each token begins and ends in the text.
    best: bool [tokens], whether no other window has more context on both sides
      of the token. An answer may begin only at such a token.
  """

  first: int
  characters: np.ndarray
  best: np.ndarray


def tokens_of(
  text: str, tokenizer: Tokenizer, kind: str
) -> tuple[np.ndarray, np.ndarray]:
  """Ids of a text, int [tokens], and their places in it, int [tokens, 2].

  `kind` is data.tokenizer_kind. A token whose own place is unknown, because the
  tokenizer changed the text, has the place of its word.
  """
  pattern = _PARTS.get(kind, _WORDS)
  found = list(pattern.finditer(text))
  pieces = tokenizer.encode_batch([match[0].encode() for match in found])
  sizes = tokenizer.byte_lengths()
  places = [
    _places(match, sizes[ids]) for match, ids in zip(found, pieces, strict=True)
  ]
  if not pieces:
    return np.zeros(0, np.int32), np.zeros([0, 2], np.int32)
  return np.concatenate(pieces), np.concatenate(places)


def _places(match, sizes):
  """Places [tokens, 2] of a word's tokens, which stand for `sizes` bytes."""
  begin, end = match.span()
  begin += match[0].startswith(' ')
  ends = np.cumsum(sizes)
  spaces = ends[-1] - (end - begin) if len(ends) else 0
  if match[0].isascii() and spaces in (0, 1):  # a leading space counts
    ends = begin + ends - spaces
    starts = np.concatenate([[begin], ends[:-1]])
    return np.stack([starts, ends], axis=1)
  return np.tile([begin, end], (len(sizes), 1))


def windows(
  span: Span, tokenizer: Tokenizer, config: DataConfig
) -> list[dict[str, Any]]:
  """The rows of a question, each with its answer's place and its `window`.

  `start` and `end` are the places in the row of the first answer's first and
  last token. Both are 0, the place of [CLS], if the window does not hold the
  whole answer. `no_answer` is 1 if the question has no answer at all, and `cut`
  says whether the question has lost tokens.

  Raises:
    ValueError: a row has no room for a context.
  """
  (question,) = tokenizer.encode_batch([span.question.encode()])
  cut = len(question) > QUESTION
  question = question[:QUESTION]
  ids, characters = tokens_of(span.context, tokenizer, config.tokenizer_kind)
  empty, _, _ = framing.frame([question, ids[:0]], tokenizer, config)
  room = config.length - len(empty)
  first = len(empty) - framing.closing(tokenizer, config)
  if room < 1:
    raise ValueError(
      f'data.length={config.length} has no room for a context after a question '
      f'of {len(question)} tokens: raise it (384 in the papers).'
    )
  starts = [0]
  while starts[-1] + room < len(ids):
    starts.append(starts[-1] + min(STRIDE, room))
  answer = _answer(span, characters)
  rows = []
  for begin in starts:
    part = slice(begin, begin + room)
    line, types, _ = framing.frame([question, ids[part]], tokenizer, config)
    row = {'inputs': line, 'types': types, 'start': 0, 'end': 0}
    row['no_answer'] = int(not span.answers)
    if answer and begin <= answer[0] and answer[1] < begin + room:
      row['start'], row['end'] = (first + place - begin for place in answer)
    best = _best(starts, room, len(ids))[begin : begin + room]
    window = Window(first, characters[part], best == len(rows))
    rows.append(row | {'window': window, 'cut': cut})
  return rows


def _answer(span, characters):
  """The first and the last token of the first answer; None without one."""
  if not span.answers:
    return None
  begin, text = span.answers[0]
  inside = (characters[:, 1] > begin) & (characters[:, 0] < begin + len(text))
  at = np.flatnonzero(inside)
  return (int(at[0]), int(at[-1])) if len(at) else None


def _best(starts, room, tokens):
  """The window in which each token has the most context on its poorer side.

  As in BERT's code, 0.01 is added for each token of the window.
  """
  places = np.arange(tokens)
  scores = []
  for begin in starts:
    end = min(begin + room, tokens)
    score = np.minimum(places - begin, end - 1 - places) + 0.01 * (end - begin)
    scores.append(np.where((places >= begin) & (places < end), score, -np.inf))
  return np.argmax(scores, axis=0)


class Answer(NamedTuple):
  """What a model answers to a question.

  Attributes:
    text: the likeliest part of the context.
    null: how much likelier it is that there is no answer: the difference of the
      two scores, each a sum of two logits; of model.head='span_joint' the logit
      of no answer.
  """

  text: str
  null: float


def answer(
  span: Span, rows: list[dict[str, Any]], logits: list[np.ndarray]
) -> Answer:
  """The likeliest answer over all windows (Devlin et al. 2019, 4.2 and 4.3).

  An answer begins at a token for which its window is the best, has at most MOST
  tokens, and has a start and an end among the LIKELIEST of its window.

  Args:
    span: the question.
    rows: its windows, from `windows`.
    logits: float [2,T] for each row: of the start and of the end. Those of
      model.head='span_joint' are [2+K,T], see models.heads.JointSpan.
  """
  if len(logits[0]) > 2:
    return _joint_answer(span, rows, logits)
  best, text, null = -np.inf, '', np.inf
  for row, (starts, ends) in zip(rows, logits, strict=True):
    window = row['window']
    null = min(null, float(starts[0] + ends[0]))
    places = window.first + np.arange(len(window.characters))
    begins, finishes = starts[places], ends[places]
    for b in np.argsort(-begins, kind='stable')[:LIKELIEST]:
      if not window.best[b]:
        continue
      for e in np.argsort(-finishes, kind='stable')[:LIKELIEST]:
        score = float(begins[b] + finishes[e])
        if b <= e < b + MOST and score > best:
          best = score
          first, last = window.characters[b][0], window.characters[e][1]
          text = span.context[first:last]
  return Answer(text, null - best)


def _joint_answer(span, rows, logits):
  """The likeliest pair of a start and of an end given it (Clark et al. 2020).

  As `answer`; each of the likeliest starts has likeliest ends of its own.
  """
  best, text, null = -np.inf, '', np.inf
  for row, (starts, no_answer, *ends) in zip(rows, logits, strict=True):
    window = row['window']
    size = len(window.characters)
    null = min(null, float(no_answer[0]))
    begins = np.argsort(-starts, kind='stable')[: len(ends)]
    for begin, own in zip(begins, ends, strict=True):
      b = begin - window.first
      if not 0 <= b < size or not window.best[b]:
        continue
      for e in np.argsort(-own, kind='stable')[:LIKELIEST] - window.first:
        if not b <= e < min(b + MOST, size):
          continue
        score = float(starts[begin] + own[e + window.first])
        if score > best:
          best = score
          first, last = window.characters[b][0], window.characters[e][1]
          text = span.context[first:last]
  return Answer(text, null)
