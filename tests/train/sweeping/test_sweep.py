"""`python -m train.sweep`: a run in it is the run alone, and it goes on."""

import json
import re
import signal
import sys
import threading
import time

import pytest

from configs import gpt2
from tests.helpers import processes, runs
from train import sweep
from train.runs import folders, workdir
from train.sweeping import record

STEPS = 1000
KEYS = runs.SYSTEMS['gpt2'] | {
  'data.source': 'synthetic', 'model.vocab_size': 64, 'data.length': 16,
  'data.batch': 8, 'train.steps': STEPS, 'train.log_every': 20,
  'eval.every': STEPS, 'eval.batches': 1, 'eval.samples': 0,
  'checkpoint.every': 10 * STEPS,
}  # fmt: skip
GRID = 'sharding.mesh.tensor=1,3'  # no number of devices here has the second


def command(module, *flags):
  return [
    *(sys.executable, '-m', module, '--config=configs/gpt2.py:tiny'),
    *(f'--config.{key}={x}' for key, x in KEYS.items()),
    *flags,
  ]


def states(out):
  found = json.loads((out / record.NAME).read_text())['runs']
  return {run['name']: run['state'] for run in found}


@pytest.fixture(scope='module')
def swept(tmp_path_factory):
  """A sweep that was asked to stop, and then went on; what it printed."""
  out = tmp_path_factory.mktemp('sweep') / 'runs'
  own = command('train.sweep', '--jobs=2', '--grid', GRID, f'--out={out}')
  process = runs.start(own)
  numbers = out / 'tensor=1' / 'metrics.jsonl'
  while process.poll() is None:
    if numbers.exists() and 'train/loss' in numbers.read_text():
      break
    time.sleep(0.02)
  process.send_signal(signal.SIGTERM)
  first, _ = process.communicate()
  assert process.returncode == 0
  assert 'Asked to stop: 2 of 2 runs are left' in first
  assert 'Failed: tensor=3: sharding.mesh' in first
  stopped = {'tensor=1': 'stopped', 'tensor=3': 'failed'}
  assert states(out) == stopped, first
  return out, runs.run(own)


def test_a_run_in_a_sweep_is_the_run_alone(swept, tmp_path):
  """Beside another one, and stopped on the way: no bit differs."""
  out, _ = swept
  alone = tmp_path / 'alone'
  key = '--config.sharding.mesh.tensor=1'
  done = runs.run(command('train', key, f'--workdir={alone}'))
  assert done.returncode == 0, done.stderr
  processes.assert_equal_runs(out / 'tensor=1', alone)
  assert len(runs.rows(alone)) == STEPS // 20
  log = (out / 'tensor=1' / 'log.txt').read_text()
  assert 'Resuming from the checkpoint of step' in log


def test_a_run_that_fails_is_marked_and_the_rest_go_on(swept):
  out, done = swept
  assert done.returncode == 1
  assert states(out) == {
    'tensor=1': 'done',
    'tensor=3': 'failed',
  }
  assert 'Error: 1 of 2 runs failed:\n  tensor=3: sharding.' in (done.stderr)
  (row,) = [x for x in done.stdout.split('\n') if x.startswith('tensor=1 ')]
  (_, loss), (_, held_out) = (
    runs.rows(out / 'tensor=1', f'{x}/loss')[-1] for x in ('train', 'eval')
  )
  assert row.split()[1:] == ['1,000', f'{loss:.4f}', f'{held_out:.4f}', 'done']


def test_what_a_folder_has_is_not_taken_for_another_run(swept):
  out, _ = swept
  config = workdir.read_config(str(out / 'tensor=1'))
  points = sweep.points_of('gpt2.py', [GRID])[:1]
  (run,) = sweep.runs_of(config, points, str(out), ())
  assert run.state == 'done'
  with config.unlocked():
    config.data.batch = 4
  with pytest.raises(ValueError, match=r'data.batch: 8 there, 4 now'):
    sweep.runs_of(config, points, str(out), ())


def test_runs_of_a_killed_sweep_are_waited_for(swept, tmp_path):
  """Their processes may live on: two would not train in one folder."""
  config = workdir.read_config(str(swept[0] / 'tensor=1'))
  points = sweep.points_of('gpt2.py', ['seed=7'])
  (run,) = sweep.runs_of(config, points, str(tmp_path), ())
  assert run.state == 'waiting'
  folders.make(run.folder)
  assert not record.is_trained(run.folder)
  lock = folders.lock(run.folder)
  assert record.is_trained(run.folder)
  threading.Timer(0.2, lock.close).start()
  sweep._wait([run])
  assert lock.closed


def test_a_file_without_sweep(tmp_path):
  path = tmp_path / 'config.py'
  path.write_text('')
  with pytest.raises(ValueError, match=r'has no function sweep\(\): give'):
    sweep.points_of(f'{path}:tiny', [])


@pytest.mark.parametrize(
  ('grid', 'message'),
  [
    ('schedule.warmup_steps=3,9999', 'warmup_steps=9999: schedule.warmup_st'),
    ('train.steps=100,-5', 'steps=-5: train.steps is -5'),
    ('eval.every=0', 'every=0: eval.every is 0; it must be at least 1'),
    ('schedule.learning_rate=nan', 'learning_rate=nan: schedule.learning_rate'),
  ],
)
def test_a_run_that_cannot_be_fails_before_the_first_begins(grid, message):
  config = gpt2.get_config('tiny')
  points = sweep.points_of('gpt2.py', [grid])
  with pytest.raises(ValueError, match=re.escape(message)):
    sweep.runs_of(config, points, '/nowhere', ())
