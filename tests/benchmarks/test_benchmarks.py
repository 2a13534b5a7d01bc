"""The benchmarks run, and their two sides compute the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import REPOSITORY

pytestmark = pytest.mark.slow


def run(name, out, *flags):
  """What the benchmark wrote."""
  done = subprocess.run(
    [sys.executable, '-m', f'benchmarks.{name}', f'--out={out}', *flags],
    cwd=REPOSITORY, env=os.environ | {'JAX_PLATFORMS': 'cpu'}, timeout=900,
    capture_output=True, text=True, check=False,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr[-2000:]
  return json.loads(out.read_text())


def test_train_step(tmp_path):
  """The benchmark itself fails if the losses of the systems differ."""
  found = run(
    'train_step', tmp_path / 'out.json', '--models=bert', '--layers=1',
    '--batch=2', '--length=16', '--dropout=0', '--only=treeline,torch',
    '--warmup=2', '--rounds=2',
  )  # fmt: skip
  (case,) = found['bert']['cases']
  assert case['times_treeline']['torch'] > 0


def test_finetuning_parity(tmp_path):
  """Two seeds of both sides; the same command again makes no run twice."""
  folder = os.environ.get('TREELINE_DATA')
  if not folder:
    pytest.skip('set TREELINE_DATA to a folder with real data (README.md)')
  rte = tmp_path / 'data' / 'glue' / 'RTE'
  rte.mkdir(parents=True)
  for name in ('train.tsv', 'dev.tsv'):  # a header and 32 examples
    whole = Path(folder, 'glue', 'RTE', name).read_text().split('\n')
    (rte / name).write_text('\n'.join(whole[:33]))
  flags = (
    f'--data={tmp_path}/data', f'--folder={tmp_path}', '--tasks=rte',
    '--seeds=2', '--examples=16', '--epochs=1',
  )  # fmt: skip
  first, again = (
    run('finetuning_parity', tmp_path / f'{name}.json', *flags)['rte']
    for name in ('first', 'again')
  )
  assert first['steps'] == 1
  for side in 'treeline', 'torch':
    assert len(first[side]['scores']) == 2
    assert again[side] == first[side]
    right = [32 * x / 100 for x in first[side]['scores']]
    assert right == pytest.approx([round(x) for x in right])


def test_input_pipeline(tmp_path):
  folder = os.environ.get('TREELINE_DATA')
  if not folder:
    pytest.skip('set TREELINE_DATA to a folder with real data (README.md)')
  found = run(
    'input_pipeline', tmp_path / 'out.json', f'--data={folder}',
    '--only=span_corruption', '--cores=1', '--repeats=1', '--seconds=0.05',
  )  # fmt: skip
  rates = found['cores']['1']['span_corruption']
  assert rates['treeline raw']['median'] > 0
  assert rates['treeline cached']['median'] > 0


def test_decode(tmp_path):
  """Both sides write the same tokens."""
  found = run(
    'decode', tmp_path / 'out.json', '--tiny', '--rounds=2', '--models=llama',
    '--settings=greedy-16-ragged,beam4-1',
  )  # fmt: skip
  assert [*found] == ['llama/greedy-16-ragged', 'llama/beam4-1']
  for case in found.values():
    assert case['same_tokens'] == 1
    assert case['ratio'] > 0
