"""Labelled examples -> the rows that a head, or a text-to-text model, reads.

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
  framing,
  reading,
)
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

  def encode_options(
    self, examples: Sequence[Example], tokenizer: Tokenizer
  ) -> Encoded:
    """Examples -> a row for each of their options, as the answer to evaluate.

    The task has `options`, and no template but that of chats.
    """
    found = []
    for example, (chat,) in zip(
      examples, self._in_words(examples, None), strict=True
    ):
      question = chat[-2]['content']
      found.append([exchange(question, x) for x in self.task.options(example)])
    return self._chat_rows(found, tokenizer)

  def check(self, examples: Sequence[Example], where: str) -> None:
    """Raises ValueError if none of the examples has a text to train on.

    Or if the template cannot write those that are chats of several turns.
    """
    if self.template and self.task.chats:
      chats = (example.get('messages', ()) for example in examples)
      self.template.check_turns(chats, where)
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
    found = (
      self._in_words(examples, rng if self.trained else None)
      if self.task.chats
      else [[exchange(*x) for x in self._pairs(own)] for own in examples]
    )
    return self._chat_rows(found, tokenizer)

  def _in_words(self, examples, rng):
    """The chats of each example; without `rng` those to evaluate."""
    shares = (getattr(self.config, key) for key in WORDED)
    draw = Draw(rng, self.others, *shares)
    return [self.task.chats(example, draw) for example in examples]

  def _chat_rows(self, found, tokenizer):
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
