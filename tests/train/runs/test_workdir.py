"""A workdir belongs to one run, and to one process at a time."""

import dataclasses
import json
import math
import os
import re
import shutil
import signal
import sys

import numpy as np
import pytest

from configs import bert, t5
from input_pipeline import pipeline, tokenizing
from input_pipeline.config import DataConfig
from input_pipeline.tokenizers import kinds
from models.config import TransformerConfig
from tests.helpers import runs
from train import generate, loop, pretrained, recording
from train.evaluate import evaluate, evaluate_run
from train.fingerprint import fingerprint
from train.learning.criteria import criterion_for
from train.runs import checksums, folders, history, opening, workdir
from train.runs.best import Best
from train.runs.checkpoint import ITEMS, CheckpointError, Checkpoints

pytestmark = pytest.mark.slow

STEPS = {'train__steps': 4, 'checkpoint__every': 2, 'eval__every': 4}


@pytest.fixture(scope='module')
def texts(tmp_path_factory):
  folder = tmp_path_factory.mktemp('data') / 'text'
  runs.write_text(folder)
  return folder


@pytest.fixture(scope='module')
def whole(tmp_path_factory, texts):
  folder = tmp_path_factory.mktemp('whole') / 'run'
  changes = {'data.source': f'text:{texts}/*.txt'}
  changes |= {key.replace('__', '.'): value for key, value in STEPS.items()}
  config = t5.get_config('tiny').unlock()
  config.update_from_flattened_dict(runs.CONFIG | runs.SYSTEMS['t5'] | changes)
  loop.train(config.lock(), str(folder))
  return folder


@pytest.fixture
def half(whole, tmp_path):
  """A copy of that run at step 2."""
  folder = tmp_path / 'run'
  shutil.copytree(whole, folder)
  shutil.rmtree(folder / 'checkpoints' / '4')
  return folder


def config_of(folder, **changes):
  config = workdir.read_config(str(folder))
  config.unlock()
  config.update_from_flattened_dict(
    {key.replace('__', '.'): value for key, value in changes.items()}
  )
  return config.lock()


def test_one_process_at_a_time(tmp_path):
  held = folders.lock(str(tmp_path))
  message = rf'another process trains there \(process {os.getpid()} on '
  with pytest.raises(ValueError, match=message):
    folders.lock(str(tmp_path))
  held.close()
  folders.lock(str(tmp_path)).close()


def test_another_start_while_one_trains(half, texts):
  """The second start is refused before it changes anything."""
  files = {file: file.read_bytes() for file in half.iterdir() if file.is_file()}
  held = folders.lock(str(half))
  with pytest.raises(ValueError, match='another process trains there'):
    loop.train(None, str(half))
  held.close()
  del files[half / '.lock']
  assert all(file.read_bytes() == text for file, text in files.items())


def test_moved_data(whole, half, texts, tmp_path):
  """The same files may be anywhere, if there is a checkpoint to compare."""
  half = half.rename(tmp_path / 'run[lr=1e-3]')  # no pattern
  shutil.copytree(texts, tmp_path / 'moved')
  source = f'text:{tmp_path}/moved/*.txt'
  config = config_of(half, data__source=source)
  loop.train(config, str(half))
  assert fingerprint(str(half)) == fingerprint(str(whole))
  shutil.rmtree(half / 'checkpoints')
  with pytest.raises(ValueError, match='holds the run of another config'):
    workdir.check(str(half), config_of(half, data__source='docs'))


def test_repaired_data(half, texts, tmp_path, capfd):
  """Repaired data are refused, with the file's name, until accepted."""
  shutil.copytree(texts, tmp_path / 'moved')
  with open(tmp_path / 'moved' / '1.txt', 'a') as file:
    file.write('\n\nthe end that was missing\n')
  config = config_of(half, data__source=f'text:{tmp_path}/moved/*.txt')
  message = r'(?s)changed since the .*source\[1\.txt\]\.bytes: \d+, now \d+'
  with pytest.raises(ValueError, match=message):
    loop.train(config, str(half))
  (half / 'tokenizer.model').rename(tmp_path / 'tokenizer.model')
  with pytest.raises(ValueError, match=r'(?s)changed since the .*tokenizer: '):
    # Other documents may be accepted, but never other tokens.
    loop.train(config, str(half), accept_changed_data=True)
  (tmp_path / 'tokenizer.model').rename(half / 'tokenizer.model')
  loop.train(config, str(half), accept_changed_data=True)
  assert 'source[1.txt].bytes' in capfd.readouterr().err
  assert runs.checkpoints(half) == [2, 4]


