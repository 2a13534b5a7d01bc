"""How long a run takes to begin: fresh, resumed, and in the compiler.

  python -m benchmarks.startup [--topology=v5p:4x4x4]

Fresh: from the start of `python -m train` to the end of its first step, the
tokenizer given, the held-out split one batch. Resumed: the same command on a
workdir with a checkpoint, to the end of its first new step. In turn, several
times; medians and their ratio. With a topology (extra `aot`), also the seconds
that the TPU compiler takes for T5-11B's step and for T5-small's, scanned both.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import flags

from benchmarks import machine
from configs.commands import command
from input_pipeline.sources import paths

HERE = Path(__file__).resolve()

_REPEATS = flags.DEFINE_integer('repeats', 5, 'Starts of each kind.')
_TOPOLOGY = flags.DEFINE_string('topology', '', 'Compile for this slice too.')
_OUT = flags.DEFINE_string(
  'out', str(HERE.parent / 'results' / 'startup.json'), 'JSON of the results.'
)


def first_step(workdir: str, steps: int, tokenizer: str) -> float:
  """Seconds from the start of a run until it reports its first step."""
  clock = time.perf_counter()
  process = subprocess.Popen(
    [
      sys.executable,
      '-m',
      'train',
      '--config=configs/t5.py:tiny',
      f'--workdir={workdir}',
      '--nocompilation_cache',
      f'--config.train.steps={steps}',
      '--config.train.log_every=1',
      '--config.eval.batches=1',
      '--config.eval.samples=0',
      f'--config.data.tokenizer={tokenizer}',
    ],
    cwd=HERE.parent.parent,
    stdout=subprocess.PIPE,
    text=True,
  )
  seconds = 0.0
  for line in process.stdout:
    if line.startswith('step ') and '/' in line.split()[1] and not seconds:
      seconds = time.perf_counter() - clock
  if process.wait() or not seconds:
    raise RuntimeError(f'The run in {workdir} failed.')
  return seconds


def compile_seconds(size: str) -> dict:
  """The report of `train.fit` for one size of T5 on the topology."""
  out = subprocess.run(
    [
      sys.executable,
      '-m',
      'train.fit',
      f'--config=configs/t5.py:{size}',
      f'--topology={_TOPOLOGY.value}',
      '--json',
    ],
    cwd=HERE.parent.parent,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  ).stdout
  return json.loads(out)


def main(_):
  fresh, resumed = [], []
  with tempfile.TemporaryDirectory() as folder:
    first = f'{folder}/first'
    first_step(first, 1, '')  # trains the tokenizer, warms the disk's cache
    tokenizer = f'{folder}/tokenizer.model'
    shutil.copy(f'{first}/tokenizer.model', tokenizer)
    for i in range(_REPEATS.value):
      workdir = f'{folder}/{i}'
      fresh.append(first_step(workdir, 1, tokenizer))
      resumed.append(first_step(workdir, 2, tokenizer))
      print(f'fresh {fresh[-1]:.1f} s, resumed {resumed[-1]:.1f} s', flush=True)
  medians = statistics.median(fresh), statistics.median(resumed)
  result = machine.describe() | {
    'fresh_seconds': fresh,
    'resumed_seconds': resumed,
    'resumed_over_fresh': medians[1] / medians[0],
  }
  print(
    f'Medians: fresh {medians[0]:.1f} s, resumed {medians[1]:.1f} s, ratio '
    f'{medians[1] / medians[0]:.2f}'
  )
  if _TOPOLOGY.value:
    sizes = {size: compile_seconds(size) for size in ('small', '11b')}
    seconds = {size: found['compile_seconds'] for size, found in sizes.items()}
    result['compiled'] = sizes
    result['11b_over_small'] = seconds['11b'] / seconds['small']
    print(
      f'Compiled for {_TOPOLOGY.value}: small {seconds["small"]} s, 11b '
      f'{seconds["11b"]} s, ratio {result["11b_over_small"]:.2f}'
    )
  out = Path(_OUT.value)
  out.parent.mkdir(parents=True, exist_ok=True)
  paths.write(out, (json.dumps(result, indent=2) + '\n').encode())


if __name__ == '__main__':
  command.start(main)
