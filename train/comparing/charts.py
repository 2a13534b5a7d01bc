"""Curves of all runs over each axis, as SVG for a page and as PNG."""

import dataclasses
import io
import re
import threading
from collections.abc import Callable, Sequence

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from train.comparing.groups import Group
from train.comparing.runs import Run
from train.comparing.series import AXES, Series, evenly, series, smoothed

# Of lines: on white, and on black. Colours repeat after these, dashes after
# four, so that no two of 8 groups differ in colour alone.
COLOURS = (
  ('#1f5fa8', '#79b0ff'),
  ('#b4430f', '#ff9d66'),
  ('#1a7a3f', '#5fd08c'),
  ('#7a2bc0', '#c99bff'),
  ('#ad1a5b', '#ff86b8'),
  ('#0b6e83', '#4fcfe4'),
  ('#7d5210', '#e3b455'),
  ('#4b5563', '#b3bdc9'),
)
DASHES = '-', (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5))
MARKERS = 'osD^v<>p'
SIZE = 4.5, 3.2  # inches of a panel: its text can be read on a phone
START = 0.05  # share of a run whose numbers may lie above a panel
FAR = 4.0  # ends of runs that are so many times apart: a logarithmic axis
MARKED = 25  # points of a curve of evaluations that have a marker, at most
# In the SVG these colours become variables of the page's style.
_INK, _GRID, _LINE = '#010203', '#010204', '#0102{:02x}'
_INKED = (
  *('text.color', 'axes.labelcolor', 'axes.edgecolor'),
  *('xtick.color', 'ytick.color'),
)
_LOCK = threading.Lock()  # Matplotlib's settings are those of the process


@dataclasses.dataclass(frozen=True)
class Curves:
  """The curves of one number.

  Attributes:
    name: of the number.
    label: of the vertical axis.
    lines: of each group those of its runs.
  """

  name: str
  label: str
  lines: list[list[Series]]

  def axes(self) -> list[str]:
    """The horizontal axes on which some run has points."""
    points = [x for own in self.lines for x in own]
    return [
      axis
      for axis in AXES
      if any(np.isfinite(x.along(axis)).any() for x in points)
    ]


def curves_of(
  groups: Sequence[Group], name: str, label: str, window: int = 0
) -> Curves:
  """The curves of a number; smoothed if there is a window, see `smoothed`."""
  lines = []
  for group in groups:
    own = [series(run, name) for run in group.runs]
    own = [smoothed(x, window) if window else x for x in own]
    lines.append([x for x in own if len(x.steps)])
  return Curves(name, label, lines)


def style(place: int) -> tuple[int, int]:
  """The numbers of a group's colour and of its dashes."""
  return place % len(COLOURS), (place + place // len(COLOURS)) % len(DASHES)


def marked(steps: Sequence[int]) -> list[int]:
  """Those of a run's evaluations that have a marker."""
  return [int(steps[i]) for i in evenly(len(steps), MARKED)]


def svg(curves: Curves, axis: str, link: Callable[[Run, int], str]) -> str:
  """One panel, as an <svg> element whose colours are variables of CSS.

  Args:
    curves: of one number.
    axis: a key of AXES.
    link: run, step -> what a marked point links to.
  """
  settings = {
    'svg.fonttype': 'none',
    'svg.hashsalt': f'{curves.name} {axis}',
    'font.size': 10,
    **dict.fromkeys(_INKED, _INK),
  }
  with _LOCK, matplotlib.rc_context(settings):
    figure = Figure(figsize=SIZE, layout='constrained')
    colours = [_LINE.format(i + 5) for i in range(len(COLOURS))]
    _panel(figure.add_subplot(), curves, axis, colours, _GRID, link)
    drawn = io.StringIO()
    figure.patch.set_visible(False)
    figure.savefig(drawn, format='svg', metadata={'Date': None})
  text = drawn.getvalue()
  text = text[text.index('<svg') :]
  text = re.sub(r'(?s)<metadata>.*?</metadata>', '', text)
  text = re.sub(r'(?s)<defs>\s*<style.*?</style>\s*</defs>', '', text, count=1)
  text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r'\1', text, count=1)
  text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r'\1', text, count=1)
  text = re.sub(r'"[^"]*"', _hundredths, text)  # of places, not of labels
  text = re.sub(r'<g id="[^"]*"', '<g', text)  # the same in each panel
  # The page's tables have the same numbers for those who cannot see this.
  text = text.replace('<svg ', '<svg aria-hidden="true" ', 1)
  text = re.sub(r'<a (?:xlink:href|href)=', '<a tabindex="-1" href=', text)
  for code, variable in {
    _INK: '--ink',
    _GRID: '--grid',
    **{colour: f'--line{i}' for i, colour in enumerate(colours)},
  }.items():
    text = text.replace(code, f'var({variable})')
  return re.sub(r'\s*\n\s*', '\n', text)


