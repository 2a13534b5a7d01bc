"""The phases of a run: which batches and which rows it has, and when.

`train.phases` lists the phases before the last one, which has the sizes of
`data.*`. A phase is (until, batch, length, predictions, objective); 0 and ''
stand for what data.* says. `until` is where it ends, counted from the start of
the run: ('steps', 900), ('rows', 9_765_625) or ('tokens', 12e9). The phase ends
with the first step that reaches it. The tokens of a row are its `length`, with
padding.

  data.batch 256, data.length 512
  train.phases ((('steps', 900_000), 0, 128, 20, ''),)

  steps 1 to 900,000          256 rows of 128 tokens
  steps 900,001 and later     256 rows of 512 tokens
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

UNITS = ('steps', 'rows', 'tokens')


class Phase(NamedTuple):
  """Steps whose batches have one shape.

  Attributes:
    first: the step before its first one: 0 for the first phase.
    last: its last step; None: the run's.
    rows: of all steps before it.
    tokens: the same, as rows times their length.
    batch: rows of a batch.
    length: tokens of a row.
    predictions: P, the most masked tokens in a row.
    objective: what is made of a text.
  """

  first: int
  last: int | None
  rows: int
  tokens: int
  batch: int
  length: int
  predictions: int
  objective: str

  @property
  def kind(self) -> tuple[int, int, str]:
    """What decides how text becomes rows."""
    return self.length, self.predictions, self.objective

  def counts(self, step: int) -> dict[str, int]:
    """Steps, rows and tokens of the run up to a step of this phase."""
    rows = (step - self.first) * self.batch
    counted = step, self.rows + rows, self.tokens + rows * self.length
    return dict(zip(UNITS, counted, strict=True))


def make_plan(
  listed: Sequence[tuple], batch: int, length: int, predictions: int = 0,
  objective: str = '',
) -> list[Phase]:  # fmt: skip
  """The phases of a run, in order; the last one has no end.

  Args:
    listed: `train.phases`.
    batch, length, predictions, objective: the keys data.*.

  Raises:
    ValueError: an entry is no phase, or ends before it begins.

  >>> ramp = ((('rows', 100), 32, 0, 0, ''), (('tokens', 3200), 64, 0, 0, ''))
  >>> [(p.first, p.last, p.rows, p.batch) for p in make_plan(ramp, 128, 8)]
  [(0, 4, 0, 32), (4, 9, 128, 64), (9, None, 448, 128)]
  """
  found = []
  at = dict.fromkeys(UNITS, 0)
  for number, entry in enumerate(listed):
    _check(number, entry)
    (unit, until), *own = entry
    own = _sizes(own, (batch, length, predictions, objective))
    each = {'steps': 1, 'rows': own[0], 'tokens': own[0] * own[1]}[unit]
    left = math.ceil(until) - at[unit]
    if left <= 0:
      before = f'the phase before it ends at {at[unit]:,}' if number else ''
      raise ValueError(
        f'train.phases[{number}] ends at {until:,.0f} {unit}, but '
        f'{before or "a run begins at 0"}: phases must follow one another.'
      )
    last = at['steps'] - (-left // each)
    begun = at['steps'], last, at['rows'], at['tokens']
    found.append(Phase(*begun, *own))
    at = found[-1].counts(last)
  begun = at['steps'], None, at['rows'], at['tokens']
  return [*found, Phase(*begun, batch, length, predictions, objective)]


def kinds_of(found: Iterable[Phase]) -> list[int]:
  """The number of each phase's way to make rows: it grows where they change."""
  numbers, before = [], None
  for phase in found:
    changed = before is not None and phase.kind != before.kind
    numbers.append((numbers[-1] if numbers else 0) + changed)
    before = phase
  return numbers


def of(config: Any) -> list[Phase]:
  """The phases of a whole config."""
  data = config.data
  return make_plan(
    config.train.phases, data.batch, data.length, data.predictions,
    data.objective,
  )  # fmt: skip


def counts(found: Iterable[Phase], step: int) -> dict[str, int]:
  """Steps, rows and tokens of a run up to a step."""
  own = next(p for p in found if p.last is None or step <= p.last)
  return own.counts(step)


def steps_in(config: Any, unit: str, amount: float) -> int:
  """The most steps that a run can make with so many rows or tokens."""
  for phase in of(config):
    before = phase.counts(phase.first)[unit]
    each = phase.counts(phase.first + 1)[unit] - before
    step = phase.first + int(amount - before) // each
    if phase.last is None or step < phase.last:
      return step
  raise AssertionError  # the last phase has no end


def ramp(
  unit: str, until: float, first: int, last: int, by: int
) -> tuple[tuple, ...]:
  """`train.phases` of a batch that grows by equal parts, as Megatron-LM's.

  The batch grows from `first` rows `by` rows at a time, and has `last` rows
  from `until` on. All batches before get an equal share of the unit.

  >>> ramp('rows', 100, 4, 8, 2)
  ((('rows', 50.0), 4, 0, 0, ''), (('rows', 100.0), 6, 0, 0, ''))
  """
  return _growing(unit, until, range(first, last, by), 1)


def line(
  unit: str, until: float, first: int, last: int, by: int
) -> tuple[tuple, ...]:
  """As `ramp`, of a batch that grows linearly: always the nearest batch to it.

  The line goes from `first` rows at the start to `last` rows at `until`.

  >>> line('tokens', 100, 4, 8, 2)
  ((('tokens', 25.0), 4, 0, 0, ''), (('tokens', 75.0), 6, 0, 0, ''))
  """
  return _growing(unit, until, range(first, last, by), 0.5)


def _growing(unit, until, sizes, share):
  """A phase for each size; the first one has a `share` of an equal part."""
  return tuple(
    ((unit, until * (n + share) / len(sizes)), size, 0, 0, '')
    for n, size in enumerate(sizes)
  )


def _sizes(own: Sequence[Any], whole: Sequence[Any]) -> list[Any]:
  return [mine or value for mine, value in zip(own, whole, strict=True)]


def _check(number: int, entry: Any) -> None:
  """Raises ValueError unless the entry has the form of a phase."""
  try:
    (unit, until), batch, length, predictions, objective = entry
    sizes = batch, length, predictions
    formed = (
      all(type(size) is int and size >= 0 for size in sizes)
      and isinstance(objective, str)
      and type(until) in (int, float)
      and math.isfinite(until)
    )
  except (TypeError, ValueError):
    formed = False
  if not formed:
    raise ValueError(
      f'train.phases[{number}] is {entry!r}; it must be ((unit, until), batch, '
      "length, predictions, objective), such as (('tokens', 12e9), 32, 0, 0, "
      "''): 0 and '' stand for what data.* says."
    )
  if unit not in UNITS:
    raise ValueError(
      f'train.phases[{number}] ends at {until} {unit!r}, which nothing counts: '
      f'the unit must be one of {", ".join(UNITS)}.'
    )
