"""Labelled examples -> the arrays that a head, or a text-to-text model, reads.

An encoder reads one or two framed texts (see framing). Its head predicts a
class, a number, a class for each word, or a span.

A text-to-text model reads the task's input, then EOS, and writes its target,
then EOS (Raffel et al. 2020, 2.4).
"""

import dataclasses
import types
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from input_pipeline.chat.messages import exchange
from input_pipeline.chat.templates import Template
from input_pipeline.choices import WORDED
from input_pipeline.config import DataConfig
from input_pipeline.instructions.wording import Draw
from input_pipeline.objectives import (
  chats,
  features,
  framing,
  reading,
)
from input_pipeline.objectives.pieces import NOTHING
from input_pipeline.tasks.task import Example, Task
from input_pipeline.tokenizers.interface import Tokenizer


class Encoded(NamedTuple):
  """The rows of some examples.

  Attributes:
    rows: a list for each example. A row is a dict of what goes into the arrays
      of the batch, without padding. An example has several rows if T5 trains on
      several answers, or if its context has several windows.
    lost: whether each example lost tokens that no row has.
    left_out: number of an example -> why it has no row to train on.
  """

  rows: list[list[dict[str, Any]]]
  lost: list[bool]
  left_out: Mapping[int, str] = types.MappingProxyType({})

  @property
  def cut(self) -> int:
    """How many examples lost tokens."""
    return sum(self.lost)


