"""Pictures of a fit: residuals, isoFLOP profiles, and optimal sizes."""

import io

import numpy as np
from matplotlib import colormaps, ticker
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from input_pipeline.sources import paths
from train.reporting.metrics import writing
from train.scaling import solving
from train.scaling.findings import Found
from train.scaling.points import Points
from train.scaling.profiles import Frontier
from train.scaling.solving import Fit


def draw_residuals(path: str, fit: Fit, points: Points) -> None:
  """log L minus its prediction, against each size and the loss."""
  names = [*fit.form.inputs, 'loss']
  figure, panels = _figure(
    1, len(names), 'Residuals; the lighter, the more FLOPs'
  )
  for axes, name in zip(panels, names, strict=True):
    x = points.column(name)
    axes.scatter(x, fit.residuals, s=12, c=np.log(points.flops), cmap='viridis')
    axes.axhline(0, color='0.4', lw=0.8)
    axes.set_xlabel(_LABELS.get(name, name))
    axes.set_xscale('linear' if name == 'loss' else 'log')
  panels[0].set_ylabel('log loss - predicted log loss')
  _save(figure, path)


def draw_profiles(
  path: str, points: Points, frontier: Frontier, found: Found | None = None
) -> None:
  """The profiles of equal FLOPs with their parabolas, and the line of optima.

  `found` is a law whose curves are drawn beside the parabolas, dashed.
  """
  figure, (left, right) = _figure(1, 2, 'IsoFLOP profiles; dashed: the law')
  colours = _colours(len(frontier.profiles))
  for profile, colour in zip(frontier.profiles, colours, strict=True):
    N = points.params[profile.places]
    left.scatter(N, points.loss[profile.places], s=14, color=colour)
    x = np.geomspace(N.min(), N.max(), 80)
    left.plot(
      x, np.polyval(profile.curve, np.log(x)), color=colour, lw=1.2,
      label=f'{profile.flops:.2g}',
    )  # fmt: skip
    if not profile.edge:
      left.plot(profile.params, profile.loss, '*', color=colour, ms=10)
    if found and found.form and found.form.inputs == ('params', 'tokens'):
      D = profile.flops / points.per_pair / x
      y = solving.predict(found.form, found.thetas[0], np.stack([x, D]))
      left.plot(x, y, '--', color=colour, lw=0.9)
  left.set_xscale('log')
  left.set_xlabel(_LABELS['params'])
  left.set_ylabel('loss (nats per token)')
  left.legend(
    title='FLOPs', frameon=False, fontsize=7, loc='upper left',
    bbox_to_anchor=(1, 1),
  )  # fmt: skip
  draw_optima(right, frontier, found)
  _save(figure, path)


def draw_envelope(path: str, points: Points, frontier: Frontier) -> None:
  """Loss against FLOPs, and the size of the lowest curve at each."""
  figure, (left, right) = _figure(
    1, 2, 'Envelope; the lighter, the more parameters'
  )
  left.scatter(
    points.flops, points.loss, s=10, c=np.log(points.params), cmap='viridis'
  )
  left.set_xscale('log')
  left.set_xlabel(_LABELS['flops'])
  left.set_ylabel('loss (nats per token)')
  draw_optima(right, frontier, None)
  _save(figure, path)


def draw_optima(axes: Axes, frontier: Frontier, found: Found | None) -> None:
  """Optimal sizes against FLOPs, with the line and its interval."""
  axes.loglog(frontier.flops, frontier.params, '*', color='tab:red', ms=9)
  C = np.geomspace(frontier.flops.min(), frontier.flops.max() * 10, 50)
  rows = np.array([frontier.optimum(c)['params'] for c in C])
  axes.loglog(C, rows[:, 0], color='tab:red', label=frontier.name)
  if rows.shape[1] > 1:
    low, high = np.quantile(rows[:, 1:], [0.1, 0.9], axis=1)
    axes.fill_between(C, low, high, color='tab:red', alpha=0.15, lw=0)
  if found and found.form and found.form.inputs == ('params', 'tokens'):
    rows = [found.best(c)['params'] for c in C]
    axes.loglog(C, [x[0] for x in rows], color='tab:blue', label=found.name)
    low, high = [x[1] for x in rows], [x[2] for x in rows]
    axes.fill_between(C, low, high, color='tab:blue', alpha=0.15, lw=0)
  axes.set_xlabel(_LABELS['flops'])
  axes.set_ylabel('optimal N (parameters)')
  axes.legend(frameon=False, fontsize=9)


_LABELS = {
  'params': 'N (parameters)',
  'tokens': 'D (tokens)',
  'flops': 'C (FLOPs)',
  'loss': 'loss (nats per token)',
}


def _figure(rows, columns, title):
  figure = Figure(figsize=(5.2 * columns, 4.2 * rows), dpi=120)
  FigureCanvasAgg(figure)
  figure.set_layout_engine('constrained', w_pad=0.1, h_pad=0.1)
  figure.suptitle(title, fontsize=10)
  panels = [figure.add_subplot(rows, columns, i + 1) for i in range(columns)]
  for axes in panels:
    axes.grid(color='0.92')
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
  return figure, panels


def _colours(count):
  return colormaps['viridis'](np.linspace(0, 0.9, max(count, 1)))


_short = ticker.EngFormatter(sep='')


def _label(axis):
  """Labels a logarithmic axis at 1, 2 and 5, or over decades at 1."""
  low, high = axis.get_view_interval()
  steps = (1, 2, 5) if high < 100 * low else (1,)
  axis.set_major_locator(ticker.LogLocator(subs=steps))
  axis.set_minor_formatter(ticker.NullFormatter())
  axis.set_major_formatter(
    ticker.FuncFormatter(
      lambda x, _: f'{x:.0e}'.replace('e+', 'e') if x > 1e10 else _short(x)
    )
  )


def _save(figure, path):
  for axes in figure.axes:
    for axis in (axes.xaxis, axes.yaxis):
      if axis.get_scale() == 'log':
        _label(axis)
  drawn = io.BytesIO()
  figure.savefig(drawn, format='png')
  with writing(path):
    paths.write(path, drawn.getvalue())
