"""Runs whose loss spikes: they go back and skip batches, killed or not.

One file of the text has other letters than all others. A model that has learned
those has a higher loss there.
"""

import json
import random
import signal
import sys

import jax
import numpy as np
import pytest

from input_pipeline import pipeline
from input_pipeline.config import DataConfig, data_config
from tests.helpers import runs
from tests.helpers.processes import (
  assert_equal_runs,
  finish,
  killed,
  start_two,
)
from train.fingerprint import fingerprint
from train.reporting import timing
from train.runs import history, workdir
from train.runs.checkpoint import Checkpoints

pytestmark = pytest.mark.slow

CONFIG = {
  'system': 'gpt2',
  'data__tokenizer_kind': 'bytes',
  'data__streams': 2,
  'data__batch': 16,
  'data__concatenate': True,
  'model__vocab_size': 300,
  'model__scan': False,
  'schedule__learning_rate': 0.01,
  'train__steps': 30,
  'train__spike_factor': 1.5,
  'train__spike_window': 6,
  'train__spike_back': 3,
  'train__spike_skip': 15,
  'eval__batches': 1,
  'checkpoint__every': 5,
  'checkpoint__keep': 1,
  # Batches grow. Where they are odd, the streams take turns at the rows.
  'train__phases': (
    (('steps', 9), 10, 0, 0, ''),
    (('steps', 26), 13, 0, 0, ''),
    (('steps', 27), 11, 0, 0, ''),
  ),
}


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  folder = tmp_path_factory.mktemp('data')
  rng = random.Random(0)

  def document(letters):
    return ' '.join(''.join(rng.choices(letters, k=4)) for _ in range(20))

  for number in range(24):
    letters = 'QRSTUVWXYZ' if number == 17 else 'ab'
    text = '\n\n'.join(document(letters) for _ in range(16))
    (folder / f'{number:02}.txt').write_text(text)
  return f'text:{folder}/*.txt'


@pytest.fixture(scope='module')
def whole(source, tmp_path_factory):
  """A run that is not killed, and its config."""
  config = CONFIG | {'data__source': source}
  folder = tmp_path_factory.mktemp('whole') / 'run'
  stdout = runs.train(folder, **config)
  assert 'Going back to step' in stdout
  return folder, config


def rewinds(folder):
  """What the history says of them, but for the time and the command."""
  return [
    {k: x for k, x in one.items() if k not in ('time', 'command', 'checkpoint')}
    for one in history.read(str(folder))
    if one['event'] == 'rewound'
  ]


def test_the_batches_that_are_read(whole):
  """Each row belongs to a step or is skipped; none is read twice."""
  folder, _ = whole
  config = workdir.read_config(str(folder))
  (one,) = rewinds(folder)
  assert one['spike'] == one['step'] + 3
  assert one['batches'] == 15
  assert one['skipped'] == [one['step'] + 1, one['step'] + 15]
  losses = dict(runs.rows(folder))
  assert list(losses) == list(range(1, 31))
  window = [losses[step] for step in range(one['spike'] - 6, one['step'] + 1)]
  assert one['loss'] > one['limit'] > 1.5 * min(window)
  assert max(losses[step] for step in range(one['step'] + 1, 31)) < one['limit']

  # Row by row, in the order of the run.
  plan = data_config(config).plan
  config.unlock()
  config.data.batch = 1
  data = pipeline.open_data(
    DataConfig(**config.data), config.seed, config.model.vocab_size,
    workdir=str(folder), family=config.model.family,
  )  # fmt: skip
  rows = data.batches(data.start(), np.arange(1))
  cursor, tokens = data.start(), 0
  for step in range(1, 31):
    phase = next(x for x in plan if x.last is None or step <= x.last)
    skipped = 15 * phase.batch if step == one['step'] + 1 else 0
    for number in range(skipped + phase.batch):
      row = next(rows)
      cursor[row['last_of'][0] if 'last_of' in row else 0] = row['cursor'][0]
      tokens += (row['segments'] > 0).sum() if number >= skipped else 0
  assert dict(runs.rows(folder, 'data/tokens_seen'))[30] == tokens
  state = Checkpoints(str(folder), read_only=True).restore_arrays(30)
  np.testing.assert_array_equal(state['cursor'], cursor)


# Is killed before or after the history gets a rewind.
CUT = """
import os, runpy, signal, sys
from train.runs import history

def write(folder, entries):
  rewound = entries[-1]['event'] == 'rewound'
  if moment == 'after' or not rewound:
    whole(folder, entries)
  if rewound:
    os.kill(os.getpid(), signal.SIGKILL)

moment, whole = sys.argv.pop(), history.write
history.write = write
runpy.run_module('train', run_name='__main__', alter_sys=True)
"""