@pytest.mark.parametrize(
  'change', [{'schedule__learning_rate': 0.5}, {'model__embed_dim': 24}]
)
def test_a_lost_config(half, change):
  """The config of the newest checkpoint is used."""
  whole = workdir.read_config(str(half))
  config = config_of(half, **change, checkpoint__keep=7)
  (half / workdir.NAME).unlink()
  assert workdir.read_config(str(half)).to_dict() == whole.to_dict()
  (key,) = (key.replace('__', '.') for key in change)
  message = rf'another config\. Different are:\n  {key}: .* there'
  with pytest.raises(ValueError, match=message):
    loop.train(config, str(half))


@pytest.mark.parametrize(
  ('group', 'key', 'message'),
  [
    ('model', 'dtype', "'model' lacks dtype; its unknown keys are dtypez"),
    ('data', 'block', "'data' lacks block; its unknown keys are blockz"),
  ],
)
def test_a_config_of_another_version(half, group, key, message):
  path = half / workdir.NAME
  config = json.loads(path.read_text())
  config[group][f'{key}z'] = config[group].pop(key)
  path.write_text(json.dumps(config))
  with pytest.raises(ValueError, match=message):
    workdir.read_config(str(half))


def test_a_run_older_than_some_keys_goes_on_as_before(half):
  """The missing keys get the values that do what the run did."""
  path, now = half / workdir.NAME, workdir.read_config(str(half))
  config = json.loads(path.read_text())
  keys = {
    'model.pooler_dropout': False,
    'data.loss_on_inputs': False,
    'optimizer.decay': 'matrices',
    'train.max_logit_loss': 0.0,
  }
  for key in keys:
    group, name = key.split('.')
    assert config[group].pop(name) == keys[key]
  path.write_text(json.dumps(config))
  then = workdir.read_config(str(half))
  assert then.to_dict() == now.to_dict()


EDITS = {
  ('schedule', 'learning_rate'): 0.5,
  ('optimizer', 'weight_decay'): 0.1,
  ('model', 'dropout'): 0.2,
  ('model', 'norm_epsilon'): 1e-3,
  ('optimizer', 'decay_rate'): 0.7,
  ('train', 'z_loss'): 0.5,
}


def edit(folder, group, key, value):
  path = folder / workdir.NAME
  config = json.loads(path.read_text())
  assert config[group][key] != value
  config[group][key] = value
  path.write_text(json.dumps(config))


@pytest.mark.parametrize(('group', 'key'), EDITS)
def test_an_edited_config(half, group, key, tmp_path):
  """Everything compares it with the checkpoint's own config."""
  edit(half, group, key, EDITS[group, key])
  message = rf'config.json was changed\.(?s:.*)\n  {group}.{key}: .* now'
  for use in (
    lambda: loop.train(None, str(half)),
    lambda: evaluate_run(str(half)),
    lambda: generate.generate(str(half), texts=['a']),
    lambda: pretrained.export(str(half), str(tmp_path / 'to'), 'float32'),
  ):
    with pytest.raises(ValueError, match=message):
      use()
  assert not (tmp_path / 'to').exists()
  (half / workdir.NAME).rename(half / 'aside')
  kept = workdir.read_config(str(half))
  assert kept[group][key] != EDITS[group, key]
  (half / 'aside').rename(half / workdir.NAME)
  workdir.check(str(half), kept)  # a whole config needs no file


@pytest.mark.parametrize(
  ('group', 'key', 'value', 'message'),
  [
    ('sharding', 'mesh', None, 'is damaged: .*sharding.mesh is None'),
    ('sharding', 'mesh', [1], r'is damaged: .*sharding.mesh is \[1\]'),
    ('data', 'threads', 'a', "config.json: data.threads is 'a', where"),
    ('eval', 'batches', 'a', "config.json: eval.batches is 'a', where"),
    ('checkpoint', 'keeep', 1, 'config.json: checkpoint.keeep is 1, where'),
  ],
)
def test_values_of_another_type(half, group, key, value, message):
  """The keys may change between two starts."""
  path = half / workdir.NAME
  config = json.loads(path.read_text())
  config[group][key] = value
  path.write_text(json.dumps(config))
  with pytest.raises(ValueError, match=message):
    workdir.read_config(str(half))


def test_keys_taken_from_the_workdir(half, texts, tmp_path):
  """The workdir says where the data are, and how much is evaluated."""
  shutil.copytree(texts, tmp_path / 'moved')
  source = f'text:{tmp_path}/moved/*.txt'
  edit(half, 'eval', 'batches', 3)
  edit(half, 'data', 'source', source)
  run = opening.open_run(str(half))
  assert (run.config.eval.batches, run.config.data.source) == (3, source)


