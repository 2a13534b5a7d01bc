"""How long a step takes: its operations in order, and what they wait for.

Operations run one after the other, each as long as `program.once` says. A
collective occupies the fast or the slow network, one at a time. It is exposed
for as long as nothing else runs: from its start to its end if it is
synchronous, and else from where its result is needed until it is there.

step = compute + exposed collectives
"""

import dataclasses

from train.fitting import collectives, hlo, program
from train.fitting.chips import Chip

STARTS = {f'{kind}-start' for kind in collectives.KINDS}
STARTS |= {'async-start', 'recv'}


@dataclasses.dataclass
class Exchange:
  """A collective of the program.

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
    exchanges: its collectives, by instruction.
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
    self.ends = {}  # instruction -> when its result is there
    # Channel, kind, bytes -> those that other fusions go on with.
    self.flying = {}

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
    read = self.network.read
    found = [read(self.text, x) for x in collectives.inside(self.text, line)]
    found = [x for x in found if x]
    begins = _has(self.text, line, 'AsyncCollectiveStart')
    ends = _has(self.text, line, 'AsyncCollectiveDone')
    for number, one in enumerate(found):
      flying = self.flying.setdefault((one.channel, one.kind, one.payload), [])
      if ends:
        if flying:
          self._wait(flying.pop(0), times)
      elif begins or not flying or line.code in STARTS:
        name = f'{line.name} {number}'
        self._send(name, one, times, begins or line.code in STARTS)
        if begins:
          flying.append(name)
    if not (begins or ends) and _works(line):
      operation = program.operation(self.text, lines, line, times)
      self.operations.append(operation)
      if self.chip and (operation.cycles or not found):
        self.now += program.once(operation, self.chip)
    if line.code.endswith('-done') and line.operands:
      name = f'{line.operands[0]} 0'
      if name in self.ends:
        self._wait(name, times)

  def _send(self, name, one, times, asynchronous):
    start = max(self.now, self.free[one.slow])
    self.ends[name] = self.free[one.slow] = start + one.seconds
    exchange = self.exchanges.setdefault(
      name, Exchange(one, 0, asynchronous=asynchronous)
    )
    exchange.times += times
    if not asynchronous:
      exchange.exposed += times * (self.ends[name] - self.now)
      self.now = self.ends[name]

  def _wait(self, name, times):
    """Waits for what an asynchronous collective brings."""
    late = self.ends[name] - self.now
    if late > 0:
      self.exchanges[name].exposed += times * late
      self.now = self.ends[name]


def _works(line: hlo.Line) -> bool:
  """Whether a line is work of its own, not a collective or its end."""
  if line.code in program.BACKGROUND:
    return True
  return not (
    line.code in hlo.FREE
    or line.code in ('send', 'recv')
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
