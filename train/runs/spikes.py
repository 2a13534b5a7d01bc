"""Spikes of the loss: go back, and skip batches (Chowdhery et al. 2022, 5.1).

PaLM's training was "re-started from a checkpoint roughly 100 steps before the
spike", and "roughly 200-500 data batches" were skipped, which cover those seen
before and during the spike.

A loss above `train.spike_factor` times the median of the `train.spike_window`
steps before is a spike, and so is one that is not finite. From a spike at step
s the run goes back to step s - `train.spike_back`, and skips
`train.spike_skip` batches there. The newest checkpoint at or before that step
is read, and the steps from there are made again as they were. So the result
depends on these four keys, and not on which checkpoints there are.

The run's history has an entry `rewound` for each. With the seed and the config
they decide every batch: a run that is killed and resumed skips the same ones.
"""

import collections
import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from configs.phases import Phase
from train.parallel import processes
from train.runs import history

EVENT = 'rewound'
MOST = 3  # rewinds in a row at one place


class Spike(Exception):
  """The loss of `step` is above the `limit`: no error, since it is handled."""

  def __init__(self, step: int, loss: float, limit: float):
    super().__init__(step, loss, limit)
    self.step, self.loss, self.limit = step, loss, limit


@dataclasses.dataclass(frozen=True)
class Rewind:
  """What is done about a spike."""

  spike: int  # the step whose loss was too high
  step: int  # the last one that stays
  batches: int  # that are skipped after it, by all rewinds to it together
  config: bool = True  # whether it was the config of now


class Guard:
  """Finds spikes, and knows which batches are skipped.

  Args:
    train: the config's group.
    entries: of the run's history; the first process's count.
    losses: what `state` returned for the checkpoint that the run goes on from.

  Raises:
    ValueError: keys that do not go together.
  """

  def __init__(
    self,
    train: ConfigDict,
    entries: Sequence[history.Entry] = (),
    losses: Sequence[float] = (),
  ):
    _check(train)
    self._factor, self._back = train.spike_factor, train.spike_back
    self._skip = train.spike_skip
    self._rewinds = _rewinds(entries)
    self._losses = collections.deque(maxlen=train.spike_window)
    self.restart(losses)

  def restart(self, losses: Sequence[float]) -> None:
    """Goes on from another checkpoint, with the losses before it."""
    self._losses.clear()
    self._losses.extend(losses)

  def state(self) -> dict[str, Any]:
    """JSON-able, for the checkpoint."""
    return {'losses': list(self._losses)} if self._factor else {}

  def check(self, step: int, loss: float, norm: float) -> None:
    """Raises Spike if the loss, or the norm of its gradient, is too high."""
    if not self._factor:
      return
    if len(self._losses) == self._losses.maxlen:
      limit = self._factor * statistics.median(self._losses)
      # The comparison is false for a NaN too.
      if not (loss <= limit and math.isfinite(loss) and math.isfinite(norm)):
        raise Spike(step, loss, limit)
    self._losses.append(loss)

  def needs(self, newest: int) -> int | None:
    """At or before this step a checkpoint must be kept; None: any may go.

    `newest` is the step of the newest one.
    """
    if not self._factor:
      return None
    return self._target(newest)

  def earliest(self, start: int, steps: Sequence[int]) -> int:
    """The first step that a run may go back to, given its checkpoints.

    `start` is the step that it goes on from.
    """
    if not self._factor:
      return start
    back = self._target(start)
    return max((x for x in steps if x <= back), default=0)

  def skips(self, step: int) -> int:
    """How many batches are skipped after a step, before the next one."""
    return self._skips().get(step, 0)

  def rows_skipped(self, plan: Sequence[Phase], step: int) -> int:
    """How many rows are skipped before the last batch of `step` is read.

    Skipped batches have the size of the step after them.
    """
    return sum(
      count * next(x for x in plan if x.last is None or at < x.last).batch
      for at, count in self._skips().items()
      if at < step
    )

  def rewind(self, spike: Spike) -> Rewind | None:
    """Plans what to do about a spike; None if it was tried often enough.

    It is at the place of the ones before unless it is `spike_back` steps beyond
    the furthest of them. Those with another config do not count.
    """
    count, furthest = 0, -self._back
    tried = [x.spike for x in self._rewinds if x.config]
    for step in (*tried, spike.step):
      count = 1 if step >= furthest + self._back else count + 1
      furthest = max(furthest, step)
    if count > MOST:
      return None
    step = self._target(spike.step)
    found = Rewind(spike.step, step, self.skips(step) + self._skip)
    self._rewinds.append(found)
    return found

  def numbers(self, rewind: Rewind) -> tuple[int, int]:
    """The first and the last batch that a rewind skips, counted from 1.

    Without rewinds, step n reads batch n.
    """
    before = sum(n for at, n in self._skips().items() if at < rewind.step)
    first = rewind.step + before
    return first + 1, first + rewind.batches

  def _target(self, spike: int) -> int:
    """The step that a spike at a step goes back to: not beyond the last one."""
    last = self._rewinds[-1].step if self._rewinds else 0
    return max(spike - self._back, last)

  def _skips(self) -> dict[int, int]:
    """Step -> batches skipped after it; a later rewind counts earlier ones."""
    return {rewind.step: rewind.batches for rewind in self._rewinds}


