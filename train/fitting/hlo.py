"""The text of a compiled program: computations, lines, types, source lines."""

import dataclasses
import functools
import math
import os
import re
from collections.abc import Iterator, Mapping

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
_HEAD = re.compile(r'^(ENTRY )?%(\S+) \(.*\{$')
_LINE = re.compile(r'^  (ROOT )?%(\S+) = (.*?) ([a-z][\w-]*)\((.*)$')
_ARRAY = re.compile(r'\b([a-z]+)(\d*)\w*\[([\d,]*)\](\{[^}]*\})?')
_OPERAND = re.compile(r'%([\w.-]+)')
_TABLES = 'FileNames', 'FileLocations', 'StackFrames'
# What moves nothing by itself.
FREE = {
  *('parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast'),
  *('while', 'conditional', 'call', 'after-all', 'partition-id', 'iota'),
  *('replica-id', 'opt-barrier', 'bitcast-convert', 'optimization-barrier'),
}

# What moves an array, and computes nothing.
_MOVES = {
  *('bitcast', 'convert', 'copy', 'reshape', 'transpose', 'slice'),
  *('copy-start', 'copy-done', 'dynamic-slice', 'slice-start', 'slice-done'),
  *('all-reduce', 'all-gather', 'pad', 'get-tuple-element'),
}


@dataclasses.dataclass(frozen=True)
class Line:
  """One instruction.

  Attributes:
    name, type, code: `%name = type code(...)`.
    operands: the names of what it reads.
    rest: all that follows the opening parenthesis.
    root: whether it is the computation's result.
  """

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

  @property
  def path(self) -> str:
    """Where in the model it comes from, as JAX names it; or ''."""
    found = re.search(r'op_name="([^"]*)"', self.rest)
    return found[1] if found else ''

  @property
  def branches(self) -> list[str]:
    """The computations of a conditional."""
    found = re.search(r'branch_computations=\{([^}]*)\}', self.rest)
    if found:
      return _OPERAND.findall(found[1])
    keys = 'true_computation', 'false_computation'
    return [name for name in map(self.called, keys) if name]


@dataclasses.dataclass(frozen=True)
class Program:
  """A program's computations: name -> its lines by name, in the order they run.

  Attributes:
    computations: of the whole program.
    entry: the name of the first.
    sources: number of a stack frame -> 'FILE:LINE', the innermost of ours.
  """

  computations: Mapping[str, dict[str, Line]]
  entry: str
  sources: Mapping[int, str]

  def source(self, line: Line) -> str:
    """'FILE:LINE' that made an instruction, or ''."""
    found = re.search(r'stack_frame_id=(\d+)', line.rest)
    if found:
      return self.sources.get(int(found[1]), '')
    found = re.search(r'source_file="([^"]*)" source_line=(\d+)', line.rest)
    return f'{_short(found[1])}:{found[2]}' if found else ''

  def turns(self, loop: Line) -> int:
    """How often a while runs its body.

    Raises ValueError if it does not count up to a constant.
    """
    found = re.search(r'known_trip_count":\{"n":"(\d+)"', loop.rest)
    if found:
      return int(found[1])
    condition = self.computations[loop.called('condition')]
    ends = [x for x in condition.values() if x.code == 'constant']
    below = any('direction=LT' in x.rest for x in condition.values())
    if len(ends) != 1 or not below:
      raise ValueError('A loop of the program does not count to a constant.')
    return _value(ends[0]) - self._start(loop, condition)

  def _start(self, loop, condition):
    """The number that a loop counts from; 0 if it is not written."""
    counters = {
      re.search(r'index=(\d+)', x.rest)[1]
      for x in condition.values()
      if x.code == 'get-tuple-element'
    }
    given = self.lines.get(loop.operands[0])
    if len(counters) != 1 or not given or given.code != 'tuple':
      return 0
    line = self.lines.get(given.operands[int(*counters)])
    while line and line.code == 'copy':
      line = self.lines.get(line.operands[0])
    return _value(line) if line and line.code == 'constant' else 0

  def within(self, line: Line) -> Iterator[Line]:
    """The lines of what a fusion calls, and of the fusions in it."""
    for inner in self.computations.get(line.called('calls'), {}).values():
      yield inner
      if inner.code == 'fusion':
        yield from self.within(inner)

  def maker(self, name: str) -> Line | None:
    """The line that computes a value, behind copies and writes into a stack.

    `name` is an instruction's, perhaps with a result's number: 'fusion.1{2}'.
    None if there is no such instruction.
    """
    name, _, index = name.partition('{')
    index = int(index.rstrip('}').split(',')[0] or 0) if index else 0
    line, callers = self.lines.get(name), []
    while line:
      following = ''
      if line.code == 'fusion' and line.called('calls') in self.computations:
        inside = self.computations[line.called('calls')].values()
        callers.append(line)
        following = next(x.name for x in inside if x.root)
      elif line.code == 'tuple' and index < len(line.operands):
        following = line.operands[index]
      elif line.code == 'dynamic-update-slice':
        following = line.operands[1]
      elif line.code in _MOVES and line.operands:
        following = line.operands[0]
      elif line.code == 'parameter' and callers:
        following = callers.pop().operands[int(line.rest.partition(')')[0])]
      found = self.lines.get(following)
      nameless = found and found.code == 'parameter' and not found.path
      if not found or nameless and not callers:
        break
      line = found
    if line and not line.path:
      return next((x for x in reversed(callers) if x.path), line)
    return line

  @functools.cached_property
  def lines(self) -> dict[str, Line]:
    """All lines by name; names are unique in a program."""
    return {
      name: line
      for lines in self.computations.values()
      for name, line in lines.items()
    }


