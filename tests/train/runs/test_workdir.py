"""A workdir belongs to one run, and to one process at a time."""

import dataclasses
import json
import os
import re
import shutil
import sys

import pytest

from configs import t5
from input_pipeline import tokenizing
from input_pipeline.config import DataConfig
from input_pipeline.tokenizers import kinds
from models.config import TransformerConfig
from tests.helpers import runs
from tests.helpers.runs import config_of
from train import generate, loop, pretrained
from train.evaluate import evaluate_run
from train.fingerprint import fingerprint
from train.runs import checksums, folders, opening, workdir
from train.runs.checkpoint import ITEMS

pytestmark = pytest.mark.slow


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


def test_moved_data(finished, half, texts, tmp_path):
  """The same files may be anywhere, if there is a checkpoint to compare."""
  half = half.rename(tmp_path / 'run[lr=1e-3]')  # no pattern
  shutil.copytree(texts, tmp_path / 'moved')
  source = f'text:{tmp_path}/moved/*.txt'
  config = config_of(half, data__source=source)
  loop.train(config, str(half))
  assert fingerprint(str(half)) == fingerprint(str(finished))
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
  before = workdir.read_config(str(half))
  config = config_of(half, **change, checkpoint__keep=7)
  (half / workdir.NAME).unlink()
  assert workdir.read_config(str(half)).to_dict() == before.to_dict()
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
    'optimizer.momentum': None,
    'align.beta': 0.0,
    'train.max_logit_loss': 0.0,
    'train.phases': [],
    'train.spike_factor': 0.0,
    'schedule.unit': 'steps',
  }
  for key in keys:
    group, name = key.split('.')
    assert config[group].pop(name) == keys[key]
  config['data']['curriculum'] = []  # which older runs have
  path.write_text(json.dumps(config))
  then = workdir.read_config(str(half))
  assert then.to_dict() == now.to_dict()
  config['data']['curriculum'] = [[0.5, 16, 0]]
  path.write_text(json.dumps(config))
  with pytest.raises(ValueError, match='curriculum, which train.phases repl'):
    workdir.read_config(str(half))


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


def test_each_step_uses_its_own_config(finished, half):
  """The newest one's may have been changed during training."""
  folder = half / 'checkpoints'
  shutil.copytree(finished / 'checkpoints' / '4', folder / '4')
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
  text = path.read_text()
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
    path.write_text(text.replace(f'"{name}":', f'"{name}z":'))
    with pytest.raises(ValueError, match=rf'config.json is .*\b{name}\b'):
      workdir.read_config(str(tmp_path))


def test_keys_of_a_begun_run_are_overridden(finished, half):
  """Flags override keys such as its mesh, without --config."""
  command = [sys.executable, '-m', 'train', f'--workdir={half}']
  done = runs.run([*command, '--config.model.embed_dim=24'])
  assert 'another config. Different are:\n  model.embed_dim: 16' in done.stderr
  done = runs.run([*command, '--config.sharding.mesh.data=1'])
  assert done.returncode == 0, done.stderr
  assert 'Resuming from the checkpoint of step 2.' in done.stdout
  ours, theirs = (fingerprint(str(folder)) for folder in (half, finished))
  assert [ours[x] for x in ('cursor', 'data')] == [
    theirs[x] for x in ('cursor', 'data')
  ]
  assert workdir.read_config(str(half)).sharding.mesh.data == 1
