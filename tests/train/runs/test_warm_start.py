"""Runs that begin with another's parameters: --init_from, --init_state."""

import os
import shutil

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from configs import bert, llama, palm, t5
from input_pipeline.config import DataConfig
from tests.helpers import runs
from tests.helpers.warm_starts import (
  BYTES,
  PALM,
  begun,
  config_of,
  new_run,
  parts,
)
from train import loop
from train.evaluate import evaluate_run
from train.fingerprint import digest, fingerprint
from train.learning.state import create_state
from train.runs import history, warm_start, warm_start_arrays, workdir
from train.runs.checkpoint import Checkpoints

pytestmark = pytest.mark.slow

UL2 = {
  'data.objective': 'ul2',
  'data.denoisers': runs.SYSTEMS['ul2']['data.denoisers'],
  'data.sentinels': 30,
}
LLAMA = runs.NARROW | {
  'schedule.warmup_steps': 2,
  'model.heads': 4,
  'model.kv_heads': 2,
  'model.head_dim': 4,
  'model.rope_dim': 4,
}


def test_ul2_on_a_language_model(language_model, source, tmp_path, capfd):
  """UL2R has another objective and data on the same weights.

  Killed and resumed, with the flag or without, it ends the same (Tay et al.
  2022).
  """
  folder, config, state = language_model
  change = UL2 | {'data.length': 64, 'data.source': source, 'seed': 5}
  config = config_of(palm, 'tiny', BYTES, PALM, change)
  moved, whole = tmp_path / 'moved', tmp_path / 'whole'
  shutil.copytree(folder, moved)
  loop.train(config, str(whole), init_from=f'{moved}:3')
  output = capfd.readouterr().out
  assert f'Parameters from step 3 of {moved}' in output
  assert f'The tokenizer is that of {moved}.' in output
  metadata = Checkpoints(str(whole)).run(4)
  ours = metadata['history'][0]['from']
  theirs = fingerprint(str(folder))
  assert (ours['workdir'], ours['step']) == (str(moved), 3)
  assert ours['data'] == theirs['data']
  assert ours['new'] == ours['left'] == []
  assert metadata['history'] == history.read(str(whole))

  killed = tmp_path / 'killed'
  shutil.copytree(whole, killed)
  shutil.rmtree(killed / 'checkpoints' / '4')
  shutil.rmtree(moved)  # the run no longer needs it
  loop.train(config, str(killed), init_from=f'{moved}:3')
  assert 'Resuming from the checkpoint of step 2' in capfd.readouterr().out
  assert fingerprint(str(killed)) == fingerprint(str(whole))
  assert runs.rows(killed) == runs.rows(whole)
  for flags in (
    {'init_from': str(folder)},
    {'init_from': f'{moved}:2'},
    {'init_from': str(moved), 'init_state': True},
  ):
    with pytest.raises(
      ValueError, match='was begun with --init_from=.*moved:3'
    ):
      loop.train(config, str(killed), **flags)
  shutil.rmtree(killed / 'checkpoints')
  (killed / 'metrics.jsonl').unlink()
  with pytest.raises(ValueError, match='its checkpoints are gone'):
    loop.train(config, str(killed))


def test_the_first_state(language_model, source, tmp_path):
  """The state has all parameters, a new optimizer, and step 0."""
  folder, _, theirs = language_model
  config = config_of(palm, 'tiny', BYTES, PALM, UL2, {'data.source': source})
  origin, ours = begun(tmp_path, config, folder)
  assert digest(jax.device_get(ours.params)) == digest(theirs.params)
  assert (origin.step, int(ours.step)) == (3, 0)
  assert not any(x.any() for x in jax.tree.leaves(ours.opt_state))
  assert not origin.new
  assert not origin.left


def test_language_model_adaptation(source, tmp_path, capfd):
  """T5 continues as a prefix language model (Lester et al. 2021).

  The run keeps its optimizer and schedule; rows have another length.
  """
  folder, after = tmp_path / 'run', tmp_path / 'adapted'
  own = {'data.source': source, 'checkpoint.keep': 9}
  system = runs.SYSTEMS['t5']
  loop.train(config_of(t5, 'tiny', system, own), str(folder))
  own |= {'data.objective': 'prefix', 'data.length': 48, 'data.sentinels': 0}
  own |= {'data.noise_density': 0.0, 'data.mean_span_length': 0.0}
  own |= {'data.streams': 8, 'checkpoint.every': 1}
  config = config_of(t5, 'tiny', system, own)
  with pytest.raises(ValueError, match='continues from step 4'):
    loop.train(config, str(after), init_from=str(folder), init_state=True)
  own['train.steps'] = 6
  config = config_of(t5, 'tiny', system, own, {'schedule.first_step': 4})
  with pytest.raises(ValueError, match="first_step is 4, but(?s:.*)run's, 0"):
    loop.train(config, str(after), init_from=str(folder), init_state=True)
  config = config_of(t5, 'tiny', system, own)
  loop.train(config, str(after), init_from=str(folder), init_state=True)
  assert runs.checkpoints(after) == [4, 5, 6]
  ours, theirs = fingerprint(str(after), 4), fingerprint(str(folder), 4)
  assert ours['params'] == theirs['params']
  assert ours['optimizer'] == theirs['optimizer']
  assert ours['data'] != theirs['data']
  assert [step for step, _ in runs.rows(after)] == [5, 6]
  # Its tokenizer is copied.
  files = [x / 'tokenizer.model' for x in (folder, after)]
  assert files[0].read_bytes() == files[1].read_bytes()
  whole = fingerprint(str(after))
  shutil.rmtree(after / 'checkpoints' / '6')
  loop.train(None, str(after))
  assert fingerprint(str(after)) == whole