def test_each_step_uses_its_own_config(whole, half):
  """The newest one's may have been changed during training."""
  folder = half / 'checkpoints'
  shutil.copytree(whole / 'checkpoints' / '4', folder / '4')
  edit(half, 'train', 'z_loss', 0.5)
  saved = folder / '4' / 'run' / 'metadata'
  run = json.loads(saved.read_text())
  run['config']['train']['z_loss'] = 0.5
  saved.write_text(json.dumps(run))
  checksums.write(str(folder / '4'), ITEMS)
  for step, expected in ((4, 0.5), (2, 1e-4)):
    assert opening.open_run(str(half), step).config.train.z_loss == expected


def test_another_tokenizer(half, texts, tmp_path):
  """The file is undamaged and of the same size, but of other documents."""
  config = config_of(half, data__source=f'text:{texts}/0.txt')
  other = tokenizing.train(DataConfig(**config.data), 0, 256)
  path = half / 'tokenizer.model'
  kinds.save(other, str(path))
  message = f'{path} is not the tokenizer that the checkpoint was trained with'
  for use in (
    lambda: generate.generate(str(half), texts=['a']),
    lambda: evaluate_run(str(half)),
    lambda: pretrained.export(str(half), str(tmp_path / 'to'), 'float32'),
  ):
    with pytest.raises(ValueError, match=re.escape(message)):
      use()
  path.unlink()
  with pytest.raises(ValueError, match=re.escape(f'{path} is missing')):
    pretrained.export(str(half), str(tmp_path / 'to'), 'float32')
  assert not (tmp_path / 'to').exists()


def test_another_model_in_evaluation(half, capfd):
  """--config may change the model; that is reported."""
  config = config_of(half, model__norm_epsilon=1e-3, model__dropout=0.0)
  opening.open_run(str(half), config=config)
  err = capfd.readouterr().err
  assert 'other model than in training: model.norm_epsilon: 1e-06, now' in err
  assert 'dropout' not in err


def test_any_missing_key_is_reported(tmp_path):
  """There is no checkpoint yet to compare the config with."""
  config = t5.get_config('tiny')
  workdir.claim(str(tmp_path), config)
  path = tmp_path / workdir.NAME
  whole = path.read_text()
  younger = {
    field.name
    for kind in (TransformerConfig, DataConfig)
    for field in dataclasses.fields(kind)
    if field.default is not dataclasses.MISSING
  }
  names = {*workdir.GROUPS, *config.sharding.mesh}
  names |= {key for group in workdir.GROUPS for key in config[group]}
  younger |= {key for keys in workdir.ADDED.values() for key in keys}
  for name in sorted(names - younger):
    path.write_text(whole.replace(f'"{name}":', f'"{name}z":'))
    with pytest.raises(ValueError, match=rf'config.json is .*\b{name}\b'):
      workdir.read_config(str(tmp_path))


def test_keys_of_a_begun_run_are_overridden(whole, half):
  """Flags override keys such as its mesh, without --config."""
  command = [sys.executable, '-m', 'train', f'--workdir={half}']
  done = runs.run([*command, '--config.model.embed_dim=24'])
  assert 'another config. Different are:\n  model.embed_dim: 16' in done.stderr
  done = runs.run([*command, '--config.sharding.mesh.data=1'])
  assert done.returncode == 0, done.stderr
  assert 'Resuming from the checkpoint of step 2.' in done.stdout
  ours, theirs = (fingerprint(str(folder)) for folder in (half, whole))
  assert [ours[x] for x in ('cursor', 'data')] == [
    theirs[x] for x in ('cursor', 'data')
  ]
  assert workdir.read_config(str(half)).sharding.mesh.data == 1


def test_asked_to_stop_while_evaluating(whole, half, monkeypatch, capfd):
  """The run stops and saves; when started again, it evaluates first."""

  def asked(step, params, batches, *rest):
    signal.raise_signal(signal.SIGTERM)
    return evaluate(step, params, batches, *rest)

  monkeypatch.setattr(recording, 'evaluate', asked)
  reported = []
  monkeypatch.setattr(
    pipeline.Data, 'report_shares', lambda data: reported.append(data)
  )
  config = config_of(half, checkpoint__every=3)
  loop.train(config, str(half))
  message = 'Asked to stop: the checkpoint of step 4 is saved.'
  assert message in capfd.readouterr().out
  assert len(reported) == 1  # shares, at the end, however few chunks were made
  assert [step for step, _ in runs.rows(half, 'eval/loss')] == [0]
  monkeypatch.setattr(recording, 'evaluate', evaluate)
  loop.train(config, str(half))
  assert runs.rows(half, 'eval/loss') == runs.rows(whole, 'eval/loss')
  assert fingerprint(str(half)) == fingerprint(str(whole))


