"""What a program compiled for a TPU does: traffic and time, read from its text.

`cost_analysis()` counts the body of a loop once. Here an operation counts as
often as its loops run.
"""

import dataclasses
import math
import re
from collections.abc import Iterator

# The start of `device_kind` -> cycles and bytes of large memory in a second:
# cloud.google.com/tpu/docs/v5e and v5p. Cycles: the peak over the matrix units'
# 2 x 128 x 128 operations in a cycle, of which a v5e has 4 and a v5p 8.
CHIPS = {'TPU v5 lite': (1.503e9, 819e9), 'TPU v5': (1.751e9, 2765e9)}

_HEAD = re.compile(r'^(ENTRY )?%(\S+) \(.*\{$')
_LINE = re.compile(r'^  (ROOT )?%(\S+) = (.*?) ([a-z][\w-]*)\((.*)$')
_ARRAY = re.compile(r'\b([a-z]+)(\d*)\w*\[([\d,]*)\](\{[^}]*\})?')
_OPERAND = re.compile(r'%([\w.-]+)')
# What moves nothing by itself.
_FREE = {
  *('parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast'),
  *('while', 'conditional', 'call', 'after-all', 'partition-id', 'iota'),
}


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
    flops: what a kernel says it computes, each time.
  """

  path: str
  code: str
  times: int
  bytes: int
  cycles: int
  flops: int


@dataclasses.dataclass(frozen=True)
class _Line:
  name: str
  type: str
  code: str
  operands: tuple[str, ...]
  rest: str
  root: bool

  def called(self, key: str) -> str:
    """The computation that an attribute names, or ''."""
    found = re.search(rf'\b{key}=%([\w.-]+)', self.rest)
    return found[1] if found else ''

  def number(self, key: str) -> int:
    """A number of the backend's description, or 0."""
    found = re.search(rf'"{key}":"(\d+)"', self.rest)
    return int(found[1]) if found else 0


def operations(text: str) -> list[Operation]:
  """What the program with this text runs, from `compiled.as_text()`.

  Raises:
    ValueError: it has no entry, or a loop whose number of turns is not written.
  """
  computations, entry = _parse(text)
  return list(_run(computations, entry, 1))


def seconds(operation: Operation, kind: str, peak: float) -> float:
  """An estimate of all its turns; of a collective 0, which has no estimate.

  A kernel, of which the compiler knows no cycles, takes as long as its products
  or its traffic at the chip's peak, whichever is longer: a lower bound.

  Args:
    operation: what runs.
    kind: `device_kind` of the chip.
    peak: its bfloat16 FLOP/s.

  Raises:
    ValueError: the chip is unknown.
  """
  found = [x for name, x in CHIPS.items() if kind.startswith(name)]
  if not found:
    raise ValueError(f'No cycles in a second are known of {kind!r}.')
  clock, bandwidth = found[0]
  if operation.code == 'custom-call' and operation.flops:
    once = max(operation.flops / peak, operation.bytes / bandwidth)
  else:
    once = operation.cycles / clock
  return operation.times * once


def _parse(text):
  """Computation -> its lines by name; and the name of the entry."""
  computations, entry, lines = {}, '', {}
  for line in text.splitlines():
    if head := _HEAD.match(line):
      lines = computations[head[2]] = {}
      entry = head[2] if head[1] else entry
    elif match := _LINE.match(line):
      root, name, type_, code, rest = match.groups()
      operands = tuple(_OPERAND.findall(_within(rest)))
      lines[name] = _Line(name, type_, code, operands, rest, bool(root))
  if not entry:
    raise ValueError('The text is of no compiled program: it has no ENTRY.')
  return computations, entry


def _within(rest):
  """What is before the parenthesis that closes the operands."""
  depth = 1
  for n, letter in enumerate(rest):
    depth += (letter == '(') - (letter == ')')
    if not depth:
      return rest[:n]
  return rest


def _run(computations, name, times) -> Iterator[Operation]:
  lines = computations[name]
  for line in lines.values():
    if line.code == 'while':
      turns = _turns(computations[line.called('condition')])
      yield from _run(computations, line.called('body'), times * turns)
    elif line.code == 'call':
      yield from _run(computations, line.called('to_apply'), times)
    elif line.code not in _FREE and not line.code.endswith('-done'):
      path = re.search(r'op_name="([^"]*)"', line.rest)
      yield Operation(
        path[1] if path else '',
        line.code,
        times,
        _traffic(computations, lines, line),
        line.number('estimated_cycles'),
        line.number('flops'),
      )


def _turns(condition):
  """How often a loop runs that counts from 0 while it is below a constant."""
  texts = [x.rest for x in condition.values() if x.code == 'constant']
  below = any('direction=LT' in x.rest for x in condition.values())
  if len(texts) != 1 or not below:
    raise ValueError('A loop of the program does not count to a constant.')
  return int(texts[0].partition(')')[0])


def _traffic(computations, lines, line):
  fused = computations.get(line.called('calls'))
  types = [lines[x].type if x in lines else '' for x in line.operands]
  if line.code == 'fusion' and fused:
    read = sum(
      min(_read(computations, fused, n), _bytes(type_))
      for n, type_ in enumerate(types)
    )
    return read + _written(fused, line)
  if line.code in ('dynamic-slice', 'slice', 'gather'):
    return 2 * _bytes(line.type)
  if line.code == 'slice-start':  # (what it slices, the slice, a flag)
    sizes = [_size(*x.groups()[:3]) for x in _ARRAY.finditer(line.type)]
    return sizes[1] if len(sizes) > 1 else 0
  if line.code == 'copy-start':  # (where to, where from, a flag)
    return _bytes(line.type.partition(' u32[]')[0])
  if line.code == 'dynamic-update-slice':
    return 2 * _bytes(types[1])
  return sum(map(_bytes, types)) + _bytes(line.type)


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
          total += _all_bytes(line.type)
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
  outputs = list(_ARRAY.finditer(line.type))
  total = 0
  for part, output in zip(parts, outputs, strict=False):
    while part.code == 'bitcast':
      part = fused[part.operands[0]]
    if part.code == 'dynamic-update-slice':
      total += _all_bytes(fused[part.operands[1]].type)
    else:
      total += _bytes(output[0])
  return total


def _bytes(type_):
  """Of the arrays of a type that lie in the large memory."""
  return sum(
    _size(*x.groups()[:3])
    for x in _ARRAY.finditer(type_)
    if 'S(' not in (x[4] or '')
  )


def _all_bytes(type_):
  return sum(_size(*x.groups()[:3]) for x in _ARRAY.finditer(type_))


def _size(kind, bits, sizes):
  bits = 8 if kind == 'pred' else int(bits or 0)
  return math.prod(map(int, filter(None, sizes.split(',')))) * bits // 8
