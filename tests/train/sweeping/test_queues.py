"""The commands that are printed do what they say: a shell runs them."""

import os
import subprocess

import pytest

from tests.helpers import REPOSITORY
from train.sweeping import queues
from train.sweeping.children import Run

# Reports its arguments, and that TPU's name.
PROGRAM = '#!/bin/bash\nprintf "%s|" "$(basename "$0")" "$@" >> "$SHOWN"\n'
PHASES = '--config.train.phases=((1, 2),)'


def runs_in(out):
  return [
    Run(
      name, f'{out}/{name}',
      ('python', '-m', 'train', '--config=t5.py', PHASES,
       f'--workdir={out}/{name}'),
    )
    for name in ('seed=0', 'seed=1')
  ]  # fmt: skip


@pytest.fixture
def shell(tmp_path, monkeypatch):
  """A function: runs a script; returns its programs and their arguments."""
  for name in ('python', 'sbatch', 'gcloud'):
    path = tmp_path / name
    path.write_text(PROGRAM + 'echo >> "$SHOWN"\n')
    path.chmod(0o755)
  monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
  monkeypatch.setenv('SHOWN', str(tmp_path / 'shown'))

  def run(script, *arguments):
    (tmp_path / 'shown').write_text('')
    subprocess.run(
      ['bash', '-c', script, 'runs.sh', *arguments], check=True, cwd=REPOSITORY
    )
    lines = (tmp_path / 'shown').read_text().splitlines()
    return [line.split('|')[:-1] for line in lines]

  return run


def test_commands(shell):
  first, second = shell(queues.script('commands', runs_in('/a b')))
  assert first == [
    'python', '-m', 'train', '--config=t5.py', PHASES, '--workdir=/a b/seed=0',
  ]  # fmt: skip
  assert second[-1] == '--workdir=/a b/seed=1'


def test_slurm(shell, monkeypatch):
  monkeypatch.setenv('OPTIONS', '--nodes=8 --time=1:00:00')
  first, _ = shell(queues.script('slurm', runs_in('/shared')))
  assert first == [
    'sbatch', '--nodes=8', '--time=1:00:00', '--job-name=seed=0',
    'examples/launch/slurm.sh', '--config=t5.py', PHASES,
    '--workdir=/shared/seed=0',
  ]  # fmt: skip
  assert (REPOSITORY / first[4]).exists()


def test_tpus(shell, monkeypatch):
  """Each run has a TPU of its own, which gets the run's flags alone."""
  for name, value in {
    'ZONE': 'z',
    'TYPE': 'v5litepod-8',
    'VERSION': 'v',
  }.items():
    monkeypatch.setenv(name, value)
  script = queues.script('tpu', runs_in('gs://b/out'))
  created = shell(script, 'create', '--spot')
  assert [x[5] for x in created] == ['sweep-0', 'sweep-1']
  assert all(x[-1] == '--spot' and 'create' in x for x in created)
  assert len(shell(script, 'state')) == 2
  for number, started in enumerate(shell(script, 'start')):
    assert started[5] == f'sweep-{number}'
    assert f'--workdir=gs://b/out/seed={number}' in started[-1]
    assert '--config.train.phases=\\(\\(1\\,\\ 2\\)\\,\\)' in started[-1]


def test_hosts_of_a_tpu_must_see_the_runs():
  with pytest.raises(ValueError, match='--out=/out: all hosts of a TPU must'):
    queues.script('tpu', runs_in('/out'))
