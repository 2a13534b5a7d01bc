"""Learning rates as functions of the step."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from configs.phases import UNITS, Phase, counts
from train.settings import check_group

_DOWN = 'unit', 'learning_rate', 'end_fraction', 'decay_steps', 'first_step'
_DECAYING = *_DOWN, 'warmup_steps', 'restarts'
_ROOT = 'unit', 'learning_rate', 'warmup_steps', 'first_step'
USES = {
  'constant': ('unit', 'learning_rate'),
  'inverse_sqrt': _ROOT,
  'noam': _ROOT,
  'linear': _DECAYING,
  'linear_from_start': _DECAYING,
  'linear_throughout': _DECAYING,
  'cosine': _DECAYING,
  'exponential': (*_DOWN, 'constant_steps'),
  'wsd': (*_DOWN, 'warmup_steps', 'constant_steps'),
  'wsd_linear': (*_DOWN, 'warmup_steps', 'constant_steps'),
}


COUNTED = tuple(name for name in USES if 'decay_steps' in USES[name])


def by_step(schedule: Callable, updates: int) -> Callable:
  """The rate of each update, where a step makes several of them."""
  if updates == 1:
    return schedule
  return lambda count: schedule(count // updates)


def make_schedule(
  schedule: ConfigDict,
  steps: int,
  plan: Sequence[Phase] = (),
  stages: int = 1,
) -> Callable[..., jax.Array]:
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
    wsd           warm-up, stable, decay (MiniCPM: Hu et al. 2024, 4.2): as
                  exponential, but up along a line in the first warmup_steps
    wsd_linear    the same, but the decay is a straight line, often to 0

  A run that goes on from another's parameters (--init_from), or from published
  ones, counts its steps from 0. With `first_step` f its first rate is that of
  n = f. All steps above, `decay_steps` too, are those of the whole schedule.

  `restarts` has (step, rate, warm-up) of each further part: there the schedule
  begins again, from 0 up to its own rate in its own steps of warm-up, and down
  to end_fraction of it where the next part begins (LAMB, You et al. 2020).

  With schedule.unit='rows' or 'tokens', `n`, warmup_steps, constant_steps and
  decay_steps of the lines, cosine and exponential count these: those of the
  steps before the update.

  Args:
    schedule: the config group `schedule`.
    steps: `train.steps`. The decay ends with the run if `decay_steps` is 0;
      otherwise it may end before or after the run does.
    plan: the phases of the run, which say how many rows and tokens a step has;
      for schedule.unit='steps' none are needed.
    stages: into how many equal parts the steps are cut; each has the whole
      schedule, over its own steps.

  Returns:
    int32 step -> float32 scalar, also under jit.

  Raises:
    ValueError: an unknown name, a missing or an unused key, an impossible
      number.
  """
  check_group('schedule', schedule, USES)
  unit = _unit(schedule, stages)
  name, peak = schedule.name, schedule.learning_rate
  warmup, end = schedule.warmup_steps or 0, schedule.end_fraction or 0.0
  constant = 'constant_steps' in USES[name]
  start = schedule.constant_steps if constant else warmup
  steps //= stages
  first = schedule.first_step
  ends_at = first + steps if unit == 'steps' else counts(plan, steps)[unit]
  last, *ends = _ends(schedule, start, schedule.decay_steps or ends_at, stages)
  share = _share_of_steps if unit == 'steps' else _share_of(unit, plan)

  def rate(step):
    step = jnp.asarray(step, jnp.int32)
    if stages > 1:
      step %= steps
    step += first
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
    begin = 0 if name in ('linear_from_start', 'linear_throughout') else start
    done = share(step, begin, last)
    decayed = _decayed(name, done, end)
    rises = warmup if constant else start
    ramp = share(step, 0, rises)
    warming = ramp < 1 if rises else False
    if name == 'linear_throughout':
      ramp *= decayed
    return peak * jnp.where(warming, ramp, decayed)

  return rate


def _decayed(name, done, end):
  """The share of the largest rate that is left, from 1 down to `end`."""
  if name in ('exponential', 'wsd'):
    return jnp.exp(done * math.log(end))
  left = (1 + jnp.cos(jnp.pi * done)) / 2 if name == 'cosine' else 1 - done
  return end + (1 - end) * left


