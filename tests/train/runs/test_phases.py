"""Runs through every switch of their phases, killed, on one host and two."""

import signal

import numpy as np
import pytest

from configs.phases import line, ramp
from tests.helpers import runs
from tests.helpers.processes import (
  assert_equal_runs,
  finish,
  killed,
  start_two,
)
from train.fingerprint import fingerprint

pytestmark = pytest.mark.slow

COMMON = {
  'data__tokenizer_kind': 'bytes',
  'data__streams': 4,
  'data__concatenate': True,
  'model__vocab_size': 300,
  'model__scan': False,
  'eval__batches': 1,
  'eval__every': 100,
  'checkpoint__every': 1,
  'train__steps': 9,
}
# Each as the paper's: BLOOM grows by equal shares of its rows, GPT-3 along a
# line of tokens, and BERT has longer rows in the end. No batch but the last is
# a multiple of the streams or of the devices.
PAPERS = {
  'bloom': {
    'schedule__unit': 'rows',
    'schedule__warmup_steps': 25,
    'train__phases': ramp('rows', 58, 10, 16, 3),
  },
  'gpt3': {
    'schedule__unit': 'tokens',
    'schedule__warmup_steps': 700,
    'train__phases': line('tokens', 2400, 5, 16, 3),
  },
  'bert': {
    'data__lowercase': False,
    'train__phases': (
      (('steps', 3), 11, 16, 3, ''),
      (('steps', 6), 13, 24, 4, ''),
    ),
  },
}


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  return runs.write_text(tmp_path_factory.mktemp('data') / 'text')


def config_of(system, source):
  return COMMON | PAPERS[system] | {'system': system, 'data__source': source}


@pytest.mark.parametrize('system', ['bloom', 'gpt3'])
def test_killed_on_one_host(source, tmp_path, system):
  """Killed at a switch and between two, the run has the same bits."""
  config = config_of(system, source)
  whole, folder = tmp_path / 'whole', tmp_path / 'killed'
  stdout = runs.train(whole, **config)
  assert stdout.count('batches have') == len(config['train__phases'])
  for last in (4, 6):  # the checkpoints of steps 3 and 5 are there
    done = runs.run(killed(runs.command(folder, **config), last))
    assert done.returncode == -signal.SIGKILL, done.stderr
  runs.train(folder, **config)
  assert_equal_runs(folder, whole)


def test_killed_on_two_hosts(source, tmp_path):
  """Two hosts of four devices read what one host of one device reads."""
  config = config_of('bert', source)
  one, whole, folder = (tmp_path / x for x in ('one', 'whole', 'killed'))
  runs.train(one, **config)

  def two(workdir, last=0):
    def command(*flags):
      words = runs.command(workdir, *flags, **config)
      return killed(words, last) if last else words

    return start_two(command)

  finish(two(whole))
  for process in two(folder, 5):
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
  assert runs.checkpoints(folder)[-1] == 4
  finish(two(folder))
  assert_equal_runs(folder, whole)
  np.testing.assert_allclose(runs.rows(whole), runs.rows(one), rtol=1e-5)
  ours, expected = fingerprint(str(whole)), fingerprint(str(one))
  assert ours['cursor'] == expected['cursor']
