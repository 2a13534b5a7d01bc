"""Two processes of four devices train like one process of eight."""

import json
import re
import shutil
import signal
import socket
import sys

import jax
import numpy as np
import pytest

from configs import t5
from tests.helpers import processes, runs
from tests.helpers.processes import finish, free_port
from train import recording
from train.evaluation.likelihoods import encode_pair, likelihoods
from train.fingerprint import fingerprint
from train.generation.making import make_writer
from train.generation.options import Options
from train.runs import opening, workdir

pytestmark = pytest.mark.slow

MESH = {
  'sharding__rules': 'fsdp_tensor',
  'sharding__mesh__data': 2,
  'sharding__mesh__fsdp': 2,
  'sharding__mesh__tensor': 2,
}
SETTINGS = {'train__steps': 12, 'eval__every': 12, 'eval__samples': 1, **MESH}

# Gloo's words on connecting: several threads write, and their pieces mix.
GLOO = re.compile(
  r'\[Gloo\]|Rank|Expected|number|connected|peer|ranks|is|of|to|[\d\s.:]'
)

# Prints a hash of every row of the first batches that this process holds.
BATCHES = """
import hashlib, json, sys
import jax
import numpy as np
from input_pipeline import pipeline
from train.parallel import sharding
from train.parallel.mesh import make_mesh
from train.runs import workdir
from input_pipeline.config import DataConfig
folder, address, process = sys.argv[1:]
if address:
  jax.distributed.initialize(address, 2, int(process))
config = workdir.read_config(folder)
data = pipeline.open_data(
  DataConfig(**config.data), config.seed, config.model.vocab_size, '', folder,
  family=config.model.family,
)
mesh = make_mesh({**config.sharding.mesh}, config.sharding.rules)
rows = sharding.batch_rows(mesh, config.data.batch)
batches = data.batches(data.start(), rows)
held = {}
for number in range(5):
  batch = sharding.global_batch(
    next(batches), rows, mesh, config.data.batch
  )
  for name, array in batch.items():
    assert array.shape[0] == config.data.batch
    for shard in array.addressable_shards:
      first = shard.index[0].start or 0
      for row, values in enumerate(np.asarray(shard.data), first):
        key = f'{number} {name} {row:02d}'
        value = hashlib.sha256(values.tobytes()).hexdigest()
        assert held.setdefault(key, value) == value
# JAX was connected by another program than `processes.join`.
from train.parallel import processes
asked = processes.ask({'number': jax.process_index()}, list)
assert asked == [{'number': i} for i in range(jax.process_count())]
print(json.dumps([rows.tolist(), held]))
"""


def start_two(folder, **overrides):
  return processes.start_two(
    lambda *flags: runs.command(folder, *flags, **overrides)
  )


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  return runs.write_text(tmp_path_factory.mktemp('data') / 'text')


@pytest.fixture(scope='module')
def one(tmp_path_factory, source):
  """The workdir of a run of one process with eight devices."""
  folder = tmp_path_factory.mktemp('one') / 'run'
  runs.train(folder, devices=8, data__source=source, **SETTINGS)
  return folder


@pytest.fixture(scope='module')
def two(tmp_path_factory, source):
  """The workdir of a run of two with four; the stdouts of both."""
  folder = tmp_path_factory.mktemp('two') / 'run'
  processes = start_two(folder, data__source=source, **SETTINGS)
  return folder, finish(processes)


def test_same_batches(one):
  """Batches are equal bit for bit, and each process reads only its half."""

  def start(address, process, devices):
    command = [sys.executable, '-c', BATCHES, one, address, process]
    return runs.start([str(x) for x in command], devices)

  [stdout] = finish([start('', 0, 8)])
  all_rows, expected = json.loads(stdout.splitlines()[-1])
  assert all_rows == list(range(16))
  assert len(set(expected.values())) > 200
  address = f'localhost:{free_port()}'
  stdouts = finish([start(address, i, 4) for i in (0, 1)])
  (first, a), (second, b) = (
    json.loads(stdout.splitlines()[-1]) for stdout in stdouts
  )
  assert sorted(first + second) == all_rows
  assert len(first) == len(second) == 8
  assert a | b == expected


def test_same_training(one, two):
  folder, stdouts = two
  for name, tolerance in (
    ('train/loss', 1e-5),
    ('train/grad_norm', 1e-4),
    ('train/tokens', 0),
    ('eval/loss', 1e-5),
    ('eval/tokens', 0),
  ):
    ours, expected = runs.rows(folder, name), runs.rows(one, name)
    assert len(ours) == (12 if name.startswith('train') else 2)
    np.testing.assert_allclose(ours, expected, rtol=tolerance, err_msg=name)
  # Only the first process prints and writes.
  assert 'Done: step 12 of 12.' in stdouts[0]
  assert 'prediction: ' in stdouts[0]
  assert 'step ' not in stdouts[1]
  for run in (one, folder):
    assert len(list((run / 'tensorboard').iterdir())) == 1
  ours, expected = fingerprint(str(folder)), fingerprint(str(one))
  for name in ('step', 'cursor', 'data'):
    assert ours[name] == expected[name]


def test_checkpoint_of_two_resumes_in_one(one, two, source, tmp_path):
  """One of the two gets SIGTERM; one process with eight devices resumes."""
  folder = tmp_path / 'run'
  settings = SETTINGS | {'data__source': source, 'checkpoint__every': 1000}
  processes = start_two(folder, **settings)
  for line in processes[0].stdout:
    if re.match(r'step [1-9]/', line):
      break
  processes[1].send_signal(signal.SIGTERM)
  stdout, _ = finish(processes)
  step = int(re.search(r'the checkpoint of step (\d+) is saved', stdout)[1])
  assert 1 <= step < 12
  assert runs.checkpoints(folder) == [step]
  stdout = runs.train(folder, devices=8, **settings)
  assert f'Resuming from the checkpoint of step {step}.' in stdout
  np.testing.assert_allclose(runs.rows(folder), runs.rows(one), rtol=1e-5)
  ours, expected = fingerprint(str(folder)), fingerprint(str(one))
  assert ours['cursor'] == expected['cursor']


