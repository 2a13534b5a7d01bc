"""What a compiled program does: operations, traffic and time, from its text.

`cost_analysis()` counts the body of a loop once. Here an operation counts as
often as its loops run.
"""

import dataclasses
import math
import re
from collections.abc import Iterator

from train.fitting import hlo
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


def branch(program: hlo.Program, line: hlo.Line, times: int) -> list[Operation]:
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
    flops(program, lines, line),
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


def flops(program: hlo.Program, lines: dict[str, hlo.Line], line: hlo.Line):
  """Of one run of a line: its product, those that it fuses, or its kernel's.

  A kernel is counted by its own estimate. Nothing else counts: additions and
  exponentials are few beside products.
  """
  if line.code == 'fusion':
    inside = program.computations.get(line.called('calls'), {})
    return sum(flops(program, inside, x) for x in inside.values())
  if line.code == 'dot':
    return _dot(lines, line)
  if line.code == 'convolution':
    return _convolution(lines, line)
  if line.code == 'custom-call':
    return line.number('flops') or _library(lines, line)
  return 0


def _shape(lines, name):
  return hlo.arrays(lines[name].type)[0][2]


def _numbers(line, key):
  found = re.search(rf'\b{key}=\{{([\d,]*)\}}', line.rest)
  return [int(x) for x in found[1].split(',') if x] if found else []


def _dot(lines, line):
  """Twice the result's size times the sizes that are summed over."""
  left = _shape(lines, line.operands[0])
  summed = [left[n] for n in _numbers(line, 'lhs_contracting_dims')]
  return 2 * math.prod(hlo.arrays(line.type)[0][2]) * math.prod(summed)


def _library(lines, line):
  """A product that a GPU's library computes (cuBLAS)."""
  if not re.search(r'custom_call_target="__cublas', line.rest):
    return 0
  found = re.search(
    r'"lhs_contracting_dimensions":\[([^\]]*)\]', line.rest.replace(' ', '')
  )
  if not found:
    return 0
  left = _shape(lines, line.operands[0])
  summed = [left[int(n)] for n in re.findall(r'\d+', found[1])]
  return 2 * math.prod(hlo.arrays(line.type)[0][2]) * math.prod(summed)


def _convolution(lines, line):
  """As XLA counts it: only pairs of an input and a kernel place that meet.

  TPU's compiler writes every product as a convolution, with a product's batch
  as a dimension of the window, where most places are padding.
  """
  found = re.search(r'dim_labels=(\w+)_(\w+)->(\w+)', line.rest)
  left, kernel, out = found.groups()
  places = _shape(lines, line.operands[0])
  weights = _shape(lines, line.operands[1])
  result = hlo.arrays(line.type)[0][2]
  window = re.search(r'window=\{([^}]*)\}', line.rest)
  window = dict(x.split('=') for x in window[1].split()) if window else {}
  spatial = [x for x in kernel if x.isdigit()]

  def option(name, axis, default):
    parts = window.get(name, '').split('x')
    return parts[axis] if len(parts) > axis and parts[axis] else default

  meetings = 1
  for digit in spatial:
    axis = int(digit)
    low = int(option('pad', axis, '0_0').split('_')[0])
    meetings *= _meetings(
      places[left.index(digit)],
      weights[kernel.index(digit)],
      result[out.index(digit)],
      int(option('stride', axis, 1)),
      low,
      int(option('lhs_dilate', axis, 1)),
      int(option('rhs_dilate', axis, 1)),
    )
  groups = re.search(r'batch_group_count=(\d+)', line.rest)
  groups = int(groups[1]) if groups else 1
  summed = weights[kernel.index('i')]  # is of one feature group
  rows = places[left.index('b')] // groups
  return 2 * rows * result[out.index('f')] * summed * meetings


def _meetings(places, width, results, stride, low, dilate, spread):
  """Pairs of a result and a kernel place that read an input, not padding."""
  count = 0
  last = (places - 1) * dilate
  for k in range(width):
    # o * stride + k * spread - low lies in [0, last] and is a multiple of
    # dilate.
    start = k * spread - low
    first = max(0, -(start // stride)) if start < 0 else 0
    end = min(results - 1, (last - start) // stride)
    if end < first:
      continue
    if dilate == 1:
      count += end - first + 1
    else:
      count += sum(
        (o * stride + start) % dilate == 0 for o in range(first, end + 1)
      )
  return count
