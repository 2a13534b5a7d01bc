"""Runs whose workdir is in a bucket: the same numbers, kills, locks."""

import json
import signal
import sys
import time

import pytest

from tests.helpers import buckets, processes, runs
from train.fingerprint import fingerprint
from train.runs import folders

pytestmark = pytest.mark.slow
PLACE = f'gs://{buckets.BUCKET}'


@pytest.fixture(scope='module')
def bucket(tmp_path_factory):
  with buckets.emulated(tmp_path_factory.mktemp('certificate')) as found:
    yield found


def losses(bucket, run):
  rows = map(json.loads, bucket.read(f'{run}/metrics.jsonl').splitlines())
  return [(x['step'], x['train/loss']) for x in rows if 'train/loss' in x]


def test_a_run_is_the_same_as_on_a_disk(bucket, tmp_path):
  """Killed and resumed; a checkpoint that a kill cut short is no checkpoint."""
  source = runs.write_text(tmp_path / 'text')
  settings = runs.STEPS | {'data__source': source, 'checkpoint__keep': 1}
  runs.train(tmp_path / 'run', **settings)
  command = runs.command(f'{PLACE}/run', **settings)
  killed = runs.run(processes.killed(command, 4))
  assert killed.returncode == -signal.SIGKILL, killed.stderr
  names = bucket.names('run')
  assert 'checkpoints/2/commit_success.txt' in names
  assert {'.lock', 'config.json', 'tokenizer.model'} <= set(names)
  bucket.write('run/checkpoints/3/state/manifest.ocdbt', b'half')

  again = runs.run(command)
  assert again.returncode == 0, again.stderr
  assert 'Resuming from the checkpoint of step 2.' in again.stdout
  assert losses(bucket, 'run') == runs.rows(tmp_path / 'run')
  names = bucket.names('run')
  assert {'curves.png', 'history.json'} <= set(names)
  assert '.lock' not in names  # it was given back
  steps = {name.split('/')[1] for name in names if 'checkpoints/' in name}
  assert steps == {'4'}  # checkpoint.keep=1
  sums = json.loads(bucket.read('run/checkpoints/4/checksums.json'))
  assert {tuple(entry) for entry in sums.values()} == {('bytes',)}

  shown = runs.program('fingerprint', f'{PLACE}/run')
  assert json.loads(shown.stdout) == fingerprint(str(tmp_path / 'run'))
  scores = [
    runs.program('evaluate', place).stdout
    for place in (tmp_path / 'run', f'{PLACE}/run')
  ]
  assert scores[0] == scores[1]

  (data,) = [x for x in names if x.startswith('checkpoints/4/state/d/')][:1]
  bucket.write(f'run/{data}', bucket.read(f'run/{data}')[:-1])
  done = runs.program('fingerprint', f'{PLACE}/run')
  assert 'does not have the size it was written with' in done.stderr


def test_refused(bucket, monkeypatch):
  with pytest.raises(ValueError, match='only those in gs://'):
    folders.check_name('s3://bucket/run')
  with pytest.raises(ValueError, match="there is no bucket 'another'"):
    folders.make('gs://another/run')
  monkeypatch.setitem(folders.BUCKETS, 'google-cloud-storage', 'none.such')
  with pytest.raises(ValueError, match='pip install google-cloud-storage'):
    folders.check_name(f'{PLACE}/run')


def test_two_processes(bucket, tmp_path):
  settings = runs.STEPS | {'data__source': runs.write_text(tmp_path / 'text')}
  runs.train(tmp_path / 'run', devices=8, **settings)
  processes.finish(
    processes.start_two(
      lambda *flags: runs.command(f'{PLACE}/two', *flags, **settings)
    )
  )
  found, expected = losses(bucket, 'two'), runs.rows(tmp_path / 'run')
  assert found == [(step, pytest.approx(x, rel=1e-5)) for step, x in expected]
  assert 'checkpoints/4/commit_success.txt' in bucket.names('two')


LOCK = f"""
import sys, time
from input_pipeline.sources import locks
host, seconds = sys.argv[1:]
locks.BEAT, locks.PATIENCE = 0.5, 3
locks.socket.gethostname = lambda: host
try:
  held = locks.hold('gs://{buckets.BUCKET}/lock')
except locks.HeldError as error:
  sys.exit(f'held by {{error}}')
print('taken', flush=True)
time.sleep(float(seconds))
"""


def test_locks(bucket):
  def start(host, seconds):
    return runs.start([sys.executable, '-c', LOCK, host, str(seconds)])

  first = start('a', 100)
  limit = time.monotonic() + 60
  while time.monotonic() < limit:
    try:
      bucket.read('lock')
      break
    except OSError:
      time.sleep(0.1)
  stdout, stderr = start('b', 0).communicate(timeout=60)
  assert 'to see whether it still runs' in stdout
  assert f'held by process {first.pid} on a' in stderr
  first.send_signal(signal.SIGKILL)
  first.wait()
  # Of the machine that it was killed on, nobody waits.
  second = start('a', 0)
  stdout, stderr = second.communicate(timeout=60)
  assert stdout == 'taken\n', stderr
  with pytest.raises(OSError, match='404'):
    bucket.read('lock')  # it was given back
  # Of another one a process waits for a sign of life.
  bucket.write('lock', b'process 1 on a; 5; 0')
  stdout, stderr = start('b', 0).communicate(timeout=60)
  assert stdout.endswith('taken\n'), stderr
  assert 'is held by process 1 on a: waiting 3 s' in stdout
