import io
import math
import os
import shutil
import struct
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from matplotlib import image
from tensorboardX.proto.event_pb2 import Event

from train.reporting import board, metrics, progress
from train.reporting.metrics import MetricsWriter, draw_curves, read_metrics
from train.reporting.progress import (
  PEAKS,
  Progress,
  one_screen,
  overview,
  peak_flops,
)


def records(path):
  """Payloads of a TFRecord file: length, its checksum, payload, checksum."""
  data = path.read_bytes()
  while data:
    (length,) = struct.unpack('<Q', data[:8])
    yield data[12 : 12 + length]
    data = data[16 + length :]


def write(workdir, steps, resume_step=None):
  writer = MetricsWriter(str(workdir), resume_step)
  for step in steps:
    writer.write(step, {'train/loss': jnp.float32(1 / step), 'train/mfu': 0.5})
  writer.close()


def steps(workdir):
  return [row['step'] for row in read_metrics(str(workdir))]


def test_rows(tmp_path):
  writer = MetricsWriter(str(tmp_path))
  writer.write(3, {'train/loss': np.float32(0.1), 'train/x': math.inf})
  # Flushed: readable before the writer closes.
  line = (tmp_path / 'metrics.jsonl').read_text()
  assert (
    line == '{"step": 3, "train/loss": 0.10000000149011612, "train/x": null}\n'
  )
  writer.close()


def test_resume_drops_what_is_made_again(tmp_path):
  write(tmp_path, [1, 2, 3, 4])
  path = tmp_path / 'metrics.jsonl'
  before = path.read_bytes().splitlines(keepends=True)
  with open(path, 'ab') as file:
    file.write(b'{"step": 2, "train/lo')  # killed while it wrote
  assert steps(tmp_path) == [1, 2, 3, 4]
  write(tmp_path, [3, 5], resume_step=2)
  assert steps(tmp_path) == [1, 2, 3, 5]
  assert path.read_bytes().splitlines(keepends=True)[:2] == before[:2]
  write(tmp_path, [1])
  assert steps(tmp_path) == [1]
  assert not list(tmp_path.glob('*.partial'))


def test_a_damaged_line_is_named(tmp_path):
  write(tmp_path, [1, 2])
  path = tmp_path / 'metrics.jsonl'
  path.write_bytes(path.read_bytes().replace(b'{"step": 2', b'{"stop": 2'))
  with pytest.raises(ValueError, match='line 2, is not a row'):
    MetricsWriter(str(tmp_path), 2)


def test_tensorboard_after_resuming(tmp_path):
  write(tmp_path, [1, 2, 3, 4])
  writer = MetricsWriter(str(tmp_path), 2)
  writer.write(3, {'train/loss': 7.0})
  writer.write_text(3, 'samples', 'a **sample**')
  writer.close()
  scalars, texts, purged = [], [], []
  files = sorted(
    (tmp_path / 'tensorboard').iterdir(), key=lambda path: int(path.suffix[1:])
  )
  for path in files:
    for record in records(path):
      event = Event.FromString(record)
      if event.HasField('session_log'):
        purged.append(event.step)
      for value in event.summary.value:
        if value.tag == 'train/loss':
          scalars.append((event.step, value.simple_value))
        elif value.tag.startswith('samples'):
          texts.append(value.tensor.string_val[0])
  assert scalars[2:] == [(3, np.float32(1 / 3)), (4, 0.25), (3, 7.0)]
  assert texts == [b'a **sample**']
  # From here on TensorBoard hides what earlier files say.
  assert purged == [0, 3]


def test_only_the_active_process_writes(tmp_path):
  writer = MetricsWriter(str(tmp_path), active=False)
  writer.write(1, {'train/loss': 1.0})
  writer.write_text(1, 'a', 'b')
  writer.close()
  assert not os.listdir(tmp_path)


@pytest.mark.skipif(
  not os.path.exists('/dev/full'), reason='only Linux has /dev/full'
)
def test_full_disk(tmp_path):
  writer = MetricsWriter(str(tmp_path))
  writer._file = open('/dev/full', 'w')  # noqa: SIM115
  with pytest.raises(OSError, match='Cannot write .*metrics.jsonl: No space'):
    writer.write(1, {'train/loss': 1.0})


def scalars(workdir, name='train/loss'):
  """(step, value) of all that TensorBoard's files have, in their order."""
  files = sorted((workdir / 'tensorboard').iterdir())
  return [
    (event.step, value.simple_value)
    for event in (Event.FromString(x) for file in files for x in records(file))
    for value in event.summary.value
    if value.tag == name
  ]


