"""Wordings: a labelled task as instructions in plain words, several ways.

As FLAN (Wei et al. 2022, 2.1; Chung et al. 2022, 2.1), in words of our own: an
example is asked in one of several ways, with its options listed or not, after
worked examples or not; some are turned round, so that the answer is given and
the question is written.
"""

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from input_pipeline.chat.messages import Message, exchange
from input_pipeline.tasks.formats import SECRET
from input_pipeline.tasks.task import Example

_BETWEEN = '\n\n'  # worked examples, and the question after them
_ANSWER = '{answer}'


class Fields(NamedTuple):
  """An example as instructions read it.

  Attributes:
    texts: name -> text, for the gaps of a prompt.
    answer: the right answer; '': it is secret.
    options: all answers that are possible; () if any text may be.
  """

  texts: Mapping[str, str]
  answer: str
  options: tuple[str, ...] = ()


class Wording(NamedTuple):
  """How a task is asked.

  Attributes:
    fields: of an example.
    prompts: questions with gaps, such as '{premise}', answered by the answer.
    inverted: (question, answer) with gaps, of which '{answer}' is one, that ask
      for a part of the example in place of its answer.
    classes: the class of each option; (): predictions are the written answers.
    decode: (text, example) -> prediction; None: see `read`.
  """

  fields: Callable[[Example], Fields]
  prompts: tuple[str, ...]
  inverted: tuple[tuple[str, str], ...] = ()
  classes: tuple[str, ...] = ()
  decode: Callable[[str, Example], Any] | None = None

  @property
  def asked(self) -> tuple[tuple[str, str], ...]:
    """`prompts` in the form of `inverted`."""
    return tuple((prompt, _ANSWER) for prompt in self.prompts)


class Draw(NamedTuple):
  """How examples are written: see the keys of data.* with these names.

  Attributes:
    rng: what is drawn with; None: an example is evaluated. Then it has no
      worked examples, its options if some training examples have them, and a
      prompt that the example itself decides, so that all are used.
    others: examples of the split, for the worked ones.
  """

  rng: np.random.Generator | None
  others: Sequence[Example] = ()
  shots: int = 0
  shot_share: float = 0.0
  option_share: float = 0.0
  inverted_share: float = 0.0


def chats(
  example: Example, draw: Draw, wording: Wording
) -> list[list[Message]]:
  """An example as a chat of one turn, in a list."""
  rng, evaluated = draw.rng, draw.rng is None
  if evaluated:
    whole = json.dumps(example, sort_keys=True, default=str)
    rng = np.random.default_rng(zlib.crc32(whole.encode()))
  drawn = rng.random(3)
  inverted = drawn[0] < draw.inverted_share and not evaluated
  listed = draw.option_share and (evaluated or drawn[1] < draw.option_share)
  shown = drawn[2] < draw.shot_share and not evaluated
  ways = wording.inverted if inverted else ()
  ways = ways or wording.asked
  way = ways[rng.integers(len(ways))]
  question, answer = own = _filled(example, way, wording, listed)
  before = []
  if shown and len(draw.others) > 1:
    count = min(1 + int(rng.integers(draw.shots)), len(draw.others) - 1)
    chosen = rng.choice(len(draw.others), count + 1, replace=False)
    worked = [_filled(draw.others[n], way, wording, listed) for n in chosen]
    # Tasks have duplicates: the question itself must not be among them.
    before = ['\n'.join(x) for x in worked if x != own][:count]
  return [exchange(_BETWEEN.join([*before, question]), answer)]


def _filled(example, way, wording, listed):
  """(question, answer) of an example in one of the ways."""
  fields = wording.fields(example)
  texts = {**fields.texts, 'answer': fields.answer or SECRET}
  question, answer = (part.format_map(texts).strip() for part in way)
  if listed and fields.options and way[1] == _ANSWER:
    question += '\nOptions:' + ''.join(f'\n- {x}' for x in fields.options)
  return question, answer


def pairs(example: Example, wording: Wording) -> list[tuple[str, str]]:
  """(input, target) of an example in every way: what a tokenizer reads."""
  ways = *wording.asked, *wording.inverted
  return [_filled(example, way, wording, True) for way in ways]


def read(text: str, example: Example, wording: Wording) -> Any:
  """The prediction that a written answer is.

  Of a task with classes it is the class whose option is the text, whatever the
  case and a period at the end; None if there is none.
  """
  if wording.decode:
    return wording.decode(text, example)
  if not wording.classes:
    return text.strip()
  options = [plain(x) for x in wording.fields(example).options]
  if plain(text) not in options:
    return None
  return wording.classes[options.index(plain(text))]


def plain(text: str) -> str:
  """A text without case, spaces around it, and a period at its end."""
  return text.strip().removesuffix('.').lower()


# ---- Fields of common shapes ----
def classified(words: Mapping[str, str], **names: str) -> Callable:
  """Fields of an example with a class: `words` is class -> answer.

  `names` is gap -> field of the example.
  """
  options = tuple(words.values())

  def fields(example: Example) -> Fields:
    label = example['label']
    texts = {gap: str(example[name]).strip() for gap, name in names.items()}
    return Fields(texts, words[label] if label else '', options)

  return fields


def written(answer: str, **names: str) -> Callable:
  """Fields of an example whose answer is a text of it."""

  def fields(example: Example) -> Fields:
    texts = {gap: str(example[name]).strip() for gap, name in names.items()}
    return Fields(texts, str(example[answer] or '').strip())

  return fields