def test_longer_rows_and_stretched_wavelengths(source, tmp_path):
  """LLaMA 3.1 begins with 3, on a mesh of 8 devices from a replicated run."""
  folder = tmp_path / 'three'
  own = BYTES | LLAMA | {'data.source': source}
  theirs = new_run(folder, config_of(llama, 'tiny,version=3', own))
  mesh = {'sharding.rules': 'fsdp', 'sharding.mesh.data': 1}
  mesh |= {'sharding.mesh.fsdp': 8, 'data.length': 256}
  config = config_of(llama, 'tiny,version=3.1', own, mesh)
  origin, ours = begun(tmp_path / 'new', config, folder)
  assert digest(jax.device_get(ours.params)) == digest(theirs.params)
  tables = flatten_dict(ours.params, sep='/')
  assert not tables['embed/table'].sharding.is_fully_replicated
  described = warm_start.describe(origin, config)
  assert 'model.rope_scaling: [] there, [8.0, 1.0, 4.0, 32.0]' in described


BERT = runs.SYSTEMS['bert'] | {'train.phases': ()}
MLM = {
  'model.head': 'mlm',
  'data.objective': 'full_sentences',
  'data.short_share': 0.0,
}
HEADS = {
  'next_sentence/dense/bias',
  'next_sentence/dense/kernel',
  'pooler/dense/bias',
  'pooler/dense/kernel',
}


@pytest.mark.parametrize('gains', [False, True])
def test_another_head(source, tmp_path, gains):
  """BERT's next-sentence head is left out, or drawn from the seed."""
  folder, target = tmp_path / 'run', tmp_path / 'new'
  both = config_of(bert, 'tiny', BYTES, BERT, {'data.source': source})
  one = config_of(bert, 'tiny', BYTES, BERT, MLM, {'data.source': source})
  old, new = (one, both) if gains else (both, one)
  theirs = flatten_dict(new_run(folder, old).params, sep='/')
  origin, ours = begun(target, new, folder)
  ours = flatten_dict(jax.device_get(ours.params), sep='/')
  assert set(origin.new if gains else origin.left) == HEADS
  assert not (origin.left if gains else origin.new)
  described = warm_start.describe(origin, new)
  assert all(name in described for name in HEADS)
  for name in ours.keys() & theirs.keys():
    np.testing.assert_array_equal(ours[name], theirs[name])
  if gains:
    model, optimizer, shape = parts(new)
    cursor = np.zeros(DataConfig(**new.data).cursor_shape, 'int32')
    drawn = create_state(model, optimizer, shape, cursor, new.seed).params
    drawn = flatten_dict(jax.device_get(drawn), sep='/')
    for name in HEADS:
      np.testing.assert_array_equal(ours[name], drawn[name])
  with pytest.raises(ValueError, match=r'params/pooler/dense/bias: .*missing'):
    # With the optimizer's state, nothing may be new or left out.
    begun(target, new, folder, init_state=True)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (
      {'model.max_length': 64},
      (
        'params/embed/position: 512x16 there, 64x16 here(?s:.*)Different are: '
        r'model.max_length\.'
      ),
    ),
    ({'model.vocab_size': 299}, 'params/embed/table: 300x16 there, 299x16'),
    ({'model.mlp_dim': 40}, 'mlp/input/kernel: 1x16x32 there, 1x16x40 here'),
    ({'model.token_types': 0}, 'params/embed/type: 2x16 there, missing here'),
    (
      {'model.output_bias': False},  # in a head, but model.head is the same
      'params/vocabulary/bias: 300 there, missing here',
    ),
    ({'model.encoder_layers': 2}, 'encoder/layers/.* there, 2x16'),
  ],
)
def test_what_does_not_fit(bert_run, tmp_path, change, message):
  folder, changes = bert_run
  config = config_of(bert, 'tiny', BYTES, BERT, changes, change)
  with pytest.raises(ValueError, match=message):
    begun(tmp_path, config, folder)


