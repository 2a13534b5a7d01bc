"""Where a run's time goes: parts of a process, and all of its starts."""

import json
import threading
import time

import pytest

from train.reporting import timing
from train.reporting.timing import NAME, Life, Record, read


class Clock:
  """Both clocks of a process; stands still unless moved."""

  def __init__(self, monkeypatch):
    self.now = 1000.0
    monkeypatch.setattr(timing.time, 'perf_counter', lambda: self.now)
    monkeypatch.setattr(timing.time, 'time', lambda: self.now)


class Numbers:
  """The result of a step, which is ready when the test says so."""

  def __init__(self):
    self._ready = threading.Event()

  def block_until_ready(self):
    self._ready.wait()

  def end(self, record):
    """Ends the step, and waits until the thread has seen it."""
    self._ready.set()
    while record._devices.idle_since() == float('inf'):
      time.sleep(0.001)


def rows(folder):
  return [json.loads(x) for x in (folder / NAME).read_text().splitlines()]


def test_each_moment_belongs_to_one_part(tmp_path, monkeypatch):
  clock = Clock(monkeypatch)
  monkeypatch.setattr(timing.startup, 'began', [990.0])
  record = Record(str(tmp_path))
  clock.now += 5  # startup
  with record.part('compile'):
    clock.now += 7
  with record.part('evaluation'):
    clock.now += 2
    with record.part('checkpoint'):
      clock.now += 1
  record.mark(3)
  record.enter('compute')
  clock.now += 4
  found = record.row(8)
  assert found == {
    'time/startup': 15.0,
    'time/compile': 7.0,
    'time/evaluation': 2.0,
    'time/checkpoint': 1.0,
    'time/compute': 4.0,
    'time/input': 0.0,
    'time/goodput': 4 / 29,
  }
  clock.now += 1
  record.started(9, 0)
  record.close()
  assert rows(tmp_path) == [
    {'time': 990.0, 'event': 'start'},
    {'time': 1015.0, 'step': 3}
    | {'startup': 15.0, 'compile': 7.0, 'evaluation': 2.0, 'checkpoint': 1.0},
    {'time': 1019.0, 'step': 8, 'compute': 4.0},
    {'time': 1020.0, 'step': 9, 'compute': 1.0},
  ]
  # A command's start counts once, however many runs it makes.
  (tmp_path / 'other').mkdir()
  Record(str(tmp_path / 'other')).close()
  (first, _) = rows(tmp_path / 'other')
  assert first == {'time': 1020.0, 'event': 'start'}


def test_waiting_counts_while_the_devices_are_idle(tmp_path, monkeypatch):
  clock = Clock(monkeypatch)
  record = Record(str(tmp_path))
  record.enter('compute')
  with record.waiting():  # nothing has been started
    clock.now += 3
  assert record.row(0)['time/input'] == 3
  first, second, third = Numbers(), Numbers(), Numbers()
  record.started(1, first)
  with record.waiting():  # the step ends after 4 of 10 seconds
    clock.now += 4
    first.end(record)
    clock.now += 6
  found = record.row(1)
  assert (found['time/input'], found['time/compute']) == (6, 4)
  record.started(2, second)
  with record.waiting():  # the devices compute all the time
    clock.now += 10
  found = record.row(2)
  assert (found['time/input'], found['time/compute']) == (0, 10)
  second.end(record)
  clock.now += 1
  with record.waiting():  # it had ended before
    clock.now += 5
  found = record.row(2)
  assert (found['time/input'], found['time/compute']) == (5, 1)
  # With a step that has ended and one under way, the devices are busy.
  record.started(3, third)
  with record.waiting():
    clock.now += 2
  assert record.row(3)['time/input'] == 0
  third.end(record)
  record.close()


def write(folder, *lines):
  text = ''.join(f'{json.dumps(x)}\n' for x in lines)
  (folder / NAME).write_text(text)


def start(at):
  return {'time': at, 'event': 'start'}