def test_killed_on_one_host(whole, tmp_path):
  """Before the spike, at the rewind, and after it: the bits are the same."""
  expected, config = whole
  folder = tmp_path / 'run'
  command = runs.command(folder, **config)
  cuts = [[command[0], '-c', CUT, *command[3:], x] for x in ('before', 'after')]
  for cut in (killed(command, 15), *cuts, killed(command, 30)):
    done = runs.run(cut)
    assert done.returncode == -signal.SIGKILL, done.stderr
  assert rewinds(folder) == rewinds(expected)
  runs.train(folder, **config)
  assert_equal_runs(folder, expected)
  assert rewinds(folder) == rewinds(expected)

  # Where the time went: every second has one place.
  life = timing.read(str(folder))
  lines = (folder / timing.NAME).read_text().splitlines()
  first, *_, last = (json.loads(x)['time'] for x in lines)
  assert life.starts == 5
  assert life.step == 30
  assert life.total == pytest.approx(last - first, rel=0.02)
  parts = {'compute', 'lost', 'startup', 'compile', 'restore', 'rewind', 'down'}
  assert all(life.seconds[name] > 0 for name in parts)
  (found,) = [x for x in runs.rows(folder, 'time/goodput') if x[0] == 30]
  assert 0 < found[1] < 1
  done = runs.program('goodput', folder, '--json')
  assert json.loads(done.stdout)['parts']['lost'] == life.seconds['lost']
  assert runs.program('goodput', folder).stdout.startswith('Goodput ')


def test_killed_on_two_hosts(whole, tmp_path):
  """Each has its own profile; the first one alone writes times."""
  one, config = whole
  expected, folder = tmp_path / 'whole', tmp_path / 'killed'

  def two(workdir, *flags, last=0):
    def command(*own):
      words = runs.command(workdir, *own, *flags, **config)
      return killed(words, last) if last else words

    return start_two(command)

  stdout, other = finish(two(expected, '--profile=3:4'))
  assert 'Steps 3 to 4 are profiled' in stdout
  assert 'Going back' not in other
  steps = {}
  for path in expected.glob('profile/plugins/profile/steps_3_4/*.xplane.pb'):
    events = (
      event
      for plane in jax.profiler.ProfileData.from_file(str(path)).planes
      for line in plane.lines
      for event in line.events
    )
    marked = [dict(x.stats)['step_num'] for x in events if x.name == 'train']
    steps[path.name.split('_')[1]] = sorted(marked)
  assert steps == {'0': [3, 4], '1': [3, 4]}
  assert timing.read(str(expected)).starts == 1
  for process in two(folder, last=30):
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
  finish(two(folder))
  assert len(rewinds(folder)) == 1
  assert rewinds(folder) == rewinds(expected)
  assert_equal_runs(folder, expected)
  np.testing.assert_allclose(runs.rows(folder), runs.rows(one), rtol=1e-4)
  assert fingerprint(str(folder))['cursor'] == fingerprint(str(one))['cursor']


def test_a_spike_that_no_batch_causes(source, tmp_path):
  """A rate that is too high ends the run, after several other batches."""
  config = CONFIG | {'data__source': source, 'train__spike_skip': 3}
  config |= {'schedule__restarts': ((12, 3.0, 1),), 'train__spike_factor': 1.1}
  done = runs.run(runs.command(tmp_path / 'run', **config))
  assert done.returncode == 1, done.stderr
  assert 'Error: The loss of step' in done.stderr
  assert 'went back from spikes at this place 3 times' in done.stderr
  assert 'Traceback' not in done.stderr
  assert [x['batches'] for x in rewinds(tmp_path / 'run')][0] == 3
  assert len(rewinds(tmp_path / 'run')) == 3


def test_a_profile_of_past_steps(whole):
  """It is reported, and a range that is none fails before anything else."""
  folder, _ = whole
  command = [sys.executable, '-m', 'train', f'--workdir={folder}']
  done = runs.run([*command, '--profile=3:5'])
  assert 'these steps are past, and nothing is profiled' in done.stdout
  assert not (folder / 'profile').exists()
  done = runs.run([*command, '--profile=3:50'])
  assert done.returncode == 1
  assert done.stderr == (
    'Error: --profile=3:50 ends after the run does: train.steps is 30.\n'
  )
