"""A run that begins with one that has learned a task."""

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from configs.finetune import bert
from tests.helpers.warm_starts import begun, new_run
from train import evaluate
from train.finetuning import adoption
from train.runs import warm_start, warm_start_arrays

CLASSES = ('classes/dense/bias', 'classes/dense/kernel')


def write(folder, name, labels):
  """A table with an example of each label; the task's source."""
  lines = [f'text {label}\t{label}' for label in labels]
  path = folder / f'{name}.tsv'
  path.write_text('\n'.join(['sentence\tlabel', *lines]) + '\n')
  table = f'{path},validation={path},text=sentence'
  return f'task:tsv:{table},name={name}'


def config_of(task):
  config = bert.get_config('size=tiny').unlock()
  config.update_from_flattened_dict({
    'model.vocab_size': 300, 'model.embed_dim': 16, 'model.mlp_dim': 32,
    'model.heads': 2, 'model.kv_heads': 2, 'model.head_dim': 8,
    'model.encoder_layers': 1, 'data.source': task, 'data.length': 16,
    'data.tokenizer_kind': 'bytes', 'data.lowercase': False,
    'data.batch': 8, 'train.epochs': 8.0,
  })  # fmt: skip
  return adoption.resolve(config.lock())


@pytest.fixture(scope='module')
def tables(tmp_path_factory):
  folder = tmp_path_factory.mktemp('tables')
  return {
    'three': write(folder, 'three', 'abc'),
    'other': write(folder, 'other', 'xyz'),
    'two': write(folder, 'two', 'yn'),
    'again': write(folder, 'again', 'cab'),  # classes are sorted
  }


@pytest.fixture(scope='module')
def run(tables, tmp_path_factory):
  """A run that has learned a task of three classes; its parameters."""
  folder = tmp_path_factory.mktemp('run') / 'three'
  params = new_run(folder, config_of(tables['three']), 1).params
  return folder, flatten_dict(params, sep='/')


@pytest.mark.parametrize('task', ['two', 'other'])
def test_another_task_has_a_new_head(run, tables, tmp_path, task):
  """RTE starts from MNLI: the trunk and the pooler are taken."""
  folder, theirs = run
  config = config_of(tables[task])
  origin, state = begun(tmp_path, config, folder)
  assert origin.new == CLASSES
  assert not origin.left
  assert set(origin.taken) == set(theirs) - set(CLASSES)
  text = warm_start.describe(origin, config)
  assert f'new, from the seed: {", ".join(CLASSES)}' in text
  ours = flatten_dict(jax.device_get(state.params), sep='/')
  for name in origin.taken:
    np.testing.assert_array_equal(ours[name], theirs[name])
  width = {'two': 2, 'other': 3}[task]
  assert ours[CLASSES[1]].shape == (16, width)
  if task == 'other':
    assert not np.array_equal(ours[CLASSES[1]], theirs[CLASSES[1]])


def test_the_same_task_keeps_its_head(run, tables, tmp_path):
  folder, theirs = run
  config = config_of(f'{tables["three"]}@train')
  origin, state = begun(tmp_path, config, folder)
  assert not origin.new
  ours = flatten_dict(jax.device_get(state.params), sep='/')
  assert ours.keys() == theirs.keys()
  for name, x in theirs.items():
    np.testing.assert_array_equal(ours[name], x)


def test_a_task_is_not_continued_with_another(run, tables, tmp_path):
  """With the optimizer's state nothing may be new, so the task must agree."""
  config = config_of(tables['other'])
  with pytest.raises(
    ValueError, match=r'that one learns .*three\.tsv.*other\.tsv'
  ):
    begun(tmp_path, config, run[0], init_state=True)


def test_what_belongs_to_a_task(tables):
  """A head's arrays do; the trunk, the pooler and added arrays do not."""
  kept = ['params/encoder/layers/mlp/input/kernel', 'params/embed/table',
          'params/pooler/dense/kernel', 'params/vocabulary/bias',
          'params/lora/encoder/layers/mlp/input/kernel/a',
          'opt_state/0/mu/classes/dense/kernel', 'step']  # fmt: skip
  heads = ['params/classes/dense/kernel', 'params/span/dense/kernel']
  shapes = dict.fromkeys([*kept, *heads], (3,))
  old, new = (config_of(tables[name]) for name in ('three', 'other'))
  assert warm_start_arrays.redrawn(shapes, shapes, old, new) == set(heads)
  assert warm_start_arrays.redrawn(shapes, {}, old, new) == set()
  assert warm_start_arrays.redrawn(shapes, shapes, old, old) == set()
  text = old.copy_and_resolve_references()
  text.data.objective, text.data.source = 'mlm', 'docs'
  assert warm_start_arrays.redrawn(shapes, shapes, text, new) == set()
  # The same task, read by another head.
  new = old.copy_and_resolve_references()
  new.model.head = 'sequence_lm'
  assert warm_start_arrays.redrawn(shapes, shapes, old, new) == set(heads)


@pytest.mark.parametrize(
  ('task', 'classes'), [('two', 'n, y'), ('other', 'x, y, z')]
)
def test_a_task_with_other_classes_is_not_evaluated(run, tables, task, classes):
  """A head's numbers are of the classes that it has learned."""
  message = (
    'learns task tsv/three, whose classes are a, b, c. It cannot be evaluated '
    f'on task tsv/{task}, whose classes are {classes}:'
  )
  with pytest.raises(ValueError, match=message):
    evaluate.evaluate_run(str(run[0]), source=tables[task])


def test_a_task_with_the_same_classes_is_evaluated(run, tables):
  source = f'{tables["again"]}@validation'
  found = evaluate.evaluate_run(str(run[0]), source=source)
  assert found['labels'] == 3
  assert 'tsv/again/accuracy' in found


def test_what_data_holdout_keeps_is_scored_alone(run, tables, tmp_path, capsys):
  """The other examples of the file are trained on."""
  write(tmp_path, 'many', 'abc' * 8)
  alone = f'task:tsv:{tmp_path}/many.tsv,text=sentence,name=many'
  config = config_of(tables['three']).copy_and_resolve_references().unlock()
  config.data.source, config.data.holdout = alone, 5
  found = evaluate.evaluate_run(
    str(run[0]), config=config.lock(), predictions=str(tmp_path)
  )
  assert found['labels'] == 4  # of 24
  assert 'tsv/many@held_out/accuracy' in found
  assert len((tmp_path / 'tsv-many.txt').read_text().split()) == 4
  assert (
    '4 predictions for the examples of data.hold' in capsys.readouterr().out
  )
