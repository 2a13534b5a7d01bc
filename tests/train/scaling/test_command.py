"""`python -m train.scaling`, from a table to a prediction."""

import json
import subprocess
import sys

import numpy as np
import pytest

from configs.scaling.laws import LAWS
from tests.helpers import REPOSITORY
from train.scaling import __main__ as scaling

LAW = LAWS['besiroglu']


def run(*words):
  return subprocess.run(
    [sys.executable, '-m', 'train.scaling', *map(str, words)],
    cwd=REPOSITORY, capture_output=True, text=True, timeout=300,
  )  # fmt: skip


@pytest.fixture(scope='module')
def table(tmp_path_factory):
  """IsoFLOP runs of a known law."""
  lines = ['params,tokens,loss']
  for C in (1e18, 1e19, 1e20):
    for N in LAW.best(C)[0] * np.geomspace(0.4, 2.5, 5):
      D = C / 6 / N
      lines.append(f'{N},{D},{LAW.loss(N, D)}')
  path = tmp_path_factory.mktemp('scaling') / 'runs.csv'
  path.write_text('\n'.join(lines))
  return path


def test_fit_and_predict(table, tmp_path):
  out = tmp_path / 'law'
  laws = '--law=chinchilla,isoflop'
  done = run('fit', table, laws, f'--out={out}', '--bootstrap=20')
  assert done.returncode == 0, done.stderr
  assert 'FLOPs are 6 N D.' in done.stdout
  for name in ('chinchilla.png', 'isoflop.png'):
    assert (out / name).read_bytes().startswith(b'\x89PNG')
  saved = json.loads((out / 'law.json').read_text())
  chinchilla, isoflop = saved['laws']
  assert chinchilla['parameters']['alpha'][0] == pytest.approx(LAW.alpha, 1e-3)
  assert isoflop['parameters']['a'][0] == pytest.approx(LAW.a, abs=0.01)

  done = run('predict', out, '--budgets=1e21', '--json')
  assert done.returncode == 0, done.stderr
  (row,) = json.loads(done.stdout)
  assert row['params'][0] == pytest.approx(LAW.best(1e21)[0], rel=0.01)
  assert row['loss'][0] == pytest.approx(LAW.loss(*LAW.best(1e21)), rel=1e-3)
  assert any('extrapolates' in x for x in row['warnings'])


def test_a_law_of_flops_predicts_a_budget(table, tmp_path):
  done = run('fit', table, '--law=kaplan_c', f'--out={tmp_path}')
  assert done.returncode == 0, done.stderr
  done = run('predict', tmp_path, '--budgets=1e20', '--json')
  assert done.returncode == 0, done.stderr
  (row,) = json.loads(done.stdout)
  assert row['loss'][0] == pytest.approx(LAW.loss(*LAW.best(1e20)), rel=0.05)


def test_an_envelope_reads_the_curves_of_a_folder(table, tmp_path):
  """Other laws read the last evaluations of its runs; a table is as it is."""
  laws = ['chinchilla', 'envelope', 'isoflop']
  assert scaling.parts(str(table), laws) == [(False, laws)]
  assert scaling.parts(str(tmp_path), laws) == [
    (False, ['chinchilla', 'isoflop']),
    (True, ['envelope']),
  ]
  assert scaling.parts(str(tmp_path), laws[1:2]) == [(True, ['envelope'])]


@pytest.mark.parametrize(
  ('words', 'message'),
  [
    (('fit',), "give 'fit RUNS.csv'"),
    (('fit', 'nowhere.csv'), 'there is no nowhere.csv'),
    (('fit', 'TABLE', '--law=chinchila'), "Did you mean 'chinchilla'"),
    (('fit', 'TABLE', '--units=params'), 'must be NAME=VALUE'),
    (('predict', 'TABLE', '--budgets=1e20'), 'run fit again'),
  ],
)
def test_mistakes_take_one_line(table, words, message):
  done = run(*(table if word == 'TABLE' else word for word in words))
  assert done.returncode == 1
  assert message in done.stderr
  assert done.stderr.startswith('Error: ')
  assert len(done.stderr.splitlines()) == 1
