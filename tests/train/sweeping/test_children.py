"""Runs as child processes; programs of a few lines stand for training."""

import os
import signal
import sys

import pytest

from train.sweeping import children, record
from train.sweeping.children import Run

# Reports its part and how many run with it; ends as its folder's name says.
PROGRAM = """
import os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
with (folder.parent / 'shown').open('a') as file:
  print('begin', folder.name, os.environ['PART'], file=file, flush=True)
time.sleep(0.1)
with (folder.parent / 'shown').open('a') as file:
  print('end', folder.name, os.environ['PART'], file=file, flush=True)
if folder.name.startswith('done'):
  (folder / 'done').touch()
if folder.name.startswith('killed'):
  os.kill(os.getpid(), 9)
if folder.name.startswith('failed'):
  print('Error: an old one', flush=True)
  sys.exit('Error: seed=7 is none. \\u2713\\nlast line')
"""
WAITS = """
import os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])

def save(*_):
  (folder / 'saved').touch()
  sys.exit(0)

signal.signal(signal.SIGTERM, save)
(folder / 'process').write_text(str(os.getpid()))
(folder / 'waits').touch()
time.sleep(60)
"""


@pytest.fixture
def train(tmp_path):
  """A function: trains runs of these names; returns them and the calls."""

  def done(folder):
    return os.path.exists(f'{folder}/done')

  def begin(names, jobs, program=PROGRAM, look=lambda runs: None, is_done=done):
    runs = [
      Run(
        name, str(tmp_path / name),
        [sys.executable, '-S', '-c', program, str(tmp_path / name)],
      )
      for name in names
    ]  # fmt: skip
    calls = []
    went = children.train_all(
      runs,
      [{'PART': str(i)} for i in range(jobs)],
      is_done,
      lambda run: calls.append((run.name, run.state)),
      lambda: look(runs),
    )
    return runs, calls, went

  return begin


def test_runs_that_fail_are_marked_and_the_rest_go_on(train, tmp_path):
  runs, calls, went = train(['failed', 'killed', 'done', 'other'], 1)
  assert went
  assert [x.state for x in runs] == ['failed', 'failed', 'done', 'stopped']
  assert [x.why for x in runs] == [
    f'seed=7 is none. ✓ (see {tmp_path}/failed/log.txt)',
    f'ended by SIGKILL (see {tmp_path}/killed/log.txt)',
    '',
    '',
  ]
  assert calls == [
    (x.name, state) for x in runs for state in ('running', x.state)
  ]
  log = (tmp_path / 'failed/log.txt').read_text()
  assert log.startswith(f'$ PART=0 {sys.executable} -S -c')
  # The reason is that of the last start.
  with open(tmp_path / 'done/log.txt', 'a') as file:
    file.write('Error: before\n')
  assert children._reason(file.name, os.path.getsize(file.name)) == ''


def test_as_many_at_once_as_there_are_parts(train, tmp_path):
  runs, _, _ = train([f'done{i}' for i in range(5)], 2)
  assert {run.state for run in runs} == {'done'}
  running, most = {}, 0
  for line in (tmp_path / 'shown').read_text().splitlines():
    what, name, part = line.split()
    if what == 'begin':
      assert part not in running.values()
      running[name] = part
    else:
      assert running.pop(name) == part
    most = max(most, len(running))
  assert most == 2


def test_a_stop_is_passed_on(train, tmp_path):
  """The run saves and ends; the one that waits is not begun."""

  def look(runs):
    if (tmp_path / 'one/waits').exists() and not asked:
      asked.append(True)
      os.kill(os.getpid(), signal.SIGTERM)

  asked = []
  runs, _, went = train(['one', 'two'], 1, WAITS, look)
  assert not went
  assert [run.state for run in runs] == ['stopped', 'waiting']
  assert (tmp_path / 'one/saved').exists()
  assert not (tmp_path / 'two').exists()


def test_a_process_that_outlives_its_sweep_is_seen(tmp_path):
  """Before it has locked its workdir, too."""
  folder = tmp_path / 'one'
  program = [sys.executable, '-S', '-c', WAITS, str(folder)]
  run = Run('one', str(folder), program)
  assert not record.is_trained(run.folder)
  process, _ = children._start(run, {})
  try:
    assert record.is_trained(run.folder)
  finally:
    process.kill()
    process.wait()
  assert not record.is_trained(run.folder)


@pytest.mark.parametrize('stopping', [False, True])
def test_no_process_is_left_after_a_failure_here(train, tmp_path, stopping):
  """It may save, unless this is the second Ctrl-C."""
  program = WAITS.replace('sys.exit(0)', 'return') if stopping else WAITS

  def look(runs):
    seen.append(runs[0].state)
    if (tmp_path / 'one/waits').exists() and stopping and 'asked' not in seen:
      os.kill(os.getpid(), signal.SIGINT)
      seen.append('asked')
    elif (tmp_path / ('one/saved' if stopping else 'one/waits')).exists():
      raise KeyboardInterrupt

  seen = []
  with pytest.raises(KeyboardInterrupt):
    train(['one'], 1, program, look)
  assert set(seen) == {'running'} | ({'asked'} if stopping else set())
  assert (tmp_path / 'one/saved').exists()
  with pytest.raises(ProcessLookupError):  # it has ended, and was waited for
    os.kill(int((tmp_path / 'one/process').read_text()), 0)


def test_a_run_whose_files_are_damaged_has_failed(train):
  def is_done(folder):
    raise ValueError('metrics.jsonl, line 3, is not a row')

  (run,), _, went = train(['done'], 1, is_done=is_done)
  assert went
  assert (run.state, run.why) == (
    'failed',
    'metrics.jsonl, line 3, is not a row',
  )
