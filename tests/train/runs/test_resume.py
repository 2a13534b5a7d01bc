"""Whatever stops a run, resuming it gives what an uninterrupted run gives.

Each run is a process of its own, with dropout and packing on. All are compared
with a run that was not interrupted.
"""

import itertools
import os
import random
import re
import shutil
import signal
import sys
import time

import numpy as np
import pytest

from tests.helpers import runs
from tests.helpers.corpora import texts, write
from tests.helpers.processes import assert_equal_runs, killed
from train.fingerprint import fingerprint

pytestmark = [
  pytest.mark.slow,
  # TensorStore's threads print after a checkpoint that could not be read.
  pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning'),
]

# Prints the most documents that a row of the first batch has.
DOCUMENTS = """
import sys
import numpy as np
from input_pipeline import pipeline
from input_pipeline.config import DataConfig
from train.runs import workdir
config = workdir.read_config(sys.argv[1])
data = pipeline.open_data(
  DataConfig(**config.data), config.seed, config.model.vocab_size, '',
  sys.argv[1], family=config.model.family,
)
batch = next(data.batches(data.start(), np.arange(config.data.batch)))
print(batch['segments'].max())
"""


def most_documents(folder):
  done = runs.run([sys.executable, '-c', DOCUMENTS, str(folder)])
  assert done.returncode == 0, done.stderr
  return int(done.stdout.split()[-1])


@pytest.fixture(scope='module')
def whole(tmp_path_factory, source):
  """The workdir of a run that was not interrupted."""
  folder = tmp_path_factory.mktemp('whole') / 'run'
  runs.train(folder, data__source=source, checkpoint__keep_every=20)
  return folder


@pytest.fixture
def copied(whole, tmp_path):
  """A copy of that run at step 36, without its last checkpoint."""
  folder = tmp_path / 'run'
  shutil.copytree(whole, folder)
  shutil.rmtree(folder / 'checkpoints' / '40')
  return folder


def test_checkpoints_that_are_kept(whole):
  """The newest two are kept, and those at multiples of 20."""
  assert runs.checkpoints(whole) == [20, 36, 40]
  losses = runs.rows(whole)
  assert [step for step, _ in losses] == list(range(1, 41))
  assert losses[-1][1] < losses[0][1] - 0.5
  assert most_documents(whole) > 1


def wait_for(process, folder, step, saving):
  """Waits for a step, or with `saving` until the next save after it starts."""
  for line in process.stdout:
    found = re.match(r'step (\d+)/', line)
    if found and int(found[1]) >= step:
      break
  while saving and process.poll() is None:
    if any('tmp' in name for name in os.listdir(folder / 'checkpoints')):
      return


def test_killed_at_any_moment(whole, source, tmp_path):
  """SIGKILL comes at random, also during a save; SIGTERM comes once."""
  folder = tmp_path / 'run'
  command = runs.command(folder, data__source=source, checkpoint__keep_every=20)
  rng = random.Random(0)
  moments = [
    (rng.randint(1, 6), False, signal.SIGKILL),
    (rng.randint(8, 12), True, signal.SIGKILL),
    (rng.randint(16, 20), False, signal.SIGTERM),
    (rng.randint(24, 28), True, signal.SIGKILL),
    (rng.randint(32, 36), False, signal.SIGKILL),
  ]
  saved = [0]
  for step, saving, number in moments:
    process = runs.start(command)
    wait_for(process, folder, step, saving)
    time.sleep(rng.uniform(0, 0.03))
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == (-9 if number == signal.SIGKILL else 0), stderr
    saved.append(max(runs.checkpoints(folder), default=0))
    if number == signal.SIGTERM:
      at = int(re.search(r'the checkpoint of step (\d+) is saved', stdout)[1])
      assert at == saved[-1]
  assert saved == sorted(saved)
  assert len(set(saved)) >= 4, saved  # the moments differed
  # The workdir alone is enough to go on.
  done = runs.run([*command[:3], f'--workdir={folder}'])
  assert done.returncode == 0, done.stderr
  assert f'Resuming from the checkpoint of step {saved[-1]}.' in done.stdout
  assert_equal_runs(folder, whole)


def test_damaged_checkpoint(whole, copied, source):
  newest = copied / 'checkpoints' / '36'
  files = [f for f in newest.rglob('*') if f.parent.name == 'd']
  assert files
  for file in files:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
  done = runs.run(
    runs.command(copied, data__source=source, checkpoint__keep_every=20)
  )
  assert done.returncode == 0, done.stderr
  assert f'{newest} cannot be read' in done.stderr
  aside = copied / 'damaged_checkpoints' / '36'
  assert f'is now in {aside}' in done.stderr
  assert 'Traceback' not in done.stderr
  assert aside.is_dir()
  assert 'Resuming from the checkpoint of step 20.' in done.stdout
  assert_equal_runs(copied, whole)
  assert runs.checkpoints(copied) == [20, 36, 40]


def test_no_checkpoint_can_be_read(copied, source):
  for step in (20, 36):
    shutil.rmtree(copied / 'checkpoints' / str(step) / 'state')
  done = runs.run(
    runs.command(copied, data__source=source, checkpoint__keep_every=20)
  )
  assert done.returncode == 1
  last = done.stderr.strip().split('\n')[-1]
  assert last.startswith('Error: None of the checkpoints [20, 36] in')


