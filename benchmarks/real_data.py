"""Systems on real C4 with published vocabularies: killed, resumed, the same.

  python -m benchmarks.real_data --data=DIR [--only=bert,t5]

DIR is the folder of benchmarks/samples.py.

Each system's tiny model, with a published vocabulary, trains a few steps twice:
once without interruption, once killed with SIGKILL after a checkpoint and
resumed. The losses are reported, and whether all losses and fingerprints
(parameters, optimizer, cursor, data) are equal; if not, the exit status is 1.
In the results' file, systems that are not run this time stay as they are.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import flags

from benchmarks import machine, samples
from configs.commands.command import start

HERE = Path(__file__).resolve()
STEPS = 10
KEYS = {
  'data.holdout': 50,
  'data.streams': 4,
  'data.batch': 8,
  'train.steps': STEPS,
  'train.log_every': 1,
  'checkpoint.every': 3,
  'eval.every': STEPS,
  'eval.samples': 0,
}
# Vocabulary, and what else differs from the tiny recipe.
SYSTEMS = {
  'bert': ('bert', {}),
  'roberta': ('roberta', {}),
  'electra': ('bert', {}),
  'gpt2': ('gpt2', {}),
  't5': ('t5', {}),
  'ul2': ('t5', {}),
}

_DATA = flags.DEFINE_string('data', None, 'The folder.', required=True)
_ONLY = flags.DEFINE_list('only', list(SYSTEMS), 'Which systems.')
_OUT = flags.DEFINE_string(
  'out', str(HERE.parent / 'results' / 'real_data.json'), 'JSON of the results.'
)


def command(
  name: str, data: Path, vocabularies: dict, workdir: Path
) -> list[str]:
  vocabulary, changes = SYSTEMS[name]
  path, size = vocabularies[vocabulary]
  keys = KEYS | changes | {
    'data.source': f'json:{data}/c4_sample_1k/c4-sample*.json.gz',
    'data.tokenizer': path,
    'model.vocab_size': size,
  }  # fmt: skip
  if name not in ('t5', 'ul2'):
    keys['schedule.warmup_steps'] = 2
  return [
    *(sys.executable, '-m', 'train'),
    f'--config=configs/{name}.py:tiny',
    f'--workdir={workdir}',
    *(f'--config.{key}={value}' for key, value in keys.items()),
  ]


def run(command: list[str], kill_after: int = 0) -> int:
  """Exit status; with `kill_after`, killed when that step is reported."""
  process = subprocess.Popen(
    command,
    cwd=HERE.parent.parent,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  lines = []
  for line in process.stdout:
    lines.append(line)
    if kill_after and line.startswith(f'step {kill_after}/'):
      process.send_signal(signal.SIGKILL)
  status = process.wait()
  if status not in (0, -signal.SIGKILL):
    print(''.join(lines[-5:]))
  return status


def losses(workdir: Path) -> dict[int, float]:
  rows = map(json.loads, (workdir / 'metrics.jsonl').read_text().splitlines())
  return {r['step']: r['train/loss'] for r in rows if 'train/loss' in r}


def fingerprint(workdir: Path) -> dict:
  printed = subprocess.run(
    [sys.executable, '-m', 'train.fingerprint', f'--workdir={workdir}'],
    cwd=HERE.parent.parent,
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  ).stdout
  return json.loads(printed)


def compare(name: str, data: Path, vocabularies: dict, folder: Path) -> dict:
  """Trains, kills, resumes; what came of both runs, and whether it is equal."""
  clock = time.perf_counter()
  whole, killed = folder / f'{name}_whole', folder / f'{name}_killed'
  alone, twice = (
    command(name, data, vocabularies, workdir) for workdir in (whole, killed)
  )
  statuses = [run(alone), run(twice, kill_after=5), run(twice)]
  found = {'statuses': statuses, 'equal': False}
  if statuses == [0, -signal.SIGKILL, 0]:
    runs = [(losses(x), fingerprint(x)) for x in (whole, killed)]
    found['losses'], found['fingerprint'] = runs[0]
    found['equal'] = runs[0] == runs[1]
  return found | {'seconds': round(time.perf_counter() - clock)}


def describe(name: str, found: dict) -> str:
  """A line of the table."""
  if 'losses' not in found:
    return f'{name:8} FAILED: exit statuses {found["statuses"]}'
  return (
    f'{name:8} loss {found["losses"][1]:.4f} to {found["losses"][STEPS]:.4f};'
    f' killed after step 5 and resumed:'
    f' {"equal" if found["equal"] else "DIFFERENT"}; {found["seconds"]} s'
  )


def main(_):
  unknown = sorted(set(_ONLY.value) - set(SYSTEMS))
  if unknown:
    raise SystemExit(
      f'Error: --only={",".join(unknown)}: there are {", ".join(SYSTEMS)}.'
    )
  data = samples.root(_DATA.value)
  results = {}
  with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    known = samples.vocabularies(data, folder)
    for system in _ONLY.value:
      found = results[system] = compare(system, data, known, folder)
      print(describe(system, found), flush=True)
  machine.write(Path(_OUT.value), list(SYSTEMS), results)
  if not all(found['equal'] for found in results.values()):
    raise SystemExit('Error: not all of them are equal.')


if __name__ == '__main__':
  os.environ.setdefault('JAX_PLATFORMS', 'cpu')
  start(main)
