"""Prompts with two answers each -> the arrays that `train.align` compares.

A decoder reads the prompt and then an answer. An encoder-decoder reads the
prompt and writes the answer. An encoder, which gives answers a number, reads
both as a pair of texts. With a chat template a prompt is a chat, and an answer
the assistant's next turn, with the token that ends it in place of EOS.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from input_pipeline.chat.encoding import encode
from input_pipeline.chat.messages import Message
from input_pipeline.chat.templates import Template
from input_pipeline.config import DataConfig
from input_pipeline.objectives import features, framing
from input_pipeline.tokenizers.interface import Tokenizer, start_id

Row = dict[str, Any]


class Encoded(NamedTuple):
  """The rows of some examples.

  Attributes:
    rows: a list for each example, with its row, or empty if it is skipped.
    lost: whether an answer lost tokens.
    bad: place of an example that is skipped -> why.
  """

  rows: list[list[Row]]
  lost: list[bool]
  bad: dict[int, str]


@dataclasses.dataclass
class Answers:
  """How prompts and answers are read.

  Attributes:
    config: of the data.
    family: of the model.
    reference: float32 [N,2], the reference's log-probability of both answers of
      each example of the source; None: not known, and 0 in the rows.
    template: of data.chat_template; None: prompts and answers are plain texts.
  """

  config: DataConfig
  family: str
  reference: np.ndarray | None = None
  template: Template | None = None

  def encode(self, examples: Sequence[Any], tokenizer: Tokenizer) -> Encoded:
    """Examples (sources.preferences.Preference) -> their rows."""
    found = self.ids(
      [x.prompt for x in examples], [x[2:4] for x in examples], tokenizer
    )
    rows, lost, bad = [], [], {}
    for n, (example, own) in enumerate(zip(examples, found, strict=True)):
      try:
        if isinstance(own, ValueError):
          raise own
        prompt, answers = own
        self._check(answers)
        row, cut = self.row(prompt, answers, tokenizer)
        self._check(row.pop('kept'), 'in the row ')
      except ValueError as error:
        rows.append([])
        lost.append(False)
        bad[n] = str(error)
        continue
      if self.config.objective == 'desirable':
        row['desirable'] = example.desirable
      if self.reference is not None:
        row['reference'] = self.reference[example.number]
      rows.append([row])
      lost.append(cut)
    return Encoded(rows, lost, bad)

  def ids(
    self,
    prompts: Sequence[str | list[Message]],
    answers: Sequence[Sequence[str]],
    tokenizer: Tokenizer,
  ) -> list[tuple[np.ndarray, list[np.ndarray]] | ValueError]:
    """Prompts with their answers -> the ids of each, as `row` takes them.

    A ValueError in their place says why a chat cannot be encoded.
    """
    if self.template:
      own = zip(prompts, answers, strict=True)
      return [self._chat(*x, tokenizer) for x in own]
    texts = [
      text.encode()
      for prompt, own in zip(prompts, answers, strict=True)
      for text in (prompt, *own)
    ]
    ids = iter(tokenizer.encode_batch(texts))
    return [(next(ids), [next(ids) for _ in own]) for own in answers]

  def _chat(self, prompt, answers, tokenizer):
    """The ids of a chat and of some turns that may follow it."""
    try:
      found = [
        encode(
          [*prompt, {'role': 'assistant', 'content': answer}], self.template,
          tokenizer,
        )
        for answer in answers
      ]  # fmt: skip
    except ValueError as error:
      return error
    # A token that ends the prompt may be one with the beginning of an answer.
    first = min(x.turns[-1][0] for x in found)
    asked, *others = [x.ids[:first] for x in found]
    if not all(np.array_equal(asked, x) for x in others):
      return ValueError('the tokens of the prompt depend on the answer')
    turns = [x.ids[first : x.turns[-1][1]] for x in found]
    if any(turn[-1] != self.template.end for turn in turns):
      return ValueError(
        f'the chat template {self.template.name} ends answers with several '
        'tokens'
      )
    own = [
      turn[:-1] if text.strip() else turn[:0]
      for turn, text in zip(turns, answers, strict=True)
    ]
    return self.bare(asked, tokenizer), own

  def bare(self, prompt: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    """A prompt's ids without what its row begins or ends with anyway."""
    if self.family == 'encoder_decoder':
      ends = len(prompt) > 0 and prompt[-1] == tokenizer.eos
      return prompt[:-1] if ends else prompt
    start = start_id(tokenizer, self.config)
    begins = len(prompt) > 0 and prompt[0] == start
    return prompt[1:] if begins else prompt

  def _check(self, answers, where=''):
    """Raises ValueError for answers of no token, or two that are equal."""
    single = self.config.objective == 'desirable'
    names = 'chosen answer', 'rejected answer'
    if single:
      names = 'answer', "other prompt's answer"
    for name, answer in zip(names, answers, strict=True):
      if not len(answer):
        raise ValueError(f'the {name} has no token')
    if not single and np.array_equal(*answers):
      raise ValueError(f'{where}the chosen answer equals the rejected one')

  def row(
    self,
    prompt: np.ndarray,
    answers: Sequence[np.ndarray],
    tokenizer: Tokenizer,
  ) -> tuple[Row, bool]:
    """The arrays of some answers to a prompt, and whether one was cut.

    Args:
      prompt, answers: ids, int [n] each, without what begins a row, and
        without the EOS of each, or what a chat template has in its place.
      tokenizer: for the special tokens.

    Returns:
      Arrays without padding, a list where each answer has its own; `kept` are
      the answers as they are in the row, without their end.

    Raises:
      ValueError: the prompt leaves no room for an answer.
    """
    room = self._room(prompt, tokenizer)
    end = self.template.end if self.template else tokenizer.eos
    end = [] if end is None else [end]
    whole = [np.int32([*answer, *end]) for answer in answers]
    lost = any(len(x) > room for x in whole)
    cut = [x[:room] for x in whole]
    row = {'kept': [x[:room] for x in answers]}
    if self.config.objective == 'reward':
      row['weights'] = 1.0
    if self.family == 'encoder':
      row |= self._framed(prompt, answers, tokenizer)
    elif self.family == 'encoder_decoder':
      row |= self._written(prompt, cut, tokenizer)
    else:
      row |= self._continued(prompt, cut, tokenizer)
    return row, lost

  def _room(self, prompt, tokenizer):
    """The tokens of an answer and its end for which a row has room.

    Raises ValueError if there is none for the prompt, or for any answer.
    """
    config, own = self.config, len(prompt)
    if self.family == 'encoder_decoder':
      fits, room = own < config.length, config.target_length or config.length
    elif self.family == 'encoder':
      line, *_ = framing.frame([prompt[:0]] * 2, tokenizer, config)
      room = config.length - len(line) - own + 1  # EOS is not there
      fits = room > 1
    else:
      start = start_id(tokenizer, config) is not None
      # The last token is predicted and not read, except by a head.
      unread = config.objective != 'reward'
      room = config.length + unread - start - own
      fits = room > 1
      if fits and not own + start:
        raise ValueError("the prompt has no token, and data.start is 'none'")
    if not fits:
      raise ValueError(
        f'the prompt has {own} tokens, too many for data.length={config.length}'
      )
    return room

  def _framed(self, prompt, answers, tokenizer):
    found = [
      framing.frame([prompt, answer], tokenizer, self.config)
      for answer in answers
    ]
    return {
      'inputs': [line for line, *_ in found],
      'types': [types for _, types, _ in found],
    }

  def _written(self, prompt, answers, tokenizer):
    eos = [tokenizer.eos]
    start = [start_id(tokenizer, self.config)]
    row = {
      'encoder_inputs': np.int32([*prompt, *eos]),
      'inputs': [np.int32([*start, *answer[:-1]]) for answer in answers],
    }
    if self.config.objective == 'reward':
      return row
    return row | {
      'targets': answers,
      'weights': [np.ones(len(answer)) for answer in answers],
    }

  def _continued(self, prompt, answers, tokenizer):
    start = start_id(tokenizer, self.config)
    before = np.int32([*([] if start is None else [start]), *prompt])
    lines = [np.concatenate([before, answer]) for answer in answers]
    if self.config.objective == 'reward':
      return {'inputs': lines}
    places = [np.arange(len(line) - 1) for line in lines]
    return {
      'inputs': [line[:-1] for line in lines],
      'targets': [line[1:] for line in lines],
      'prefix': [at < len(before) for at in places],
      'weights': [at >= len(before) - 1 for at in places],
    }