def _hundredths(attribute):
  return re.sub(r'(\d\.\d\d)\d+', r'\1', attribute[0])


def png(curves: Curves, groups: Sequence[Group], title: str) -> bytes:
  """All panels of a number and a legend, for papers and slides."""
  axes = curves.axes()
  rows, (wide, high) = -(-len(axes) // 2), SIZE
  columns = min(2, len(axes))
  with _LOCK:
    legend = 0.24 * len(groups) + 0.3
    size = wide * columns, high * rows + legend
    figure = Figure(figsize=size, dpi=150, layout='constrained')
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    colours = [light for light, _ in COLOURS]
    for place, axis in enumerate(axes, 1):
      panel = figure.add_subplot(rows, columns, place)
      _panel(panel, curves, axis, colours, '0.9')
    lines = [
      Line2D([], [], color=colours[style(i)[0]], ls=DASHES[style(i)[1]])
      for i in range(len(groups))
    ]
    figure.legend(
      lines, [group.name for group in groups], loc='outside lower left',
      frameon=False, fontsize=9,
    )  # fmt: skip
    drawn = io.BytesIO()
    figure.savefig(drawn, format='png')
  return drawn.getvalue()


def _panel(
  axes: Axes,
  curves: Curves,
  axis: str,
  colours: Sequence[str],
  grid: str,
  link: Callable[[Run, int], str] | None = None,
) -> None:
  log = is_logarithmic(curves, axis)
  tops, lows = [], []
  evaluated = curves.name.startswith('eval/')
  for place, own in enumerate(curves.lines):
    colour, dashes = style(place)
    colour, dashes = colours[colour], DASHES[dashes]
    for one in own:
      x, y = one.along(axis), one.values
      kept = np.isfinite(x) & ((x > 0) if log else True)
      x, y, steps = x[kept], y[kept], one.steps[kept]
      if not len(x):
        continue
      alone = 'o' if len(x) == 1 else ''
      axes.plot(x, y, color=colour, ls=dashes, lw=1.3, marker=alone, ms=4)
      late = y[steps >= START * one.run.step]
      late = late[np.isfinite(late)]
      tops.extend(late[:1] if len(late) < 3 else [late.max()])
      lows.extend([late.min()] if len(late) else [])
      if evaluated:
        points = np.isin(steps, marked(one.steps))
        dots = axes.scatter(
          x[points], y[points], s=16, color=colour, zorder=3,
          marker=MARKERS[place % len(MARKERS)], lw=0,
        )  # fmt: skip
        if link:
          dots.set_urls([link(one.run, int(step)) for step in steps[points]])
  if tops and min(lows) < max(tops):
    low, high = min(lows), max(tops)
    axes.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))
  axes.set_ylabel(curves.label)
  axes.set_xlabel(AXES[axis] + ' (logarithmic)' * log)
  if log:
    axes.set_xscale('log')
    low, high = axes.get_xlim()
    if high < 10 * low:  # less than a decade: labels of all would overlap
      axes.xaxis.set_major_locator(ticker.MaxNLocator(4))
      axes.xaxis.set_major_formatter(ticker.EngFormatter(sep=''))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())
  else:
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(6))
    if axis != 'hours':
      axes.xaxis.set_major_formatter(ticker.EngFormatter(sep=''))
  axes.grid(color=grid, lw=0.7)
  axes.set_axisbelow(True)
  axes.spines[['top', 'right']].set_visible(False)
  axes.patch.set_visible(False)


def is_logarithmic(curves: Curves, axis: str) -> bool:
  """Whether runs end so far apart that the short ones would be points."""
  ends = [x.along(axis) for own in curves.lines for x in own]
  ends = [np.nanmax(x) for x in ends if np.isfinite(x).any()]
  ends = [x for x in ends if x > 0]
  return bool(ends and max(ends) > FAR * min(ends))


def dash_array(place: int) -> str:
  """A group's dashes as CSS has them, for the page's key."""
  dashes = DASHES[style(place)[1]]
  return 'none' if dashes == '-' else ' '.join(str(2 * x) for x in dashes[1])
