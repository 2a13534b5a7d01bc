"""Learning rates as functions of the step."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from train.settings import check_group

_DOWN = 'learning_rate', 'end_fraction', 'decay_steps', 'first_step'
_DECAYING = *_DOWN, 'warmup_steps', 'restarts'
_ROOT = 'learning_rate', 'warmup_steps', 'first_step'
USES = {
  'constant': ('learning_rate',),
  'inverse_sqrt': _ROOT,
  'noam': _ROOT,
  'linear': _DECAYING,
  'linear_from_start': _DECAYING,
  'linear_throughout': _DECAYING,
  'cosine': _DECAYING,
  'exponential': (*_DOWN, 'constant_steps'),
}


def make_schedule(schedule: ConfigDict, steps: int) -> Callable[..., jax.Array]:
  """The learning rate of the update made at step n = 0, 1, ...

    constant      learning_rate
    inverse_sqrt  learning_rate / sqrt(max(n, warmup_steps)): T5 (Raffel et al.
                  2020, 3.1.2) with 1.0 and 10_000; flat at first, not a ramp
    noam          learning_rate * min(s^-1/2, s * warmup_steps^-3/2) of s =
                  n + 1, with learning_rate = D^-1/2: Vaswani et al. 2017, 5.3
    linear        learning_rate * n / warmup_steps, then a straight line down to
                  end_fraction * learning_rate at step `decay_steps`, and flat
                  from there: RoBERTa
    linear_from_start
                  the same, but the line goes down from step 0 on, so the rate
                  drops a little where the warmup ends: BERT's published code
    linear_throughout
                  that line from step 0 on, times n / warmup_steps during the
                  warmup, so nothing jumps: ELECTRA's published code
    cosine        as linear, but down along half a cosine: GPT-3
    exponential   learning_rate for constant_steps, then times one factor at
                  each step, down to end_fraction at `decay_steps`: RWKV-4

  A run that goes on from another's parameters (--init_from), or from published
  ones, counts its steps from 0. With `first_step` f its first rate is that of
  n = f. All steps above, `decay_steps` too, are those of the whole schedule.

  `restarts` has (step, rate, warm-up) of each further part: there the schedule
  begins again, from 0 up to its own rate in its own steps of warm-up, and down
  to end_fraction of it where the next part begins (LAMB, You et al. 2020).

  Args:
    schedule: the config group `schedule`.
    steps: `train.steps`. The decay ends with the run if `decay_steps` is 0;
      otherwise it may end before or after the run does.

  Returns:
    int32 step -> float32 scalar, also under jit.

  Raises:
    ValueError: an unknown name, a missing or an unused key, an impossible
      number.
  """
  check_group('schedule', schedule, USES)
  name, peak = schedule.name, schedule.learning_rate
  warmup, end = schedule.warmup_steps or 0, schedule.end_fraction or 0.0
  start = schedule.constant_steps if name == 'exponential' else warmup
  first = schedule.first_step
  last, *ends = _ends(schedule, start, schedule.decay_steps or first + steps)

  def rate(step):
    step = jnp.asarray(step, jnp.int32) + first
    if name == 'constant':
      return jnp.float32(peak)
    if name == 'inverse_sqrt':
      return peak / jnp.sqrt(jnp.maximum(step, warmup).astype(jnp.float32))
    if name == 'noam':
      s = step.astype(jnp.float32) + 1
      return peak * jnp.minimum(s**-0.5, s * warmup**-1.5)
    found = part(step, peak, start, last)
    for (begin, *own), until in zip(schedule.restarts, ends, strict=True):
      new = part(step - begin, *own, until - begin)
      found = jnp.where(step < begin, found, new)
    return found

  def part(step, peak, start, last):
    # Subtract integers: float32 counts only to 2^24.
    begin = 0 if name in ('linear_from_start', 'linear_throughout') else start
    done = jnp.clip(step - begin, 0, last - begin) / max(last - begin, 1)
    if name == 'exponential':
      return peak * jnp.exp(done * math.log(end))
    left = (1 + jnp.cos(jnp.pi * done)) / 2 if name == 'cosine' else 1 - done
    decayed = end + (1 - end) * left
    ramp = step / max(start, 1)
    if name == 'linear_throughout':
      ramp *= decayed
    return peak * jnp.where(step < start, ramp, decayed)

  return rate


def _ends(schedule, start, last):
  """The last step of each part; a ValueError if a number cannot be.

  `start` is where the decay of the first part starts, `last` where that of the
  last one ends.
  """
  name, peak = schedule.name, schedule.learning_rate
  first, end = schedule.first_step, schedule.end_fraction or 0.0
  if first < 0:
    raise ValueError(f'schedule.first_step is {first}; it must be at least 0.')
  if not 0 < peak < math.inf:
    raise ValueError(f'schedule.learning_rate is {peak}; it must be above 0.')
  if name in ('inverse_sqrt', 'noam') and start < 1:
    raise ValueError(
      f'schedule.warmup_steps is {start}; {name} needs at least 1.'
    )
  if 'decay_steps' in USES[name]:
    if last < 1:
      raise ValueError(
        f'schedule.decay_steps is {last}; it must be at least 1, or 0 for '
        'train.steps.'
      )
    if not 0 <= start <= last:
      key = 'constant_steps' if name == 'exponential' else 'warmup_steps'
      until = 'schedule.first_step + ' * bool(first) + 'train.steps'
      until = 'schedule.decay_steps' if schedule.decay_steps else until
      raise ValueError(
        f'schedule.{key} is {start}; it must be between 0 and {until}, '
        f'which is {last}.'
      )
  if not 0 <= end <= 1 or (name == 'exponential' and not end):
    raise ValueError(
      f'schedule.end_fraction is {end}; it must be between 0 and 1'
      f'{", and above 0 with exponential" if not end else ""}.'
    )
  begins, before = [], start
  for restart in schedule.restarts:
    wrong = f'schedule.restarts has {restart!r}; '
    if not isinstance(restart, tuple | list) or len(restart) != 3:
      raise ValueError(f'{wrong}it must have (step, rate, warm-up steps).')
    begin, peak, warmup = restart
    if not 0 < peak < math.inf or warmup < 0:
      raise ValueError(
        f'{wrong}the rate must be above 0, and the warm-up at least 0.'
      )
    if begin < max(before, 1):
      raise ValueError(
        f'{wrong}it must not begin before step {max(before, 1)}, where the '
        'warm-up before it ends.'
      )
    begins, before = [*begins, begin], begin + warmup
  if begins and before > last:
    raise ValueError(
      f'schedule.restarts: the last warm-up ends at step {before}, after the '
      f'schedule does, at {last}.'
    )
  return [*begins, last]
