"""What is read of workdirs: numbers, states, samples, names."""

import json
import math
import os
import socket
import subprocess
import sys

import pytest

from tests.helpers.workdirs import make
from train.comparing import runs
from train.comparing.series import along
from train.reporting.flops import run_flops


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Runs in several states, as a sweep that was interrupted leaves them."""
  folder = tmp_path_factory.mktemp('sweep')
  make(folder / 'done', samples='first <b>')
  make(folder / 'begun', seed=1, until=100)
  (folder / 'none').mkdir()
  (folder / 'logs').mkdir()
  (folder / 'logs' / 'done.txt').write_text('no run')
  return folder


def test_runs_below_a_folder(folder):
  found = runs.find([str(folder)])
  assert [os.path.basename(x) for x in found] == ['begun', 'done', 'none']
  one = str(folder / 'done')
  assert runs.find([one, one]) == [one]
  # An empty workdir that is named is listed beside others, but is no report.
  assert runs.find([one, str(folder / 'none')]) == [one, str(folder / 'none')]
  with pytest.raises(ValueError, match='no run is there yet'):
    runs.find([str(folder / 'none')])
  # Of a sweep that failed as a whole the reasons are known.
  failed = {'name': 'a=1', 'state': 'failed', 'why': 'eval.every is 0'}
  (folder / 'none' / 'sweep.json').write_text(json.dumps({'runs': [failed]}))
  with pytest.raises(ValueError, match='Of a sweep: a=1: eval.every is 0'):
    runs.find([str(folder / 'none')])
  (folder / 'none' / 'sweep.json').unlink()
  with pytest.raises(ValueError, match='missing: there is no such folder'):
    runs.find([str(folder / 'missing')])


def test_states_are_stated(folder):
  found = {x.name: x for x in runs.read_all(runs.find([str(folder)]))}
  assert found['done'].state == runs.COMPLETE
  assert found['none'].state == runs.EMPTY
  assert found['none'].note == 'empty, no run has begun'
  assert found['begun'].state == runs.UNFINISHED
  assert 'at step 100 of 200, last written' in found['begun'].note


def test_a_run_whose_process_lives_is_running(tmp_path):
  folder = make(tmp_path / 'run', until=50)
  lock, host = folder / '.lock', socket.gethostname()
  with subprocess.Popen([sys.executable, '-c', 'input()'], stdin=-1) as process:
    lock.write_text(f'process {process.pid} on {host}')
    run = runs.read(str(folder))
    assert (run.state, run.note) == (
      runs.RUNNING,
      'still running, at step 50 of 200',
    )
    process.communicate(b'\n')
  run = runs.read(str(folder))
  assert run.state == runs.STOPPED
  assert 'the same command resumes it' in run.note
  lock.write_text(f'process {os.getppid()} on another.host')
  assert runs.read(str(folder)).state == runs.UNFINISHED
  assert lock.read_text().endswith('another.host')  # only read


def test_numbers_and_where_they_are(folder):
  run = runs.read(str(folder / 'done'))
  lines = (folder / 'done' / 'metrics.jsonl').read_text().splitlines()
  assert run.evaluated == [0, 50, 100, 150, 200]
  assert run.step == 200
  assert len(run.lines[50]) == 2  # trained and evaluated
  for step, places in run.lines.items():
    rows = [json.loads(lines[place - 1]) for place in places]
    assert all(row['step'] == step for row in rows)
    for row in rows:
      assert row.items() <= (run.numbers[step] | {'step': step}).items()
  assert run.newest('eval/loss') == (200, run.at(200, 'eval/loss'))
  assert run.newest('train/mfu') is None
  assert run.life.starts == 1
  assert run.samples == {200: 'first <b>'}
  assert run.tokenizer == run.fingerprint['tokenizer'] == 'a' * 64


def test_a_row_that_is_being_written_and_one_that_is_not_finite(tmp_path):
  folder = make(tmp_path / 'run', until=50)
  with open(folder / 'metrics.jsonl', 'a') as file:
    file.write('{"step": 60, "train/loss": null}\n{"step": 70, "tra')
  run = runs.read(str(folder))
  assert run.step == 60
  assert math.isnan(run.at(60, 'train/loss'))


def test_runs_of_a_sweep_that_failed(tmp_path):
  """Those that its table marks, unless they have gone on since."""
  make(tmp_path / 'a', until=50)
  make(tmp_path / 'b')
  (tmp_path / 'c').mkdir()
  (tmp_path / 'c' / 'log.txt').write_text('Error: no such file')
  marked = [
    {'name': name, 'state': 'failed', 'why': f'{name} is ill'} for name in 'abc'
  ]
  (tmp_path / 'sweep.json').write_text(json.dumps({'runs': marked}))
  a, b, c = runs.read_all(runs.find([str(tmp_path)]))
  assert (a.state, a.note) == (
    runs.FAILED,
    'failed at step 50 of 200: a is ill',
  )
  assert b.state == runs.COMPLETE
  assert (c.state, c.note) == (
    runs.FAILED,
    'failed before it began: c is ill',
  )


def test_a_damaged_run_is_stated_and_the_others_go_on(tmp_path):
  make(tmp_path / 'a')
  bad = make(tmp_path / 'b')
  (bad / 'metrics.jsonl').write_text('no row\n')
  a, b = runs.read_all(runs.find([str(tmp_path)]))
  assert a.state == runs.COMPLETE
  assert b.state == runs.UNREADABLE
  assert 'line 1, is not a row of metrics' in b.note


def test_names_are_where_the_paths_differ(tmp_path):
  folders = [make(tmp_path / x / 'seed=0') for x in ('wide', 'deep')]
  found = runs.read_all(runs.find(map(str, folders)))
  assert [x.name for x in found] == ['deep/seed=0', 'wide/seed=0']
  assert runs.read_all([str(folders[0])])[0].name == 'seed=0'


def test_runs_are_in_the_order_of_their_numbers(tmp_path):
  names = ['rate=3e-4,size=32', 'rate=3e-4,size=128', 'rate=0.001,size=32']
  for name in names:
    (tmp_path / name).mkdir()
    (tmp_path / name / 'metrics.jsonl').touch()
  found = runs.find([str(tmp_path)])
  assert [os.path.basename(x) for x in found] == names


def test_what_a_run_had_used(folder):
  run = runs.read(str(folder / 'done'))
  steps = [0, 15, 200, 201]
  assert along(run, 'step', steps).tolist() == steps
  tokens = along(run, 'tokens', steps)
  assert tokens[:3].tolist() == [0, 15_000, 200_000]
  assert math.isnan(tokens[3])
  assert along(run, 'hours', [200])[0] == pytest.approx(0.25 * 200 / 3600)
  flops = along(run, 'flops', [0, 50, 200])
  assert flops.tolist() == pytest.approx(
    [0, run_flops(run.config) / 4, run_flops(run.config)]
  )
