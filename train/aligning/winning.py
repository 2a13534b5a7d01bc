"""How often one model's answers get a higher reward than another's.

A win rate alone misleads: a model can win by what the reward model likes and
nobody else, such as length. So the divergence from the reference and the mean
length stand beside it.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from input_pipeline.chat.messages import Prompt
from input_pipeline.objectives import features, preferences
from train.aligning import criteria
from train.applying import Texts
from train.generation.making import make_writer
from train.generation.options import Answer, Options
from train.generation.writer import Writer
from train.runs import opening

Z = 1.959964  # of 95%
BATCH = 16


@dataclasses.dataclass(frozen=True)
class Side:
  """One model's answers.

  Attributes:
    rewards: [n], one for each prompt.
    lengths: [n], in tokens, with the one that ends an answer.
    log_ratios: [n], log probability under the model minus that under the
      reference. Its mean estimates KL(model, reference).
    exact: [n], whether each answer is its prompt's target; None: there is none.
    empty: [n], whether each answer has no text; None: not looked at.
  """

  rewards: np.ndarray
  lengths: np.ndarray
  log_ratios: np.ndarray
  exact: Sequence[bool] | None = None
  empty: Sequence[bool] | None = None

  def described(self) -> dict[str, float]:
    """Means, each with its standard error."""
    found = {}
    for name, x in (
      ('reward', self.rewards), ('length', self.lengths),
      ('kl', self.log_ratios), ('exact', self.exact), ('empty', self.empty),
    ):  # fmt: skip
      if x is None:
        continue
      x = np.asarray(x, np.float64)
      error = x.std(ddof=1) / math.sqrt(len(x)) if len(x) > 1 else math.nan
      found |= {name: float(x.mean()), f'{name}_error': float(error)}
    return found


def wilson(wins: float, count: int) -> tuple[float, float]:
  """Wilson's interval of 95% for a share (Wilson 1927).

  Unlike the normal one it stays between 0 and 1, and is not empty where all are
  won. A tie is half a win: the interval is then wider than it need be.

  >>> low, high = wilson(8, 10)
  >>> round(low, 3), round(high, 3)
  (0.49, 0.943)
  """
  share, square = wins / count, Z * Z / count
  middle = (share + square / 2) / (1 + square)
  spread = math.sqrt(share * (1 - share) / count + square / count / 4)
  half = Z * spread / (1 + square)
  return max(0.0, middle - half), min(1.0, middle + half)


def compared(ours: Side, theirs: Side) -> dict[str, Any]:
  """The win rate of `ours`, its interval, and what stands beside it."""
  count = len(ours.rewards)
  ties = int(np.sum(ours.rewards == theirs.rewards))
  wins = int(np.sum(ours.rewards > theirs.rewards))
  rate = (wins + ties / 2) / count
  return {
    'prompts': count,
    'win_rate': rate,
    'interval': wilson(wins + ties / 2, count),
    'ties': ties,
    'ours': ours.described(),
    'theirs': theirs.described(),
  }


def draw(
  run: opening.Run, prompts: Sequence[Prompt], length: int, seed: int
) -> tuple[Writer, list[Answer]]:
  """One answer to each prompt, drawn at temperature 1."""
  writer = make_writer(run)
  options = Options(length=length, temperature=1.0, seed=seed)
  found = writer.answers(prompts, options, BATCH)
  return writer, [answers[0] for answers in found]


def log_probs(
  writer: Writer, prompts: Texts, answers: Sequence[Sequence[int]]
) -> np.ndarray:
  """float32 [n]: log p(answer | prompt) of ids, under the writer's model.

  Prompts are texts, or ids that are read as they are.
  Raises ValueError if the model has too few positions.
  """
  rows = [
    _row(writer, writer.encoded(prompt), np.int32(answer))
    for prompt, answer in zip(prompts, answers, strict=True)
  ]
  width = max(len(row['inputs'][0]) for row in rows)
  names = 'inputs', 'targets', 'positions', 'segments', 'prefix'
  shapes = dict.fromkeys(names, ((1, width), np.int32))
  shapes['weights'] = (1, width), np.float32
  if writer.pair:
    width = max(len(row['encoder_inputs']) for row in rows)
    shapes |= {
      f'encoder_{name}': ((width,), np.int32)
      for name in ('inputs', 'positions', 'segments')
    }
  step = writer.fixed.jit(
    lambda params, batch: criteria.log_probs(writer.model, params, batch)[0]
  )
  found = []
  for first in range(0, len(rows), BATCH):
    own = rows[first : first + BATCH]
    own = [*own, *[own[-1]] * (BATCH - len(own))]
    batch = features.split(preferences.lay_out(own, shapes), shapes)
    with writer.on_mesh():
      values = step(writer.params, writer.placed(batch, BATCH))
    found.append(jax.device_get(values)[:, 0])
  return np.concatenate(found)[: len(rows)]


def _row(writer, source, answer):
  """The arrays of one answer, as `preferences.lay_out` takes them."""
  if writer.pair:
    return {
      'encoder_inputs': source,
      'inputs': [np.int32([writer.start, *answer[:-1]])],
      'targets': [answer],
      'weights': [np.ones(len(answer))],
    }
  line = np.concatenate([source, answer])
  at = np.arange(len(line) - 1)
  return {
    'inputs': [line[:-1]],
    'targets': [line[1:]],
    'prefix': [at < len(source)],
    'weights': [at >= len(source) - 1],
  }
