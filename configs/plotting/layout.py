"""Where everything stands in the drawing of the tree: time runs to the right.

A trunk on the left parts into three branches, one above the other. Each system
is at its date. It shares a row with its ancestor if there is room; otherwise a
line leads up or down to it. A row belongs to one chain of descendants. A line
passes only systems that are younger than its start, so nothing overlaps.

x runs to the right and y down, in pixels of the page, points of the picture.
"""

import functools
from typing import Any, NamedTuple

from matplotlib import font_manager, textpath

from configs.systems import DECODER, ENCODER, PAIR, RECURRENT, UNDISCLOSED

BRANCHES = (ENCODER, PAIR, DECODER, RECURRENT)  # from top to bottom
GREY = UNDISCLOSED  # the role of systems that cannot be trained here
FAMILY = 'DejaVu Sans'
FONT, SMALL = 12, 10  # sizes of names and of labels
YEAR, START, LEFT = 112, 2017.2, 12  # START is the year at x = LEFT
ROW, BOX, HEAD, PAD, GAP, BEND = 40, 21, 28, 5, 8, 10
STEM = 10  # from the left of a box to the lines that leave it up and down
LINE, ABOVE = 11.5, 5  # a label's lines, and how far above an edge they end
AXIS, LEGEND = 22, 34


class Box(NamedTuple):
  """A system: its name in a box whose left and middle are at x, y.

  It is filled if the weights are open.
  """

  key: str
  x: float
  y: float
  width: float
  name: str
  role: str  # a branch, or GREY
  open: bool


class Text(NamedTuple):
  """A line of text that begins at x; its middle is at y."""

  x: float
  y: float
  width: float
  text: str


class Edge(NamedTuple):
  """The line from an ancestor to a system, and what changed.

  Two points are a line. Five are a line, a bend about the fourth and a line.
  """

  key: str  # of the system that it ends at
  parent: str
  points: tuple[tuple[float, float], ...]
  thickness: float
  role: str
  label: tuple[Text, ...]


class Band(NamedTuple):
  """The rows of a branch."""

  branch: str
  y: float
  height: float


class Drawing(NamedTuple):
  """All of the picture."""

  width: float
  height: float
  axis: float  # where the bands end and the years are written
  bands: tuple[Band, ...]
  years: tuple[tuple[int, float], ...]
  trunk: Edge
  edges: tuple[Edge, ...]
  boxes: dict[str, Box]
  legend: tuple[tuple[Box, Text], ...]


def lay_out(systems: dict, edges: dict[str, str]) -> Drawing:
  """The drawing of a tree.

  Args:
    systems: key -> configs.systems.System, the oldest first.
    edges: child -> ancestor, keys of `systems`.
  """
  rows, bands = place(systems, edges)
  heads = {branch: HEAD * (i + 1) for i, branch in enumerate(BRANCHES)}
  boxes = {}
  for key, s in systems.items():
    y = heads[s.branch] + (rows[key] + 0.5) * ROW
    boxes[key] = _box(key, left(s), y, s.name, role(s), s.open)
  counts = _descendants(systems, edges)
  followed = {
    parent for child, parent in edges.items() if rows[child] == rows[parent]
  }
  drawn = tuple(
    _edge(
      boxes[child],
      boxes[edges[child]],
      _thickness(counts[child]),
      systems[child].changed,
      child in followed,
    )
    for child in edges
  )
  root = boxes[edges[next(iter(edges))]]  # the first child is its
  ends = [box.x + box.width for box in boxes.values()]
  ends += [line.x + line.width for edge in drawn for line in edge.label]
  width = max(ends) + LEFT
  shown = tuple(
    Band(branch, heads[branch] - HEAD + first * ROW, count * ROW + HEAD)
    for branch, (first, count) in bands.items()
  )
  axis = shown[-1].y + shown[-1].height
  last = int(START + (width - LEFT) / YEAR)
  return Drawing(
    width,
    axis + AXIS + LEGEND,
    axis,
    shown,
    tuple((year, _x(year)) for year in range(int(START) + 1, last + 1)),
    Edge(
      root.key, '', ((0, root.y), (root.x, root.y)),
      2 * _thickness(counts[root.key]), 'trunk', (),
    ),
    drawn,
    boxes,
    _legend(axis + AXIS + LEGEND / 2),
  )  # fmt: skip