@dataclasses.dataclass(frozen=True)
class Format:
  """How a task's examples are read, to be `trained` on or evaluated.

  Chats are written by the `template`. `others` are the examples that may be
  worked ones.
  """

  task: Task
  config: DataConfig
  family: str
  trained: bool
  template: Template | None = None
  others: Sequence[Example] = ()

  def encode(
    self,
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    rng: np.random.Generator | None = None,
  ) -> Encoded:
    """Examples -> their rows; `rng` puts those to train on into words.

    Raises:
      ValueError: a label is missing or unknown.
    """
    match self.config.objective:
      case 'text_to_text' if self.task.chats or self.config.chat_template:
        return self._chats(examples, tokenizer, rng)
      case 'text_to_text':
        return self._text_to_text(examples, tokenizer)
      case 'span':
        return self._spans(examples, tokenizer)
      case 'tagging':
        return self._tagged(examples, tokenizer)
    return self._classified(examples, tokenizer)

  def check(self, examples: Sequence[Example], where: str) -> None:
    """Raises ValueError if none of the examples has a text to train on."""
    if not self.trained or self.config.objective != 'text_to_text':
      return
    name = self.task.name
    if not any(self.task.text_to_text(example) for example in examples):
      who = 'T5 does' if name == 'glue/wnli' else 'a model that writes can'
      raise ValueError(
        f'{where}: {who} not train on {name}, none of whose'
        f' {len(examples)} examples has a text to train on: leave it out of'
        f' training; evaluate it with --source=task:{name}@validation.'
      )

  def _chats(self, examples, tokenizer, rng):
    """Rows of chats, whose answers alone are predicted."""
    rng = rng or np.random.default_rng(0)
    shares = (getattr(self.config, key) for key in WORDED)
    draw = Draw(rng if self.trained else None, self.others, *shares)
    found = [
      self.task.chats(example, draw)
      if self.task.chats
      else [exchange(*pair) for pair in self._pairs(example)]
      for example in examples
    ]
    return Encoded(
      *chats.encode_all(
        found, self.template, tokenizer, self.config, self.family, self.trained
      )
    )

  def _text_to_text(self, examples, tokenizer):
    pairs = [self._pairs(example) for example in examples]
    texts = [text.encode() for own in pairs for pair in own for text in pair]
    ids = iter(tokenizer.encode_batch(texts))
    rows, cut = [], []
    for own in pairs:
      rows.append([])
      lost = False
      for _ in own:
        inputs, targets = next(ids), next(ids)
        room, end = self._rooms(len(targets))
        lost |= len(inputs) > room or len(targets) > end
        eos = np.int32([tokenizer.eos])
        rows[-1].append(
          {
            'inputs': np.concatenate([inputs[:room], eos]),
            'targets': np.concatenate([targets[:end], eos]),
          }
        )
      cut.append(lost)
    return Encoded(rows, cut)

  def _pairs(self, example):
    """The (input, target) pairs of an example."""
    if self.trained:
      return self.task.text_to_text(example)
    if self.task.evaluated:
      found = self.task.evaluated(example)
      return [found] if found else []
    return self.task.text_to_text(example)[:1]

  def _rooms(self, target):
    """The most tokens of inputs and of targets, without their EOS."""
    config = self.config
    if self.family == 'encoder_decoder':
      return config.length - 1, (config.target_length or config.length) - 1
    end = config.length // 2 - 1  # half of a decoder's row, at most
    return config.length - 2 - min(target, end), end

  def _classified(self, examples, tokenizer):
    """Rows of one or two texts, or of all pairs of a 'choice'."""
    choices = [self.task.texts(example) for example in examples]
    orders = self.config.orders
    if self.config.objective != 'choice':
      if orders and any(len(texts) != 2 for texts in choices):
        raise ValueError(
          f'data.orders={orders!r} needs two texts, but {self.task.name} has '
          "examples with one: set it to ''."
        )
      both = orders == 'both' or (orders == 'each' and self.trained)
      choices = [[x, x[::-1]] if both else [x] for x in choices]
    elif any(len(x) != self.config.choices for x in choices):
      found = sorted({len(x) for x in choices})
      raise ValueError(
        f'{self.task.name} has examples with {found} choices, but'
        f' data.choices={self.config.choices}: all must have as many.'
      )
    texts = [t.encode() for own in choices for pair in own for t in pair]
    ids = iter(tokenizer.encode_batch(texts))
    rows, cut = [], []
    for example, own in zip(examples, choices, strict=True):
      lines, types, lost = zip(
        *(framing.frame([next(ids) for _ in x], tokenizer, self.config)
          for x in own), strict=True,
      )  # fmt: skip
      secret = example[self.task.label] is None
      labels = {'labels': self.number(example), 'weights': int(not secret)}
      if self.config.objective == 'choice' or orders == 'both':
        made = [{'inputs': list(lines), 'types': list(types)}]
      else:  # one, or one in each order
        pairs = zip(lines, types, strict=True)
        made = [{'inputs': line, 'types': own} for line, own in pairs]
      rows.append([row | labels for row in made])
      cut.append(any(lost))
    return Encoded(rows, cut)

  def number(self, example: Example) -> float:
    """An example's label as a number; 0 if the label is secret."""
    label = example[self.task.label]
    if label is None:
      return 0
    if self.task.kind == 'regression':
      return float(label) / self.config.label_scale
    return self.task.labels.index(label)

  def _tagged(self, examples, tokenizer):
    """Each word's first token has its label (Devlin et al. 2019, 5.3)."""
    words = [self.task.texts(example) for example in examples]
    ids = iter(
      tokenizer.encode_batch([w.encode() for own in words for w in own])
    )
    rows, cut = [], []
    for example, own in zip(examples, words, strict=True):
      pieces = [next(ids) for _ in own]
      line, types, lost = framing.frame(
        [np.concatenate([*pieces, np.int32([])])], tokenizer, self.config
      )
      firsts = 1 + np.cumsum([0, *map(len, pieces)])[:-1]
      # A word without a token, or beyond the row, has no place.
      placed = [
        n
        for n, piece in enumerate(pieces)
        if len(piece) and firsts[n] < len(line) - 1
      ]
      labels, weights = np.zeros([2, len(line)], np.int32)
      at = firsts[placed]
      labels[at] = [
        self.task.labels.index(tag)
        for tag in (example[self.task.label][n] for n in placed)
      ]
      weights[at] = 1
      cut.append(lost)
      rows.append([{
        'inputs': line, 'types': types, 'labels': labels, 'weights': weights,
        'places': {n: int(firsts[n]) for n in placed},
      }])  # fmt: skip
    return Encoded(rows, cut)

  def _spans(self, examples, tokenizer):
    spans = [self.task.texts(example) for example in examples]
    windows = [reading.windows(span, tokenizer, self.config) for span in spans]
    return Encoded(windows, [own[0]['cut'] for own in windows])


