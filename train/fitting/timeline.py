"""How long a step takes: its operations in order, and what they wait for.

Operations run one after the other, each as long as `program.once` says. A
collective occupies the fast or the slow network, one at a time. It is exposed
for as long as nothing else runs: from its start to its end if it is
synchronous, and else from where its result is needed until it is there.

step = compute + exposed collectives
"""

import dataclasses
from collections.abc import Callable

from train.fitting import collectives, hlo, program
from train.fitting.chips import Chip


@dataclasses.dataclass
class Exchange:
  """A collective in the program.

  Attributes:
    collective: what it is.
    times: how often it runs in a step.
    exposed: seconds of a step in which only it runs.
    asynchronous: whether other work may run meanwhile.
  """

  collective: collectives.Collective
  times: int
  exposed: float = 0.0
  asynchronous: bool = False

  @property
  def overlapped(self) -> bool:
    """Whether at least half of it is hidden behind other work."""
    total = self.times * self.collective.seconds
    return self.asynchronous and self.exposed <= total / 2


@dataclasses.dataclass
class Timeline:
  """What a step does.

  Attributes:
    operations: in the order in which they run.
    exchanges: its collectives, by channel.
    unknown: loops of unknown length, whose bodies count once.
  """

  operations: list[program.Operation]
  exchanges: dict[str, Exchange]
  unknown: int = 0

  @property
  def exposed(self) -> float:
    """Seconds of a step in which a device waits for others."""
    return sum(x.exposed for x in self.exchanges.values())


def simulate(
  text: hlo.Program, network: collectives.Network, chip: Chip | None
) -> Timeline:
  """Runs through a program's text once; a loop's body counts as its turns."""
  run = _Run(text, network, chip)
  run.computation(text.entry, 1)
  return Timeline(run.operations, run.exchanges, run.unknown)


class _Run:
  def __init__(self, text, network, chip):
    self.text, self.network, self.chip = text, network, chip
    self.operations, self.exchanges, self.unknown = [], {}, 0
    self.now = 0.0  # of a clock that runs through each body once
    self.free = {False: 0.0, True: 0.0}  # when each network is, by `slow`
    self.ends = {}  # channel -> when its result is there

  def computation(self, name: str, times: int) -> None:
    lines = self.text.computations[name]
    for line in lines.values():
      match line.code:
        case 'while':
          turns = self._turns(line)
          self.computation(line.called('body'), times * turns)
        case 'call':
          self.computation(line.called('to_apply'), times)
        case 'conditional':
          longest = max(line.branches, key=lambda x: self._flops(x, times))
          self.computation(longest, times)
        case _:
          self._line(lines, line, times)

  def _turns(self, loop):
    try:
      return self.text.turns(loop)
    except ValueError:
      self.unknown += 1
      return 1

  def _flops(self, name, times):
    try:
      run = list(program.run(self.text, name, times))
    except ValueError:  # a loop of unknown length
      return 0
    return sum(x.times * x.flops for x in run)

  def _line(self, lines, line, times):
    found = [
      self.network.read(self.text, x)
      for x in collectives.inside(self.text, line)
    ]
    found = [x for x in found if x]
    begins = _has(self.text, line, 'AsyncCollectiveStart')
    ends = _has(self.text, line, 'AsyncCollectiveDone')
    for one in found:
      if self._key(one, times) not in self.ends:
        self._send(one, times, begins or line.code.endswith('-start'))
    if not (begins or ends) and _works(line):
      operation = program.operation(self.text, lines, line, times)
      self.operations.append(operation)
      if self.chip and (operation.cycles or not found):
        self.now += program.once(operation, self.chip)
    if ends or line.code.endswith('-done'):
      self._wait(lines, line, times)

  def _key(self, one, times):
    return one.key, one.kind, times

  def _send(self, one, times, starts):
    key = self._key(one, times)
    start = max(self.now, self.free[one.slow])
    self.ends[key] = self.free[one.slow] = start + one.seconds
    exchange = Exchange(one, times, asynchronous=starts)
    self.exchanges[key] = exchange
    if not starts:
      exchange.exposed = times * (self.ends[key] - self.now)
      self.now = self.ends[key]

  def _wait(self, lines, line, times):
    """Waits for the asynchronous collectives that a line ends."""
    for key in self._started(lines, line, times):
      late = self.ends[key] - self.now
      if late > 0:
        self.exchanges[key].exposed += times * late
        self.now = self.ends[key]

  def _started(self, lines, line, times):
    """Keys of the collectives that a line ends."""
    named = [
      self.network.read(self.text, x)
      for x in collectives.inside(self.text, line)
    ]
    keys = [self._key(x, times) for x in named if x]
    if not keys and line.operands:  # all-gather-done(all-gather-start)
      start = lines.get(line.operands[0])
      if start:
        inside = collectives.inside(self.text, start)
        ones = (self.network.read(self.text, x) for x in inside)
        keys = [self._key(x, times) for x in ones if x]
    return [key for key in keys if key in self.ends]


def _works(line: hlo.Line) -> bool:
  """Whether a line is work of its own, not a collective or its end."""
  if line.code in program.BACKGROUND:
    return True
  return not (
    line.code in hlo.FREE
    or line.code.removesuffix('-start') in collectives.KINDS
    or line.code.endswith(('-done', '-update', '-start'))
  )


def _has(text: hlo.Program, line: hlo.Line, target: str) -> bool:
  if line.code != 'fusion':
    return False
  return any(
    x.code == 'custom-call' and f'"{target}"' in x.rest
    for x in text.computations.get(line.called('calls'), {}).values()
  )


def by(
  timeline: Timeline, chip: Chip, key: Callable[[program.Operation], str]
) -> dict[str, float]:
  """Seconds of a step's operations in groups; a collective takes none here."""
  found = {}
  for operation in timeline.operations:
    name = key(operation)
    found[name] = found.get(name, 0.0) + program.seconds(operation, chip)
  return found
