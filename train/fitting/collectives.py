"""What the devices send one another in a step, read from the program's text."""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator

import numpy as np
from jax.sharding import Mesh

from train.fitting import hlo
from train.fitting.chips import Chip

KINDS = (
  *('all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all'),
  *('collective-permute', 'collective-broadcast', 'ragged-all-to-all'),
)


@dataclasses.dataclass(frozen=True)
class Collective:
  """One operation that devices take part in together.

  Attributes:
    channel: the same for the parts of one operation, and perhaps for others.
    kind: of KINDS; an all-reduce of which each device keeps a slice, which a
      TPU sends as such, is 'reduce-scatter'.
    axes: of the mesh, along which the devices differ: 'fsdp', 'data x fsdp';
      '' if only one device takes part.
    devices: how many exchange with one another.
    payload: bytes of the whole array: what an all-gather makes, what a
      reduce-scatter takes.
    sent: bytes that each device sends.
    slow: whether some of it crosses slices or nodes.
    seconds: of one run, at the links' full rate.
    path, source: where in the model it comes from.
  """

  channel: str
  kind: str
  axes: str
  devices: int
  payload: int
  sent: float
  slow: bool
  seconds: float
  path: str
  source: str


class Network:
  """The devices of a mesh, and the wires between them."""

  def __init__(self, mesh: Mesh, chip: Chip | None):
    self.names = mesh.axis_names
    self.shape = mesh.devices.shape
    self.devices = mesh.devices.ravel()
    self.chip = chip
    self._groups = {}

  def read(self, program: hlo.Program, line: hlo.Line) -> Collective | None:
    """A line as a collective; None if it is none, or of one device alone.

    The end of an operation (`-done`) is none.
    """
    kind = line.code.removesuffix('-start')
    if kind not in KINDS:
      return None
    groups = self._members(line)
    axes = self._axes(groups)
    if not axes:
      return None
    size = len(groups[0])
    lines = [program.lines.get(x) for x in line.operands]
    given = sum(hlo.all_bytes(x.type) for x in lines if x)
    made = hlo.all_bytes(line.type) if kind == line.code else 0
    if kind == 'all-gather':
      made = made or given * size
    payload = made if kind == 'all-gather' else given
    share = (size - 1) / size
    sent = payload * {'all-reduce': 2 * share}.get(kind, share)
    if kind in ('collective-permute', 'collective-broadcast'):
      sent = payload
    slow = self._slow(groups)
    channel = re.search(r'channel_id=(\d+)', line.rest)
    origin = line
    if not line.path and line.operands:
      origin = program.maker(line.operands[0]) or line
    return Collective(
      channel[1] if channel else line.name,
      kind,
      axes,
      size,
      payload,
      sent,
      slow,
      self._seconds(sent, groups, slow),
      origin.path,
      program.source(origin),
    )

  def _members(self, line):
    """Groups of devices' numbers; those of a permutation are pairs."""
    text = line.rest
    pairs = re.search(r'source_target_pairs=\{(.*?\})\}', text)
    if pairs:
      return _listed(pairs[1])
    found = re.search(r'replica_groups=(.*?)(, (?!device_ids)[a-z_]+=|$)', text)
    text = found[1] if found else '{}'
    if text not in self._groups:
      self._groups[text] = groups_of(text, len(self.devices))
    return self._groups[text]

  def _axes(self, groups):
    """The mesh axes along which devices of one group differ."""
    differ = set()
    for group in groups[:64]:
      places = np.unravel_index(group, self.shape)
      differ |= {n for n, x in enumerate(places) if len(set(x.tolist())) > 1}
    return ' x '.join(self.names[n] for n in sorted(differ))

  def _slow(self, groups):
    return any(len({self._island(n) for n in group}) > 1 for group in groups)

  def _island(self, number):
    """The slice, or the node of GPUs, that a device is in."""
    if self.chip and self.chip.node:
      return number // self.chip.node
    return getattr(self.devices[number], 'slice_index', 0) or 0

  def _seconds(self, sent, groups, slow):
    if not self.chip:
      return 0.0
    if slow:
      return sent / self.chip.slow
    return sent / (self.chip.link * self._links(groups[0]))

  def _links(self, group):
    """How many links a device sends over: two a ring, one a line.

    A ring is a dimension of the slice that the group fills and that has wires
    from end to end.
    """
    if self.chip.node:
      return 1
    places = [getattr(self.devices[n], 'coords', None) for n in group]
    if None in places:
      return 1
    links = 0
    for axis, size in enumerate(self._bounds):
      here = len({tuple(x)[axis] for x in places})
      ring = here == size and self.chip.wraps and size % self.chip.wraps == 0
      links += 0 if here == 1 else 2 if ring else 1
    return max(links, 1)

  @functools.cached_property
  def _bounds(self):
    """The slice's size along each of its dimensions."""
    places = np.array([x.coords for x in self.devices])
    return places.max(0) - places.min(0) + 1


