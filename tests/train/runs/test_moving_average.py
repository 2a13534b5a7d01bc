"""Runs that keep a moving average of their parameters: `train.ema_decay`."""

import shutil

import jax
import numpy as np
import optax
import pytest
import safetensors.numpy
from jax.sharding import PartitionSpec

from configs import gpt2
from tests.helpers import runs
from tests.helpers.warm_starts import BYTES, begun, config_of
from train import loop, pretrained
from train.average import average
from train.evaluate import evaluate_run
from train.fingerprint import digest, fingerprint
from train.generate import generate
from train.learning.state import moved
from train.runs import opening
from train.runs.checkpoint import Checkpoints
from train.settings import check_settings
from train.setup import set_up

GPT2 = runs.SYSTEMS['gpt2']
DECAY = 0.7
EMA = {'train.ema_decay': DECAY, 'checkpoint.every': 1, 'checkpoint.keep': 9}
EMA |= {'eval.every': 2}


def test_it_is_the_corrected_mean_of_adams_paper():
  """Kingma & Ba 2015, 7.2, in float64; and optax's."""
  rng = np.random.default_rng(0)
  params = rng.normal(size=(50, 3)).astype('float32')
  ema = optax.ema(0.99, debias=True)
  state, plain = ema.init(params[0]), np.zeros(3)
  found = rng.normal(size=3).astype('float32')  # before them; it has no share
  for step, x in enumerate(params):
    found = moved(found, x, np.int32(step), 0.99)
    plain = 0.99 * plain + (1 - 0.99) * np.float64(x)
    theirs, state = ema.update(x, state)
    np.testing.assert_allclose(
      found, plain / (1 - 0.99 ** (step + 1)), rtol=2e-5, atol=1e-6
    )
    np.testing.assert_allclose(found, theirs, rtol=2e-4, atol=1e-5)
  # A decay near 1 after many steps moves by 1 - decay.
  later = moved(np.zeros(3, 'float32'), params[0], np.int32(10**6), 0.9999)
  np.testing.assert_allclose(later, 1e-4 * params[0], rtol=1e-5)


def config(source, *changes):
  own = {'data.source': source}
  return config_of(gpt2, 'tiny', BYTES, GPT2, own, EMA, *changes)


@pytest.fixture(scope='module')
def averaged(tmp_path_factory, source):
  """A run of 4 steps with an average."""
  folder = tmp_path_factory.mktemp('averaged') / 'run'
  loop.train(config(source), str(folder))
  return folder


def states(folder):
  """The state of each step, on this host."""
  saved = Checkpoints(str(folder), read_only=True)
  return [saved.restore_arrays(step) for step in saved.steps()]


def test_the_state_of_a_run(averaged, source, tmp_path):
  """The average is that of its parameters, which do not depend on it."""
  found = states(averaged)
  for n in range(1, 5):
    shares = (1 - DECAY) * DECAY ** np.arange(n)[::-1] / (1 - DECAY**n)

    def check(mean, *params, shares=shares):
      wanted = sum(
        s * np.float64(x) for s, x in zip(shares, params, strict=True)
      )
      np.testing.assert_allclose(mean, wanted, rtol=1e-5, atol=1e-7)

    own = [state['params'] for state in found[:n]]
    jax.tree.map(check, found[n - 1]['average'], *own)
  plain = tmp_path / 'plain'
  loop.train(config(source, {'train.ema_decay': 0.0}), str(plain))
  ours, theirs = fingerprint(str(averaged)), fingerprint(str(plain))
  assert ours.pop('average') == digest(found[-1]['average'])
  assert 'average' not in theirs
  assert ours['cursor'] == theirs['cursor']
  (last,) = states(plain)[-1:]  # another program: the last bits may differ
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6),
    last['params'],
    found[-1]['params'],
  )


