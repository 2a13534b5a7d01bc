"""What a start finds in a workdir, and what it may change there."""

import json
import sys

import jax
import pytest

from configs import bert, common, gpt2, t5
from configs.differences import changed_keys
from tests.helpers import runs
from tests.train.runs.test_checkpoint import flip
from train import recording
from train.runs import changes, warm_start, warm_start_arrays, workdir
from train.runs.checkpoint import Checkpoints

FREE = {
  *('align.reward_memory', 'align.reward_seconds'),
  *('data.epochs', 'data.threads', 'data.max_bad_share', 'data.tokenizer'),
  *('eval.batches', 'eval.every', 'eval.samples', 'eval.sources'),
  *('model.attention', 'model.remat', 'model.scan_unroll'),
  *('train.log_every', 'train.loss_chunk'),
}


def test_keys_that_any_start_may_change():
  """These keys change no batch, and numbers by rounding alone."""
  free = {key for key in common.KEYS if changes.is_free(key)}
  groups = {key for key in free if key.startswith(('checkpoint.', 'sharding.'))}
  assert free - groups == FREE
  assert len(groups) == 17


def test_differences():
  old = {'a': 1, 'b': {'c': 2, 'd': {'e': 3}}, 'f': 4, 'h': {'i': 5}}
  new = {'a': 1, 'b': {'c': 0, 'd': {'e': 0}}, 'g': 4, 'h': 5}
  assert changed_keys(old, new) == ['b.c', 'b.d.e', 'f', 'g', 'h']
  assert changed_keys(old, old) == []


def changed(config, **keys):
  new = config.copy_and_resolve_references().unlock()
  new.update_from_flattened_dict(
    {key.replace('__', '.'): value for key, value in keys.items()}
  )
  return new.lock()


@pytest.mark.parametrize(
  ('config', 'keys', 'may'),
  [
    (t5.get_config('tiny'), {}, True),  # its rate does not depend on the end
    (gpt2.get_config('tiny'), {}, False),
    (gpt2.get_config('tiny'), {'schedule__name': 'constant'}, True),
    (bert.get_config('tiny'), {}, False),
    (bert.get_config('tiny'), {'schedule__name': 'constant'}, True),
  ],
)
def test_more_steps(config, keys, may, tmp_path):
  config = changed(config, **keys)
  workdir.claim(str(tmp_path), config)
  (tmp_path / 'metrics.jsonl').write_text('{"step": 1}\n')
  new = changed(config, train__steps=999)
  if may:
    assert workdir.check(str(tmp_path), new) == {}
    return
  with pytest.raises(ValueError, match=r'train\.steps: 200 there, 999 now'):
    workdir.check(str(tmp_path), new)


def test_the_config_of_the_newest_undamaged_checkpoint(tmp_path, capsys):
  """The newest is found by number, not by name; its state may be damaged."""
  config = t5.get_config('tiny')
  state = jax.tree.map(jax.device_put, runs.small_state(0))
  with Checkpoints(str(tmp_path)) as checkpoints:
    for step in (4, 10):
      own = changed(config, train__z_loss=step / 100)
      run = {'config': json.loads(own.to_json()), 'data': {}}
      checkpoints.save(state, step, run)
  assert workdir.read_config(str(tmp_path)).train.z_loss == 0.1
  flip(tmp_path, 10)
  assert workdir.read_config(str(tmp_path)).train.z_loss == 0.1
  flip(tmp_path, 10, 'run')
  assert workdir.read_config(str(tmp_path)).train.z_loss == 0.04
  capsys.readouterr()


@pytest.mark.parametrize(
  ('group', 'key', 'value'), [('optimizer', 'b2', 0.9), ('train', 'steps', 400)]
)
def test_an_edited_number_of_an_adam_run(group, key, value, tmp_path):
  """The file must agree with the checkpoint's own config."""
  config = gpt2.get_config('tiny')
  workdir.claim(str(tmp_path), config)
  state = jax.tree.map(jax.device_put, runs.small_state(0))
  with Checkpoints(str(tmp_path)) as checkpoints:
    run = {'config': json.loads(config.to_json()), 'data': {}}
    checkpoints.save(state, 4, run)
  path = tmp_path / workdir.NAME
  edited = json.loads(path.read_text())
  assert edited[group][key] != value
  edited[group][key] = value
  path.write_text(json.dumps(edited))
  message = rf'config.json was changed\.(?s:.*)\n  {group}.{key}: .* now'
  with pytest.raises(ValueError, match=message):
    workdir.read_config(str(tmp_path))


def test_keys_that_a_checkpoints_config_takes_from_the_run():
  """The run gives keys that may change, and where the data are; no other."""
  saved = t5.get_config('tiny')
  may = {'data__source': 'text:b', 'eval__source': 'text:c'}
  may |= {'eval__batches': 3, 'sharding__rules': 'fsdp'}
  run = changed(saved, **may, model__dropout=0.3, train__z_loss=0.5)
  found = workdir.at_step(json.loads(saved.to_json()), run)
  assert found == changed(saved, **may)


