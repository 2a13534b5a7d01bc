"""What a prompted task is: a plain record."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

KINDS = {
  'choice': 'the likeliest of several continuations',
  'cloze': 'how likely the end of a text is, and whether it is the likeliest',
  'answer': 'a text that is written, from which an answer is read',
  'text': 'how well texts are predicted',
}
# What the log probability of a choice is divided by, or measured against.
NORMS = {
  'none': 'nothing',
  'token': 'its tokens',
  'byte': 'its bytes of UTF-8',
  'neutral': 'its log probability after a context that asks nothing',
}


class Item(NamedTuple):
  """A question, with all that may be answered.

  Attributes:
    options: (context, continuation) of each choice. A question without choices
      has one, the answer that is shown as an example.
    right: the number of the right choice.
    group: of a task in parts, the part's name.
  """

  options: tuple[tuple[str, str], ...]
  right: int = 0
  group: str = ''

  @property
  def example(self) -> str:
    """The question with its answer, as it is shown before others."""
    return ''.join(self.options[self.right])


class Text(NamedTuple):
  """A text to predict.

  Attributes:
    text: as the model reads it.
    words: how many tokens the published form has, with the ends of its lines.
  """

  text: str
  words: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prompted:
  """A task that a language model is asked.

  Attributes:
    name: such as 'hellaswag'.
    kind: see KINDS.
    files: our name of a split -> its file in a folder as its authors publish
      it; several names if several layouts are common.
    read: (path of a file) -> its items, or texts. Raises ValueError naming file
      and line.
    asked: the split that is evaluated.
    shots: the split that examples are drawn from; '': there is none.
    teacher: another task whose examples are shown before this one's questions.
    in_order: whether the first examples of a question's group are shown, not
      drawn ones.
    lead: (group) -> what stands before all examples.
    between: what parts examples.
    norm: of NORMS, the one of the paper.
    neutral: the context that asks nothing.
    stop: an answer ends before the first of these.
    length: the most tokens of an answer.
    extract: (written text) -> the answer; None: there is none.
    words: whether a cloze's end is one word, for which other words are looked
      for.
  """

  name: str
  kind: str
  files: Mapping[str, tuple[str, ...]]
  read: Callable[[str], Iterator[Any]]
  asked: str = 'validation'
  shots: str = 'train'
  teacher: str = ''
  in_order: bool = False
  lead: Callable[[str], str] = lambda group: ''
  between: str = '\n\n'
  norm: str = 'none'
  neutral: str = 'Answer:'
  stop: tuple[str, ...] = ()
  length: int = 0
  extract: Callable[[str], Any] | None = None
  words: bool = False