def _ends(schedule, start, last, stages):
  """The end of each part; a ValueError if a number cannot be.

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
    constant = 'constant_steps' in USES[name]
    if not 0 <= start <= last:
      key = 'constant_steps' if constant else 'warmup_steps'
      until = 'schedule.first_step + ' * bool(first) + 'train.steps'
      until += f' / {stages}' * (stages > 1)
      until = 'schedule.decay_steps' if schedule.decay_steps else until
      raise ValueError(
        f'schedule.{key} is {start}; it must be between 0 and {until}, '
        f'which is {last}.'
      )
    warmup = schedule.warmup_steps or 0
    if constant and not 0 <= warmup <= start:
      raise ValueError(
        f'schedule.warmup_steps is {warmup}; it must be between 0 and '
        f'schedule.constant_steps, which is {start}.'
      )
  if not 0 <= end <= 1 or (name in ('exponential', 'wsd') and not end):
    raise ValueError(
      f'schedule.end_fraction is {end}; it must be between 0 and 1'
      f'{f", and above 0 with {name}" if not end else ""}.'
    )
  begins, before = [], start
  for restart in schedule.restarts:
    wrong = f'schedule.restarts has {restart!r}; '
    if not isinstance(restart, tuple | list) or len(restart) != 3:
      raise ValueError(f'{wrong}it must have (step, rate, warm-up steps).')
    begin, peak, warmup = restart
    whole = type(begin) is type(warmup) is int
    if not whole or type(peak) not in (int, float):
      raise ValueError(
        f'{wrong}steps must be whole numbers, the rate a number.'
      )
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


def _unit(schedule, stages):
  """schedule.unit; a ValueError if it is none, or this name counts steps."""
  unit = schedule.unit
  if unit not in UNITS:
    raise ValueError(
      f'schedule.unit is {unit!r}; it must be one of {", ".join(UNITS)}.'
    )
  if unit != 'steps' and schedule.name not in COUNTED:
    raise ValueError(
      f'schedule.unit is {unit!r}, but schedule.name={schedule.name} counts '
      f'steps; with {", ".join(COUNTED)} it may count others.'
    )
  # Stages come first: they have the schedule's parts already.
  others = {
    "tuning.train='two_stage'": stages > 1,
    f'schedule.first_step={schedule.first_step}': schedule.first_step,
    f'schedule.restarts={schedule.restarts}': schedule.restarts,
  }
  others = [name for name, there in others.items() if there]
  if others and unit != 'steps':
    raise ValueError(
      f"schedule.unit is {unit!r}; it must be 'steps' beside {others[0]}, "
      'which counts steps.'
    )
  if len(others) > 1 and stages > 1:
    raise ValueError(
      f'{others[1]} must be unset: {others[0]} gives each stage the whole '
      'schedule.'
    )
  return unit


def _share_of_steps(step, begin, end):
  """How much of the way from one step to another is done, 0 to 1."""
  # Subtract integers: float32 counts only to 2^24.
  return jnp.clip(step - begin, 0, end - begin) / max(end - begin, 1)


def _share_of(unit: str, plan: Sequence[Phase]) -> Callable[..., jax.Array]:
  """As _share_of_steps, from one count of rows or tokens to another.

  Both counts and the numbers of a step are exact: only their quotients are
  rounded to float32.
  """
  firsts = [phase.first for phase in plan]
  befores = [phase.counts(phase.first)[unit] for phase in plan]
  each = [phase.counts(phase.first + 1)[unit] for phase in plan]
  each = [after - before for after, before in zip(each, befores, strict=True)]

  def share(step, begin, end):
    span = max(end - begin, 1)
    at = jnp.searchsorted(jnp.asarray(firsts), step, side='right') - 1
    before = jnp.asarray([(n - begin) / span for n in befores], 'float32')[at]
    more = jnp.asarray([n / span for n in each], 'float32')[at]
    done = before + more * (step - jnp.asarray(firsts)[at])
    return jnp.clip(done, 0, 1)

  return share