def entry(
  rewind: Rewind, spike: Spike, checkpoint: int, numbers: tuple[int, int]
) -> history.Entry:
  """What the history says of a rewind."""
  return history.entry(
    EVENT,
    rewind.step,
    spike=spike.step,
    loss=spike.loss if math.isfinite(spike.loss) else None,
    limit=spike.limit,
    checkpoint=checkpoint,
    batches=rewind.batches,
    skipped=list(numbers),
  )


def _rewinds(entries: Sequence[Mapping[str, Any]]) -> list[Rewind]:
  """The rewinds in a history, in all processes those of the first one."""
  changed = [
    n for n, x in enumerate(entries) if x['event'] == history.CONFIG_CHANGED
  ]
  found = [
    (one['spike'], one['step'], one['batches'], n > max(changed, default=-1))
    for n, one in enumerate(entries)
    if one['event'] == EVENT
  ]
  count = int(processes.of_first(len(found)))
  if not count:
    return []
  own = np.zeros((count, 4), np.int32)
  found = np.array(found[:count], np.int32).reshape(-1, 4)
  own[: len(found)] = found
  rows = processes.of_first(own).tolist()
  return [Rewind(*row, config=bool(now)) for *row, now in rows]


def _check(train: ConfigDict) -> None:
  """Raises ValueError for keys that do not go together."""
  factor, window = train.spike_factor, train.spike_window
  back, skip = train.spike_back, train.spike_skip
  rest = {'window': window, 'back': back, 'skip': skip}
  if not factor:
    for name, value in rest.items():
      if value:
        raise ValueError(
          f'train.spike_{name} is {value}, but train.spike_factor is 0: no '
          'spike is looked for. Set train.spike_factor, such as 1.2, or leave '
          f'train.spike_{name} at 0.'
        )
    return
  if factor <= 1:
    raise ValueError(
      f'train.spike_factor is {factor}; it must be above 1, or 0: a loss above '
      'this times the median of the steps before is a spike.'
    )
  for name, value in rest.items():
    if value < 1:
      raise ValueError(
        f'train.spike_{name} is {value}, but train.spike_factor={factor} needs '
        'it: it must be at least 1.'
      )
  if skip < back:
    raise ValueError(
      f'train.spike_skip is {skip}, but from a spike the run goes back '
      f'train.spike_back={back} steps: to skip the batch of the spike too, it '
      'must be at least as many.'
    )
  if window < back:
    raise ValueError(
      f'train.spike_window is {window}; it must be at least train.spike_back='
      f'{back}, so that a run is never to go back beyond its beginning.'
    )
