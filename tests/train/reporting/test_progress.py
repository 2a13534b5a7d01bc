"""What a run shows in the terminal."""

import io

import jax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from train.reporting import progress
from train.reporting.progress import Progress, one_screen, overview


class Terminal(io.StringIO):
  def isatty(self):
    return True


def test_progress(monkeypatch):
  now = iter([0.0, 10.0, 12.0, 104.0, 200.0, 210.0])
  monkeypatch.setattr('time.perf_counter', lambda: next(now))
  monkeypatch.setattr(progress, 'peak_flops', lambda device: 1e11)
  stream = io.StringIO()
  line = Progress(1000, 1, stream=stream)
  line.step_flops = 4e10
  line.begin()
  line.update(5, 3.25, 2000, 0.09)  # 4 steps in 2 seconds
  assert line.rates == {
    'train/steps_per_second': 2.0,
    'train/tokens_per_second': 4000.0,
    'train/mfu': 2 * 4e10 / 8e11,
  }
  line.pause(88.0)  # evaluated
  line.update(13, 3.0, 2000, 0.4)  # 8 steps in 4 seconds, 0.4 of them waiting
  line.go_back(9)
  line.update(10, 3.0, 2000)  # a step in 10 seconds
  assert stream.getvalue() == (
    'step 5/1,000 (0%)  loss 3.2500  4,000 tokens/s  MFU 10.0%  ETA 8m18s\n'
    'step 13/1,000 (1%)  loss 3.0000  4,000 tokens/s  MFU 10.0%  input 10%  '
    'ETA 8m14s\n'
    'step 10/1,000 (1%)  loss 3.0000  200 tokens/s  MFU 0.5%  ETA 2h45m\n'
  )


def test_a_live_line_fits_the_terminal_and_notes_stay(monkeypatch):
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


def test_a_closed_pipe_ends_no_run():
  class Closed(io.StringIO):
    def write(self, text):
      raise BrokenPipeError

  line = Progress(4, stream=Closed())
  line.update(1, 2.0, 3.0)
  line.note('a sample')
  line.update(4, 2.0, 3.0)
  assert line.rates['train/steps_per_second'] > 0


def test_inactive_progress_is_silent():
  stream = Terminal()
  line = Progress(10, active=False, stream=stream)
  line.update(1, 3.0, 100)
  line.note('saved')
  line.close()
  assert not stream.getvalue()
  assert line.rates['train/tokens_per_second'] > 0


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


def test_samples_fill_at_most_one_screen(monkeypatch):
  monkeypatch.setenv('COLUMNS', '20')
  monkeypatch.setenv('LINES', '11')

  def height(text):
    """Rows of a terminal that the text takes, and its wide characters."""
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