def test_a_failed_checkpoint_ends_training_at_once(half, monkeypatch):
  """The run does not wait for the next save."""

  class Full(Checkpoints):
    failed = False

    def save(self, state, step, run):
      self.failed = True

    def check_saved(self):
      if self.failed:
        with self._writing():
          raise OSError(28, 'No space left on device')

  monkeypatch.setattr(loop, 'Checkpoints', Full)
  config = config_of(half, train__steps=30, checkpoint__every=9)
  with pytest.raises(CheckpointError, match='space left.* resume from step 2'):
    loop.train(config, str(half))
  assert runs.rows(half)[-1][0] in (9, 10)


def test_a_state_that_is_not_finite(texts, tmp_path):
  """The step's loss is finite, but its state is not saved as the last good."""
  changes = STEPS | {'checkpoint__every': 1, 'schedule__learning_rate': 1e42}
  source = f'text:{texts}/*.txt'
  done = runs.run(runs.command(tmp_path, data__source=source, **changes))
  assert done.returncode == 1
  last = done.stderr.strip().split('\n')[-1]
  assert last.startswith('Error: After step 1 the state is not finite, though')
  assert 'No checkpoint had been saved yet' in last
  assert not runs.checkpoints(tmp_path)


def test_rows_of_several_steps(whole, half):
  """The loss is the mean over all predicted tokens since the row before."""
  config = config_of(half, train__log_every=4, checkpoint__every=1)
  loop.train(config, str(half))
  data = pipeline.open_data(
    DataConfig(**config.data), config.seed, config.model.vocab_size,
    workdir=str(half), family=config.model.family,
  )  # fmt: skip
  batches = data.batches(data.start(), np.arange(config.data.batch))
  batches = [next(batches) for _ in range(4)]
  weights = [batch['weights'].sum() for batch in batches[2:]]
  losses = [loss for _, loss in runs.rows(whole)][2:]
  assert weights[0] != weights[1]
  expected = np.average(losses, weights=weights)
  (*_, (step, found)) = runs.rows(half)
  assert (step, found) == (4, pytest.approx(expected, rel=1e-6))
  seen = [
    sum((x[n] > 0).sum() for n in ('segments', 'encoder_segments'))
    for x in batches
  ]
  assert dict(runs.rows(half, 'data/tokens_seen'))[4] == sum(seen)
  assert dict(runs.rows(whole, 'data/tokens_seen'))[3] == sum(seen[:3])
  # Resumed between two rows, it writes the same rows.
  before = runs.rows(half), runs.rows(half, 'data/tokens_seen')
  shutil.rmtree(half / 'checkpoints' / '4')
  loop.train(None, str(half))
  assert (runs.rows(half), runs.rows(half, 'data/tokens_seen')) == before
  made_by = Checkpoints(str(half)).run(4)['made_by']
  assert {'command', 'commit', 'versions', 'time'} <= made_by.keys()


def test_another_rate(whole, half):
  """Another rate is refused; with the flag it is accepted and recorded.

  Later starts keep it.
  """
  change = {'schedule__learning_rate': 0.5, 'train__label_smoothing': 0.1}
  config = config_of(half, **change)
  message = 'learning_rate: 1.0 there, 0.5 now(?s:.*)--accept_changed_config'
  with pytest.raises(ValueError, match=message):
    loop.train(config, str(half))
  loop.train(config, str(half), accept_changed_config=True)
  rates = dict(runs.rows(half, 'train/learning_rate'))
  assert rates[3] == pytest.approx(rates[2] / 2)
  ours, theirs = (fingerprint(str(folder)) for folder in (half, whole))
  assert ours['data'] == theirs['data']
  assert ours['params'] != theirs['params']
  entries = history.read(str(half))
  begun, changed = entries
  assert (begun['event'], begun['step']) == ('begun', 0)
  assert (changed['event'], changed['step']) == ('config changed', 2)
  assert changed['changed'] == {
    'schedule.learning_rate': [1.0, 0.5],
    'train.label_smoothing': [0.0, 0.1],
  }
  assert changed['time'] >= begun['time']
  assert Checkpoints(str(half)).run(4)['history'] == entries
  # Killed before the first checkpoint after it.
  shutil.rmtree(half / 'checkpoints' / '4')
  loop.train(None, str(half))
  assert fingerprint(str(half)) == ours
  assert history.read(str(half)) == entries