@pytest.fixture(scope='module')
def bert_run(tmp_path_factory, source):
  folder = tmp_path_factory.mktemp('bert') / 'run'
  changes = {'data.source': source}
  new_run(folder, config_of(bert, 'tiny', BYTES, BERT, changes))
  return folder, changes


def test_another_evaluation_of_older_checkpoints(source, tmp_path, capfd):
  """Older checkpoints use a run's new eval.source too."""
  held_out = [tmp_path / f'{name}.txt' for name in 'ab']
  held_out[0].write_text('one two three')
  held_out[1].write_text('four')
  own = [BYTES, PALM, {'data.source': source, 'data.holdout': 0}]
  old, new = (
    config_of(palm, 'tiny', *own, {'eval.source': f'text:{path}'})
    for path in held_out
  )
  folder = tmp_path / 'run'
  new_run(folder, old, 2)
  workdir.claim(str(folder), new)
  with pytest.raises(ValueError, match='The data has changed'):
    evaluate_run(str(folder))
  changed = workdir.check(str(folder), new, accept=True)
  assert changed == {'eval.source': [f'text:{path}' for path in held_out]}
  entry = history.entry('config changed', 2, changed=changed)
  history.write(str(folder), [entry])
  assert evaluate_run(str(folder))['tokens'] == len('four') + 1
  assert (
    "eval_source[a.txt].file: 'a.txt', now 'b.txt'" in capfd.readouterr()[1]
  )


def test_flags(language_model, source, tmp_path):
  folder, config, _ = language_model
  _, _, shape = parts(config)

  def find(target, *flags):
    return warm_start.find(str(target), config, shape, *flags)

  with pytest.raises(ValueError, match='--init_state needs --init_from'):
    find(tmp_path, '', True)
  with pytest.raises(ValueError, match='there is no folder .*nowhere'):
    find(tmp_path, str(tmp_path / 'nowhere'))
  with pytest.raises(RuntimeError, match='No checkpoint of step 7'):
    find(tmp_path, f'{folder}:7')
  assert find(tmp_path, str(folder)).step == 3
  assert find(tmp_path) is None
  # The run began in another way.
  with pytest.raises(ValueError, match='was begun with other parameters'):
    find(folder, str(tmp_path))
  (tmp_path / 'metrics.jsonl').write_text('{"step": 1, "train/loss": 1.0}\n')
  with pytest.raises(ValueError, match='has trained: --init_from begins a new'):
    find(tmp_path, str(folder))
  odd = tmp_path / 'run:12'
  odd.mkdir()
  assert warm_start.parse(str(odd)) == (str(odd), None)
  assert warm_start.parse(f'{odd}:3') == (str(odd), 3)
  assert warm_start.parse('a/b') == ('a/b', None)
  assert os.path.isdir(odd)


def test_a_first_checkpoint_whose_config_changes(
  language_model, source, tmp_path
):
  """Before the first step, even the form of the optimizer may change."""
  _, config, _ = language_model
  folder, other = tmp_path / 'run', tmp_path / 'other'
  new_run(folder, config)
  change = {'optimizer.b1': 0.0, 'schedule.learning_rate': 3.0, 'seed': 7}
  change |= {'train.steps': 2, 'data.source': source, 'data.length': 16}
  config = config_of(palm, 'tiny', BYTES, PALM, change)
  kind = change | {'data.tokenizer_kind': 'unigram'}
  with pytest.raises(ValueError, match="the tokenizer of .* has 'bytes'"):
    loop.train(config_of(palm, 'tiny', BYTES, PALM, kind), str(folder))
  loop.train(config, str(other), init_from=str(folder))
  loop.train(config, str(folder))
  assert fingerprint(str(folder)) == fingerprint(str(other))
  # Killed after steps without a checkpoint: they are made again.
  shutil.rmtree(folder / 'checkpoints' / '2')
  loop.train(None, str(folder))
  assert fingerprint(str(folder)) == fingerprint(str(other))
  assert workdir.read_config(str(folder)).seed == 7
  with pytest.raises(ValueError, match='holds the run of another config'):
    workdir.check(str(folder), config_of(palm, 'tiny', BYTES, PALM))


def test_a_relative_bias_keeps_its_buckets():
  """Its table has one shape, but with T5's prefix other distances."""

  def compare(old, new):
    base = {'position': 'relative_bias'}
    arrays = {'params/decoder/relative_bias/table': (32, 4)}
    warm_start_arrays.compare(
      arrays, arrays, False, 'F', base | old, base | new
    )

  causal, both = {}, {'prefix': True, 'causal_bias': False}
  one = {'prefix': True, 'causal_bias': True}
  for old, new in (causal, one), (one, causal), (both, both):
    compare(old, new)
  compare(both | {'position': 'rope'}, causal | {'position': 'rope'})
  for old, new in (causal, both), (both, causal), (one, both):
    with pytest.raises(ValueError, match='other distances.*causal_bias=True'):
      compare(old, new)