def test_damaged_checkpoint_of_two(two, source, tmp_path):
  """Both fall back, though each checks only some of the files."""
  folder = tmp_path / 'run'
  shutil.copytree(two[0], folder)
  newest = folder / 'checkpoints' / '12'
  files = [file for file in newest.rglob('d/*') if file.is_file()]
  file = max(files, key=lambda file: file.stat().st_size)
  data = bytearray(file.read_bytes())
  data[len(data) // 2] ^= 1
  file.write_bytes(data)
  stdout, _ = finish(start_two(folder, data__source=source, **SETTINGS))
  assert 'Resuming from the checkpoint of step 8.' in stdout
  assert (folder / 'damaged_checkpoints' / '12').is_dir()
  assert runs.checkpoints(folder) == [8, 12]
  assert runs.rows(folder) == runs.rows(two[0])
  assert fingerprint(str(folder)) == fingerprint(str(two[0]))


def test_two_write_and_rank_as_one(one, tmp_path):
  """Answers that are drawn, and log probabilities, of sharded models."""
  rows = [
    {'context': 'abc <extra_id_0>', 'continuation': x} for x in ('ghi', 'a b c')
  ]
  path = tmp_path / 'rows.jsonl'
  path.write_text(''.join(f'{json.dumps(row)}\n' for row in rows))
  flags = {
    'generate': (
      *(f'--file={path}', '--field=context', f'--out={tmp_path}/answers.jsonl'),
      *('--temperature=1', '--samples=2', '--length=9', '--batch=2'),
    ),
    'evaluate': (f'--tasks=cloze:{path}', f'--predictions={tmp_path}/found'),
  }
  for name, own in flags.items():
    command = [sys.executable, '-m', f'train.{name}', f'--workdir={one}', *own]
    address = f'localhost:{free_port()}'
    both = [f'--coordinator={address}', '--processes=2']
    stdouts = finish(
      [
        runs.start([*command, *both, f'--process={i}'], devices=4)
        for i in (0, 1)
      ]
    )
    first, second = (GLOO.sub('', x) for x in stdouts)
    assert first
    assert not second
  run = opening.open_run(str(one))
  writer = make_writer(run)
  options = Options(temperature=1.0, samples=2, length=9)
  lines = (tmp_path / 'answers.jsonl').read_text().splitlines()
  expected = writer.answers([row['context'] for row in rows], options, 2)
  for line, answers in zip(map(json.loads, lines), expected, strict=True):
    assert [x['text'] for x in line['answers']] == [x.text for x in answers]
  (file,) = (tmp_path / 'found').iterdir()
  found = [json.loads(x)['log_prob'] for x in file.read_text().splitlines()]
  pairs = [
    encode_pair(writer, row['context'], f' {row["continuation"]}')
    for row in rows
  ]
  logs = [x.log_prob for x in likelihoods(writer, pairs)]
  np.testing.assert_allclose(found, logs, rtol=1e-4)


def errors(commands) -> list[str]:
  """The stderrs of two processes that must both fail."""
  processes = [runs.start(command, devices=4) for command in commands]
  try:
    ends = [process.communicate(timeout=100) for process in reversed(processes)]
  finally:
    for process in processes:
      process.kill()
  assert all(process.returncode for process in processes)
  return [stderr for _, stderr in reversed(ends)]


def test_one_that_fails_ends_the_other(source, tmp_path):
  """Neither waits forever for the other."""
  flags = [f'--coordinator=localhost:{free_port()}', '--processes=2']
  other = tmp_path / 'other'
  other.mkdir()
  workdir.claim(str(other), t5.get_config('tiny'))
  (other / 'metrics.jsonl').write_text('{"step": 1}\n')
  _, stderr = errors(
    runs.command(
      folder,
      *(*flags, f'--process={number}'),
      data__source=source,
      **SETTINGS,
    )
    for number, folder in enumerate((tmp_path / 'run', other))
  )
  assert f'Error: --workdir={other} holds the run of another config' in stderr
  assert 'Traceback' not in stderr


def test_processes_with_different_configs(source, tmp_path):
  """Both fail before anything is compiled or written."""
  flags = [f'--coordinator=localhost:{free_port()}', '--processes=2']
  stderr, _ = errors(
    runs.command(
      tmp_path / 'run',
      *(*flags, f'--process={number}'),
      data__source=source,
      **SETTINGS | {'model__dropout': dropout, 'seed': number},
    )
    for number, dropout in enumerate((0.1, 0.2))
  )
  assert 'Error: The 2 processes of this run were started with diff' in stderr
  host = socket.gethostname()
  for line in (
    f'model.dropout is 0.1 on process 0 ({host}), 0.2 on process 1 ({host})',
    f'seed is 0 on process 0 ({host}), 1 on process 1 ({host})',
  ):
    assert f'\n  {line}\n' in stderr
  assert 'Traceback' not in stderr
  assert not (tmp_path / 'run').exists()


def test_only_the_first_process_reads_metrics(tmp_path, monkeypatch):
  """The others may start before the file exists."""
  monkeypatch.setattr(jax, 'process_index', lambda: 1)
  config = t5.get_config('tiny')
  assert not recording.evaluation_missing(str(tmp_path), 0, config)