def shapes(config: DataConfig, family: str) -> features.Shapes:
  """Name -> (shape without the batch, dtype) of a batch for a head.

  `inputs`, `positions`, `segments`, and an encoder's `types`: int [B,T], T is
  data.length; of a 'choice' [B,C,T], C is data.choices, and with data.orders
  'both' [B,2,T]. `labels` are int [B] (float32 of a 'regression'; [B,T] of
  'tagging'), or `start`, `end` and `no_answer` int [B] of a 'span'. `weights`
  are float32, in the shape of the labels.

  Raises:
    ValueError: the family cannot read both orders of a pair.
  """
  row = ((config.length,), np.int32)
  one = ((), np.int32)
  if config.objective == 'choice':
    row = ((config.choices, config.length), np.int32)
  if config.orders == 'both':
    if family != 'decoder':
      raise ValueError(
        "data.orders='both' adds what a decoder makes of two texts (GPT-1): "
        f"model.family={family!r} has '' or 'each'."
      )
    row = ((2, config.length), np.int32)
  found = dict.fromkeys(('inputs', 'positions', 'segments'), row)
  if family == 'encoder':
    found['types'] = row
  match config.objective:
    case 'span':
      found |= {'start': one, 'end': one, 'no_answer': one}
    case 'regression':
      found['labels'] = ((), np.float32)
    case 'tagging':
      found['labels'] = row
    case _:
      found['labels'] = one
  weights = row[0] if config.objective == 'tagging' else ()
  return found | {'weights': (weights, np.float32), 'cursor': ((4,), np.int32)}


def make_rows(
  documents: Sequence[Sequence[dict[str, Any]]],
  shapes: features.Shapes,
  rng: np.random.Generator,
) -> np.ndarray:
  """`Encoded.rows` -> rows for a head in random order, [rows, W]."""
  found = [row for own in documents for row in own]
  return lay_out([found[n] for n in rng.permutation(len(found))], shapes)


def lay_out(
  rows: Sequence[dict[str, Any]], shapes: features.Shapes
) -> np.ndarray:
  """Rows for a head in their order, [rows, W]; see features.padding.

  inputs     [CLS] a b [SEP] c [SEP] 0     types     0 0 0 0 1 1 0
  positions      0 1 2     3 4     5 0     segments  1 1 1 1 1 1 0
  """
  whole = features.padding(shapes, len(rows))
  batch = features.split(whole, shapes)
  for n, row in enumerate(rows):
    several = isinstance(row['inputs'], list)
    for c, line in enumerate(row['inputs'] if several else [row['inputs']]):
      at = (n, c, slice(len(line))) if several else (n, slice(len(line)))
      batch['inputs'][at] = line
      batch['positions'][at] = np.arange(len(line))
      batch['segments'][at] = 1
      if 'types' in batch:
        batch['types'][at] = row['types'][c] if several else row['types']
    for name in ('labels', 'start', 'end', 'no_answer'):
      if name in row:
        value = np.asarray(row[name])
        batch[name][(n, *map(slice, value.shape))] = value
    weights = np.asarray(row.get('weights', 1))
    batch['weights'][(n, *map(slice, weights.shape))] = weights
  return whole


def examples(
  documents: Sequence[Sequence[dict[str, np.ndarray]]],
) -> list[tuple[np.ndarray, np.ndarray]]:
  """`Encoded.rows` of a text-to-text model -> (inputs, targets) arrays.

  The list has one pair, [N,I] and [N,J], padded with pieces.NOTHING. If a row
  has several answers, there is a third array, [N,I+J]: which tokens are parts
  of one.
  """
  found = [row for own in documents for row in own]
  if not found:
    return []
  names = ['inputs', 'targets'] + ['answers'] * any(
    'answers' in x for x in found
  )
  return [tuple(_stack([_part(x, n) for x in found]) for n in names)]


def _part(row, name):
  """An array of a row; all targets of a row without `answers` are answers."""
  if name in row:
    return row[name]
  return np.repeat([0, 1], [len(row['inputs']), len(row['targets'])])


def _stack(lines):
  stacked = np.full([len(lines), max(map(len, lines))], NOTHING, np.int32)
  for n, line in enumerate(lines):
    stacked[n, : len(line)] = line
  return stacked
