"""Every system's tiny recipe on the embedded corpus, one after the other.

  python -m benchmarks.recipes [--only=bert,gpt2] [--steps=N]

Each is a run of `python -m train --config=configs/NAME.py:tiny` with its own
objective, tokenizer, batch, schedule and optimizer, in a workdir of its own
that is removed in the end. Printed and written: the held-out loss first and
last in nats per token (of an objective with two terms their sum), what else the
objective measures, tokens/s of the last lines, and the seconds of the whole
command. A run that fails, or whose held-out loss does not fall, is reported and
makes the exit status 1. In the results' file, systems that are not run this
time stay as they are; with --steps nothing is written.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import flags

from benchmarks import machine
from configs import tree
from configs.commands import command

HERE = Path(__file__).resolve()

_ONLY = flags.DEFINE_list('only', [], 'Names of configs; none: all of them.')
_STEPS = flags.DEFINE_integer('steps', 0, "0: each recipe's own number.")
_OUT = flags.DEFINE_string(
  'out', str(HERE.parent / 'results' / 'recipes.json'), 'JSON of the results.'
)


def names() -> list[str]:
  """The files of `configs` with a published recipe."""
  found = []
  for name in dict.fromkeys(key.partition(':')[0] for key in tree.SYSTEMS):
    try:
      tree.config_of(f'{name}:tiny')
    except ValueError:  # undisclosed
      continue
    found.append(name)
  return found


def train(name: str, folder: str) -> dict:
  """Runs a recipe: what it was, and its first and last evaluation."""
  config = tree.config_of(f'{name}:tiny')
  flags = [f'--config=configs/{name}.py:tiny', f'--workdir={folder}']
  if _STEPS.value:
    flags.append(f'--config.train.steps={_STEPS.value}')
    flags.append('--config.train.phases=()')
    for key in ('warmup_steps', 'constant_steps'):
      if config.schedule[key]:
        steps = min(config.schedule[key], _STEPS.value // 4)
        flags.append(f'--config.schedule.{key}={steps}')
  clock = time.perf_counter()
  done = subprocess.run(
    [sys.executable, '-m', 'train', *flags],
    cwd=HERE.parent.parent,
    capture_output=True,
    text=True,
  )
  found = {
    'family': config.model.family,
    'objective': config.data.objective,
    'tokenizer': config.data.tokenizer_kind,
    'seconds': round(time.perf_counter() - clock, 1),
  }
  if done.returncode:
    return found | {'error': done.stderr.strip().split('\n')[-1]}
  with open(f'{folder}/metrics.jsonl') as file:
    rows = [json.loads(line) for line in file]
  evaluated = [row for row in rows if 'eval/loss' in row]
  speeds = [
    row['train/tokens_per_second']
    for row in rows
    if 'train/tokens_per_second' in row
  ]
  return found | {
    'steps': evaluated[-1]['step'],
    'tokens_per_second': round(statistics.median(speeds[1:] or speeds)),
    'first': _metrics(evaluated[0]),
    'last': _metrics(evaluated[-1]),
  }


def _metrics(row: dict) -> dict:
  return {
    key.removeprefix('eval/'): round(value, 4)
    for key, value in row.items()
    if key.startswith('eval/') and isinstance(value, float)
  }


def describe(name: str, found: dict) -> str:
  """A line of the table."""
  start = f'{name:12} {found["objective"]:16} {found["tokenizer"]:10}'
  if 'error' in found:
    return f'{start} FAILED: {found["error"]}'
  first, last = found['first'], found['last']
  others = '  '.join(
    f'{key} {value:.3f}' for key, value in last.items() if key != 'loss'
  )
  return (
    f'{start} {first["loss"]:8.3f} -> {last["loss"]:7.3f}'
    f'  {found["tokens_per_second"]:7,} tokens/s  {found["seconds"]:5.0f} s'
    f'  {others}'
  )


def main(_):
  known, results, failed = names(), {}, []
  unknown = sorted(set(_ONLY.value) - set(known))
  if unknown:
    raise SystemExit(
      f'Error: --only={",".join(unknown)}: there are {", ".join(known)}.'
    )
  for name in _ONLY.value or known:
    with tempfile.TemporaryDirectory() as folder:
      found = results[name] = train(name, folder)
    print(describe(name, found), flush=True)
    if 'error' in found or found['last']['loss'] >= found['first']['loss']:
      failed.append(name)
  if not _STEPS.value:
    machine.write(Path(_OUT.value), known, results)
  if failed:
    raise SystemExit(f'Error: no fall of the held-out loss: {failed}.')


if __name__ == '__main__':
  command.start(main)
