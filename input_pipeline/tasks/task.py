"""What a labelled task is: a plain record."""

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

# One example, by the names of TFDS's fields: texts, numbers, lists. A class is
# its name, such as 'entailment', and so is the right choice. A secret label is
# None.
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

  `answers` are (start in characters, text); () if the text has no answer.
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
  # 'NAME/CONFIG:VERSION'; several are read one after the other.
  tfds: tuple[str, ...] = ()
  # Our name of a split -> that of TFDS. The first is trained on; those whose
  # names begin with 'validation' are evaluated; 'test' has no labels.
  splits: Mapping[str, str]
  # Our name of a split -> its file in a folder as its authors publish it;
  # several names if several layouts are common. A name may be a glob pattern:
  # its files are read in the order of their names.
  files: Mapping[str, tuple[str, ...]]
  # (path of a file) -> its examples. Raises ValueError naming file and line.
  read: Callable[[str], Iterator[Example]] | None
  # Our name of a split -> its examples, of a task that has no files.
  make: Callable[[str], Sequence[Example]] | None = None
  # A record of TFDS -> its examples; None: a record is an example.
  convert: Callable[[Example], Iterable[Example]] | None = None

  # ---- For encoders ----
  labels: tuple[str, ...] = ()  # the classes in TFDS's order, or the choices
  label: str = 'label'  # the field of the label
  # classification, regression: the text or the two texts. choice: the pairs.
  # tagging: the words; their labels are the field `label`. span: one Span.
  # None: encoders cannot learn a task of the kind 'text'.
  texts: Callable[[Example], Any] | None = None
  length: int = 128  # tokens of a row of an encoder

  # ---- For text-to-text models ----
  # (input, target) pairs to train on. An example that T5 does not train on has
  # none.
  text_to_text: Callable[[Example], Sequence[tuple[str, str]]]
  # The input and the target to evaluate; None: the first pair above.
  evaluated: Callable[[Example], tuple[str, str] | None] | None = None
  # (example, wording.Draw) -> chats to learn, in place of pairs. Each is a list
  # of messages (chat/messages.py) whose last one is the answer.
  chats: Callable[[Example, Any], Sequence[Any]] | None = None
  # Of a task in words, all answers to an example that are possible; (): any.
  options: Callable[[Example], Sequence[str]] | None = None
  # (the model's text, example) -> prediction, of the type that metrics expect.
  decode: Callable[[str, Example], Any]
  lengths: tuple[int, int] = (512, 512)  # tokens of inputs and targets

  # ---- Scores ----
  # (examples, predictions) -> name -> number, in percent where papers use
  # percent. The first is the task's score, unless `averaged` names several.
  metrics: Callable[[Sequence[Example], Sequence[Any]], dict[str, float]]
  averaged: tuple[str, ...] = ()  # their mean is the score in a paper
  # Whether some questions have no answer, as in SQuAD 2.0. Then metrics take a
  # `threshold` too: a question whose prediction has a `null` above it gets no
  # answer.
  unanswerable: bool = False
  # Whether it counts in the score of several tasks. Helpers of a benchmark and
  # its diagnostic sets do not.
  counted: bool = True


def mean_score(scores: Sequence[tuple[Task, float]]) -> float:
  """The one score of several tasks, from the score of each of their splits.

  The splits of a task are averaged first, and tasks that are not `counted` are
  left out, as benchmarks do (metrics.glue_average), unless there are no others.
  """
  counted = [pair for pair in scores if pair[0].counted] or scores
  parts: dict[str, list[float]] = {}
  for task, score in counted:
    parts.setdefault(task.name, []).append(score)
  return statistics.mean(map(statistics.mean, parts.values()))
