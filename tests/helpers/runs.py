"""`python -m train` in its own process, on a tiny model."""

import atexit
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from tests.helpers.forks import Program
from train.learning.state import TrainState
from train.runs import workdir

# Later processes reuse what earlier ones have compiled.
COMPILED = tempfile.mkdtemp(prefix='treeline_compiled_')
atexit.register(shutil.rmtree, COMPILED, ignore_errors=True)
# Each system made tiny. Dropout is on.
NARROW = {'model.embed_dim': 16, 'model.mlp_dim': 32, 'model.dropout': 0.1}
SMALL = NARROW | {
  'model.heads': 2,
  'model.kv_heads': 2,
  'model.head_dim': 8,
  'model.attention_dropout': 0.1,
}
PAIR = SMALL | {'model.encoder_layers': 1, 'model.decoder_layers': 1}
MASKED = SMALL | {
  'model.encoder_layers': 1,
  'data.predictions': 5,
  'schedule.warmup_steps': 2,
}
SYSTEMS = {
  't5': PAIR | {'model.vocab_size': 256, 'data.sentinels': 20},
  'ul2': PAIR
  | {
    'data.denoisers': (('[R]', 0.15, 3.0, 0.5), ('[X]', 0.5, 8.0, 0.5)),
    'data.sentinels': 30,
  },
  'bert': MASKED,
  'electra': MASKED | {'model.table_dim': 8},
  'gpt2': SMALL | {'model.decoder_layers': 1, 'schedule.warmup_steps': 2},
  'gpt3': SMALL | {'model.decoder_layers': 2, 'schedule.warmup_steps': 2},
  'bloom': SMALL | {'model.decoder_layers': 1, 'schedule.warmup_steps': 2},
  'rwkv': NARROW | {'model.decoder_layers': 1, 'schedule.constant_steps': 2},
}
CONFIG = {
  'data.length': 32,
  'data.batch': 16,
  'data.block': 16,
  'data.concatenate': False,  # several documents share a row
  'data.holdout': 10,
  'data.threads': 1,
  'train.steps': 40,
  'train.log_every': 1,
  'eval.every': 1000,
  'eval.samples': 0,
  'checkpoint.every': 4,
}
# Overrides for a short run.
STEPS = {'train__steps': 4, 'checkpoint__every': 2, 'eval__every': 4}


def set_keys(config: ConfigDict, keys: dict) -> ConfigDict:
  """A locked copy of the config with other values of some 'group.key'."""
  config = config.copy_and_resolve_references().unlock()
  config.update_from_flattened_dict(keys)
  return config.lock()


def write_text(folder: Path) -> str:
  """A few hundred documents; returns the source's name."""
  rng = random.Random(0)
  words = [
    ''.join(rng.choices('abcdefghij', k=rng.randint(2, 6))) for _ in range(300)
  ]
  folder.mkdir()
  for number in range(3):
    documents = (
      ' '.join(rng.choices(words, k=rng.randint(5, 60))) for _ in range(200)
    )
    (folder / f'{number}.txt').write_text('\n\n'.join(documents))
  return f'text:{folder}/*.txt'


def command(
  workdir: Path, *flags: str, system: str = 't5', **overrides
) -> list[str]:
  """The command line; overrides change CONFIG's keys, with __ for the dot."""
  config = CONFIG | SYSTEMS[system]
  config |= {k.replace('__', '.'): v for k, v in overrides.items()}
  return [
    *(sys.executable, '-m', 'train'),
    f'--config=configs/{system}.py:tiny',
    f'--workdir={workdir}',
    *(f'--config.{key}={value}' for key, value in config.items()),
    *flags,
  ]


def environment(devices: int = 1) -> dict[str, str]:
  """The environment of a process with so many devices."""
  kept = [
    flag
    for flag in os.environ['XLA_FLAGS'].split()
    if 'device_count' not in flag
  ]
  count = f'--xla_force_host_platform_device_count={devices}'
  return os.environ | {
    'XLA_FLAGS': ' '.join([*kept, count]),
    'JAX_COMPILATION_CACHE_DIR': COMPILED,
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.3',
  }


def start(command: list[str], devices: int = 1) -> Program:
  """Starts [python, '-m', MODULE, *flags], or -c CODE, in its own process."""
  assert command[0] == sys.executable
  return Program(command[1:], environment(devices))


def run(
  command: list[str], devices: int = 1, largest: int | None = None
) -> subprocess.CompletedProcess:
  """Runs a command to its end; returns its status, stdout and stderr.

  It cannot write a file of more than `largest` bytes.
  """
  process = start(command, devices)
  if largest:
    limit = resource.RLIMIT_FSIZE
    resource.prlimit(process.pid, limit, (largest, largest))
  stdout, stderr = process.communicate(timeout=300)
  return subprocess.CompletedProcess(
    command, process.returncode, stdout, stderr
  )


def train(workdir: Path, devices: int = 1, **overrides) -> str:
  """Trains to the end, which must succeed; returns stdout."""
  done = run(command(workdir, **overrides), devices)
  assert done.returncode == 0, done.stderr
  return done.stdout


def rows(workdir: Path, name: str = 'train/loss') -> list[tuple[int, float]]:
  """(step, number) of every row of metrics.jsonl that has it."""
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  read = map(json.loads, lines)
  return [(row['step'], row[name]) for row in read if name in row]


def checkpoints(workdir: Path) -> list[int]:
  """The steps of the finished checkpoints."""
  names = os.listdir(workdir / 'checkpoints')
  return sorted(int(name) for name in names if name.isdigit())


def small_state(step: int, seed: int = 0) -> TrainState:
  """A state of two arrays, which no model has."""
  rng = np.random.default_rng(seed)
  return TrainState(
    step=np.int32(step),
    params={'a': {'kernel': rng.normal(size=(3, 16, 8)).astype('float32')}},
    opt_state=({'row': rng.normal(size=(3, 16)).astype('float32')}, ()),
    cursor=rng.integers(9, size=(4, 4), dtype='int32'),
  )


def config_of(folder: Path, **changes) -> ConfigDict:
  """The config of a workdir, with changed keys, with __ for the dot."""
  config = workdir.read_config(str(folder))
  config.unlock()
  config.update_from_flattened_dict(
    {key.replace('__', '.'): value for key, value in changes.items()}
  )
  return config.lock()


def program(
  name: str, folder: Path, *flags: str
) -> subprocess.CompletedProcess:
  """Runs `python -m train.NAME --workdir=FOLDER` to its end."""
  command = [sys.executable, '-m', f'train.{name}', f'--workdir={folder}']
  return run([*command, *flags])


def files(folder: Path) -> dict[Path, int]:
  """When each file and folder in it was last changed."""
  return {
    f: f.stat().st_mtime_ns
    for f in folder.rglob('*')
    if f.is_file() or f.is_dir()
  }
