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
from input_pipeline.chat import templates
from input_pipeline.chat.messages import (
  Prompt,
  asked,
  conversation,
  is_chat,
  last_words,
  said,
)
from input_pipeline.objectives import features, preferences
from train.aligning import criteria
from train.parallel import compilation, sharding
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

  def score(
    self,
    prompts: Sequence[Prompt],
    answers: Sequence[str],
    failures: list[str] | None = None,
  ) -> np.ndarray:
    """The reward of each answer to its prompt, float32 [n].

    With data.chat_template a prompt is a chat, or what the user says, and the
    answer the assistant's turn. Answers that are longer than the row are cut,
    and counted on the terminal. With `failures`, a list, it gets the reason for
    each prompt that is too long, whose answer has the reward NaN.

    Raises:
      ValueError: a prompt is too long and there is no list of `failures`, or
        there are more prompts than answers.
      RewardError: a reward is NaN or infinite.
    """
    if len(prompts) != len(answers):
      raise ValueError(
        f'{len(answers)} answers have {len(prompts)} prompts: each needs one.'
      )
    read, given = prompts, answers
    if self.template:
      read, given = map(asked, prompts), map(said, answers)
    else:
      read = (conversation(x, True) if is_chat(x) else x for x in prompts)
    ids = self._form.ids([*read], [[x] for x in given], self.run.tokenizer)
    return self._scored(ids, [*map(last_words, prompts)], answers, failures)

  def score_ids(
    self,
    prompts: Sequence[np.ndarray],
    answers: Sequence[np.ndarray],
    failures: list[str] | None = None,
  ) -> np.ndarray:
    """As `score`, of chats that are ids of the model's own tokenizer.

    Args:
      prompts: as a model reads them before it answers.
      answers: without the token that ends a turn.
      failures: as of `score`.
    """
    tokenizer = self.run.tokenizer
    ids = [
      (self._form.bare(prompt, tokenizer), [answer])
      for prompt, answer in zip(prompts, answers, strict=True)
    ]
    texts = [[tokenizer.decode(x) for x in own] for own in (prompts, answers)]
    return self._scored(ids, *texts, failures)

  @functools.cached_property
  def template(self) -> templates.Template | None:
    """How the chats are written that it reads; None: it reads plain texts."""
    if not self.run.data.chat_template:
      return None
    return templates.prepare(self.run.data, self.run.tokenizer, self.run.folder)

  def _scored(self, ids, prompts, answers, failures):
    """The rewards of ids, as `preferences.Answers.ids` gives them."""
    rows, places, cut = self._rows(ids, prompts, failures)
    if cut and jax.process_index() == 0:
      terminal.warn(
        f'{self.run.folder} reads {self.run.data.length} tokens: {cut:,} of '
        f'{len(rows):,} answers were cut before they were scored.'
      )
    found = np.full(len(ids), np.nan, np.float32)
    for first, batch, count in self._batches(rows):
      values = jax.device_get(self._step(self.run.params, batch))[:, 0]
      found[places[first : first + count]] = values[:count]
    if bad := [n for n in places if not np.isfinite(found[n])]:
      n = bad[0]
      raise RewardError(
        f'{self.run.folder}, step {self.run.step}, gives the answer '
        f'{answers[n][:60]!r} to {prompts[n][:60]!r} the reward {found[n]}. '
        'Take another checkpoint of it, or train it again with a lower rate.'
      )
    return found

  def _rows(self, ids, prompts, failures):
    """The rows, the numbers of their answers, how many answers were cut."""
    tokenizer, form = self.run.tokenizer, self._form
    rows, places, cut = [], [], 0
    for n, (text, own) in enumerate(zip(prompts, ids, strict=True)):
      try:
        if isinstance(own, ValueError):
          raise own
        row, lost = form.row(*own, tokenizer)
      except ValueError as error:
        why = (
          f'{self.run.folder} cannot score answers to {text[:60]!r}: {error}'
        )
        if failures is None:
          raise ValueError(
            f'{why}. Leave the prompt out, or train a reward model with longer '
            'rows.'
          ) from error
        failures.append(why)
        continue
      del row['kept']
      rows.append(row)
      places.append(n)
      cut += lost
    return rows, places, cut

  @functools.cached_property
  def _form(self):
    return preferences.Answers(
      self.run.data, self.run.model.config.family, template=self.template
    )

  @functools.cached_property
  def _step(self):
    """params, batch -> rewards [B,1]."""
    setup = self.run.setup
    everywhere = NamedSharding(setup.mesh, PartitionSpec())
    step = functools.partial(criteria.scores, self.run.model)

    def on_mesh(*args):
      with setup.on_mesh():
        return compiled(*args)

    compiled = compilation.jit(step, setup.mesh, out_shardings=everywhere)
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
