"""A classifier of `train.finetune` that judges answers by a class.

judge = open_classifier('SAFETY', 'safe')
judge.score(['Is it far?'], [' Two miles.'])  # P(safe), float32 [1]
"""

import collections
import dataclasses
import functools
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from configs.commands import terminal
from input_pipeline.instructions import catalog
from input_pipeline.objectives import features, framing, labelled_rows
from input_pipeline.sources.labelled import split_name
from input_pipeline.tasks.task import Task
from train.learning import heads
from train.parallel import compilation, sharding
from train.runs import opening


@dataclasses.dataclass(frozen=True)
class Classifier:
  """A run that has learned classes of one or of two texts.

  Attributes:
    run: of which it is a checkpoint.
    task: that it has learned.
    label: the class that is asked for.
    count: how many texts it reads: of two the first is the prompt and the
      second the answer; of one it is the prompt with the answer after it.
  """

  run: opening.Run
  task: Task
  label: str
  count: int

  def score(self, prompts: Sequence[str], answers: Sequence[str]) -> np.ndarray:
    """The probability of the class, of each answer to its prompt: float32 [n].

    Texts that are longer than the row are cut as in training, and counted on
    the terminal.
    """
    pairs = [*zip(prompts, answers, strict=True)]
    texts = pairs if self.count == 2 else [(''.join(x),) for x in pairs]
    tokenizer, rows, cut = self.run.tokenizer, [], 0
    ids = iter(
      tokenizer.encode_batch([x.encode() for own in texts for x in own])
    )
    for own in texts:
      line, types, lost = framing.frame(
        [next(ids) for _ in own], tokenizer, self.run.data
      )
      rows.append({'inputs': line, 'types': types, 'weights': 0})
      cut += lost
    if cut and jax.process_index() == 0:
      terminal.warn(
        f'{self.run.folder} reads {self.run.data.length} tokens: {cut:,} of '
        f'{len(rows):,} texts were cut before they were classified.'
      )
    found = np.zeros(len(rows), np.float32)
    size, place = self.run.data.batch, self.task.labels.index(self.label)
    for first in range(0, len(rows), size):
      own = rows[first : first + size]
      values = self._step(self.run.params, self._batch(own, size))
      found[first : first + len(own)] = jax.device_get(values)[
        : len(own), place
      ]
    return found

  def _batch(self, rows, size):
    setup = self.run.setup
    shapes = labelled_rows.shapes(self.run.data, self.run.model.config.family)
    shapes |= {'cursor': ((self.run.data.cursor_shape[1:]), np.int32)}
    padding = features.padding(shapes, size - len(rows))
    whole = np.concatenate([labelled_rows.lay_out(rows, shapes), padding])
    arrays = features.split(whole, shapes)
    arrays = {x: arrays[x][setup.rows] for x in self.run.model.INPUTS}
    return sharding.global_batch(arrays, setup.rows, setup.mesh, size)

  @functools.cached_property
  def _step(self):
    """params, batch -> the probability of each class, [B,C]."""
    model, setup = self.run.model, self.run.setup

    def probabilities(params, batch):
      found = heads.apply(model, params, batch)
      found = found['classes'] if isinstance(found, dict) else found
      return jax.nn.softmax(found.astype('float32'), axis=-1)

    whole = NamedSharding(setup.mesh, PartitionSpec())
    compiled = compilation.jit(probabilities, setup.mesh, out_shardings=whole)

    def on_mesh(*args):
      with setup.on_mesh():
        return compiled(*args)

    return on_mesh


def open_classifier(
  folder: str, label: str, step: int | str | None = None
) -> Classifier:
  """The classifier of a workdir, by its newest checkpoint or that of `step`.

  Raises:
    ValueError: the workdir holds no run, or one that has not learned classes of
      one or two texts, of which `label` is one.
  """
  run = opening.open_run(folder, step)
  if run.data.objective != 'classification' or run.data.orders:
    raise ValueError(
      f'{folder} is no classifier of texts: its data.objective is '
      f'{run.data.objective!r} and its data.orders {run.data.orders!r}. Train '
      'one with python -m train.finetune and a task of the kind '
      "'classification', with data.orders=''."
    )
  name, _ = split_name(run.data.source.removeprefix('task:'))
  task = catalog.find(name)
  if label not in task.labels:
    raise ValueError(
      f'{folder} knows no class {label!r}: the classes of {task.name} are '
      f'{", ".join(task.labels)}.'
    )
  try:
    count = len(task.texts(collections.defaultdict(str)))
  except (TypeError, ValueError, KeyError, IndexError) as error:
    raise ValueError(
      f'{folder} has learned {task.name}, which reads more than texts: it '
      'cannot judge answers. Take a task of one or two texts.'
    ) from error
  return Classifier(run, task, label, count)
