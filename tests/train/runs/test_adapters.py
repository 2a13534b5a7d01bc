"""Several adapters in one workdir: trained, read, exported, refused."""

import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
import transformers
from flax.traverse_util import flatten_dict, unflatten_dict
from peft import PeftModel

from configs import gpt2
from input_pipeline import tokenizing
from tests.helpers import runs
from train import loop, pretrained
from train.evaluate import evaluate_run
from train.fingerprint import fingerprint
from train.runs import adapters, opening
from train.runs.checkpoint import CheckpointError, Checkpoints

STEPS = 4
LORA = {
  'tuning.train': 'lora',
  'tuning.rank': 2,
  'tuning.alpha': 4.0,
  'schedule.learning_rate': 0.02,
}
BF16 = LORA | {'tuning.base_dtype': 'bfloat16'}
ONE = BF16 | {'tuning.matrices': ('attention/query', 'mlp/output')}
TWO = BF16 | {'tuning.matrices': ('embed/table', 'mlp/input')}


def config_of(source, **changes):
  config = gpt2.get_config('tiny')
  changes = {
    **runs.CONFIG,
    **runs.SYSTEMS['gpt2'],
    'data.source': source,
    'data.tokenizer_kind': 'bytes',
    'data.batch': 8,
    'model.vocab_size': 280,
    'model.decoder_layers': 2,
    'train.steps': STEPS,
    'checkpoint.every': 2,
    'eval.every': 2,
    'eval.batches': 2,
    **changes,
  }
  config.unlock()
  config.update_from_flattened_dict(changes)
  return config.lock()


def params_of(folder, step=STEPS):
  with adapters.open_checkpoints(str(folder), read_only=True) as checkpoints:
    tree = checkpoints.restore_arrays(step, 'params')['params']
  return flatten_dict(tree, sep='/')


def in_file(folder, step=STEPS):
  """Names of the parameters that are in a checkpoint's own files."""
  with Checkpoints(str(folder), read_only=True) as checkpoints:
    names = checkpoints.shapes(step)
  return {x.removeprefix('params/') for x in names if x.startswith('params/')}


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  return runs.write_text(tmp_path_factory.mktemp('text') / 'text')


@pytest.fixture(scope='module')
def plain(tmp_path_factory, source):
  folder = str(tmp_path_factory.mktemp('plain') / 'run')
  loop.train(config_of(source), folder)
  return folder


@pytest.fixture(scope='module')
def several(tmp_path_factory, source, plain):
  """A workdir with two adapters; the second begins with the stored base."""
  parent = str(tmp_path_factory.mktemp('several') / 'w')
  loop.train(config_of(source, **ONE), adapters.begin(parent, 'one'),
             init_from=plain)  # fmt: skip
  loop.train(config_of(source, **TWO), adapters.begin(parent, 'two'))
  return parent


def test_the_base_is_stored_once_in_bfloat16(several, plain):
  before = params_of(plain)
  base = params_of(os.path.join(several, 'base'), 0)
  assert base.keys() == before.keys()
  for name, x in base.items():
    wide = before[name]
    matrix = name.endswith(('kernel', 'embed/table', 'embed/position'))
    assert str(x.dtype) == ('bfloat16' if matrix else 'float32'), name
    np.testing.assert_array_equal(x, wide.astype(x.dtype), name)
  layers = 'lora/decoder/layers'
  for name, matrices in (
    ('one', (f'{layers}/attention/query', f'{layers}/mlp/output')),
    ('two', ('lora/embed/table', f'{layers}/mlp/input')),
  ):
    folder = adapters.folder(several, name)
    factors = {f'{x}/{y}' for x in matrices for y in 'ab'}
    assert in_file(folder) == factors
    params = params_of(folder)
    assert params.keys() == base.keys() | factors
    for key in base:
      assert params[key].tobytes() == base[key].tobytes(), key
    first = params_of(folder, 2)
    for key in factors:
      assert params[key].dtype == 'float32'
      assert not np.array_equal(params[key], first[key])


def test_the_same_bits_as_a_run_with_a_base_of_its_own(
  several, plain, source, tmp_path
):
  """And so does a run that resumes from the checkpoint before the last."""
  own = str(tmp_path / 'own')
  loop.train(config_of(source, **ONE), own, init_from=plain)
  assert fingerprint(own) == fingerprint(adapters.folder(several, 'one'))
  parent = str(tmp_path / 'resumed')
  shutil.copytree(several, parent)
  folder = adapters.folder(parent, 'one')
  shutil.rmtree(os.path.join(folder, 'checkpoints', str(STEPS)))
  loop.train(config_of(source, **ONE), folder)
  assert fingerprint(folder) == fingerprint(own)


