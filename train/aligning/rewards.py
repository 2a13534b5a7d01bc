"""A reward model that gives texts numbers.

model = open_reward('REWARD')
model.score(['What is red?'], [' A tomato.'])  # float32 [1]
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from configs.commands import terminal
from configs.commands.command import UserError
from input_pipeline.objectives import features, preferences
from train.aligning import criteria
from train.parallel import sharding
from train.runs import opening


class RewardError(UserError):
  """A reward model gives a reward that is no number."""


@dataclasses.dataclass(frozen=True)
class Reward:
  """A reward model of a run of align.method='reward'.

  Attributes:
    run: of which it is a checkpoint.
  """

  run: opening.Run

  def score(self, prompts: Sequence[str], answers: Sequence[str]) -> np.ndarray:
    """The reward of each answer to its prompt, float32 [n].

    Answers that are longer than the row are cut, and counted on the terminal.

    Raises:
      ValueError: a prompt is too long, or there are more prompts than answers.
      RewardError: a reward is NaN or infinite.
    """
    rows, cut = self._rows(prompts, answers)
    if cut and jax.process_index() == 0:
      terminal.warn(
        f'{self.run.folder} reads {self.run.data.length} tokens: {cut:,} of '
        f'{len(rows):,} answers were cut before they were scored.'
      )
    found = np.zeros(len(rows), np.float32)
    for first, batch, count in self._batches(rows):
      values = jax.device_get(self._step(self.run.params, batch))[:, 0]
      found[first : first + count] = values[:count]
    if not np.isfinite(found).all():
      n = int(np.flatnonzero(~np.isfinite(found))[0])
      raise RewardError(
        f'{self.run.folder}, step {self.run.step}, gives the answer '
        f'{answers[n][:60]!r} to {prompts[n][:60]!r} the reward {found[n]}. '
        'Take another checkpoint of it, or train it again with a lower rate.'
      )
    return found

  def _rows(self, prompts, answers):
    """The row of each answer, and how many answers were cut."""
    tokenizer, form = self.run.tokenizer, self._form
    if len(prompts) != len(answers):
      raise ValueError(
        f'{len(answers)} answers have {len(prompts)} prompts: each needs one.'
      )
    ids = iter(
      tokenizer.encode_batch([x.encode() for x in (*prompts, *answers)])
    )
    asked = [next(ids) for _ in prompts]
    rows, cut = [], 0
    for text, prompt in zip(prompts, asked, strict=True):
      try:
        row, lost = form.row(prompt, [next(ids)], tokenizer)
      except ValueError as error:
        raise ValueError(
          f'{self.run.folder} cannot score answers to {text[:60]!r}: {error}.'
        ) from error
      del row['kept']
      rows.append(row)
      cut += lost
    return rows, cut

  @functools.cached_property
  def _form(self):
    return preferences.Answers(self.run.data, self.run.model.config.family)

  @functools.cached_property
  def _step(self):
    """params, batch -> rewards [B,1]."""
    setup = self.run.setup
    everywhere = NamedSharding(setup.mesh, PartitionSpec())
    step = functools.partial(criteria.scores, self.run.model)

    def on_mesh(*args):
      with setup.on_mesh():
        return compiled(*args)

    compiled = jax.jit(step, out_shardings=everywhere)
    return on_mesh

  def _batches(self, rows) -> Iterator[tuple[int, dict, int]]:
    """(number of the first row, global batch, how many rows it has)."""
    setup, size = self.run.setup, self.run.data.batch
    shapes = preferences.shapes(
      self.run.data, self.run.model.config.family, answers=1
    )
    for first in range(0, len(rows), size):
      own = rows[first : first + size]
      padding = features.padding(shapes, size - len(own))
      whole = np.concatenate([preferences.lay_out(own, shapes), padding])
      arrays = features.split(whole, shapes)
      del arrays['cursor']
      arrays = {name: x[setup.rows] for name, x in arrays.items()}
      batch = sharding.global_batch(arrays, setup.rows, setup.mesh, size)
      yield first, batch, len(own)


def open_reward(folder: str, step: int | str | None = None) -> Reward:
  """The reward model of a workdir, by its newest checkpoint or that of `step`.

  Raises:
    ValueError: the workdir holds no run, or one of another method.
  """
  run = opening.open_run(folder, step)
  if run.config.align.method != 'reward':
    raise ValueError(
      f'{folder} is no reward model: its align.method is '
      f"{run.config.align.method!r}, not 'reward'. Train one with "
      '--config=configs/align/reward.py.'
    )
  return Reward(run)