def shapes(
  config: DataConfig, family: str, answers: int = 2
) -> features.Shapes:
  """Name -> (shape without the batch, dtype) of a batch of A `answers` a row.

  As those of the family, but each of `inputs`, `targets`, `positions`,
  `segments`, `weights` is [B,A,T]. A head's batch has no targets, and weights
  [B] of 1.
  `reference` [B,A] are the reference's log-probabilities, `desirable` [B] is 1
  or 0.

  Raises:
    ValueError: the family cannot read them.
  """
  reward, objective = config.objective == 'reward', config.objective
  if family == 'encoder_decoder':
    found = features.encoder_decoder_shapes(
      config.length, config.target_length or config.length
    )
  elif family == 'encoder' and reward:
    found = features.encoder_shapes(config.length, 1, False)
  elif family == 'decoder' or (family == 'rwkv' and not reward):
    found = features.decoder_shapes(config.length, True)
  else:
    raise ValueError(
      f'data.objective={objective!r} has no rows for model.family={family!r}.'
    )
  if config.target_length and family != 'encoder_decoder':
    raise ValueError(
      f'data.target_length is {config.target_length}, but model.family='
      f'{family!r} reads an answer after its prompt, in one row of '
      'data.length: set it to 0.'
    )
  if bool(config.framing) != (family == 'encoder'):
    raise ValueError(
      f'data.framing={config.framing!r} must be '
      + ('bert or roberta' if family == 'encoder' else "''")
      + f': model.family is {family!r}.'
    )
  if config.chat_template and family == 'encoder':
    raise ValueError(
      f'data.chat_template is {config.chat_template!r}, but model.family='
      "'encoder' reads a prompt and an answer as a pair of texts: set it to ''."
    )
  left = ('targets', 'weights', 'predict_at', 'prefix') if reward else ()
  found = {
    name: (shape if name.startswith('encoder_') else (answers, *shape), kind)
    for name, (shape, kind) in found.items()
    if name not in ('cursor', *left)
  }
  if reward:
    found['weights'] = (), np.float32
  else:
    found['reference'] = (answers,), np.float32
  if objective == 'desirable':
    found['desirable'] = (), np.float32
  return found | {'cursor': ((4,), np.int32)}


def make_rows(
  documents: Sequence[Sequence[Row]],
  shapes: features.Shapes,
  rng: np.random.Generator,
) -> np.ndarray:
  """`Encoded.rows` -> rows in random order, [rows, W]."""
  found = [row for own in documents for row in own]
  return lay_out([found[n] for n in rng.permutation(len(found))], shapes)


def lay_out(rows: Sequence[Row], shapes: features.Shapes) -> np.ndarray:
  """Rows in their order, [rows, W]; see features.padding."""
  whole = features.padding(shapes, len(rows))
  batch = features.split(whole, shapes)
  for n, row in enumerate(rows):
    for name, value in row.items():
      several = isinstance(value, list)
      for c, line in enumerate(value if several else [value]):
        place = (n, c) if several else (n,)
        if np.ndim(line):
          place = *place, slice(len(line))
        batch[name][place] = line
        if name.endswith('inputs'):
          side = name.removesuffix('inputs')
          batch[f'{side}positions'][place] = np.arange(len(line))
          batch[f'{side}segments'][place] = 1
  return whole