@pytest.mark.parametrize('every', [1, 4])
def test_full_disk(whole, copied, source, every):
  """The failure is reported right after the save, before any other work."""
  config = {'data__source': source, 'checkpoint__keep_every': 20}
  # Writing a file of more than so many bytes is an error.
  done = runs.run(
    runs.command(copied, **config, checkpoint__every=every), largest=40_000
  )
  assert done.returncode == 1, done.stderr
  last = done.stderr.strip().split('\n')[-1]
  assert last.startswith('Error: A checkpoint could not be written to')
  assert 'The checkpoints already there are unharmed' in last
  assert 'Traceback' not in done.stderr
  assert runs.checkpoints(copied) == [20, 36]
  if every == 1:
    runs.train(copied, **config)
    assert_equal_runs(copied, whole)


def test_another_configs_run(whole, source):
  config = {'data__source': source, 'checkpoint__keep_every': 20}
  done = runs.run(
    runs.command(whole, **config, model__dropout=0.2, data__length=64, seed=1)
  )
  assert done.returncode == 1
  assert 'holds the run of another config. Different are:' in done.stderr
  assert 'model.dropout: 0.1 there, 0.2 now' in done.stderr
  assert 'data.length: 32 there, 64 now' in done.stderr
  assert 'seed: 0 there, 1 now' in done.stderr
  assert 'Traceback' not in done.stderr


def test_changed_data(whole, source):
  """One word of one file is another, of as many bytes."""
  path = source.removeprefix('text:').replace('*', '1')
  with open(path) as file:
    text = file.read()
  try:
    with open(path, 'w') as file:
      file.write('zzz' + text[3:])
    done = runs.run([*runs.command(whole)[:3], f'--workdir={whole}'])
  finally:
    with open(path, 'w') as file:
      file.write(text)
  assert done.returncode == 1
  assert 'The data has changed since the checkpoint in' in done.stderr
  assert '1.txt' in done.stderr or 'source[1]' in done.stderr
  assert 'Traceback' not in done.stderr


@pytest.fixture(scope='module')
def eight(tmp_path_factory, source):
  """The workdir of a run of four steps on eight devices."""
  folder = tmp_path_factory.mktemp('eight') / 'run'
  runs.train(
    folder,
    devices=8,
    data__source=source,
    checkpoint__keep_every=20,
    train__steps=4,
    sharding__rules='fsdp_tensor',
    sharding__mesh__data=2,
    sharding__mesh__fsdp=2,
    sharding__mesh__tensor=2,
  )
  return folder


@pytest.mark.parametrize('devices', [1, 2, 4])
def test_saved_on_eight_devices(eight, whole, source, tmp_path, devices):
  folder = tmp_path / 'run'
  shutil.copytree(eight, folder)
  config = {'data__source': source, 'checkpoint__keep_every': 20}
  stdout = runs.train(folder, devices=devices, **config, train__steps=6)
  assert 'Resuming from the checkpoint of step 4.' in stdout
  ours, expected = runs.rows(folder), runs.rows(whole)[:6]
  assert [step for step, _ in ours] == [step for step, _ in expected]
  np.testing.assert_allclose(ours, expected, rtol=1e-4)
  # The data do not depend on the devices.
  first, second = fingerprint(str(folder)), fingerprint(str(folder), 4)
  assert first['data'] == second['data'] == fingerprint(str(whole))['data']


@pytest.fixture(scope='module')
def mixture(tmp_path_factory):
  """Two JSON sources of 300 documents of one to three short sentences."""
  folder, pairs = tmp_path_factory.mktemp('mixture'), []
  for seed, rate in enumerate((0.75, 0.25)):
    some = (
      ' '.join(text.split()[:2]).capitalize() for text in texts(600, seed)
    )
    documents = [
      '. '.join(itertools.islice(some, n % 3 + 1)) for n in range(300)
    ]
    write(folder / f'{seed}.json.gz', documents)
    pairs.append((f'json:{folder}/{seed}.json.gz', rate))
  return tuple(pairs)


@pytest.mark.parametrize(
  ('system', 'moments'),
  [
    ('electra', [4]),
    ('rwkv', [3]),
  ],
)
def test_every_family_killed(mixture, tmp_path, system, moments):
  """The data are a mixture; rows are longer from step 4 on.

  RWKV's moments and the sum of its parts' gradients are rounded.
  """
  masks = 'data.predictions' in runs.SYSTEMS[system]
  config = {
    'system': system,
    'data__source': '',
    'data__mixture': mixture,
    'data__tokenizer_kind': 'bytes',
    'data__lowercase': False,
    'data__length': 32,
    'train__phases': ((('steps', 3), 0, 16, 3 if masks else 0, ''),),
    'model__vocab_size': 300,
    'model__scan': False,  # there is one layer
    'train__steps': 6,
    'eval__batches': 1,
    'checkpoint__every': 1,
  }
  if system == 'rwkv':
    config |= {
      'optimizer__moments_dtype': 'bfloat16',
      'train__accumulate': 2,
      'train__accumulate_dtype': 'bfloat16',
    }
  whole, folder = tmp_path / 'whole', tmp_path / 'killed'
  runs.train(whole, **config)
  # Both sources are read; evaluations have rows of their step's length.
  assert all(runs.rows(whole, f'data/documents_{n}')[-1][1] for n in (0, 1))
  tokens = [count for _, count in runs.rows(whole, 'train/tokens')]
  assert max(tokens[:3]) < min(tokens[3:])
  (_, first), (_, second) = runs.rows(whole, 'eval/tokens')
  assert first < second
  assert most_documents(whole) > 1
  for last in moments:
    done = runs.run(killed(runs.command(folder, **config), last))
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert runs.checkpoints(folder)[-1] == last - 1
  stdout = runs.train(folder, **config)
  assert f'Resuming from the checkpoint of step {last - 1}.' in stdout
  assert_equal_runs(folder, whole)
