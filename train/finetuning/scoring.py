"""Scores: a model's answer to every example of a task, and the task's metrics.

Every host makes the rows of all examples, and its devices compute their share
of each batch. So every example gets one answer on any number of hosts, and rows
that fill the last batch are never counted.

A text-to-text model writes its answer; with `eval.ranked` it is the likeliest
of a task's options.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from input_pipeline import pipeline
from input_pipeline.objectives import features, labelled, labelled_rows, reading
from input_pipeline.streams.corpus import Corpus
from input_pipeline.tasks.task import mean_score
from models import beams, decoding
from train.generation.prompts import padded, target_length, until_eos
from train.learning import heads
from train.learning.losses import token_losses
from train.parallel import compilation, sharding
from train.reporting.progress import CUT
from train.runs.best import SCORE
from train.setup import Setup


@dataclasses.dataclass(frozen=True)
class Scores:
  """A model's answers to the examples of one split of a task.

  Attributes:
    task: its record.
    split: our name of the split; `HELD_OUT` of what data.holdout keeps.
    examples: in the order of the file.
    predictions: one for each, of the type that the task's metrics expect.
    metrics: name -> number; {} if labels are secret.
    cut: how many examples lost tokens because their row was full.
  """

  task: Any
  split: str
  examples: Sequence[Any]
  predictions: Sequence[Any]
  metrics: dict[str, float]
  cut: int

  @property
  def score(self) -> float:
    """The task's number in a benchmark: the mean of `task.averaged`."""
    names = self.task.averaged or tuple(self.metrics)[:1]
    return sum(self.metrics[name] for name in names) / len(names)


def means(found: Sequence[Scores]) -> dict[str, float]:
  """'TASK/METRIC' -> number, of tasks with labels, and their mean 'score'.

  A split other than 'validation' is named too: 'TASK@SPLIT/METRIC'. The mean is
  `task.mean_score`. 'TASK/cut' is there if examples lost tokens, also where the
  labels are secret. Of several tasks each has its own score too, 'TASK/score',
  the mean of its splits.
  """
  named = {}
  for scores in found:
    split = '' if scores.split == 'validation' else f'@{scores.split}'
    name = scores.task.name + split
    named |= {f'{name}/{key}': x for key, x in scores.metrics.items()}
    if scores.cut:
      named[f'{name}/{CUT}'] = float(scores.cut)
  known = [(x.task, x.score) for x in found if x.metrics]
  if len(names := dict.fromkeys(task.name for task, _ in known)) > 1:
    for name in names:
      own = [(task, score) for task, score in known if task.name == name]
      named[f'{name}/{SCORE}'] = mean_score(own)
  if known:
    named[SCORE] = mean_score(known)
  return named


def make_scoring(
  setup: Setup, data: pipeline.Data, threshold: float = 0.0
) -> Callable[[Any], list[Scores]]:
  """params -> the scores of each task that `data` evaluates.

  `threshold` is that of no answer: see `Task.unanswerable`. Programs are
  compiled at the first call.

  Raises:
    ValueError: a task has other classes than the one that is trained on, or no
      task has options to rank.
  """
  _check_classes(data)
  tasks = [corpus for corpus in data.evaluated if corpus.labels]
  ranked = [setup.config.eval.ranked and _has_options(x) for x in tasks]
  if setup.config.eval.ranked and tasks and not any(ranked):
    names = ', '.join(corpus.source.task.name for corpus in tasks)
    raise ValueError(
      'eval.ranked=True takes the likeliest of the options of a task in words '
      f'(task:flan/NAME), and {names} has none. Set it to False.'
    )
  answer = _answering(setup, data)
  likelihood = _ranking(setup, data)

  @functools.cache
  def encode(n):
    labels = tasks[n].labels
    make = labels.encode_options if ranked[n] else labels.encode
    return make(tasks[n].examples, data.tokenizer)

  def score(params: Any) -> list[Scores]:
    return [
      _score(
        corpus,
        encode(n),
        functools.partial(likelihood if rank else answer, params),
        threshold,
        rank,
      )
      for n, (corpus, rank) in enumerate(zip(tasks, ranked, strict=True))
    ]

  return score


