"""Workdirs with the files of real runs, of which no step was made."""

import importlib
import json
import math
from pathlib import Path

import numpy as np

from train.reporting.metrics import MetricsWriter
from train.runs import history, workdir

TOKENIZER = 'a' * 64
MADE_BY = {
  'command': 'python -m train --config=configs/gpt2.py:tiny --workdir=W',
  'commit': '0123456789abcdef0123456789abcdef01234567',
  'versions': {'python': '3.11.7', 'jax': '0.10.2', 'numpy': '2.4.6'},
  'devices': '1 x cpu',
  'processes': 1,
  'time': '2026-01-02T03:04:05+00:00',
}


def make(
  folder: Path,
  seed: int = 0,
  steps: int = 200,
  until: int | None = None,  # the newest step; None: all are made
  lift: float = 0.0,  # added to the loss
  paper: str = 'gpt2',
  tokenizer: str = TOKENIZER,  # '': no checkpoint has been saved yet
  bits: bool = True,  # whether evaluations have bits per byte
  mfu: float | None = None,
  samples: str = '',
  log_every: int = 10,
  eval_every: int = 50,
  more: dict | None = None,  # further numbers of training
  **overrides,  # keys of the config, with __ for the dot
) -> Path:
  """Writes the workdir of a run whose loss falls; returns the folder."""
  config = importlib.import_module(f'configs.{paper}').get_config('tiny')
  changed = {'seed': seed, 'train.steps': steps, 'schedule.warmup_steps': 2}
  changed |= {k.replace('__', '.'): x for k, x in overrides.items()}
  with config.unlocked():
    config.update_from_flattened_dict(changed)
  folder.mkdir(parents=True)
  workdir.claim(str(folder), config)
  until = steps if until is None else until
  rng = np.random.default_rng([seed, round(1000 * lift)])
  shift = lift + 0.02 * rng.standard_normal()

  def loss(step):
    return 3.0 + 6.0 * (1 + step / 10) ** -0.6 + shift

  writer = MetricsWriter(str(folder))
  for step in range(until + 1):
    if step and step % log_every == 0:
      rates = {'steps_per_second': 4.0, 'tokens_per_second': 4000.0}
      rates |= {} if mfu is None else {'mfu': mfu}
      row = {
        'loss': loss(step) + 0.1 * rng.standard_normal(),
        'wall_seconds': 0.25 * step,
        'peak_host_bytes': 1.5e9,
      }
      rates |= more or {}
      row = {f'train/{k}': x for k, x in (row | rates).items()}
      writer.write(step, row | {'data/tokens_seen': 1000.0 * step})
    if step % eval_every == 0 or step == steps:
      row = {'loss': loss(step), 'accuracy': 1 / loss(step)}
      row |= {'perplexity': math.exp(loss(step)), 'tokens': 5000.0}
      row |= {'bits_per_byte': loss(step) / math.log(2) / 4} if bits else {}
      writer.write(step, {f'eval/{k}': x for k, x in row.items()})
  if samples:
    writer.write_text(until, 'samples', samples)
  writer.close()

  entries = [history.entry('begun', 0)]
  history.write(str(folder), entries)
  rows = [{'time': 1000.0, 'event': 'start'}]
  rows.append({'time': 1010.0, 'step': 0, 'startup': 10.0})
  rows.append({'time': 1010 + until / 4, 'step': until, 'compute': until / 4})
  text = ''.join(f'{json.dumps(row)}\n' for row in rows)
  (folder / 'time.jsonl').write_text(text)
  if tokenizer and until:
    data = {'tokenizer': tokenizer, 'source': [{'file': 'a.txt'}], 'seed': seed}
    saved = {
      'config': workdir.plain(config),
      'data': data | {'eval_source': ''},
      'made_by': MADE_BY,
      'history': entries,
    }
    place = folder / 'checkpoints' / str(until) / 'run'
    place.mkdir(parents=True)
    (place / 'metadata').write_text(json.dumps(saved))
  return folder