def test_it_resumes_exactly(averaged, tmp_path):
  folder = tmp_path / 'run'
  shutil.copytree(averaged, folder)
  for step in (3, 4):
    shutil.rmtree(folder / 'checkpoints' / str(step))
  loop.train(None, str(folder))
  assert fingerprint(str(folder)) == fingerprint(str(averaged))
  assert runs.rows(folder, 'eval/loss') == runs.rows(averaged, 'eval/loss')
  changed = runs.config_of(folder, train__ema_decay=0.0, train__steps=5)
  with pytest.raises(ValueError, match='ema_decay: 0.7 there, 0.0 now'):
    loop.train(changed, str(folder), accept_changed_config=True)


def test_what_reads_the_run_takes_the_average(averaged, tmp_path, capfd):
  """Evaluations, answers and exports; --weights=last takes the parameters."""
  folder, losses = str(averaged), dict(runs.rows(averaged, 'eval/loss'))
  last = states(averaged)[-1]
  assert evaluate_run(folder)['loss'] == losses[4]
  assert evaluate_run(folder, weights='average')['loss'] == losses[4]
  other = evaluate_run(folder, weights='last')['loss']
  assert other != losses[4]
  assert other == pytest.approx(losses[4], rel=0.1)
  for weights, part in ((None, 'average'), ('last', 'params')):
    run = opening.open_run(folder, weights=weights)
    assert digest(jax.device_get(run.params)) == digest(last[part])
    target = tmp_path / part
    pretrained.export(folder, str(target), 'float32', weights=weights)
    said = 'the average of ' * (weights is None)
    assert f'Wrote {said}step 4 of' in capfd.readouterr().out
    found = safetensors.numpy.load_file(target / 'model.safetensors')
    table = last[part]['embed']['table']
    rows = found['transformer.wte.weight']
    np.testing.assert_array_equal(rows[: len(table)], table[: len(rows)])
  assert generate(folder, examples=1) != ''


def test_runs_that_begin_with_it(averaged, source, tmp_path):
  """They take the average; with --init_state all of the state."""
  last = states(averaged)[-1]
  none = {'train.ema_decay': 0.0, 'train.steps': 6}
  origin, state = begun(tmp_path / 'new', config(source, none), averaged)
  said = loop.warm_start.describe(origin, config(source))
  assert said.startswith('Parameters (their moving average) from step 4 of ')
  assert digest(jax.device_get(state.params)) == digest(last['average'])
  with pytest.raises(ValueError, match=r'keeps a moving(?s:.*)keeps none'):
    loop.train(
      config(source, none), str(tmp_path / 'no'), init_from=str(averaged),
      init_state=True,
    )  # fmt: skip
  folder, whole = tmp_path / 'on', tmp_path / 'whole'
  more = config(source, {'train.steps': 5})
  loop.train(more, str(folder), init_from=str(averaged), init_state=True)
  first = states(folder)[0]
  assert digest(first['average']) == digest(last['average'])
  assert digest(first['params']) == digest(last['params'])
  # The mean of checkpoints is what is read, though the run keeps an average.
  average(str(averaged), str(whole), 2)
  (mean,) = states(whole)
  assert digest(mean['params']) == digest(mean['average'])
  assert digest(mean['params']) not in (
    digest(last['params']),
    digest(last['average']),
  )


def test_a_run_without_one(finished):
  with pytest.raises(ValueError, match=r'keeps no moving average: its train'):
    opening.open_run(str(finished), weights='average')


def test_settings_and_places(source):
  for value in (-0.1, 1.0):
    with pytest.raises(ValueError, match=f'ema_decay is {value}; it must be'):
      check_settings(config(source, {'train.ema_decay': value}), 8)
  lora = {'tuning.train': 'lora'}
  with pytest.raises(ValueError, match='ema_decay is 0.7, but tuning.train=l'):
    check_settings(config(source, lora), 8)
  split = {'sharding.rules': 'fsdp', 'sharding.mesh.data': 1}
  split['sharding.mesh.fsdp'] = -1
  setup = set_up(config(source, split))
  ours, theirs = setup.places.average, setup.places.params
  assert jax.tree.leaves(ours) == jax.tree.leaves(theirs)
  assert any(x.spec != PartitionSpec() for x in jax.tree.leaves(ours))