def _has_options(corpus: Corpus) -> bool:
  """Whether each example of a task has options."""
  task, examples = corpus.source.task, corpus.examples
  return task.options is not None and all(task.options(x) for x in examples)


def _check_classes(data: pipeline.Data) -> None:
  """Raises ValueError if a head's classes are not those of an evaluated task.

  A head gives a number for each class, in the order of the trained task. A
  'choice' has no classes: its head gives each pair of texts a number.
  """
  if data.config.objective not in ('classification', 'tagging'):
    return
  trained = data.corpora[0].source.task
  for task in (x.source.task for x in data.evaluated if x.labels):
    if task.labels != trained.labels:
      raise ValueError(
        f'The model learns task {trained.name}, whose classes are '
        f'{", ".join(trained.labels)}. It cannot be evaluated on task '
        f'{task.name}, whose classes are {", ".join(task.labels)}: name a task '
        'with the same classes in the same order.'
      )


def _score(
  corpus: Corpus,
  encoded: labelled.Encoded,
  answer: Callable,
  threshold: float,
  ranked: bool,
) -> Scores:
  task, examples = corpus.source.task, corpus.examples
  rows = [row for own in encoded.rows for row in own]
  answers = iter(answer(corpus.labels, rows))
  predict = _likeliest if ranked else _predict
  predictions = [
    predict(corpus.labels, example, own, [next(answers) for _ in own])
    for example, own in zip(examples, encoded.rows, strict=True)
  ]
  secret = any(example.get(task.label, '') is None for example in examples)
  own = {'threshold': threshold} if task.unanswerable else {}
  metrics = {} if secret else task.metrics(examples, predictions, **own)
  return Scores(
    task, corpus.split, examples, predictions, dict(metrics), encoded.cut
  )


def _likeliest(labels, example, rows, likelihoods):
  """The prediction that the likeliest of an example's options is."""
  options = labels.task.options(example)
  return labels.task.decode(options[int(np.argmax(likelihoods))], example)


def _predict(
  labels: labelled.Format, example: Any, rows: list[dict], answers: list
) -> Any:
  """The prediction for an example, from the model's answers to its rows."""
  task = labels.task
  match labels.config.objective:
    case 'text_to_text':  # an example that the task leaves out has no row
      found = task.decode(answers[0], example) if rows else None
      if task.kind == 'classification' and found not in task.labels:
        # A user's own `decode` may return any text. None is counted as wrong.
        return None
      return found
    case 'classification' | 'choice':
      return task.labels[int(np.argmax(answers[0]))]
    case 'regression':
      return float(answers[0][0]) * labels.config.label_scale
    case 'tagging':
      chosen = np.argmax(answers[0], axis=-1)
      places = rows[0]['places']  # words beyond the row have no tag
      return [
        task.labels[chosen[places[n]]] if n in places else None
        for n in range(len(task.texts(example)))
      ]
  return reading.answer(task.texts(example), rows, answers)


def _answering(setup: Setup, data: pipeline.Data) -> Callable:
  """(params, format, rows) -> the model's answer to each row."""
  pairs = data.config.pairs
  compiled = functools.partial(
    compilation.jit,
    mesh=setup.mesh,
    out_shardings=NamedSharding(setup.mesh, PartitionSpec()),
  )
  usual = free = compiled(
    _text(setup, data, 1)
    if pairs
    else functools.partial(_logits, model=setup.model)
  )
  if pairs and setup.config.eval.beams > 1:
    free = compiled(_text(setup, data, setup.config.eval.beams))

  def answer(params: Any, labels: labelled.Format, rows: list) -> Iterator[Any]:
    run = free if labels.task.kind == 'text' else usual
    make = _sources if pairs else _labelled
    for batch, count in _batches(setup, data, make, rows):
      with setup.on_mesh():
        found = jax.device_get(run(params, batch))[:count]
      if pairs:
        for ids in found:
          yield until_eos(data.tokenizer, ids, data.end_id)
      else:
        yield from found

  return answer


