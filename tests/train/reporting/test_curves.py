"""The curves of a run's numbers."""

import math

import numpy as np
from matplotlib import image

from train.reporting import curves
from train.reporting.curves import draw_curves
from train.reporting.metrics import MetricsWriter


def test_curves(tmp_path):
  rng = np.random.default_rng(0)
  writer = MetricsWriter(str(tmp_path))
  for step in range(100, 60_001, 100):
    loss = 2.9 + 7 * (step / 100) ** -0.6 + 0.05 * rng.standard_normal()
    writer.write(
      step,
      {
        'train/loss': loss if step != 30_000 else math.nan,
        'train/accuracy': 1.2 / loss,
        'train/learning_rate': 1 / math.sqrt(max(step, 10_000)),
        'train/tokens_per_second': 41_000 + 900 * rng.standard_normal(),
      },
    )
    if step % 5_000 == 0:
      writer.write(
        step, {'eval/loss': loss + 0.1, 'eval/accuracy': 1.2 / (loss + 0.1)}
      )
  writer.close()
  draw_curves(str(tmp_path))
  picture = image.imread(tmp_path / 'curves.png')
  assert picture.shape[0] > 500
  assert picture.shape[1] > 1000
  assert picture.std() > 0.01
  assert not list(tmp_path.glob('*.partial'))


def test_what_curves_show(tmp_path, monkeypatch):
  """Each number is in its panel, by step; an empty panel is left out."""
  figures = []

  class Figure(curves.Figure):
    def __init__(self, **arguments):
      super().__init__(**arguments)
      figures.append(self)

  monkeypatch.setattr(curves, 'Figure', Figure)
  rows = {
    2: {'train/loss': 5.0, 'train/learning_rate': 0.5, 'train/x': 9.0},
    4: {'train/loss': 3.0, 'train/learning_rate': 0.25, 'eval/loss': 4.0},
    6: {'train/loss': 2.0, 'train/tokens_per_second': 1234.6},
    8: {'train/accuracy': 0.5, 'eval/accuracy': 0.4},
  }
  writer = MetricsWriter(str(tmp_path))
  for step, numbers in rows.items():
    writer.write(step, numbers)
  writer.close()
  draw_curves(str(tmp_path))
  shown = {
    axes.get_title(loc='left'): {
      line.get_label(): (list(line.get_xdata()), list(line.get_ydata()))
      for line in axes.get_lines()
    }
    for axes in figures[0].axes
  }
  assert shown == {
    'loss (nats per token)': {
      'train 2': ([2, 4, 6], [5, 3, 2]),
      'eval 4': ([4], [4]),
    },
    'accuracy': {'train 0.5': ([8], [0.5]), 'eval 0.4': ([8], [0.4])},
    'learning rate': {'train 0.25': ([2, 4], [0.5, 0.25])},
    'tokens per second': {'train 1,235': ([6], [1234.6])},
  }


def test_nothing_to_draw_yet(tmp_path):
  MetricsWriter(str(tmp_path)).close()
  draw_curves(str(tmp_path))
  assert not (tmp_path / 'curves.png').exists()


def test_long_curves_take_constant_memory():
  curve = curves._Curve()
  count = 10 * curves.POINTS + 7
  for step in range(count):
    curve.add(step, 2.0 * step)
    assert len(curve.sums) <= curves.POINTS
  xs, ys = curve.points()
  assert sum(n for *_, n in curve.sums) == count
  assert {n for *_, n in curve.sums[:-1]} == {16}
  assert len(xs) > curves.POINTS / 2
  np.testing.assert_allclose(ys, 2 * np.array(xs))