def test_steps_that_are_made_again_are_lost(tmp_path):
  """Killed at 107 s with a checkpoint of step 4, resumed at 120 s."""
  write(
    tmp_path,
    start(0.0),
    {'time': 10.0, 'step': 0, 'startup': 8.0, 'compile': 2.0},
    {'time': 50.0, 'step': 4, 'compute': 40.0},
    {'time': 55.0, 'step': 4, 'checkpoint': 5.0},
    {'time': 105.0, 'step': 9, 'compute': 45.0, 'input': 5.0},
    start(120.0),
    {'time': 126.0, 'step': 4, 'startup': 4.0, 'restore': 2.0},
    {'time': 186.0, 'step': 10, 'compute': 60.0},
  )
  life = read(str(tmp_path))
  assert life.starts == 2
  assert life.step == 10
  assert life.total == 186.0
  assert life.seconds == {
    'compute': 100.0,
    'lost': 45.0,
    'startup': 12.0,
    'compile': 2.0,
    'restore': 2.0,
    'checkpoint': 5.0,
    'input': 5.0,
    'down': 15.0,
  }
  assert life.goodput == 100 / 186
  lines = life.table().split('\n')
  assert lines[0] == (
    'Goodput 53.8% of 186 s since the first of 2 starts, up to step 10:'
  )
  assert 'lost               45.0 s  24.2%  training steps' in life.table()
  assert set(life.seconds) <= set(timing.MEANINGS)


def test_an_end_before_the_first_step_loses_none(tmp_path):
  """As of an evaluation that fails when a run resumes."""
  write(tmp_path, start(0.0), {'time': 9.0, 'step': 4, 'compute': 9.0})
  Record(str(tmp_path)).close()
  life = read(str(tmp_path))
  assert (life.starts, life.step) == (2, 4)
  assert life.seconds['compute'] == 9
  assert life.seconds['lost'] == 0


def test_a_rewind_loses_steps_too():
  """Of a row of ten steps, the four after the one that stays are lost."""
  life = Life()
  for row in (
    start(0.0),
    {'time': 10.0, 'step': 10, 'compute': 10.0},
    {'time': 20.0, 'step': 20, 'compute': 10.0},
    {'time': 23.0, 'step': 23, 'compute': 3.0},
    {'time': 25.0, 'step': 16, 'rewind': 2.0},
  ):
    life.add(row)
  assert life.seconds == {'compute': 16.0, 'lost': 7.0, 'rewind': 2.0}
  # Going back once more, into steps that had counted.
  life.add({'time': 26.0, 'step': 5, 'rewind': 1.0})
  assert life.seconds == {'compute': 5.0, 'lost': 18.0, 'rewind': 3.0}
  assert life.total == 26.0


def test_a_kill_cuts_the_last_line(tmp_path, monkeypatch):
  clock = Clock(monkeypatch)
  write(tmp_path, start(900.0), {'time': 905.0, 'step': 1, 'compute': 5.0})
  with open(tmp_path / NAME, 'a') as file:
    file.write('{"time": 910.0, "st')
  assert read(str(tmp_path)).total == 5.0
  record = Record(str(tmp_path))
  clock.now += 2
  record.mark(1)
  record.close()
  assert len(rows(tmp_path)) == 5
  life = read(str(tmp_path))
  assert life.seconds == {'compute': 5.0, 'down': 95.0, 'startup': 2.0}
  (tmp_path / NAME).write_text('{"time": 1}\nnone\n')
  with pytest.raises(ValueError, match=r'time\.jsonl, line 1, is not a row'):
    read(str(tmp_path))
  with pytest.raises(ValueError, match=r'has no time\.jsonl: it holds no run'):
    read(str(tmp_path / 'other'))


def test_only_one_process_writes(tmp_path):
  record = Record(str(tmp_path), active=False)
  assert record.row(1).keys() >= {'time/compute', 'time/input'}
  record.close()
  assert not (tmp_path / NAME).exists()