def test_points_that_a_kill_took(tmp_path):
  """They are in metrics.jsonl, and no buffer was flushed."""
  killed, again = tmp_path / 'killed', tmp_path / 'again'
  writer = MetricsWriter(str(killed.mkdir() or killed))
  for step in (1, 2, 3):
    writer.write(step, {'train/loss': 1 / step, 'train/x': math.nan})
    if step == 1:
      writer.flush()  # as before a checkpoint
  shutil.copytree(killed, again)
  assert scalars(again) == [(1, 1.0)]
  for last, expected in ((2, [1, 2]), (2, [1, 2]), (9, [1, 2])):
    with MetricsWriter(str(again), last):
      pass
    assert sorted(step for step, _ in scalars(again)) == expected
    assert len(scalars(again, 'train/x')) == 2
  write(again, [3], resume_step=2)  # and what comes after is shown
  found = board.shown(str(again / 'tensorboard'))
  assert found['train/loss'] == found['train/mfu'] | {1, 2} == {1, 2, 3}


def test_a_start_hides_later_points(tmp_path):
  """Of a run that went on from an older checkpoint; they are made again."""
  write(tmp_path, [1, 2, 3, 4])
  with MetricsWriter(str(tmp_path), 2):
    assert board.shown(str(tmp_path / 'tensorboard'))['train/loss'] == {1, 2}


def test_missing_rows_are_noticed(tmp_path, capsys):
  write(tmp_path, [1, 2, 3, 4])
  path = tmp_path / 'metrics.jsonl'
  lines = path.read_text().splitlines(keepends=True)
  with MetricsWriter(str(tmp_path), 3, rows=3) as writer:
    assert writer.rows == 3
    writer.write(4, {'train/loss': 1.0})
    assert writer.rows == 4
  assert not capsys.readouterr().err
  path.write_text(lines[0] + lines[2])
  with MetricsWriter(str(tmp_path), 3, rows=3):
    pass
  err = capsys.readouterr().err
  assert f'{path} lacks 1 of the 3 rows up to step 3' in err


@pytest.mark.skipif(
  not os.path.exists('/dev/full'), reason='only Linux has /dev/full'
)
def test_a_board_that_fails_holds_nothing_up(tmp_path, capfd):
  """One line says so; the next start adds what lacks."""
  writer = MetricsWriter(str(tmp_path))
  writer._board._file.close()
  writer._board._file = open('/dev/full', 'wb')  # noqa: SIM115
  for step in range(1000):  # more than a buffer
    writer.write(step, {'train/loss': 1.0})
  writer.flush()
  writer.close()
  assert len((tmp_path / 'metrics.jsonl').read_text().splitlines()) == 1000
  err = capfd.readouterr().err
  assert err.count('\n') == 1
  assert 'tensorboard cannot be written (No space left on device)' in err
  assert not scalars(tmp_path)
  MetricsWriter(str(tmp_path), 1000).close()
  assert [step for step, _ in scalars(tmp_path)] == list(range(1000))


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
  """Each number in its panel, by step; a panel without numbers is left out."""
  figures = []

  class Figure(metrics.Figure):
    def __init__(self, **arguments):
      super().__init__(**arguments)
      figures.append(self)

  monkeypatch.setattr(metrics, 'Figure', Figure)
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
  write(tmp_path, [])
  draw_curves(str(tmp_path))
  assert not (tmp_path / 'curves.png').exists()


def test_long_curves_take_constant_memory():
  curve = metrics._Curve()
  count = 10 * metrics.POINTS + 7
  for step in range(count):
    curve.add(step, 2.0 * step)
    assert len(curve.sums) <= metrics.POINTS
  xs, ys = curve.points()
  assert sum(n for *_, n in curve.sums) == count
  assert {n for *_, n in curve.sums[:-1]} == {16}
  assert len(xs) > metrics.POINTS / 2
  np.testing.assert_allclose(ys, 2 * np.array(xs))


class Terminal(io.StringIO):
  def isatty(self):
    return True


def test_progress(monkeypatch):
  now = iter([0.0, 10.0, 12.0, 104.0])
  monkeypatch.setattr('time.perf_counter', lambda: next(now))
  monkeypatch.setattr(progress, 'peak_flops', lambda device: 1e11)
  stream = io.StringIO()
  line = Progress(1000, 1, stream=stream)
  line.step_flops = 4e10
  line.begin()
  line.update(5, 3.25, 2000)  # 4 steps in 2 seconds
  assert line.rates() == {
    'train/steps_per_second': 2.0,
    'train/tokens_per_second': 4000.0,
    'train/mfu': 2 * 4e10 / 8e11,
  }
  line.pause(88.0)  # evaluated
  line.update(13, 3.0, 2000)  # 8 steps in 4 seconds
  assert stream.getvalue() == (
    'step 5/1,000 (0%)  loss 3.2500  4,000 tokens/s  MFU 10.0%  ETA 8m18s\n'
    'step 13/1,000 (1%)  loss 3.0000  4,000 tokens/s  MFU 10.0%  ETA 8m14s\n'
  )


