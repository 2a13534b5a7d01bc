"""Draws the tree of `configs.tree`: time runs to the right.

Each system is at its date. It shares a row with its ancestor if there is room;
otherwise a line leads down to it. A row belongs to one chain of descendants. A
line passes only systems that are younger than its start, so nothing overlaps.
"""

import os
from typing import Any

from matplotlib import font_manager, textpath
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch, Rectangle
from matplotlib.path import Path

FORMATS = ('.png', '.pdf', '.svg')
# Branches from top to bottom, in colours that colour-blind readers can tell
# apart.
COLOURS = {
  'encoder-decoder': '#b3541e',
  'encoder-only': '#2a7f62',
  'decoder-only': '#2b5c9e',
  'recurrent': '#7a3e8e',
}
# Sizes in points, for one column of a two-column paper.
WIDTH, YEAR, MARGIN = 246, 28.4, 6
START = 2017.4  # the year at the left margin
FONT, BOX, ROW, HEAD, GAP = 6, 9.5, 12.5, 10, 4
FAMILY = 'DejaVu Sans'
BOTTOM, TOP = 27, 3


def draw(systems: dict, edges: dict[str, str], path: str) -> None:
  """Writes the picture; it replaces `path` only when it is complete.

  Args:
    systems: key -> configs.systems.System, the oldest first.
    edges: child -> ancestor, keys of `systems`.
    path: a .png, .pdf or .svg file.

  Raises:
    ValueError: another kind of file.
    OSError: the file cannot be written.
  """
  ending = os.path.splitext(path)[1].lower()
  if ending not in FORMATS:
    raise ValueError(
      f'--plot={path}: the file must end in one of {", ".join(FORMATS)}.'
    )
  rows, bands = place(systems, edges)
  figure = _figure(systems, edges, rows, bands)
  # As input_pipeline.sources.paths.replacing, which configs must not import.
  part = f'{path}.{os.getpid()}.part'
  try:
    figure.savefig(part, format=ending[1:], dpi=400)
    os.replace(part, path)
  finally:
    if os.path.exists(part):
      os.remove(part)


def left(system: Any) -> float:
  """The left edge of a system's box, in points."""
  return _x(system.year + (system.month - 1) / 12)


def right(system: Any) -> float:
  """The right edge of a system's box, in points."""
  return left(system) + _text_width(system.name) + 5


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
    # The row continues with the last of those that are far enough.
    end = right(systems[key]) + GAP
    beside = [child for child in below if left(systems[child]) >= end][-1:]
    for child in beside:
      visit(child, row)
    for child in reversed(below):
      if child not in beside:
        visit(child, used)

  for branch in COLOURS:
    first = used
    for key, s in systems.items():
      if s.branch == branch and key not in inside:
        visit(key, used)
    bands[branch] = (first, used - first)
  return rows, bands


def _figure(systems, edges, rows, bands):
  heads = {branch: HEAD * (i + 1) for i, branch in enumerate(COLOURS)}
  total = len(set(rows.values())) * ROW + len(COLOURS) * HEAD
  height = BOTTOM + total + TOP

  def middle(key):
    down = heads[systems[key].branch] + (rows[key] + 0.5) * ROW
    return height - TOP - down

  figure = Figure(figsize=(WIDTH / 72, height / 72))
  FigureCanvasAgg(figure)
  axes = figure.add_axes((0, 0, 1, 1))
  axes.set(xlim=(0, WIDTH), ylim=(0, height))
  axes.axis('off')

  for branch, (first, count) in bands.items():
    colour = COLOURS[branch]
    top = height - TOP - first * ROW - heads[branch] + HEAD
    size = count * ROW + HEAD
    axes.add_patch(
      Rectangle((0, top - size), WIDTH, size, color=colour, alpha=0.09, lw=0)
    )
    _text(axes, _x(2018.1), top - HEAD / 2 - 0.5, branch, colour, weight='bold')
  for year in range(int(START), int(START + WIDTH / YEAR) + 1):
    x0, x1 = max(0, _x(year)), min(WIDTH, _x(year + 1))
    axes.plot([x1, x1], [BOTTOM, height - TOP], color='white', lw=0.8, zorder=1)
    if x1 - x0 > YEAR / 2:
      _text(axes, (x0 + x1) / 2, BOTTOM - 6, str(year), '0.3', ha='center')

  for child, parent in edges.items():
    _edge(axes, systems, child, parent, rows, middle)
  for key, s in systems.items():
    _box(axes, left(s), middle(key), s.name, COLOURS[s.branch], s.open)
  x = MARGIN
  for name, is_open in (('weights published', True), ('not published', False)):
    _box(axes, x, 8, 'name', '0.35', is_open)
    _text(axes, x + 24, 8, name, '0.3')
    x += 32 + _text_width(name)
  return figure


def _x(year):
  return MARGIN + YEAR * (year - START)


def _edge(axes, systems, child, parent, rows, middle):
  """A line from the ancestor's side, or from below it, to the child's left."""
  s, old = systems[child], systems[parent]
  y0, y1, x1 = middle(parent), middle(child), left(s)
  if rows[child] == rows[parent]:
    path = Path([(right(old), y0), (x1, y1)])
  else:
    # Lines to several branches begin side by side.
    side = 2.5 * (2 - list(COLOURS).index(s.branch)) * (s.branch != old.branch)
    x0 = min(left(old) + 2 + side, x1 - 1)
    bend = min(4, x1 - x0)
    path = Path(
      [(x0, y0), (x0, y1 + bend), (x0, y1), (x0 + bend, y1), (x1, y1)],
      [Path.MOVETO, Path.LINETO, Path.CURVE3, Path.CURVE3, Path.LINETO],
    )
  axes.add_patch(
    PathPatch(path, fill=False, edgecolor=COLOURS[s.branch], lw=0.8, zorder=2)
  )


def _box(axes, x, y, name, colour, is_open):
  width = _text_width(name) + 5
  ink, paper = ('white', colour) if is_open else (colour, 'white')
  style = 'round,pad=0,rounding_size=2.5'
  box = FancyBboxPatch((x, y - BOX / 2), width, BOX, style, zorder=3)
  box.set(facecolor=paper, edgecolor=colour, lw=0.8)
  axes.add_patch(box)
  _text(axes, x + width / 2, y, name, ink, ha='center')


def _text(axes, x, y, text, colour, ha='left', weight='normal'):
  drawn = axes.text(x, y - 0.2, text, color=colour, ha=ha, zorder=4)
  drawn.set(va='center_baseline', fontsize=FONT, fontweight=weight)
  drawn.set(fontfamily=FAMILY)


def _text_width(text):
  font = font_manager.FontProperties(family=FAMILY)
  return textpath.TextPath((0, 0), text, FONT, prop=font).get_extents().width
