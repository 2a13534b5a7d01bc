"""The tree as a PNG or PDF, by Matplotlib."""

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch, Rectangle
from matplotlib.path import Path

from configs.plotting import layout
from configs.plotting.colours import COLOURS, SHADE
from configs.plotting.layout import FONT, SMALL, Box, Drawing, Edge

LIGHT = {role: colours[0] for role, colours in COLOURS.items()}
CODES = {
  2: [Path.MOVETO, Path.LINETO],
  5: [Path.MOVETO, Path.LINETO, Path.CURVE3, Path.CURVE3, Path.LINETO],
}


def save(drawing: Drawing, path: str, kind: str) -> None:
  """Writes the drawing as a 'png' or a 'pdf', on a light ground."""
  d = drawing
  figure = Figure(figsize=(d.width / 72, d.height / 72))
  FigureCanvasAgg(figure)
  axes = figure.add_axes((0, 0, 1, 1))
  axes.set(xlim=(0, d.width), ylim=(d.height, 0))
  axes.axis('off')
  for band in d.bands:
    colour = LIGHT[band.branch]
    ground = Rectangle((0, band.y), d.width, band.height, color=colour)
    ground.set(alpha=SHADE, lw=0)
    axes.add_patch(ground)
    x, y = layout.heading(band)
    _text(axes, x, y, band.branch, band.branch, FONT, fontweight='bold')
  for year, x in d.years:
    axes.plot([x, x], [0, d.axis], color=LIGHT['paper'], lw=1.2, zorder=1)
    y = d.axis + layout.AXIS / 2
    _text(axes, x, y, str(year), 'faint', FONT, ha='center')
  _line(axes, d.trunk)
  for edge in d.edges:
    _line(axes, edge)
    for line in edge.label:
      _text(axes, line.x, line.y, line.text, 'faint', SMALL)
  for box in d.boxes.values():
    _box(axes, box)
  for box, text in d.legend:
    _box(axes, box)
    _text(axes, text.x, text.y, text.text, 'faint', SMALL)
  figure.savefig(path, format=kind, dpi=144)


def _line(axes, edge: Edge):
  path = Path(edge.points, CODES[len(edge.points)])
  drawn = PathPatch(path, fill=False, lw=edge.thickness, zorder=2)
  drawn.set(edgecolor=LIGHT[edge.role], capstyle='butt')
  axes.add_patch(drawn)


def _box(axes, box: Box):
  height, colour = layout.BOX, LIGHT[box.role]
  drawn = FancyBboxPatch(
    (box.x, box.y - height / 2), box.width, height,
    'round,pad=0,rounding_size=4', zorder=3,
  )  # fmt: skip
  drawn.set(facecolor=colour if box.open else LIGHT['paper'])
  drawn.set(edgecolor=colour, lw=1.4)
  axes.add_patch(drawn)
  ink = 'paper' if box.open else box.role
  _text(axes, box.x + box.width / 2, box.y, box.name, ink, FONT, ha='center')


def _text(axes, x, y, text, role, size, **more):
  drawn = axes.text(x, y, text, color=LIGHT[role], zorder=4, **more)
  drawn.set(va='center_baseline', fontsize=size, fontfamily=layout.FAMILY)
