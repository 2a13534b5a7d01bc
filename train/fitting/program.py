"""What a compiled program does: operations, traffic and time, from its text.

`cost_analysis()` counts the body of a loop once. Here an operation counts as
often as its loops run.
"""

import dataclasses
import math
from collections.abc import Iterator

from train.fitting import hlo, products
from train.fitting.chips import Chip

# Copies that go on beside other work: their starts take no time.
BACKGROUND = {'copy-start', 'slice-start', 'dynamic-slice-start'}


@dataclasses.dataclass(frozen=True)
class Operation:
  """One operation of the program, or a fusion of several.

  Attributes:
    path: where in the model it comes from, as JAX names it.
    code: the compiler's word for it: fusion, custom-call, all-reduce, ...
    times: how often it runs.
    bytes: what it reads from the large memory and writes there, each time. Of
      an array that is sliced, or updated in place, the slice counts.
    cycles: the compiler's estimate, each time; 0 where it has none.
    flops: of its products, each time; of a kernel what that says of itself.
    name: of the instruction.
  """

  path: str
  code: str
  times: int
  bytes: int
  cycles: int
  flops: int
  name: str = ''


def operations(text: str) -> list[Operation]:
  """What the program with this text runs, from `compiled.as_text()`.

  Of a conditional's branches the one with the most FLOPs counts.

  Raises:
    ValueError: it has no entry, or a loop whose number of turns is not written.
  """
  program = hlo.parse(text)
  return list(run(program, program.entry, 1))


def seconds(operation: Operation, chip: Chip) -> float:
  """An estimate of all its turns; of a collective 0, which has no estimate.

  It is the compiler's cycles. Where it has none, as for a kernel, it is the
  time of the products or of the traffic at the chip's peak, whichever is
  longer: a lower bound.
  """
  return operation.times * once(operation, chip)


def once(operation: Operation, chip: Chip) -> float:
  """As `seconds`, of one turn."""
  if operation.code.startswith(COLLECTIVES) or operation.code in BACKGROUND:
    return 0.0
  if operation.cycles and chip.clock:
    return operation.cycles / chip.clock
  return max(operation.flops / chip.flops, operation.bytes / chip.bandwidth)


COLLECTIVES = (
  *('all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all'),
  *('collective-', 'ragged-all-to-all', 'send', 'recv'),
)


def run(program: hlo.Program, name: str, times: int) -> Iterator[Operation]:
  """The operations of a computation that runs `times` times."""
  lines = program.computations[name]
  for line in lines.values():
    if line.code == 'while':
      turns = program.turns(line)
      yield from run(program, line.called('body'), times * turns)
    elif line.code == 'call':
      yield from run(program, line.called('to_apply'), times)
    elif line.code == 'conditional':
      yield from branch(program, line, times)
    elif line.code not in hlo.FREE and not line.code.endswith('-done'):
      yield operation(program, lines, line, times)


def branch(
  program: hlo.Program, line: hlo.Line, times: int
) -> list[Operation]:
  """The operations of the branch that has the most FLOPs."""
  branches = [list(run(program, name, times)) for name in line.branches]
  return max(branches, key=lambda x: sum(y.times * y.flops for y in x))


def operation(
  program: hlo.Program, lines: dict[str, hlo.Line], line: hlo.Line, times: int
) -> Operation:
  """One line of a computation, as an Operation."""
  return Operation(
    line.path,
    line.code,
    times,
    _traffic(program.computations, lines, line),
    line.number('estimated_cycles'),
    products.flops(program, lines, line),
    line.name,
  )


def _traffic(computations, lines, line):
  fused = computations.get(line.called('calls'))
  types = [lines[x].type if x in lines else '' for x in line.operands]
  if line.code == 'fusion' and fused:
    read = sum(
      min(_read(computations, fused, n), hlo.large_bytes(type_))
      for n, type_ in enumerate(types)
    )
    return read + _written(fused, line)
  if line.code in ('dynamic-slice', 'slice', 'gather'):
    return 2 * hlo.large_bytes(line.type)
  if line.code == 'slice-start':  # (what it slices, the slice, a flag)
    sizes = [nbytes for _, nbytes, _ in hlo.arrays(line.type)]
    return sizes[1] if len(sizes) > 1 else 0
  if line.code == 'copy-start':  # (where to, where from, a flag)
    return hlo.large_bytes(line.type.partition(' u32[]')[0])
  if line.code == 'dynamic-update-slice':
    return 2 * hlo.large_bytes(types[1])
  return sum(map(hlo.large_bytes, types)) + hlo.large_bytes(line.type)


def _read(computations, fused, number):
  """Bytes that a fusion reads of its parameter `number`."""
  given = [
    x.name
    for x in fused.values()
    if x.code == 'parameter' and x.rest.startswith(f'{number})')
  ]
  total = 0
  for name in given:  # grows by what is the same array under another name
    for line in fused.values():
      for place, operand in enumerate(line.operands):
        if operand != name:
          continue
        if line.code == 'bitcast':
          given.append(line.name)
        elif line.code in ('dynamic-slice', 'slice'):
          total += hlo.all_bytes(line.type)
        elif line.code == 'fusion':
          inner = computations[line.called('calls')]
          total += _read(computations, inner, place)
        elif line.code != 'dynamic-update-slice' or place:
          return math.inf  # all of it
  return total


def _written(fused, line):
  """Bytes that a fusion writes; of an update in place, the update's."""
  (root,) = (x for x in fused.values() if x.root)
  parts = [fused[x] for x in root.operands] if root.code == 'tuple' else [root]
  outputs = hlo.split(line.type)
  total = 0
  for part, output in zip(parts, outputs, strict=False):
    while part.code == 'bitcast':
      part = fused[part.operands[0]]
    if part.code == 'dynamic-update-slice':
      total += hlo.all_bytes(fused[part.operands[1]].type)
    else:
      total += hlo.large_bytes(output)
  return total
