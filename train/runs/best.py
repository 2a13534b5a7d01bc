"""Which evaluated checkpoints of a run are the best, by `checkpoint.best`."""

import json
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from input_pipeline.choices import unknown
from input_pipeline.sources import paths
from train.learning.criteria import Criterion
from train.setup import Setup

NAME = 'best.json'
# Numbers that are better if lower; all others are accuracies or scores, which
# are better if higher.
LOWER = 'loss', 'perplexity', 'bits_per_byte'
SCORE = 'score'  # the mean over the counted tasks of each task's score


class Best:
  """The best steps of a run: by one number of the evaluations, and by task.

  If the number is the score of several tasks, each of them has a best step of
  its own too (Raffel et al. 2020, 3.1.3).

  Args:
    name: the number's name without 'eval/'; '' finds no best step. Raises
      ValueError if the evaluations report no such number.
    criterion: the run's; evaluations report its means.
    bytes_counted: whether evaluations report bits_per_byte too.
    labelled: whether labels are predicted, and not tokens.
    scored: whether evaluations report the score of tasks too.
  """

  def __init__(
    self,
    name: str,
    criterion: Criterion,
    bytes_counted: bool,
    labelled: bool = False,
    scored: bool = False,
  ):
    self._name, self._tasks = name, ()
    self._sign = -1 if name.endswith(LOWER) else 1
    self._found = {}  # number -> the step of its best evaluation, and its value
    known = {*criterion.means(defaultdict(float))} - {'z_loss'}
    if not labelled:
      known.add('perplexity')
    if scored:
      known.add(SCORE)
    if bytes_counted:
      known.add('bits_per_byte')
    if name and name not in known:
      raise ValueError(
        f'checkpoint.best is {name!r}; the evaluations of this run report '
        f'{", ".join(sorted(known))}.'
      )

  @property
  def steps(self) -> set[int]:
    """The best steps so far, whose checkpoints are kept."""
    return {step for step, _ in self._found.values()}

  def forget(self, folder: str) -> None:
    """Begins without any evaluation, and without WORKDIR/best.json."""
    self._found = {}
    path = os.path.join(folder, NAME)
    if jax.process_index() == 0 and paths.exists(path):
      paths.remove(path)

  def read(
    self,
    rows: Iterable[dict[str, Any]],
    steps: Sequence[int],
    tasks: Sequence[str] = (),
  ) -> None:
    """Finds the best evaluations before this start.

    `rows` are those of metrics.jsonl, which only the first process reads;
    `steps` are those of the checkpoints that exist, `tasks` the names of the
    tasks that are evaluated.
    """
    if not self._name:
      return
    if self._name == SCORE and len(tasks) > 1:
      self._tasks = tuple(tasks)
    names = [self._name, *map(_own_score, self._tasks)]
    if jax.process_index() == 0:
      for row in rows:
        if row['step'] in steps and f'eval/{self._name}' in row:
          self.add(
            row['step'], {name: row.get(f'eval/{name}') for name in names}
          )
    none = -1, 0.0
    found = multihost_utils.broadcast_one_to_all(
      np.array(
        [self._found.get(name, none) for name in names], np.float64
      ).view(np.int32)
    )
    found = np.asarray(found).view(np.float64).tolist()
    self._found = {
      name: (int(step), value)
      for name, (step, value) in zip(names, found, strict=True)
      if step >= 0
    }

  def add(self, step: int, means: Mapping[str, float | None]) -> bool:
    """Adds an evaluation; returns whether it is the best one by any number."""
    better = False
    for name in [self._name, *map(_own_score, self._tasks)]:
      value = means.get(name)
      if value is None:
        continue
      before = self._found.get(name, (0, -self._sign * math.inf))[1]
      if self._sign * value > self._sign * before:
        self._found[name] = step, value
        better = True
    return better

  def write(self, folder: str) -> None:
    """Writes the best steps and their numbers to WORKDIR/best.json."""
    if self._name not in self._found:
      return
    step, value = self._found[self._name]
    found = {'step': step, 'metric': f'eval/{self._name}', 'value': value}
    own = {task: self._found.get(_own_score(task)) for task in self._tasks}
    if own := {task: x for task, x in own.items() if x}:
      found['tasks'] = {
        task: {'step': step, 'value': value}
        for task, (step, value) in own.items()
      }
    paths.write(os.path.join(folder, NAME), f'{json.dumps(found)}\n'.encode())


def _own_score(task: str) -> str:
  """The name of a task's own score; see `finetuning.scoring.means`."""
  return f'{task}/{SCORE}'


def saved_step(folder: str, task: str = '') -> int:
  """The best step of the run in a workdir, from its best.json.

  Of several tasks it is that of the mean score, or of one `task`. Raises
  ValueError if there is none.
  """
  path = os.path.join(folder, NAME)
  if not paths.exists(path):
    raise ValueError(
      f"{path} is missing, so {folder} has no step 'best': its run has no "
      'checkpoint.best, or was not evaluated yet. Give the number of a step.'
    )
  found = json.loads(paths.read(path))
  if not task:
    return found['step']
  known = found.get('tasks', {})
  if task not in known:
    if not known:
      raise ValueError(
        f"{path} has no best step of the task {task!r}; it has only 'best'."
      )
    raise ValueError(f'{path}: {unknown("task with a best step", task, known)}')
  return known[task]['step']


def best_of(setup: Setup) -> Best:
  """The best step of a run, by its `checkpoint.best`."""
  return Best(
    setup.config.checkpoint.best,
    setup.criterion,
    bytes_counted=setup.data.objective == 'causal',
    labelled=setup.data.labelled,
    scored=setup.data.scored,
  )