def test_evaluated_and_exported_by_name(
  several, plain, source, tmp_path, capsys
):
  folder = adapters.folder(several, 'one')
  found = evaluate_run(folder)
  assert found['loss'] == runs.rows(Path(folder), 'eval/loss')[-1][1]
  run = opening.open_run(folder)
  tokens = [[5, 6, 7, 8, 9]]
  ours = run.apply(tokens)['logits']
  assert np.abs(
    ours - opening.open_run(plain).apply(tokens)['logits']
  ).max() > (0.01)
  target, base = str(tmp_path / 'peft'), str(tmp_path / 'base')
  pretrained.export(folder, target, 'float32', form='peft')
  assert 'PeftModel.from_pretrained' in capsys.readouterr().out
  pretrained.export(plain, base, 'float32')
  ids = jax.device_get(run.apply(tokens)['tokens']).astype('int64')
  model = transformers.GPT2LMHeadModel.from_pretrained(
    base, dtype='float32'
  ).eval()
  model = PeftModel.from_pretrained(model, target).eval()
  theirs = model(torch.from_numpy(ids)).logits.detach().numpy()
  # Theirs has the base in float32.
  np.testing.assert_allclose(ours, theirs, rtol=0.02, atol=0.02)
  merged = str(tmp_path / 'merged')
  pretrained.convert(base, merged, 'float32', target)
  whole = transformers.GPT2LMHeadModel.from_pretrained(merged).eval()
  logits = whole(torch.from_numpy(ids)).logits.detach().numpy()
  np.testing.assert_allclose(logits, theirs, rtol=1e-4, atol=1e-5)

  # A run that trains on has the same parameters.
  config = config_of(source, **{'tuning.base_dtype': 'bfloat16'})
  config.data.tokenizer = tokenizing.path_in(plain, 'bytes')
  again = adapters.begin(str(tmp_path / 'w'), 'again')
  pretrained.begin(base, config, again, target)
  here, there = params_of(again, 0), params_of(folder)
  assert here.keys() == there.keys()
  for name, x in here.items():
    assert x.tobytes() == there[name].tobytes(), name

  # peft's files of another base, of the same shapes.
  with pytest.raises(ValueError, match='adapters of another base'):
    pretrained.convert(merged, str(tmp_path / 'no'), 'float32', target)


def test_a_table_that_is_tied_is_not_written_for_peft(several, tmp_path):
  folder = adapters.folder(several, 'two')
  with pytest.raises(ValueError, match='as the output projection'):
    pretrained.export(folder, str(tmp_path / 'x'), 'float32', form='peft')


def test_what_is_refused(several, plain, source, tmp_path):
  with pytest.raises(ValueError, match=r'one of one, two'):
    adapters.folder(several, '')
  with pytest.raises(ValueError, match='no such adapter in .* one, two'):
    adapters.folder(several, 'three')
  with pytest.raises(ValueError, match="--adapter='a/b' must be of letters"):
    adapters.begin(several, 'a/b')
  folder = adapters.begin(str(tmp_path / 'w'), 'all')
  with pytest.raises(ValueError, match='tuning.train=all'):
    loop.train(config_of(source), folder, init_from=plain)
  other = str(tmp_path / 'other')
  loop.train(config_of(source, **{'train.steps': 3, 'seed': 7}), other)
  folder = adapters.begin(several, 'other')
  with pytest.raises(ValueError, match='is another base: .* differs'):
    loop.train(config_of(source, **ONE), folder, init_from=other)
  folder = adapters.begin(several, 'wide')
  wide = ONE | {'tuning.base_dtype': ''}
  message = (
    'base was stored in bfloat16, and the base of wide is in float32: .*'
  )
  with pytest.raises(ValueError, match=f'{message}Set tuning.base_dtype=bfloa'):
    loop.train(config_of(source, **wide), folder, init_from=plain)
  with pytest.raises(ValueError, match=r'there are: one, two\.'):  # no others
    adapters.folder(several, 'wide')


def test_a_base_that_was_exchanged_is_an_error(several, source, tmp_path):
  copy = str(tmp_path / 'w')
  shutil.copytree(several, copy)
  opening.open_run(adapters.folder(copy, 'one'))
  shutil.rmtree(os.path.join(copy, 'base', 'checkpoints'))
  with Checkpoints(os.path.join(copy, 'base')) as checkpoints:
    base = params_of(os.path.join(several, 'base'), 0)
    tree = unflatten_dict(
      {f'params/{k}': x + x for k, x in base.items()}, sep='/'
    )
    checkpoints.save(tree, 0, {'config': {}, 'data': {}})
    checkpoints.wait()
  with pytest.raises(CheckpointError, match='holds another base than'):
    opening.open_run(adapters.folder(copy, 'one'))
