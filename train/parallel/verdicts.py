"""Which process of a run is hung: judged by what each last reported."""

import dataclasses
from collections.abc import Mapping

from configs.commands import terminal

# Work other than a training step may take so many times --hang_timeout:
# compiling, reading data for the first time, evaluating, saving.
PATIENCE = 10


@dataclasses.dataclass(frozen=True)
class Report:
  """Where a process is, by its last sign of life.

  All processes pass the same places in the same order, so that the one with the
  smaller count keeps the others waiting.
  """

  count: float  # of places passed; inf: it has ended in good order
  what: str  # it does
  long: bool  # whether that may take PATIENCE times as long
  idle: float  # seconds since it came to that place
  longest: float = 0.0  # seconds it has been at any place before
  silent: float = 0.0  # seconds without a sign of life


def hung(reports: Mapping[int, Report], limit: float) -> tuple[list[int], str]:
  """The processes that are hung, and why; no process if none is.

  A process is hung if it keeps others waiting for longer than the limit, or is
  silent for longer. All are named if none is behind the others and they have
  been in one step for PATIENCE times the limit, and for PATIENCE times their
  longest time at a place before: a device or the network hangs.

  Args:
    reports: of each process.
    limit: --hang_timeout in seconds; 0: nothing is hung.

  >>> at = lambda count, idle: Report(count, f'step {count}', False, idle)
  >>> hung({0: at(8, 70), 1: at(7, 71)}, 60)
  ([1], 'has been in step 7 for 1m11s, and the others wait for it')
  >>> hung({0: at(7, 70), 1: at(7, 71)}, 60)
  ([], '')
  """
  if not limit:
    return [], ''

  def allowed(report):
    return limit * (PATIENCE if report.long else 1)

  silent = [n for n, x in reports.items() if x.silent > allowed(x)]
  if silent:
    last = reports[silent[0]]
    seconds = terminal.duration(last.silent)
    return silent, f'has given no sign of life for {seconds}, since {last.what}'
  least = min(x.count for x in reports.values())
  behind = {n: x for n, x in reports.items() if x.count == least}
  # Others may have come further only now.
  waiting = [x.idle for x in reports.values() if x.count > least]
  first = next(iter(behind.values()))
  idle = min(x.idle for x in behind.values())
  place = f'in {first.what} for {terminal.duration(idle)}'
  if waiting:
    most = max(allowed(x) for x in behind.values())
    if min(idle, max(waiting)) > most:
      return sorted(behind), f'has been {place}, and the others wait for it'
  elif not any(x.long for x in behind.values()) and idle > PATIENCE * max(
    limit, *(x.longest for x in behind.values())
  ):
    return sorted(behind), (
      f'has been {place}, and none is behind the others: a device or the '
      'network between them hangs'
    )
  return [], ''
