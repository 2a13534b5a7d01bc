"""Learning rates as functions of the step."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from train.settings import check_group

USES = {
  'constant': ('learning_rate',),
  'inverse_sqrt': ('learning_rate', 'warmup_steps'),
  'linear': ('learning_rate', 'warmup_steps', 'end_fraction'),
  'cosine': ('learning_rate', 'warmup_steps', 'end_fraction'),
}


def make_schedule(schedule: Any, steps: int) -> Callable[..., jax.Array]:
  """The learning rate of the update made at step n = 0, 1, ...

    constant      learning_rate
    inverse_sqrt  learning_rate / sqrt(max(n, warmup_steps)): T5 (Raffel et al.
                  2020, 3.1.2) with 1.0 and 10_000; flat at first, not a ramp
    linear        learning_rate * n / warmup_steps, then straight down to
                  end_fraction * learning_rate at step `steps`: BERT
    cosine        the same, but down along half a cosine: GPT-3

  Args:
    schedule: the config group `schedule`.
    steps: `train.steps`, where the decay ends.

  Returns:
    int32 step -> float32 scalar, also under jit.

  Raises:
    ValueError: an unknown name, a missing or an ignored key, an impossible
      number.
  """
  check_group('schedule', schedule, USES)
  name, peak = schedule.name, schedule.learning_rate
  warmup, end = schedule.warmup_steps or 0, schedule.end_fraction or 0.0
  if not 0 < peak < math.inf:
    raise ValueError(f'schedule.learning_rate is {peak}; it must be above 0.')
  if name == 'inverse_sqrt' and warmup < 1:
    raise ValueError(
      f'schedule.warmup_steps is {warmup}; inverse_sqrt needs at least 1.'
    )
  if name in ('linear', 'cosine') and not 0 <= warmup <= steps:
    raise ValueError(
      f'schedule.warmup_steps is {warmup}; it must lie between 0 and '
      f'train.steps, which is {steps}.'
    )
  if not 0 <= end <= 1:
    raise ValueError(
      f'schedule.end_fraction is {end}; it must lie between 0 and 1.'
    )

  def rate(step):
    step = jnp.asarray(step, jnp.int32)
    if name == 'constant':
      return jnp.float32(peak)
    if name == 'inverse_sqrt':
      return peak / jnp.sqrt(jnp.maximum(step, warmup).astype(jnp.float32))
    # Subtracted as integers: float32 counts only to 2^24.
    decayed = jnp.clip(step - warmup, 0, steps - warmup)
    done = decayed / max(steps - warmup, 1)
    left = 1 - done if name == 'linear' else (1 + jnp.cos(jnp.pi * done)) / 2
    ramp = jnp.minimum(step, warmup) / warmup if warmup else 1.0
    return peak * ramp * (end + (1 - end) * left)

  return rate