def test_live_line_fits_and_notes_stay(monkeypatch):
  monkeypatch.setenv('COLUMNS', '20')
  stream = Terminal()
  line = Progress(4, stream=stream)
  line.update(1, 3.0, 100)
  line.note('saved')
  line.update(2, 3.0, 100)
  line.close()
  line.close()
  assert stream.getvalue() == (
    '\r\x1b[Kstep 1/4 (25%)  los\r\x1b[Ksaved\n\r\x1b[Kstep 2/4 (50%)  los\n'
  )


def test_a_run_goes_on_where_nobody_reads_it():
  class Closed(io.StringIO):
    def write(self, text):
      raise BrokenPipeError

  line = Progress(4, stream=Closed())
  line.update(1, 2.0, 3.0)
  line.note('a sample')
  line.update(4, 2.0, 3.0)
  assert line.rates()['train/steps_per_second'] > 0


def test_inactive_progress_is_silent():
  stream = Terminal()
  line = Progress(10, active=False, stream=stream)
  line.update(1, 3.0, 100)
  line.note('saved')
  line.close()
  assert not stream.getvalue()
  assert line.rates()['train/tokens_per_second'] > 0


@pytest.mark.parametrize(
  ('kind', 'peak'),
  [
    ('TPU v4', 275e12),
    ('TPU v5 lite', 197e12),
    ('TPU v5', 459e12),
    ('TPU v5p', 459e12),
    ('TPU v6 lite', 918e12),
    ('NVIDIA A100-SXM4-80GB', 312e12),
    ('NVIDIA H100 80GB HBM3', 989.4e12),
    ('NVIDIA H100 PCIe', 756e12),
    ('NVIDIA H200', 989.4e12),
    ('cpu', None),
  ],
)
def test_peaks(kind, peak):
  class Device:
    device_kind = kind

  assert peak_flops(Device()) == peak
  # No entry hides a later one.
  kinds = list(PEAKS)
  assert not any(
    later.startswith(kind)
    for i, kind in enumerate(kinds)
    for later in kinds[i + 1 :]
  )


def test_overview():
  mesh = jax.make_mesh(
    (2, 4), ('data', 'tensor'), axis_types=(AxisType.Auto,) * 2
  )
  params = {
    'mlp': {'kernel': jax.ShapeDtypeStruct((64, 128), 'float32')},
    'norm': {'scale': jax.ShapeDtypeStruct((64,), 'float32')},
  }
  axes = {'mlp': {'kernel': ('embed', 'mlp')}, 'norm': {'scale': ('norm',)}}
  shardings = {
    'mlp': {'kernel': NamedSharding(mesh, P(None, ('data', 'tensor')))},
    'norm': {'scale': NamedSharding(mesh, P())},
  }
  lines = overview(params, axes, shardings).splitlines()
  assert [line.split('  ')[0] for line in lines[:3]] == [
    'parameter',
    'mlp/kernel',
    'norm/scale',
  ]
  assert '64x128  embed mlp  - data+tensor  8,192  99.22%' in lines[1]
  assert lines[2].split() == ['norm/scale', '64', 'norm', '-', '64', '0.78%']
  assert lines[3] == (
    '8,256 parameters in 2 arrays, 33.02 kB; 4.352 kB on each device'
  )


def test_torch_is_left_out():
  """It takes seconds to import, and nothing here needs it."""
  code = (
    'import sys, train.reporting.metrics; assert "torch" not in sys.modules; '
    'import torch'
  )
  pytest.importorskip('torch')
  subprocess.run([sys.executable, '-c', code], check=True)


def test_samples_fill_one_screen_at_most(monkeypatch):
  monkeypatch.setenv('COLUMNS', '20')
  monkeypatch.setenv('LINES', '11')

  def height(text):
    """Rows of a terminal that the text takes; a wide character takes two."""
    wide = sum('\u4e00' <= x <= '\u9fff' for x in text)
    rows = [
      -(-(len(x) + sum('\u4e00' <= y <= '\u9fff' for y in x)) // 20) or 1
      for x in text.split('\n')
    ]
    return sum(rows), wide

  short = 'input: a\ntarget: b\n\ninput: c\ntarget: d\n'
  assert one_screen(short) == short.strip('\n')
  long = '\n\n'.join(f'input: {n}{"x" * 300}\ntarget: {n}' for n in range(2))
  found = one_screen(long)
  assert height(found)[0] <= 11
  assert found.count('...') == 2
  assert all(
    f'{name}: {n}' in found for name in ('input', 'target') for n in '01'
  )
  many = '\n\n'.join(f'input: {n}\ntarget: {n}' for n in range(9))
  found = one_screen(many)
  assert height(found)[0] <= 11
  shown = found.count('target')
  assert found.endswith(f'({9 - shown} more in TensorBoard)')
  assert shown >= 2
  rows, wide = height(one_screen('input: ' + '漢' * 400))
  assert rows <= 11
  assert wide >= 60
