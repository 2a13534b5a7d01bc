"""A row whole at the tiny size: its pretraining and its fine-tuning, for real.

The same commands as those of the row, one after the other, with the tiny size
of each config, few steps, and text that every machine has. It shows that the
commands of the row work; the numbers mean nothing.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

from configs.commands import terminal
from configs.papers.asked import Asked
from configs.papers.records import MIXTURE, Run

SEEDS = 2  # of a row with several
LENGTH = 128  # tokens of a row
TARGETS = 16  # tokens of a task's targets
SHORTER = 4  # rows of text have 512 tokens in the papers
# Keys of a row that the tiny size has its own values of.
_DROPPED = (
  *('model.embed_dim', 'model.mlp_dim', 'model.heads', 'model.kv_heads'),
  *('model.head_dim', 'model.table_dim', 'model.vocab_size'),
  *('data.source', 'data.holdout', 'data.batch', 'train.steps'),
  *('schedule.learning_rate', 'schedule.warmup_steps', 'schedule.restarts'),
  *('eval.every', 'checkpoint.every'),
)
_SHORTENED = 'data.length', 'data.target_length'
_LAYERS = 'model.encoder_layers', 'model.decoder_layers'
_PRETRAINING = {
  'train.phases': (),  # a shape more is a compilation more
  'train.steps': 40,
  'eval.every': 40,
  'eval.batches': 2,
  'eval.samples': 0,
  'checkpoint.every': 40,
}
_FINETUNING = {
  'train.steps': 20,
  'train.epochs': 0.0,
  'eval.every': 20,
  'checkpoint.every': 20,
}


def shrunk(run: Run, text: str = '') -> Run:
  """A run at the tiny size.

  Args:
    run: of a row.
    text: the source of its text; '': that of the tiny config, 'docs'.
  """
  file, argument = run.config.split(':', 1)
  keys = {}
  for key, value in run.keys.items():
    if key in _LAYERS:  # of 12; the tiny size has two
      keys[key] = min(2, -(-value * 2 // 12))
    elif key == 'model.generator_dim':  # of a discriminator 768 wide
      keys[key] = value // 6
    elif key in _SHORTENED:
      keys[key] = -(-value // SHORTER)
    elif key == MIXTURE:
      keys[key] = tuple(
        (x if x.startswith('task:') else text or 'docs', n) for x, n in value
      )
    elif key not in _DROPPED:
      keys[key] = value
  if run.task:
    keys = _finetuning(run, keys)
  else:
    keys = _pretraining(keys, text)
    if run.origin:  # it goes on after that run's last step
      keys['train.steps'] *= 2
  several = any(flag.startswith('--seeds=') for flag in run.flags)
  flags = tuple(flag for flag in run.flags if flag == '--scratch')
  return run._replace(
    config=f'{file}:{_tiny(argument)}',
    keys=keys,
    flags=(*flags, *([f'--seeds={SEEDS}'] if several else [])),
  )


def _pretraining(keys: Mapping[str, Any], text: str) -> dict[str, Any]:
  source = {'data.source': text} if text and not keys.get(MIXTURE) else {}
  if keys.get(MIXTURE):
    source = {'data.source': ''}
  if keys.get('tuning.train') == 'two_stage':  # each has half of the steps
    source['schedule.warmup_steps'] = 10
  return {**keys, **source, **_PRETRAINING}


def _finetuning(run: Run, keys: Mapping[str, Any]) -> dict[str, Any]:
  found = {'data.length': LENGTH, **keys, **_FINETUNING}
  if '/t5.py:' not in run.config:
    found['train.warmup_share'] = 0.1
  elif 'model.family' not in keys:  # inputs and targets have a row each
    found['data.target_length'] = TARGETS
  return found


def _tiny(argument: str) -> str:
  """The argument of a config with the tiny size.

  >>> _tiny('bert:base,objective=mlm'), _tiny('task=glue/rte')
  ('bert:tiny,objective=mlm', 'task=glue/rte,size=tiny')
  """
  parts, sized = argument.split(','), False
  for n, part in enumerate(parts):
    system, _, last = part.rpartition(':')
    if re.match(r'size=|[^=]*$', last):
      parts[n] = f'{system}:tiny'.lstrip(':') if system else 'size=tiny'
      sized = True
  return ','.join(parts if sized else [*parts, 'size=tiny'])


def shortened(asked: Asked) -> Asked:
  """Prompted tasks with few questions, and short answers."""
  flags = ('--limit=4', '--length=8', '--stride=0')
  return asked._replace(shots=min(asked.shots, 1), flags=flags)


def run_all(found: Iterable[Run | Asked], folder: str, data: str) -> list[str]:
  """Makes runs one after the other; what went wrong, a line each.

  After a pretraining run that failed no other is made.

  Args:
    found: from `shrunk` and `shortened`.
    folder: of all runs; each run's output is in a file LOG beside its workdir.
    data: the folder of the tasks' files; '': from TFDS.
  """
  failed = []
  for run in found:
    words = run.words(folder, data)
    asked = isinstance(run, Asked)
    log = os.path.join(folder, f'{run.place if asked else run.folder}.log')
    os.makedirs(os.path.dirname(log), exist_ok=True)
    terminal.say(f'\n{run.command(folder, data)}')
    begun = time.monotonic()
    with open(log, 'wb') as file:
      done = subprocess.run(
        [sys.executable, *words[1:]], stdout=file, stderr=subprocess.STDOUT
      )
    if done.returncode == 0:
      terminal.say(f'  done in {time.monotonic() - begun:.0f} s: {log}')
      continue
    name = ','.join(run.tasks) if asked else run.task or 'pretraining'
    why = f'{name}: {_last(log)} (its log is {log})'
    terminal.say(f'  failed: {why}')
    failed.append(why)
    if name == 'pretraining':
      break
  return failed


def _last(log: str) -> str:
  """The last error of a log, or its last line."""
  with open(log, encoding='utf-8', errors='replace') as file:
    lines = [line.strip() for line in file if line.strip()] or ['no output']
  errors = [n for n, x in enumerate(lines) if x.startswith('Error: ')]
  first = errors[-1] if errors else len(lines) - 1
  found = lines[first].removeprefix('Error: ')
  if found.endswith(':'):  # of several runs; the next line is the first one's
    found = ' '.join([found, *lines[first + 1 : first + 2]])
  return found