def test_a_failed_starts_tokenizer_is_put_aside(tmp_path):
  """A run that has begun keeps its own, unless its config has changed."""
  folder = str(tmp_path)
  metrics, file = tmp_path / 'metrics.jsonl', tmp_path / 'tokenizer.json'
  for rows, differs, stays in (
    (None, False, False),
    ('', False, False),  # a start that failed at once
    ('{"step": 0, "eval/loss": 1.0}\n', False, True),
    ('{"step": 0, "eval/loss": 1.0}\n', True, False),
    ('{"step": 1, "train/loss": 1.0}\n', True, True),
  ):
    if rows is not None:
      metrics.write_text(rows)
    assert workdir.begun(folder) == bool(rows)
    file.write_text('{}')
    workdir.put_tokenizer_aside(folder, differs)
    assert file.exists() == stays, rows
    assert stays or (tmp_path / 'tokenizer.json.unused').exists()


def test_which_start_evaluates_first(tmp_path):
  """A start whose step is due and has no numbers yet evaluates first."""
  config = changed(t5.get_config('tiny'), train__steps=250, eval__every=100)
  rows = '{"step": 100, "train/loss": 1.0}\n{"step": 200, "eval/loss": 1.0}\n'
  (tmp_path / 'metrics.jsonl').write_text(rows)
  due = [0, 50, 100, 200, 250, 300]
  found = [recording.evaluation_missing(str(tmp_path), n, config) for n in due]
  assert found == [True, False, True, False, True, True]


def test_parameters_that_only_one_model_has():
  """Only a head's parameters may be new, and only if the heads differ."""
  both = {'params/embed/table': (9, 4), 'params/encoder/norm/scale': (4,)}
  head = {'params/pooler/dense/bias': (4,)}

  def compare(there, here, heads=True):
    return warm_start_arrays.compare(
      there, here, heads, 'W', {'x': 1}, {'x': 2}
    )

  names = ('embed/table', 'encoder/norm/scale')
  assert compare(both, both, heads=False) == (names, (), ())
  assert compare(both | head, both) == (names, (), ('pooler/dense/bias',))
  assert compare(both, both | head) == (names, ('pooler/dense/bias',), ())
  for more, heads in (
    (head, False),
    ({'params/generator/norm/scale': (4,)}, True),
    ({'params/encoder/norm/bias': (4,)}, True),
    ({'params/decoder/norm/bias': (4,)}, True),
    ({'params/embed/position': (4,)}, True),
    ({'opt_state/pooler/mu': (4,)}, True),
  ):
    (name,) = more
    for there, here, sizes in (
      (both | more, both, '4 there, missing here'),
      (both, both | more, 'missing there, 4 here'),
    ):
      with pytest.raises(ValueError, match=f'(?s){name}: {sizes}.*model.x'):
        compare(there, here, heads)


def test_where_parameters_come_from(tmp_path):
  odd = tmp_path / 'run:12'
  odd.mkdir()
  assert warm_start.parse(str(odd)) == (str(odd), None)
  assert warm_start.parse(f'{odd}:3') == (str(odd), 3)
  assert warm_start.parse('a:b:7') == ('a:b', 7)
  assert warm_start.parse('a/b') == ('a/b', None)


# A command whose tokenizer's training, or whose compiler, gets Ctrl-C.
INTERRUPTED = """
import os, signal, sys
from configs.commands import startup
startup.begin()
from input_pipeline.tokenizers import kinds
from train import __main__ as program
from train import setup
from train.runs import command

def interrupted(*arguments, **named):
  os.kill(os.getpid(), signal.SIGINT)
  for _ in range(100):  # the signal is handled between two of Python's steps
    pass

place = {
  'tokenizer': (kinds, 'train'),
  'compile': (setup, 'compile_train_step'),
}
moment, *sys.argv[1:] = sys.argv[1:]
setattr(*place[moment], interrupted)
command.run(program.main)
"""


@pytest.mark.parametrize('moment', ['tokenizer', 'compile'])
def test_ctrl_c_before_training(tmp_path, moment):
  """Ctrl-C gives one line and status 130, not a traceback of a library."""
  workdir = tmp_path / 'w'
  source = 'synthetic'
  if moment == 'tokenizer':
    source = runs.write_text(tmp_path / 'text')
  flags = runs.command(workdir, data__source=source)[3:]
  done = runs.run([sys.executable, '-c', INTERRUPTED, moment, *flags])
  assert (done.returncode, done.stderr) == (130, 'Interrupted.\n')
  assert not (workdir / 'checkpoints' / '1').exists()