@pytest.mark.parametrize(
  ('change', 'may'),
  [
    ({'train__steps': 9}, True),
    ({'schedule__name': 'constant', 'schedule__warmup_steps': None}, True),
    ({'eval__every': 3, 'train__log_every': 2}, True),
    ({'optimizer__clip_threshold': 2.0, 'optimizer__weight_decay': 0.1}, True),
    ({'model__dropout': 0.3, 'train__accumulate': 2}, True),
    ({'optimizer__b1': 0.9}, False),  # another form of the state
    ({'optimizer__factor_from': 0}, False),
    ({'data__length': 64}, False),
    ({'model__activation': 'silu'}, False),
    ({'seed': 1}, False),
    ({'eval__source': 'docs'}, False),  # held-out texts would be trained on
  ],
)
def test_what_may_change(half, change, may):
  config = config_of(half, **change)
  key = next(iter(change)).replace('__', '.')
  if may:
    workdir.check(str(half), config, accept=True)
    return
  message = (
    rf'(?s){key}: .*cannot change in a run that has .*--init_from={half}'
  )
  with pytest.raises(ValueError, match=message):
    workdir.check(str(half), config, accept=True)


def test_steps_of_a_curriculum(tmp_path):
  """train.steps cannot change: the phases are shares of the steps."""
  config = bert.get_config('tiny')
  workdir.claim(str(tmp_path), config)
  (tmp_path / 'metrics.jsonl').write_text('{"step": 1}\n')
  assert config.data.curriculum
  with config.unlocked():
    config.train.steps *= 2
  with pytest.raises(ValueError, match='train.steps: 200 there, 400 now'):
    workdir.check(str(tmp_path), config, accept=True)


def test_a_run_that_has_not_trained(half, texts, tmp_path):
  """Any config may follow one that was only evaluated, as in a new folder."""
  shutil.rmtree(half / 'checkpoints')
  path = half / 'metrics.jsonl'
  rows = path.read_text().splitlines(keepends=True)
  path.write_text(rows[0])
  assert json.loads(rows[0])['step'] == 0
  assert not history.trained(str(half))
  change = {'model__embed_dim': 24, 'data__length': 48, 'train__steps': 2}
  change |= {'seed': 3, 'model__vocab_size': 240}
  config = config_of(half, **change)
  loop.train(config, str(half))
  loop.train(config, str(tmp_path / 'new'))
  assert fingerprint(str(half)) == fingerprint(str(tmp_path / 'new'))
  for name in ('train/loss', 'eval/loss'):
    assert runs.rows(half, name) == runs.rows(tmp_path / 'new', name)
  path.write_text(''.join(rows[:2]))  # a step was made
  assert history.trained(str(half))


def test_the_best_checkpoint_is_kept(half, monkeypatch):
  """The best is kept wherever its evaluation comes, and by a resumed run."""
  losses = iter([6.0, 5.0, 2.0, math.nan, 3.0, 2.5, 1.0, 4.0])  # of steps 2-9

  def found(*_):
    loss = next(losses)
    return {'loss': loss, 'perplexity': 1.0, 'accuracy': 0.5, 'tokens': 9}

  monkeypatch.setattr(recording, 'evaluate', found)
  own = {'checkpoint__best': 'loss', 'checkpoint__keep': 1, 'eval__every': 1}
  own['checkpoint__every'] = 100  # evaluated steps are saved
  loop.train(config_of(half, **own, train__steps=6), str(half))
  assert runs.checkpoints(half) == [4, 6]
  best = json.loads((half / 'best.json').read_text())
  assert best == {'step': 4, 'metric': 'eval/loss', 'value': 2.0}
  loop.train(config_of(half, **own, train__steps=9), str(half))
  assert runs.checkpoints(half) == [8, 9]
  assert json.loads((half / 'best.json').read_text())['step'] == 8
  # A higher accuracy is better. A number must be measured to be chosen.
  message = "best is 'f1'; .* report accuracy, loss, perplexity"
  with pytest.raises(ValueError, match=message):
    loop.train(config_of(half, checkpoint__best='f1'), str(half))
  criterion = criterion_for(TransformerConfig(**config_of(half).model))
  best = Best('accuracy', criterion, False)
  assert best.add(1, {'accuracy': 0.5})
  assert not best.add(2, {'accuracy': 0.4})
  assert best.add(3, {'accuracy': 0.6})
