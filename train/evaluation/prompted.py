"""Prompted tasks: ranked choices, ends of texts, written answers, texts."""

import collections
import dataclasses
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from input_pipeline.prompted.cloze import first_word, is_stop_word
from input_pipeline.prompted.task import Item, Prompted
from models.positions import check_places
from train.applying import Published
from train.evaluation.likelihoods import Likelihood, encode_pair, likelihoods
from train.evaluation.perplexity import exp, texts_perplexity
from train.evaluation.pseudo import pseudo_likelihoods
from train.evaluation.slabs import by_slabs
from train.generation.making import make_writer
from train.generation.options import Options
from train.generation.writer import Writer
from train.runs import opening

BEAMS, WORD = 8, 8  # that look for a last word, and its most tokens


class Result(NamedTuple):
  """What a task gave.

  Attributes:
    metrics: name -> number; the paper's first. Accuracies are in percent.
    rows: of each question what was found, for a file.
  """

  metrics: dict[str, float]
  rows: list[dict[str, Any]]


class Reader:
  """A model that is asked: it ranks continuations, and may write.

  Attributes:
    writer: None of an encoder, which ranks texts by their pseudo-likelihood.
    cut: how many contexts lost tokens at their beginning, since a task was
      begun: the model has too few positions.
  """

  def __init__(self, model: opening.Run | Published, batch: int = 8):
    self.model, self.batch, self.cut = model, batch, 0
    encoder = model.model.config.family == 'encoder'
    self.writer: Writer | None = None if encoder else make_writer(model)

  def likelihoods(self, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
    """How likely each continuation is after its context."""

    def read(_, part):
      if self.writer is None:
        return pseudo_likelihoods(self.model, part, self.batch)
      encoded = [self._cut(*encode_pair(self.writer, *x)) for x in part]
      return likelihoods(self.writer, encoded, self.batch)

    return by_slabs(pairs, self.batch, read)

  def answers(self, contexts: Sequence[str], options: Options) -> list[list]:
    """What the model writes after each context."""
    if self.writer is None:
      raise ValueError(
        f'{self.model.folder} holds an encoder, which writes no answer: ask it '
        'tasks of choices.'
      )
    # Half of the positions are left to the question.
    places = check_places(1, self.model.model.config) or 2 * options.length
    length = min(options.length, places // 2)
    options = dataclasses.replace(options, length=length)
    room = [0] * length

    def write(first, part):
      rows = [encode_pair(self.writer, x, '')[0] for x in part]
      rows = [self._cut(row, room)[0] for row in rows]
      return self.writer.answers(rows, options, self.batch, first)

    return by_slabs(contexts, self.batch, write)

  def _cut(self, context, continuation):
    """The last tokens of a context for which there is room.

    That is what the positions leave beside the continuation; for an encoder
    the longest inputs of training.
    """
    pair, own = self.writer.pair, len(continuation) - 1
    places = check_places(1, self.model.model.config)
    most = (self.writer.longest if pair else places) or math.inf
    over = len(context) + (0 if pair else own) - most
    if over <= 0:
      return context, continuation
    self.cut += 1
    begin = 0 if pair else 1
    return [*context[:begin], *context[begin + int(over) :]], continuation


def ask(
  reader: Reader,
  task: Prompted,
  items: Iterable[Any],
  options: Options,
  window: int = 0,
  stride: int = 0,
) -> Result:
  """A model's scores on a task.

  Args:
    reader: the model.
    task: the record of the task.
    items: of `catalog.open_task`.
    options: how answers are written; their stop strings and their length, if
      it is 0, are the task's.
    window, stride: of texts; see perplexity.

  Raises:
    ValueError: the model cannot do the task, or a context is too long for it.
  """
  reader.cut = 0
  if task.kind == 'text':
    found = Result(_text(reader, items, window, stride), [])
  else:
    run = {'choice': _choice, 'cloze': _cloze, 'answer': _answer}[task.kind]
    found = run(reader, task, list(items), options)
  if reader.cut:
    found.metrics['cut'] = reader.cut
  return found


# ---- Choices ----
def _choice(reader, task, items, options):
  pairs = [pair for item in items for pair in item.options]
  neutral = [(task.neutral, text) for _, text in pairs]
  wanted = list(dict.fromkeys([*pairs, *neutral]))
  known = dict(zip(wanted, reader.likelihoods(wanted), strict=True))
  right, rows = collections.defaultdict(list), []
  for item in items:
    own = [known[pair] for pair in item.options]
    scores = _scores(own, item, known, task.neutral)
    for norm, values in scores.items():
      right[norm].append(int(np.argmax(values)) == item.right)
    rows.append(
      {
        'right': item.right,
        'chosen': int(np.argmax(scores[task.norm])),
        'log_probs': [x.log_prob for x in own],
        'tokens': [x.tokens for x in own],
      }
    )
  means = {norm: 100.0 * statistics.mean(x) for norm, x in right.items()}
  metrics = {'accuracy': means[task.norm]} | _error(right[task.norm])
  metrics |= {f'accuracy_{norm}': value for norm, value in means.items()}
  return Result(metrics | {'examples': len(items)}, rows)


def _scores(found, item, known, neutral):
  """By norm, a score of each choice."""
  texts = [text for _, text in item.options]
  logs = np.array([x.log_prob for x in found])
  return {
    'none': logs,
    'token': logs / [x.tokens for x in found],
    'byte': logs / [len(text.strip().encode()) or 1 for text in texts],
    'neutral': logs - [known[neutral, text].log_prob for text in texts],
  }


def _error(right):
  """The standard error of an accuracy."""
  share, count = statistics.mean(right), len(right)
  if count < 2:
    return {}
  return {'stderr': 100 * math.sqrt(share * (1 - share) / (count - 1))}


# ---- The end of a text ----
def _cloze(reader, task, items, options):
  found = reader.likelihoods([item.options[0] for item in items])
  right = [x.greedy for x in found]
  loss = -math.fsum(x.log_prob for x in found) / len(found)
  metrics = {
    'accuracy': 100.0 * statistics.mean(right),
    **_error(right),
    'perplexity': exp(loss),
  }
  rows = [{'log_prob': x.log_prob, 'greedy': x.greedy} for x in found]
  if task.words and reader.writer is not None:
    words = _last_words(reader, items)
    targets = [item.options[0][1].strip() for item in items]
    same = [x == y for x, y in zip(words, targets, strict=True)]
    metrics['accuracy_filtered'] = 100.0 * statistics.mean(same)
    for row, word in zip(rows, words, strict=True):
      row['word'] = word
  return Result(metrics | {'examples': len(items)}, rows)


def _last_words(reader: Reader, items: Sequence[Item]) -> list[str | None]:
  """The likeliest next word of each context that is no stop word.

  The probability of a word is that of all texts of a beam search that begin
  with it and go on after it.
  """
  search = Options(beams=BEAMS, samples=BEAMS, length=WORD, length_penalty=0.0)
  found = []
  for texts in reader.answers([item.options[0][0] for item in items], search):
    chances: dict[str, float] = collections.defaultdict(float)
    for answer in texts:
      ended = answer.text + '\n' * (answer.end == 'eos')
      word = first_word(ended)
      if word and not is_stop_word(word):
        chances[word] += math.exp(math.fsum(answer.log_probs))
    found.append(max(chances, key=chances.__getitem__) if chances else None)
  return found


# ---- Written answers ----
def _answer(reader, task, items, options):
  contexts = [item.options[0][0] for item in items]
  expected = [task.extract(item.options[0][1]) for item in items]
  own = {'stop': task.stop, 'length': options.length or task.length}
  written = reader.answers(contexts, dataclasses.replace(options, **own))
  voted, single, missing, rows = [], [], 0, []
  for answers, target in zip(written, expected, strict=True):
    found = [task.extract(x.text) for x in answers]
    chosen = vote(found)
    voted.append(chosen == target)
    single += [x == target for x in found]
    missing += sum(x is None for x in found)
    rows.append(
      {
        'right': str(target),
        'chosen': None if chosen is None else str(chosen),
        'answers': [x.text for x in answers],
      }
    )
  metrics = {'accuracy': 100.0 * statistics.mean(voted)} | _error(voted)
  if options.samples > 1:
    metrics['accuracy_one'] = 100.0 * statistics.mean(single)
  metrics |= {'examples': len(items), 'unanswered': missing}
  return Result(metrics, rows)


def vote(answers: Sequence[Any]) -> Any:
  """The answer that most texts give; of several the one given first.

  Texts without an answer have no vote (self-consistency: Wang et al. 2023,
  section 2).
  """
  counts = collections.Counter(x for x in answers if x is not None)
  return max(counts, key=counts.__getitem__) if counts else None


# ---- Texts ----
def _text(reader, items, window, stride):
  if reader.writer is None:
    raise ValueError(
      f'{reader.model.folder} holds an encoder: --texts=SOURCE gives its '
      'pseudo-perplexity, by document.'
    )
  return texts_perplexity(reader.writer, items, window, stride, reader.batch)
