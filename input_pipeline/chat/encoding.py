"""Chats as ids: (messages, template) -> ids, and which of them are answers.

The ids are those of transformers' apply_chat_template, but for one thing: the
name of a special token inside a message is plain text here.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from input_pipeline.chat.messages import Message
from input_pipeline.chat.templates import Template
from input_pipeline.tokenizers.interface import Tokenizer


class Ids(NamedTuple):
  """A chat.

  Attributes:
    ids: int32 [n] of the whole.
    turns: (first, end) of each assistant's turn in them, with the token that
      ends it.
  """

  ids: np.ndarray
  turns: tuple[tuple[int, int], ...]

  @property
  def answers(self) -> np.ndarray:
    """Whether each id is the assistant's, bool [n]."""
    found = np.zeros(len(self.ids), bool)
    for first, end in self.turns:
      found[first:end] = True
    return found


def encode(
  messages: Sequence[Message], template: Template, tokenizer: Tokenizer
) -> Ids:
  """A chat -> its ids, and which of them the assistant writes.

  Raises ValueError if the template cannot tell the answers from the rest.
  """
  text, turns = template.answers(messages)
  return _encode(text, turns, template, tokenizer)


def prompt(
  messages: Sequence[Message], template: Template, tokenizer: Tokenizer
) -> np.ndarray:
  """A chat that ends in a user's turn -> the ids that a model answers."""
  text = template.render(messages, asks=True)
  return _encode(text, [], template, tokenizer).ids


def _encode(text, turns, template, tokenizer):
  pieces, places = [], []  # texts or ids; where they begin
  at = 0
  for found in (*template.pattern.finditer(text), None):
    end = found.start() if found else len(text)
    if end > at:
      places.append(at)
      pieces.append(text[at:end])
    if found:
      places.append(end)
      pieces.append(template.markers[found[0]])
      at = found.end()

  def ids_of(parts):
    texts = [template.shown(x).encode() for x in parts if isinstance(x, str)]
    own = iter(tokenizer.encode_batch(texts))
    return [next(own) if isinstance(x, str) else np.int32([x]) for x in parts]

  ids = ids_of(pieces)
  starts = np.cumsum([0, *map(len, ids)])

  def token_at(character):
    """The first token that is not wholly before a character."""
    n = int(np.searchsorted(places, character, side='right')) - 1
    inside = character - places[n]
    if not inside:
      return int(starts[n])
    if not isinstance(pieces[n], str) or inside >= len(pieces[n]):
      return int(starts[n + 1])
    [before] = ids_of([pieces[n][:inside]])
    same = ids[n][: len(before)] == before[: len(ids[n])]
    return int(starts[n]) + int(np.argmin(np.append(same, False)))

  return Ids(
    np.concatenate([*ids, np.int32([])]).astype(np.int32),
    tuple((token_at(first), token_at(end)) for first, end in turns),
  )
