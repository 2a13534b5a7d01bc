"""Which evaluated checkpoint of a run is the best, by `checkpoint.best`."""

import json
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from input_pipeline.sources import paths
from train.learning.criteria import Criterion
from train.setup import Setup

NAME = 'best.json'
# Numbers that are better if lower; all others are accuracies or scores, which
# are better if higher.
LOWER = 'loss', 'perplexity', 'bits_per_byte'


class Best:
  """The best step by one number of the evaluations.

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
    self.step = None  # of the best evaluation; None: there is none yet
    self._name = name
    self._sign = -1 if name.endswith(LOWER) else 1
    self._value = -math.inf
    known = {*criterion.means(defaultdict(float))} - {'z_loss'}
    if not labelled:
      known.add('perplexity')
    if scored:
      known.add('score')
    if bytes_counted:
      known.add('bits_per_byte')
    if name and name not in known:
      raise ValueError(
        f'checkpoint.best is {name!r}; the evaluations of this run report '
        f'{", ".join(sorted(known))}.'
      )

  def read(self, rows: Iterable[dict[str, Any]], steps: Sequence[int]) -> None:
    """Finds the best evaluation before this start.

    `rows` are those of metrics.jsonl, which only the first process reads;
    `steps` are those of the checkpoints that exist.
    """
    if not self._name:
      return
    if jax.process_index() == 0:
      for row in rows:
        if row['step'] in steps and f'eval/{self._name}' in row:
          self.add(row['step'], {self._name: row[f'eval/{self._name}']})
    step = -1 if self.step is None else self.step
    found = multihost_utils.broadcast_one_to_all(
      np.array([step, self._value], np.float64).view(np.int32)
    )
    step, self._value = np.asarray(found).view(np.float64).tolist()
    self.step = None if step < 0 else int(step)

  def add(self, step: int, means: Mapping[str, float | None]) -> bool:
    """Adds an evaluation; returns whether it is the best one so far."""
    value = means[self._name] if self._name else None
    if value is None or not self._sign * value > self._value:
      return False
    self.step, self._value = step, self._sign * value
    return True

  def write(self, folder: str) -> None:
    """Writes the best step and its number to WORKDIR/best.json."""
    metric, value = f'eval/{self._name}', self._sign * self._value
    found = {'step': self.step, 'metric': metric, 'value': value}
    paths.write(os.path.join(folder, NAME), f'{json.dumps(found)}\n'.encode())


def saved_step(folder: str) -> int:
  """The best step of the run in a workdir, from its best.json.

  Raises ValueError if it has none.
  """
  path = os.path.join(folder, NAME)
  if not os.path.exists(path):
    raise ValueError(
      f"{path} is missing, so {folder} has no step 'best': its run has no "
      'checkpoint.best, or was not evaluated yet. Give the number of a step.'
    )
  with open(path, encoding='utf-8') as file:
    return json.load(file)['step']


def best_of(setup: Setup) -> Best:
  """The best step of a run, by its `checkpoint.best`."""
  return Best(
    setup.config.checkpoint.best,
    setup.criterion,
    bytes_counted=setup.data.objective == 'causal',
    labelled=setup.data.labelled,
    scored=setup.data.scored,
  )
