"""A picture of where a step's memory and time go."""

from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from input_pipeline.sources import paths
from train.fitting import report

# One colour a category or a group, alike in meaning in both panels.
_COLOURS = {
  'parameters': '#2b6ca3',
  'optimizer': '#5d9bd1',
  'average': '#9cc4e6',
  'batch': '#c9c9c9',
  'activations': '#e08a2e',
  'gradients': '#b5533c',
  'weights': '#7f6bb3',
  'temporaries': '#f2c27b',
  'other': '#c9c9c9',
  'gaps': '#e8e8e8',
  'attention scores': '#e08a2e',
  'projections': '#5d9bd1',
  'MLP': '#2b6ca3',
  'vocabulary and loss': '#7f6bb3',
  'dropout': '#f2c27b',
  'norms and elementwise': '#8ab17d',
  'optimizer update': '#b5533c',
  'copies': '#c9c9c9',
  'collectives, exposed': '#333333',
}


def draw(path: str, title: str, found: dict[str, Any]) -> None:
  """Draws what `measure.measure` or `measure.bounds` found into a PNG file.

  Raises OSError if the file cannot be written.
  """
  timed = 'groups' in found
  figure = Figure(figsize=(11, 6.4 if timed else 3.6), dpi=120)
  FigureCanvasAgg(figure)
  figure.set_layout_engine('constrained', w_pad=0.1, h_pad=0.1)
  figure.suptitle(title, fontsize=12)
  rows = 2 if timed else 1
  _memory(figure.add_subplot(rows, 1, 1), found)
  if timed:
    _time(figure.add_subplot(rows, 1, 2), found)
  with paths.replacing(path) as file:
    figure.savefig(file, format='png')


def _memory(axes, found):
  parts = {k: x / 2**30 for k, x in found['memory'].items() if x}
  _bars(axes, parts, lambda x: report.gib(x * 2**30), 'GiB of a device')
  axes.set_title(report.verdict(found), loc='left', fontsize=10)
  limit, taken = found['limit'] / 2**30, sum(parts.values())
  axes.set_xlim(right=1.2 * taken)
  if 0 < limit < 4 * taken:
    axes.axvline(limit, color='#b5533c', lw=1.5)
    axes.text(
      limit, 0.97, f' {limit:.2f} GiB', color='#b5533c', fontsize=9,
      va='top', transform=axes.get_xaxis_transform(),
    )  # fmt: skip
    axes.set_xlim(right=1.14 * max(limit, taken))


def _time(axes, found):
  parts = {
    'optimizer update' if x['name'] == 'optimizer' else x['name']: x['seconds']
    for x in found['groups']
  }
  parts['collectives, exposed'] = found['exposed_seconds']
  scale, unit = (1, 's') if found['step_seconds'] >= 0.1 else (1e3, 'ms')
  parts = {name: scale * x for name, x in parts.items() if x}
  _bars(axes, parts, lambda x: f'{x:.3g} {unit}', f'{unit} of a step')
  step = scale * found['step_seconds']
  axes.set_title(
    f'Step {step:.3g} {unit}, MFU {found["mfu"]:.1%}, executed FLOPs '
    f'{found["executed_over_model"]:.2f} times the model\'s (estimates)',
    loc='left', fontsize=10,
  )  # fmt: skip
  axes.set_xlim(right=1.14 * step)


def _bars(axes, parts, label, unit):
  """Parts as bars one below the other, each from the end of the last."""
  left, total = 0.0, sum(parts.values())
  for place, (name, size) in enumerate(parts.items()):
    axes.barh(place, size, left=left, color=_COLOURS[name], height=0.75)
    text = f' {label(size)}, {size / total:.0%}'
    axes.text(left + size, place, text, va='center', fontsize=8.5)
    left += size
  axes.set_yticks(range(len(parts)), parts)
  axes.invert_yaxis()
  axes.tick_params(axis='y', length=0)
  axes.spines[['top', 'right', 'left']].set_visible(False)
  axes.grid(axis='x', color='0.92')
  axes.set_axisbelow(True)
  axes.set_xlabel(unit)
