"""A run's numbers: metrics.jsonl, and what TensorBoard shows."""

import math
import os
import shutil
import struct
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from input_pipeline.sources import growing
from train.reporting import board
from train.reporting.metrics import MetricsWriter, read_metrics


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


def test_resuming_drops_later_rows(tmp_path):
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


def test_going_back_drops_later_rows_too(tmp_path):
  writer = MetricsWriter(str(tmp_path))
  for step in (1, 2, 3):
    writer.write(step, {'train/loss': 0.5})
  writer.go_back(1)
  assert (steps(tmp_path), writer.rows) == ([1], 1)
  writer.write(2, {'train/loss': 0.25})
  writer.close()
  assert steps(tmp_path) == [1, 2]
  assert board.shown(str(tmp_path / 'tensorboard'))['train/loss'] == {1, 2}
  idle = MetricsWriter(str(tmp_path), active=False)
  idle.go_back(0)
  assert steps(tmp_path) == [1, 2]


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
  # TensorBoard hides what earlier files have from these steps on.
  assert purged == [0, 3]


def test_texts_that_tensorboard_shows(tmp_path):
  """A start hides the texts of earlier files from its first step on."""
  with MetricsWriter(str(tmp_path)) as writer:
    for step in (1, 2, 3):
      writer.write(step, {'samples/text_summary': 1.0})  # a number, no text
      writer.write_text(step, 'samples', f'a **sample** of {step}')
      writer.write_text(step, 'others', 'no sample')
  with MetricsWriter(str(tmp_path), 2) as writer:
    writer.write_text(4, 'samples', 'é')
  found = board.texts(str(tmp_path / 'tensorboard'), 'samples')
  assert found == {
    1: 'a **sample** of 1',
    2: 'a **sample** of 2',
    4: 'é',
  }


def test_only_the_active_process_writes(tmp_path):
  writer = MetricsWriter(str(tmp_path), active=False)
  writer.write(1, {'train/loss': 1.0})
  writer.write_text(1, 'a', 'b')
  writer.close()
  assert not os.listdir(tmp_path)


@pytest.mark.skipif(
  not os.path.exists('/dev/full'),
  reason='needs /dev/full, which only Linux has',
)
def test_full_disk(tmp_path):
  writer = MetricsWriter(str(tmp_path))
  writer._file = growing.GrowingFile('/dev/full')
  with pytest.raises(OSError, match='Cannot write .*metrics.jsonl: No space'):
    writer.write(1, {'train/loss': 1.0})


def test_a_disk_that_is_full_at_the_end(tmp_path, capsys):
  """A close that fails is reported, and may be repeated."""
  writer = board.Board(str(tmp_path), 0)
  writer._file = growing.GrowingFile('/dev/full')
  writer._file.write(b'x')
  writer.close()
  assert 'cannot be written (No space' in capsys.readouterr().err
  writer.close()


def scalars(workdir, name='train/loss'):
  """(step, value) of all that TensorBoard's files have, in their order."""
  files = sorted((workdir / 'tensorboard').iterdir())
  return [
    (event.step, value.simple_value)
    for event in (Event.FromString(x) for file in files for x in records(file))
    for value in event.summary.value
    if value.tag == name
  ]


def test_points_lost_in_a_kill_are_added(tmp_path):
  """The points are in metrics.jsonl; TensorBoard's buffer was not flushed."""
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
  write(again, [3], resume_step=2)  # what comes after is shown too
  found = board.shown(str(again / 'tensorboard'))
  assert found['train/loss'] == found['train/mfu'] | {1, 2} == {1, 2, 3}


def test_a_start_hides_later_points(tmp_path):
  """The run resumed from an older checkpoint, and will make them again."""
  write(tmp_path, [1, 2, 3, 4])
  with MetricsWriter(str(tmp_path), 2):
    assert board.shown(str(tmp_path / 'tensorboard'))['train/loss'] == {1, 2}


def test_missing_rows_are_reported(tmp_path, capsys):
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
  not os.path.exists('/dev/full'),
  reason='needs /dev/full, which only Linux has',
)
def test_a_full_disk_under_tensorboard_ends_nothing(tmp_path, capfd):
  """The failure is one line; the next start adds the missing points."""
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


def test_torch_is_left_out(tmp_path):
  """It takes seconds to import, and no board needs it."""
  code = (
    'import sys; from train.reporting import board; '
    'board.Board(sys.argv[1], 0).scalar(1, "x", 0.5); '
    'assert "tensorboardX" in sys.modules; assert "torch" not in sys.modules; '
    'import torch'
  )
  pytest.importorskip('torch')
  subprocess.run([sys.executable, '-c', code, str(tmp_path)], check=True)