def place(systems: dict, edges: dict[str, str]) -> tuple[dict, dict]:
  """The row of each system, from 0 at the top, and each branch's rows.

  Returns:
    Two dicts: key -> row, branch -> (first row, how many).
  """
  rows, bands, used = {}, {}, 0
  inside = {  # the edges within a branch
    child: parent
    for child, parent in edges.items()
    if systems[child].branch == systems[parent].branch
  }

  def visit(key, row):
    """Places a system and its descendants of the same branch."""
    nonlocal used
    rows[key], used = row, max(used, row + 1)
    below = [child for child, parent in inside.items() if parent == key]
    # The row continues with the last of those that are far enough. A label
    # that does not fit between the two goes to the right, if nothing follows.
    end = right(systems[key]) + GAP
    beside = [
      child
      for child in below
      if left(systems[child]) - end
      >= (_label_width(systems[child]) if child in inside.values() else 0)
    ][-1:]
    for child in beside:
      visit(child, row)
    for child in reversed(below):
      if child not in beside:
        visit(child, used)

  for branch in BRANCHES:
    first = used
    for key, s in systems.items():
      if s.branch == branch and key not in inside:
        visit(key, used)
    bands[branch] = (first, used - first)
  return rows, bands


def left(system: Any) -> float:
  """The left edge of a system's box."""
  return _x(system.year + (system.month - 1) / 12)


def right(system: Any) -> float:
  """The right edge of a system's box."""
  return left(system) + text_width(system.name, FONT) + 2 * PAD


def heading(band: Band) -> tuple[float, float]:
  """Where the name of a branch begins, and its middle."""
  return LEFT + 56, band.y + 12


def role(system: Any) -> str:
  """What decides its colour: its branch, or GREY if it cannot be trained."""
  return GREY if system.changed == UNDISCLOSED else system.branch


@functools.cache
def text_width(text: str, size: float) -> float:
  """How wide a text is."""
  font = font_manager.FontProperties(family=FAMILY)
  path = textpath.TextPath((0, 0), text, size, prop=font)
  return float(path.get_extents().width)


def _x(year):
  return LEFT + YEAR * (year - START)


def _descendants(systems, edges):
  """key -> how many systems descend from it, with itself."""
  counts = dict.fromkeys(systems, 1)
  for key in reversed(systems):  # the youngest first
    if key in edges:
      counts[edges[key]] += counts[key]
  return counts


def _thickness(count):
  return 1.2 + 0.9 * count**0.5


def _box(key, x, y, name, role, is_open):
  return Box(key, x, y, text_width(name, FONT) + 2 * PAD, name, role, is_open)


def _edge(new, old, thickness, changed, followed):
  """The line to a box from its ancestor's side, or from above or below it."""
  if new.y == old.y:
    x = old.x + old.width
    points = ((x, old.y), (new.x, new.y))
  else:
    down = 1 if new.y > old.y else -1
    x = min(old.x + STEM, new.x - 2)
    bend = min(BEND, new.x - x)
    points = (
      (x, old.y + down * BOX / 2),
      (x, new.y - down * bend),
      (x, new.y),
      (x + bend, new.y),
      (new.x, new.y),
    )
  label = _label(changed, new, x + 4, followed)
  return Edge(new.key, old.key, points, thickness, new.role, label)


def _label(words, box, start, followed):
  """On the line that ends at a box, or right of the box if that is free."""
  room = box.x - start - 4
  for count in (1, 2):
    lines = _split(words, count)
    widths = [text_width(line, SMALL) for line in lines]
    if max(widths) <= room:
      break
  if followed or max(widths) <= room:
    last = box.y - ABOVE - LINE / 2
    ys = [last - LINE * i for i in reversed(range(len(lines)))]
    middle = (start + box.x - 4) / 2
    xs = [middle - width / 2 for width in widths]
  else:
    middle = (len(lines) - 1) / 2
    ys = [box.y + LINE * (i - middle) for i in range(len(lines))]
    xs = [box.x + box.width + 6] * len(lines)
  return tuple(map(Text, xs, ys, widths, lines))


def _label_width(system):
  """The least room that a system's label needs between two boxes."""
  return max(text_width(line, SMALL) for line in _split(system.changed, 2))


def _split(words, count):
  """The text in one line, or in two that are about as long."""
  between = ', ' if ', ' in words else ' '
  parts = words.split(between)
  if count == 1 or len(parts) == 1:
    return [words]
  cuts = [
    (between.join(parts[:n]) + between.rstrip(), between.join(parts[n:]))
    for n in range(1, len(parts))
  ]
  return list(min(cuts, key=lambda cut: max(map(len, cut))))


def _legend(y):
  x, shown = LEFT, []
  for name, colour, is_open, text in (
    ('name', 'faint', True, 'weights published'),
    ('name', 'faint', False, 'not published'),
    ('name', GREY, False, 'no config published: not trained here'),
  ):
    box = _box('', x, y, name, colour, is_open)
    x += box.width + GAP
    shown.append((box, Text(x, y, text_width(text, SMALL), text)))
    x += shown[-1][1].width + 3 * GAP
  return tuple(shown)