def _listed(text):
  return [
    [int(n) for n in group.split(',') if n]
    for group in re.findall(r'\{([\d,]+)\}', text)
  ]


def groups_of(text: str, devices: int) -> list[list[int]]:
  """The groups of an attribute `replica_groups`, in any of XLA's forms.

  >>> groups_of('{{0,1},{2,3}}', 4)
  [[0, 1], [2, 3]]
  >>> groups_of('[2,2]<=[2,2]T(1,0)', 4)
  [[0, 2], [1, 3]]
  >>> groups_of("mesh['a'=2,'b'=2] {'a'}", 4)
  [[0, 2], [1, 3]]
  """
  if text.startswith('mesh['):
    return _of_mesh(text, devices)
  if found := re.match(r'\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?', text):
    return _iota(*found.groups()).tolist()
  return _listed(text) or [list(range(devices))]


def _iota(shape, source, order):
  """XLA's short form: numbers 0, 1, ... in a grid, turned and cut again."""
  shape, source = (_numbers(x) for x in (shape, source))
  values = np.arange(math.prod(source)).reshape(source)
  if order:
    values = values.transpose(_numbers(order))
  return values.reshape(shape)


def _numbers(text):
  return [int(n) for n in text.split(',')]


def _of_mesh(text, devices):
  """`mesh['a'=4,'b'=2] {'a'}`, perhaps with `, device_ids=([2,4]T(1,0))`.

  An axis may stand for a part of it: 'a':(2)4 is the part of size 4 that
  follows a part of size 2.
  """
  inside, _, used = text.rpartition('{')
  sizes = {name: int(n) for name, n in re.findall(r"'([^']+)'=(\d+)", inside)}
  order = np.arange(devices)
  if found := re.search(
    r'device_ids=\(?\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?', text
  ):
    order = _iota(*found.groups()).ravel()
  elif found := re.search(r'device_ids=\(\[([\d,]+)\]T\(([\d,]+)\)\)', text):
    grid, turned = map(_numbers, found.groups())
    order = np.arange(devices).reshape(grid).transpose(turned).ravel()
  elif found := re.search(r'device_ids=[\[(]([\d,]+)[\])]', text):
    order = np.array(_numbers(found[1]))
  shape, along = [], []
  parts = re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", used)
  parts = {name: (before, size) for name, before, size in parts}
  for name, n in sizes.items():
    before, size = parts.get(name, ('', ''))
    if before:
      cut = int(before), int(size), n // int(before) // int(size)
      along.append(len(shape) + 1)
      shape.extend(cut)
    else:
      if name in parts:
        along.append(len(shape))
      shape.append(n)
  values = order.reshape(shape)
  others = [n for n in range(len(shape)) if n not in along]
  count = math.prod(shape[n] for n in along)
  return values.transpose(others + along).reshape(-1, count).tolist()


def inside(program: hlo.Program, line: hlo.Line) -> Iterator[hlo.Line]:
  """The collectives that a line is, or has fused.

  An all-reduce of which a fusion keeps a slice alone is a reduce-scatter on a
  TPU, and comes as one.
  """
  if line.code.removesuffix('-start') in KINDS:
    yield line
    return
  called = line.called('calls')
  if line.code not in ('fusion', 'async-start') or not called:
    return
  sliced = 'all-reduce-scatter' in f'{line.name} {called}'
  for x in program.within(line):
    kind = x.code.removesuffix('-start')
    if kind == 'all-reduce' and sliced:
      yield dataclasses.replace(x, code='reduce-scatter')
    elif kind in KINDS:
      yield x
