"""Systems on real C4 with published vocabularies: killed, resumed, the same.

  python -m benchmarks.real_data --data=DIR [--only=bert,t5]

DIR has c4_sample_1k/c4-sample*.json.gz, as allenai/c4 publishes it, and the
vocabularies: tok_bert/vocab.txt, tok_gpt2/{encoder.json,vocab.bpe},
tok_roberta/dict.txt (fairseq's, of which the first 50,260 rows are RoBERTa's)
and tok_t5/t5_cc_all_derived_32100.model.

Each system's tiny model, with the published vocabulary and so many rows of the
table, trains a few steps of its own objective twice: once without interruption,
once killed with SIGKILL after a checkpoint and started again. Told are the
losses and whether the fingerprints (parameters, optimizer, cursor, data) and
all losses are equal; if they are not, the exit status is 1.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import app, flags

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
# Vocabulary and rows of the table; what else differs from the tiny recipe.
SYSTEMS = {
  'bert': ('tok_bert/vocab.txt', 30522, {}),
  'roberta': ('roberta', 50265, {}),
  'electra': ('tok_bert/vocab.txt', 30522, {}),
  'gpt2': ('tok_gpt2', 50257, {}),
  't5': ('tok_t5/t5_cc_all_derived_32100.model', 32128, {}),
  # The published vocabulary has 100 sentinels, enough for tiny's rows.
  'ul2': (
    'tok_t5/t5_cc_all_derived_32100.model', 32128, {'data.sentinels': 100},
  ),
}  # fmt: skip

_DATA = flags.DEFINE_string('data', None, 'The folder.', required=True)
_ONLY = flags.DEFINE_list('only', list(SYSTEMS), 'Which systems.')


def roberta(data: Path, folder: Path) -> Path:
  """RoBERTa's vocabulary: GPT-2's files and the rows of dict.txt it has."""
  folder.mkdir()
  for name in ('encoder.json', 'vocab.bpe'):
    shutil.copy(data / 'tok_gpt2' / name, folder)
  rows = (data / 'tok_roberta' / 'dict.txt').read_text().splitlines()
  (folder / 'dict.txt').write_text('\n'.join(rows[:50260]) + '\n')
  return folder


def command(name: str, data: Path, workdir: Path) -> list[str]:
  vocabulary, size, changes = SYSTEMS[name]
  path = workdir.parent / vocabulary
  if not path.exists():
    path = data / vocabulary
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
  """Exit status; with `kill_after`, killed when that step's losses are told."""
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


def fingerprint(workdir: Path) -> str:
  return subprocess.run(
    [sys.executable, '-m', 'train.fingerprint', f'--workdir={workdir}'],
    cwd=HERE.parent.parent,
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  ).stdout


def compare(name: str, data: Path, folder: Path) -> bool:
  """Trains, kills, resumes; prints a line; whether all of it is equal."""
  clock = time.perf_counter()
  whole, killed = folder / f'{name}_whole', folder / f'{name}_killed'
  statuses = [
    run(command(name, data, whole)),
    run(command(name, data, killed), kill_after=5),
    run(command(name, data, killed)),
  ]
  if statuses != [0, -signal.SIGKILL, 0]:
    print(f'{name:8} FAILED: exit statuses {statuses}', flush=True)
    return False
  first, second = losses(whole), losses(killed)
  equal = first == second and fingerprint(whole) == fingerprint(killed)
  print(
    f'{name:8} loss {first[1]:.4f} to {first[STEPS]:.4f}; killed after step 5 '
    f'and resumed: {"equal" if equal else "DIFFERENT"}; '
    f'{time.perf_counter() - clock:.0f} s',
    flush=True,
  )
  return equal


def main(_):
  data = Path(_DATA.value).resolve()
  with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    roberta(data, folder / 'roberta')
    equal = [compare(name, data, folder) for name in _ONLY.value]
    if not all(equal):
      raise SystemExit('Error: not all of them are equal.')


if __name__ == '__main__':
  os.environ.setdefault('JAX_PLATFORMS', 'cpu')
  app.run(main)
