"""curves.png: what a run's numbers look like, drawn from metrics.jsonl."""

import io
import math
import os
import re
from collections import defaultdict

from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from input_pipeline.sources import paths
from train.reporting.metrics import read_metrics, writing

# The losses of eval.sources belong to the first panel.
SOURCES = re.compile('eval/[^/]+/loss')
PANELS = {
  'loss (nats per token)': ('train/loss', 'eval/loss'),
  'accuracy': ('train/accuracy', 'eval/accuracy'),
  'learning rate': ('train/learning_rate',),
  'tokens per second': ('train/tokens_per_second',),
}
POINTS = 2048  # a curve has at most so many


def draw_curves(workdir: str) -> None:
  """Draws WORKDIR/curves.png from WORKDIR/metrics.jsonl.

  A panel without numbers is left out. Raises OSError if the file cannot be
  written, and ValueError if a line of metrics.jsonl is not a row.
  """
  curves = defaultdict(_Curve)
  wanted = {name for names in PANELS.values() for name in names}
  for row in read_metrics(workdir):
    for name in row.keys() & wanted | {*filter(SOURCES.fullmatch, row)}:
      value = math.nan if row[name] is None else row[name]
      curves[name].add(row['step'], value)
  panels = {
    title: [name for name in names if name in curves]
    for title, names in PANELS.items()
    if curves.keys() & names
  }
  if not panels:
    return
  others = [name for name in curves if SOURCES.fullmatch(name)]
  panels[next(iter(PANELS))] = panels.get(next(iter(PANELS)), []) + others

  rows = math.ceil(len(panels) / 2)
  figure = Figure(figsize=(11, 3.6 * rows), dpi=120)
  FigureCanvasAgg(figure)
  figure.set_layout_engine('constrained', w_pad=0.1, h_pad=0.1)
  figure.suptitle(os.path.basename(paths.absolute(workdir)))
  for i, (title, names) in enumerate(panels.items(), 1):
    axes = figure.add_subplot(rows, 2, i)
    axes.set_title(title, loc='left', fontsize=10)
    axes.grid(color='0.92')
    axes.spines[['top', 'right']].set_visible(False)
    axes.xaxis.set_major_formatter(ticker.EngFormatter(sep=''))
    axes.set_xlabel('step')
    for name in names:
      _draw(axes, name, *curves[name].points())
    axes.legend(frameon=False, fontsize=9)
    if title == 'tokens per second':
      axes.yaxis.set_major_formatter(ticker.EngFormatter(sep=''))
      axes.set_ylim(bottom=0)

  path = os.path.join(workdir, 'curves.png')
  drawn = io.BytesIO()
  figure.savefig(drawn, format='png')
  with writing(path):
    paths.write(path, drawn.getvalue())


def _draw(
  axes: Axes, name: str, steps: list[float], values: list[float]
) -> None:
  last = f'{values[-1]:,.0f}' if values[-1] >= 1000 else f'{values[-1]:.4g}'
  label = f'{name.rpartition("/")[0]} {last}'
  if SOURCES.fullmatch(name):
    axes.plot(steps, values, 'o--', ms=3, lw=1, label=label)
  elif name.startswith('eval'):
    axes.plot(steps, values, 'o-', color='tab:orange', ms=4, label=label)
  else:
    axes.plot(steps, values, color='tab:blue', lw=1.2, label=label)


class _Curve:
  """At most POINTS points, each the mean of equally many neighbouring values.

  When they are full, pairs of points become one.
  """

  def __init__(self):
    self.sums = []  # of [values, steps, ones]
    self.share = 1  # values in a mean

  def add(self, step: int, value: float) -> None:
    if not self.sums or self.sums[-1][2] == self.share:
      if len(self.sums) == POINTS:
        pairs = zip(self.sums[::2], self.sums[1::2], strict=True)
        self.sums = [[x + y for x, y in zip(*p, strict=True)] for p in pairs]
        self.share *= 2
      self.sums.append([0.0, 0, 0])
    new = zip(self.sums[-1], (value, step, 1), strict=True)
    self.sums[-1] = [x + y for x, y in new]

  def points(self) -> tuple[list[float], list[float]]:
    """Steps and values."""
    steps = [step / count for _, step, count in self.sums]
    return steps, [value / count for value, _, count in self.sums]
