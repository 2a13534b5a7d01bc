"""Chats -> rows: the answers are predicted, the rest is read.

A decoder reads a whole chat as one line of tokens. An encoder-decoder has a row
for each answer: it reads all that was said before.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from input_pipeline.chat.encoding import encode, prompt
from input_pipeline.chat.messages import Message
from input_pipeline.chat.templates import Template
from input_pipeline.config import DataConfig
from input_pipeline.tokenizers.interface import Tokenizer, start_id


class Rows(NamedTuple):
  """The rows of a chat.

  Attributes:
    rows: of `labelled.Encoded`.
    lost: whether tokens of the chat are in no row.
    why: why there is no row; '' if there is one.
  """

  rows: list[dict[str, Any]]
  lost: bool
  why: str = ''


def encode_all(
  chats: Sequence[Sequence[Sequence[Message]]],
  template: Template,
  tokenizer: Tokenizer,
  config: DataConfig,
  family: str,
  trained: bool,
) -> tuple[list[list[dict]], list[bool], dict[int, str]]:
  """The chats of each example -> `labelled.Encoded`'s fields."""
  if family == 'encoder_decoder':
    sizes = config.length, config.target_length or config.length
    rows_of = functools.partial(pairs, sizes=sizes)
  else:
    rows_of = functools.partial(lines, config=config)
  rows, lost, left_out = [], [], {}
  for n, own in enumerate(chats):
    made = [rows_of(chat, template, tokenizer, trained=trained) for chat in own]
    rows.append([row for one in made for row in one.rows])
    lost.append(any(one.lost for one in made))
    if made and not rows[-1]:
      left_out[n] = made[0].why
  return rows, lost, left_out


def lines(
  messages: Sequence[Message],
  template: Template,
  tokenizer: Tokenizer,
  *,
  config: DataConfig,
  trained: bool,
) -> Rows:
  """A chat as a row of a decoder.

  To train on, a chat loses the turns whose prompts fill the row, and its last
  answer may lose its end. To be evaluated, the prompt of the last answer loses
  its beginning, as long as it has at least half of the row.
  """
  ids, turns = encode(messages, template, tokenizer)
  length = config.length
  if len(ids) and ids[0] == start_id(tokenizer, config):  # rows begin with it
    ids, turns = ids[1:], [(first - 1, end - 1) for first, end in turns]
  if not trained:
    first, end = turns[-1]
    answer = ids[first:end][: length // 2]
    room = length - len(answer)
    row = {'inputs': ids[max(0, first - room) : first], 'targets': answer}
    return Rows([row], first > room or len(answer) < end - first)
  kept = [(first, min(end, length)) for first, end in turns if first < length]
  kept = [(first, end) for first, end in kept if end > first + 1]
  if not kept:
    return Rows([], True, _why(turns, length))
  first, last = kept[0][0], kept[-1][1]
  row = {'inputs': ids[:first], 'targets': ids[first:last]}
  if len(kept) > 1:
    row['answers'] = np.zeros(last, np.int32)
    for begin, end in kept:
      row['answers'][begin:end] = 1
  return Rows([row], last < turns[-1][1] or len(kept) < len(turns))


def pairs(
  messages: Sequence[Message],
  template: Template,
  tokenizer: Tokenizer,
  *,
  sizes: tuple[int, int],
  trained: bool,
) -> Rows:
  """A chat as rows of an encoder-decoder, of at most `sizes` tokens a side.

  What is read ends in EOS. To train on, answers whose prompts are longer are
  left out. To be evaluated, the prompt of the last one loses its beginning.
  """
  ids, turns = encode(messages, template, tokenizer)
  rows, lost = [], False
  for first, end in turns if trained else turns[-1:]:
    inputs, answer = ids[:first], ids[first:end][: sizes[1]]
    if not len(inputs) or inputs[-1] != tokenizer.eos:
      inputs = np.append(inputs, np.int32(tokenizer.eos))
    long = len(inputs) > sizes[0]
    lost |= long or len(answer) < end - first
    if not trained:
      inputs = inputs[-sizes[0] :]
    elif long or len(answer) < 2:
      continue
    rows.append({'inputs': inputs, 'targets': answer})
  return Rows(rows, lost, '' if rows else _why(turns, sizes[0]))


def asked(
  messages: Sequence[Message],
  template: Template,
  tokenizer: Tokenizer,
  start: int | None,
  pair: bool,
) -> np.ndarray:
  """The ids that a model reads to answer a chat that ends in a user's turn.

  As in its rows, a decoder's begin with the id `start`, if not None, and those
  of an encoder-decoder (`pair`) end in EOS.
  """
  ids = prompt(messages, template, tokenizer)
  if pair and ids[-1:] != tokenizer.eos:
    ids = np.append(ids, np.int32(tokenizer.eos))
  elif not pair and start is not None and ids[:1] != start:
    ids = np.append(np.int32(start), ids)
  return ids


def _why(turns, length):
  """Why nothing of a chat can be learnt."""
  if turns[0][0] >= length - 1:
    return (
      f'its prompt has {turns[0][0]} tokens and leaves no room for an answer in'
      f' rows of data.length={length}'
    )
  return 'its answer has no token'
