"""What lies in a device's memory, read from the compiler's buffer assignment.

A compiler that is asked to (`xla_dump_to`) writes where each array lies and
from which instruction to which it is needed, also of a program that does not
fit. `read` finds the moment at which most is in use, and what is there then.
"""

import dataclasses
import glob
import os
import re
from collections import defaultdict

_ALLOCATION = re.compile(
  r'^allocation \d+: size (\d+), (?:color (\d+), )?(.*):$'
)
_VALUE = re.compile(
  r'^ value: <\d+ (\S+)( \(phi\))? @(\d+)> \(size=(\d+),offset=(\d+)\): (.*)$'
)
_RANGE = re.compile(r'^    (\S+?)(\{[\d,]*\}):(\d+)-(\d+)$')
_PLACE = re.compile(r'^    (\d+):(\S+)$')


@dataclasses.dataclass(frozen=True)
class Buffer:
  """A piece of the memory that holds one array, perhaps under several names.

  Attributes:
    names: of the instructions that make what lies there, as 'fusion.1' or,
      of one of several results, 'fusion.1{2}'.
    type: of the array, as the compiler writes it.
    bytes: what it takes, with padding.
    start, end: the first and last place in the program's order at which it is
      needed.
    parameter: which argument of the program it is; None: it is computed.
  """

  names: tuple[str, ...]
  type: str
  bytes: int
  start: int
  end: int
  parameter: int | None = None


@dataclasses.dataclass(frozen=True)
class Assignment:
  """The large memory of one device.

  Attributes:
    total: bytes that the program takes.
    buffers: what is there at the moment when most is in use; their bytes do
      not overlap.
    order: the instructions in the order in which they run; a loop's body is
      there once.
  """

  total: int
  buffers: tuple[Buffer, ...]
  order: tuple[str, ...]

  @property
  def gaps(self) -> int:
    """Bytes of the total that hold nothing at that moment."""
    return self.total - sum(x.bytes for x in self.buffers)


def read(folder: str) -> tuple[Assignment, str] | None:
  """What the compiler wrote into a folder; None if it wrote no assignment.

  Returns the assignment, and the text of the program that it belongs to. If
  the compiler tried several times, it is of the last one.
  """

  def last(ending):
    return max(glob.glob(os.path.join(folder, f'*{ending}')), default='')

  assignment = last('-buffer-assignment.txt')
  if not assignment:
    return None
  start = assignment.removesuffix('-buffer-assignment.txt')
  texts = f'{start}.txt', f'{start}_before_buffer_assignment.txt'
  text = next(filter(os.path.isfile, texts), '')
  ranges = f'{start}-live-range.txt'
  if not text or not os.path.isfile(ranges):
    return None
  contents = []
  for path in (assignment, ranges, text):
    with open(path, encoding='utf-8', errors='replace') as file:
      contents.append(file.read())
  return assign(*contents[:2]), contents[2]


def assign(assignment: str, ranges: str) -> Assignment:
  """Reads the texts of a buffer assignment and of its live ranges."""
  order, lives = _lives(ranges)
  total, always, pieces = 0, [], defaultdict(list)
  allocation, inside = 0, False
  for line in assignment.splitlines():
    if found := _ALLOCATION.match(line):
      nbytes, color, kind = int(found[1]), found[2], found[3]
      inside = not color  # the large memory has no color
      if not inside:
        continue
      allocation += 1
      total += nbytes
      number = re.match(r'parameter (\d+), shape \|(.*?)\|', kind)
      if number:
        given = int(number[1])
        always.append(Buffer((), number[2], nbytes, 0, len(order), given))
        inside = False
      elif kind in ('thread-local', 'constant'):
        always.append(Buffer((kind,), '', nbytes, 0, len(order)))
        inside = False
    elif inside and (found := _VALUE.match(line)):
      name, phi, _, nbytes, offset, type_ = found.groups()
      life = lives.get(name if '{' in name else f'{name}{{}}')
      if life and not name.endswith('{}'):  # {}: a table of pointers
        key = allocation, int(offset), int(nbytes)
        pieces[key].append((*life, bool(phi), name, type_))
  found = [
    (key, *merged)
    for key, values in pieces.items()
    for merged in _merge(values)
  ]
  alive = _at_peak(found)
  return Assignment(total, (*always, *_painted(alive)), order)


def _lives(text):
  """The instructions in order, and the first and last place of each value."""
  order, lives = {}, {}
  for line in text.splitlines():
    if found := _PLACE.match(line):
      order[int(found[1])] = found[2]
    elif found := _RANGE.match(line):
      lives[found[1] + found[2]] = int(found[3]), int(found[4])
    elif line.startswith('  Live ranges at'):
      break
  return tuple(order[n] for n in sorted(order)), lives


def _merge(values):
  """Values of one place -> (start, end, names, type) of each array there.

  An array goes on under another name if the next begins before it ends. What a
  loop carries ends with the loop's body, and goes on at the next place.
  """
  merged = []
  for start, end, phi, name, type_ in sorted(values):
    if merged and start <= merged[-1][1] + phi:
      first, last, names, kept = merged[-1]
      merged[-1] = first, max(last, end), (*names, name), kept
    else:
      merged.append((start, end, (name,), type_))
  return merged


def _at_peak(found):
  """Those of the arrays that are there when most bytes are in use."""
  change = [0] * (max((x[2] for x in found), default=0) + 2)
  for (_, _, nbytes), start, end, *_ in found:
    change[start] += nbytes
    change[end + 1] -= nbytes
  used, most, moment = 0, -1, 0
  for place, step in enumerate(change):
    used += step
    if used > most:
      most, moment = used, place
  return [x for x in found if x[1] <= moment <= x[2]]


def _painted(found):
  """Buffers of the arrays; where two overlap, the larger one has the bytes."""
  taken = defaultdict(list)
  for (allocation, offset, nbytes), start, end, names, type_ in sorted(
    found, key=lambda x: -x[0][2]
  ):
    free = _free(taken[allocation], offset, offset + nbytes)
    taken[allocation].append((offset, offset + nbytes))
    if free:
      yield Buffer(names, type_, free, start, end)


def _free(taken, start, end):
  """Bytes of [start, end) that no interval in `taken` covers."""
  free, place = 0, start
  for first, last in sorted(taken):
    if last <= place or first >= end:
      continue
    free += max(first - place, 0)
    place = max(place, last)
  return free + max(end - place, 0)
