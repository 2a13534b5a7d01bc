"""What a labelled task is: a plain record."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

# One example, by the names of TFDS's fields: texts, numbers, lists. A class is
# its name, such as 'entailment', and so is the right one of several pairs; None
# where the label is kept secret.
Example = Mapping[str, Any]

KINDS = {
  'classification': 'one class for one or two texts',
  'regression': 'one number for one or two texts',
  'choice': 'the right one of several pairs of texts',
  'tagging': 'a class for each word of a text',
  'span': 'a part of a text, or none, that answers a question',
  'text': 'a text',
}

# Our splits, where TFDS calls them the same.
SPLITS = {x: x for x in ('train', 'validation', 'test')}


@dataclasses.dataclass(frozen=True)
class Span:
  """A question about a text, and the parts of the text that answer it.

  `answers` are (start, text), start in characters; none: no answer is there.
  """

  question: str
  context: str
  answers: tuple[tuple[int, str], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
  """A labelled task.

  How an encoder reads an example depends on `kind`; a text-to-text model reads
  every task through `text_to_text`, and its answer is read by `decode`.
  """

  name: str  # GROUP/NAME, such as 'glue/cola'
  kind: str  # KINDS
  # 'NAME/CONFIG:VERSION', several where they are read one after the other.
  tfds: tuple[str, ...] = ()
  # Our name of a split -> that of TFDS. The first is trained on; those whose
  # names begin with 'validation' are evaluated; 'test' has no labels.
  splits: Mapping[str, str]
  # Our name of a split -> its file, under a folder with the files as their
  # authors publish them; several names where several layouts are common. A name
  # may be a glob pattern of several files, read in the order of their names.
  files: Mapping[str, tuple[str, ...]]
  # (path of a file) -> its examples. Raises ValueError naming file and line.
  read: Callable[[str], Iterator[Example]]
  # What a record of TFDS becomes, where that is not one example as it stands.
  convert: Callable[[Example], Iterable[Example]] | None = None

  # ---- For encoders ----
  labels: tuple[str, ...] = ()  # the classes in TFDS's order, or the choices
  label: str = 'label'  # the field that has it
  # classification, regression: the text or the two texts. choice: the pairs.
  # tagging: the words; their labels are the field `label`. span: one Span.
  # None: a 'text' is not for encoders.
  texts: Callable[[Example], Any] | None = None
  length: int = 128  # tokens of a row of an encoder

  # ---- For text-to-text models ----
  # (input, target) pairs that are trained on; none where T5 leaves an example
  # out of training.
  text_to_text: Callable[[Example], Sequence[tuple[str, str]]]
  # The input and the target that are evaluated; None: the first pair above.
  evaluated: Callable[[Example], tuple[str, str] | None] | None = None
  # (the model's text, example) -> prediction, of the type that metrics expect.
  decode: Callable[[str, Example], Any]
  lengths: tuple[int, int] = (512, 512)  # tokens of inputs and targets

  # ---- Scores ----
  # (examples, predictions) -> name -> number, in percent where papers do so.
  # The first one is the task's own score unless `averaged` names several.
  metrics: Callable[[Sequence[Example], Sequence[Any]], dict[str, float]]
  averaged: tuple[str, ...] = ()  # their mean is the score in a benchmark