def _ranking(setup: Setup, data: pipeline.Data) -> Callable:
  """(params, format, rows) -> the log probability of each row's targets.

  It is that of the tokens and of the one that ends them, in nats.
  """
  model = setup.model

  def log_probs(params, batch):
    logits = heads.logits_of(heads.apply(model, params, batch))
    losses, *_ = token_losses(logits, batch['targets'])
    return -jnp.sum(losses * batch['weights'], axis=1)

  whole = NamedSharding(setup.mesh, PartitionSpec())
  run = compilation.jit(log_probs, mesh=setup.mesh, out_shardings=whole)

  def likelihood(params: Any, labels: labelled.Format, rows: list):
    del labels
    for batch, count in _batches(setup, data, _pairs, rows):
      with setup.on_mesh():
        yield from jax.device_get(run(params, batch))[:count]

  return likelihood


def _batches(setup, data, make, rows):
  """Global batches of the rows in their order, and how many rows each has.

  `make` gives the arrays of some rows: (setup, data, rows) -> name -> array.
  """
  size = setup.data.batch
  for first in range(0, len(rows), size):
    part = rows[first : first + size]
    filled = {
      name: np.concatenate(
        [x, np.zeros((size - len(part), *x.shape[1:]), x.dtype)]
      )[setup.rows]
      for name, x in make(setup, data, part).items()
    }
    yield sharding.global_batch(filled, setup.rows, setup.mesh, size), len(part)


def _labelled(setup, data, rows):
  """The arrays that a head reads."""
  del setup
  return _arrays(labelled_rows.lay_out(rows, data.shapes), data)


def _pairs(setup, data, rows):
  """The arrays of pairs of inputs and targets, as in training, a row each."""
  pair = setup.model.config.family == 'encoder_decoder'
  make = features.encoder_decoder if pair else features.decoder_pairs
  rng = np.random.default_rng(0)  # of the order of rows: there is one at a time
  laid = [
    make(
      labelled_rows.examples([[row]]), data.shapes, rng, False, data.start_id
    )
    for row in rows
  ]
  return _arrays(np.concatenate(laid), data)


def _arrays(laid, data):
  arrays = features.split(laid, data.shapes)
  del arrays['cursor']
  return arrays


def _sources(setup, data, rows):
  """'source', 'segments' [rows,S] as `decoding.decode` reads them."""
  decoder = setup.model.config.family != 'encoder_decoder'
  before = [data.start_id] if decoder else []
  ids = [[*before, *row['inputs']] for row in rows]
  source, segments = padded(ids, data.config.length, left=decoder)
  return {'source': source, 'segments': segments}


def _text(setup, data, count):
  """params, batch -> the ids that the model writes: int [B,T]."""
  length = target_length(setup.model.config, data.config)

  fixed = {
    'model': setup.model,
    'length': length,
    'eos': data.end_id,
    'start': data.start_id,
    'vocabulary': data.tokenizer.size,
  }

  def write(params, batch):
    source = batch['source'], batch['segments']
    if count == 1:
      return decoding.decode(params, *source, **fixed).tokens
    found = beams.beam_search(
      params, *source, beams=count, gnmt=True,
      penalty=setup.config.eval.length_penalty, **fixed,
    )  # fmt: skip
    return found.tokens[:, 0]

  return write


def _logits(params, batch, *, model):
  """The head's output for each row, float32 [B,...]; a span's is [B,2,T]."""
  if model.config.head == 'choice':
    return heads.choice_logits(model, params, batch)
  outputs = heads.apply(model, params, batch)
  if model.config.head == 'span':
    both = jnp.stack([outputs['start'], outputs['end']], axis=1)
    return jnp.where(batch['segments'][:, None] > 0, both, -jnp.inf)
  return outputs['classes'] if isinstance(outputs, dict) else outputs
