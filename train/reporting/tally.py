"""What a run counts: losses since the last row, tokens, time, memory.

A checkpoint holds the counts, so a run that is killed and resumed writes the
same rows as an uninterrupted one.
"""

import resource
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from train.reporting.timing import Life


class Tally:
  """Counts of a run, over all of its starts.

  Args:
    means: the criterion's: sums -> means.
    saved: what `state` returned for the checkpoint that the run resumes from.
      {}: the run is new. None: the checkpoint is an older program's, which
      counted nothing.
    planned: see `peak_memory`.
  """

  def __init__(
    self,
    means: Callable,
    saved: Mapping[str, Any] | None,
    planned: int = 0,
  ):
    self._means, self.planned = means, planned
    unseen = 0 if saved == {} else None  # None: not known
    saved = saved or {}
    self._seen = saved.get('tokens_seen', unseen)
    self._sums = dict(saved.get('sums', {}))  # since the last row
    self._steps = saved.get('steps', 0)
    self._tokens = saved.get('tokens', 0)
    self._seconds = saved.get('seconds', 0.0)
    self._clock = time.monotonic()

  def add(self, sums: Mapping[str, float], tokens: float) -> None:
    """Counts a step: the criterion's sums over its batch, and its tokens."""
    for name, x in sums.items():
      self._sums[name] = self._sums.get(name, 0.0) + float(x)
    self._steps += 1
    self._tokens += int(tokens)
    if self._seen is not None:
      self._seen += int(tokens)

  def row(self) -> dict[str, float]:
    """Means over the steps since the last row; `tokens` is the mean per step.

    A token counts the same in any batch, since sums over all steps are divided.
    """
    found = {name: float(x) for name, x in self._means(self._sums).items()}
    found['tokens'] = self._tokens / self._steps
    self._sums, self._steps, self._tokens = {}, 0, 0
    return found

  def totals(self) -> dict[str, float]:
    """Since the run began: tokens without padding, seconds, peak memory."""
    seen = {} if self._seen is None else {'data/tokens_seen': self._seen}
    return (
      seen | {'train/wall_seconds': self._wall()} | peak_memory(self.planned)
    )

  def state(self) -> dict[str, Any]:
    """JSON-able, for the checkpoint."""
    return {
      'sums': dict(self._sums),
      'steps': self._steps,
      'tokens': self._tokens,
      'tokens_seen': self._seen,
      'seconds': self._wall(),
    }

  def _wall(self):
    return self._seconds + time.monotonic() - self._clock


def ending(life: Life, planned: int = 0) -> str:
  """What a run says of its time and memory at its end."""
  found = peak_memory(planned)
  parts = [
    f'{found[key] / 1e9:.2f} GB {where}'
    for key, where in (
      ('train/peak_device_bytes', 'on the fullest device'),
      ('train/planned_device_bytes', 'on a device, as compiled'),
      ('train/peak_host_bytes', 'on the host'),
    )
    if key in found
  ]
  return f'{life.table()}\nPeak memory: {", ".join(parts)}.'


def peak_memory(planned: int = 0) -> dict[str, int]:
  """Peak memory in bytes: of the host, and of the fullest reporting device.

  Where no device reports its own, `planned` stands for it, if it is known: what
  the compiled step takes.
  """
  unit = 1 if sys.platform == 'darwin' else 1024
  host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
  found = {'train/peak_host_bytes': host}
  stats = [device.memory_stats() for device in jax.local_devices()]
  peaks = [x['peak_bytes_in_use'] for x in stats if x]
  if peaks:
    found['train/peak_device_bytes'] = max(peaks)
  elif planned:
    found['train/planned_device_bytes'] = planned
  return found