def _value(constant):
  return int(constant.rest.partition(')')[0])


def parse(text: str) -> Program:
  """Reads `compiled.as_text()`; raises ValueError if it has no entry."""
  computations, entry, lines = {}, '', {}
  tables, table = {name: {} for name in _TABLES}, None
  for line in text.splitlines():
    if head := _HEAD.match(line):
      lines = computations[head[2]] = {}
      entry = head[2] if head[1] else entry
    elif match := _LINE.match(line):
      root, name, type_, code, rest = match.groups()
      operands = tuple(_OPERAND.findall(_operands(rest)))
      lines[name] = Line(name, type_, code, operands, rest, bool(root))
    elif not computations:
      number, _, value = line.partition(' ')
      if number.isdigit() and table is not None:
        table[int(number)] = value
      else:
        table = tables.get(line, table if not line else None)
  if not entry:
    raise ValueError('The text is of no compiled program: it has no ENTRY.')
  return Program(computations, entry, _sources(tables))


def _operands(rest):
  """What is before the parenthesis that closes the operands."""
  depth = 1
  for n, letter in enumerate(rest):
    depth += (letter == '(') - (letter == ')')
    if not depth:
      return rest[:n]
  return rest


def _sources(tables):
  """Frame -> 'FILE:LINE' of the innermost frame inside our packages."""
  names, places, frames = (tables[name] for name in _TABLES)

  def number(text, key):
    found = re.search(rf'\b{key}=(\d+)', text)
    return int(found[1]) if found else 0

  found = {}
  for frame, text in frames.items():  # a parent comes before its children
    place = places.get(number(text, 'file_location_id'), '')
    file = names.get(number(place, 'file_name_id'), '').strip('"')
    parent = number(text, 'parent_frame_id') - 1  # is printed one too large
    inside = os.path.abspath(file).startswith(REPOSITORY + os.sep)
    where = f'{_short(file)}:{number(place, "line")}'
    found[frame] = where if inside else found.get(parent, where)
  return found


def _short(file):
  path = os.path.relpath(file, REPOSITORY)
  return os.path.basename(file) if path.startswith('..') else path


def arrays(type_: str) -> list[tuple[str, int, tuple[int, ...]]]:
  """The arrays of a type: (kind such as 'f32', bytes, sizes)."""
  found = []
  for kind, bits, sizes, _ in _ARRAY.findall(type_):
    shape = tuple(map(int, filter(None, sizes.split(','))))
    found.append((kind + bits, size(kind, bits, sizes), shape))
  return found


def size(kind: str, bits: str, sizes: str) -> int:
  """Bytes of an array, from the parts of its type."""
  width = 8 if kind == 'pred' else int(bits or 0)
  return math.prod(map(int, filter(None, sizes.split(',')))) * width // 8


def split(type_: str) -> list[str]:
  """The type of each array of a type."""
  return [found[0] for found in _ARRAY.finditer(type_)]


def all_bytes(type_: str) -> int:
  """Of all arrays of a type."""
  return sum(nbytes for _, nbytes, _ in arrays(type_))


def large_bytes(type_: str) -> int:
  """Of the arrays of a type that lie in the large memory, not on the chip."""
  return sum(
    size(*x.groups()[:3])
    for x in _ARRAY.finditer(type_)
    if 'S(' not in (x[4] or '')
  )
