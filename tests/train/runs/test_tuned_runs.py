"""Runs that train a part of a model: begun, killed, evaluated, exported."""

import json
import re
import signal
import sys

import numpy as np
import pytest
import torch
import transformers
from flax.traverse_util import flatten_dict

from tests.helpers import runs
from train import pretrained
from train.fingerprint import fingerprint
from train.runs import opening
from train.runs.checkpoint import Checkpoints

pytestmark = pytest.mark.slow

GPT2 = {
  'system': 'gpt2',
  'model__vocab_size': 512,
  'schedule__learning_rate': 0.01,
  'schedule__name': 'constant',
  'schedule__warmup_steps': 0,
  'schedule__end_fraction': 0.0,
  'eval__batches': 2,
  'train__steps': 12,
}
LORA = GPT2 | {
  'tuning__train': 'lora',
  'tuning__rank': 2,
  'tuning__alpha': 4.0,
  'tuning__matrices': "('attention/query','mlp/output')",
}
FACTORS = [
  f'lora/decoder/layers/{matrix}/{factor}'
  for matrix in ('attention/query', 'mlp/output')
  for factor in 'ab'
]


def params_of(folder, step):
  """The parameters in a checkpoint, by path."""
  with Checkpoints(str(folder), read_only=True) as checkpoints:
    tree = checkpoints.restore_arrays(step, 'params')['params']
  return flatten_dict(tree, sep='/')


@pytest.fixture(scope='module')
def plain(tmp_path_factory, source):
  """A run that trained everything."""
  folder = tmp_path_factory.mktemp('plain') / 'run'
  runs.train(folder, data__source=source, **GPT2)
  return folder


def begin(folder, source, plain, **overrides):
  """The command of a run that begins with the plain one's parameters."""
  return runs.command(
    folder, f'--init_from={plain}', data__source=source, **overrides
  )


@pytest.fixture(scope='module')
def tuned(tmp_path_factory, source, plain):
  """A run of LoRA that began with the plain one; and what it printed."""
  folder = tmp_path_factory.mktemp('lora') / 'run'
  done = runs.run(begin(folder, source, plain, **LORA))
  assert done.returncode == 0, done.stderr
  return folder, done.stdout


def test_a_run_of_lora(plain, tuned):
  folder, printed = tuned
  assert f'new, from the seed: {", ".join(FACTORS)}' in printed
  before, after = params_of(plain, 12), params_of(folder, 12)
  assert after.keys() - before.keys() == set(FACTORS)
  trained = sum(after[name].size for name in FACTORS)
  every = sum(x.size for x in after.values())
  assert f'lora: {trained:,} of {every:,} parameters are trained.' in printed
  for name, x in before.items():
    assert x.tobytes() == after[name].tobytes(), name
  losses = [loss for _, loss in runs.rows(folder, 'eval/loss')]
  assert losses[0] == runs.rows(plain, 'eval/loss')[-1][1]  # nothing changed
  assert losses[-1] < losses[0]


def test_killed_and_resumed_from_the_workdir_alone(
  tuned, plain, source, tmp_path
):
  folder = tmp_path / 'run'
  process = runs.start(begin(folder, source, plain, **LORA))
  for line in process.stdout:
    found = re.match(r'step (\d+)/', line)
    if found and int(found[1]) >= 6:
      break
  process.send_signal(signal.SIGKILL)
  process.communicate(timeout=120)
  assert max(runs.checkpoints(folder)) < 12
  done = runs.run([sys.executable, '-m', 'train', f'--workdir={folder}'])
  assert done.returncode == 0, done.stderr
  assert runs.rows(folder) == runs.rows(tuned[0])
  assert fingerprint(str(folder)) == fingerprint(str(tuned[0]))


def test_the_workdir_is_evaluated_and_exported_merged(tuned, tmp_path, capfd):
  folder, _ = tuned
  done = runs.run(
    [sys.executable, '-m', 'train.evaluate', f'--workdir={folder}']
  )
  assert done.returncode == 0, done.stderr
  found = json.loads(done.stdout)
  assert found['loss'] == runs.rows(folder, 'eval/loss')[-1][1]

  pretrained.export(str(folder), str(tmp_path / 'exported'), 'float32')
  assert "LoRA's factors are merged" in capfd.readouterr().out
  run = opening.open_run(str(folder))
  ours = run.apply([[5, 6, 7, 8]])['logits']
  theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / 'exported')
  tokens = torch.tensor(run.apply([[5, 6, 7, 8]])['tokens'].astype('int64'))
  logits = theirs.eval()(tokens).logits.detach().numpy()
  np.testing.assert_allclose(ours, logits, rtol=1e-4, atol=1e-4)


def test_a_plain_run_that_begins_with_lora(tuned, source, tmp_path):
  folder = tmp_path / 'run'
  settings = GPT2 | {'train__steps': 1}
  done = runs.run(begin(folder, source, tuned[0], **settings))
  assert done.returncode == 0, done.stderr
  assert 'merged: 4 arrays of LoRA' in done.stdout
  first = runs.rows(folder, 'eval/loss')[0][1]
  assert first == pytest.approx(
    runs.rows(tuned[0], 'eval/loss')[-1][1], rel=1e-6
  )
  assert not any('lora' in name for name in params_of(folder, 1))


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'tuning__alpha': 8.0}, 'factors for tuning.alpha=4.0 and tuning.rank=2'),
    (
      {'tuning__rank': 3, 'tuning__alpha': 6.0},
      'lora/decoder/layers/attention/query/a: 1x16x2 there',
    ),
    (
      {'tuning__matrices': "('attention/qery',)"},
      "'attention/qery', which LoRA cannot change. Did you mean 'att",
    ),
    ({'tuning__rank': 0}, 'tuning.rank is 0; tuning.train=lora needs a number'),
    ({'tuning__train': 'all'}, 'tuning.train=all does not use it'),
    ({'tuning__train': 'half'}, "tuning.train is 'half'; it must be one of"),
  ],
)
def test_what_does_not_fit(tuned, source, tmp_path, changes, message):
  done = runs.run(begin(tmp_path / 'run', source, tuned[0], **(LORA | changes)))
  assert done.returncode == 1
  assert message in done.stderr
  assert 'Traceback' not in done.stderr
