"""Where each setting's range ends: the last good value, and the first bad one.

What is said of a bad one is in test_configs.py.
"""

import jax
import pytest

from configs import bert, chinchilla, electra, gpt2, in_context, rwkv, t5
from train import setup
from train.settings import check_group, check_settings

LEAST = {
  'train.steps': 1,
  'train.accumulate': 1,
  'train.log_every': 1,
  'train.z_loss': 0,
  'train.label_smoothing': 0,
  'train.loss_chunk': -1,
  'eval.every': 1,
  'eval.batches': 0,
  'eval.beams': 1,
  'eval.samples': 0,
  'checkpoint.every': 1,
  'checkpoint.keep': 1,
  'checkpoint.keep_every': 0,
  'sharding.slices': 0,
  'seed': 0,
}


def check(config, devices=1, **overrides):
  named = {key.replace('__', '.'): x for key, x in overrides.items()}
  with config.unlocked():
    config.update_from_flattened_dict(named)
  check_settings(config, devices)


def refused(config, key, devices=1, **overrides):
  with pytest.raises(ValueError, match=key.replace('.', r'\.')):
    check(config, devices, **overrides)


@pytest.mark.parametrize('key', LEAST)
def test_least_values(key):
  name = key.replace('.', '__')
  check(t5.get_config('tiny'), **{name: LEAST[key]})
  refused(t5.get_config('tiny'), key, **{name: LEAST[key] - 1})


def test_greatest_values():
  check(t5.get_config('tiny'), seed=2**32 - 1, train__label_smoothing=0.999)
  refused(t5.get_config('tiny'), 'seed', seed=2**32)
  refused(
    t5.get_config('tiny'), 'train.label_smoothing', train__label_smoothing=1.0
  )


@pytest.mark.parametrize(
  ('batch', 'accumulate', 'mesh', 'good'),
  [
    (16, 2, {'data': 2, 'fsdp': 4}, True),
    (8, 1, {'data': 2, 'fsdp': 4}, True),
    (8, 2, {'data': 2, 'fsdp': 4}, False),
    (12, 1, {'data': 2, 'fsdp': 4}, False),
    # A batch's rows are not cut along tensor.
    (12, 1, {'data': 4, 'tensor': 2}, True),
    (12, 3, {'data': 4, 'tensor': 2}, True),
    (12, 2, {'data': 4, 'tensor': 2}, False),
  ],
)
def test_a_part_of_a_batch_has_as_many_rows_on_each_device(
  batch, accumulate, mesh, good
):
  keys = {f'sharding__mesh__{axis}': n for axis, n in mesh.items()}
  keys |= {'data__batch': batch, 'train__accumulate': accumulate}
  keys |= {'data__streams': 4}
  if good:
    check(t5.get_config('tiny'), 8, **keys)
  else:
    refused(t5.get_config('tiny'), 'data.batch', 8, **keys)


def test_rows_that_devices_share():
  """Lengths that the axis divides, and models that can read parts of rows."""

  def shared(module, n=4, **keys):
    check(module.get_config('tiny'), n, sharding__mesh__sequence=n, **keys)

  shared(gpt2, data__length=128)
  shared(gpt2, data__length=128, sharding__context='ring')
  odd = (
    r'data\.length has rows of 126 tokens \(inputs\), .*=4 cannot cut .* '
    '124 or 128 tokens would do .*sequence could be 1, 2'
  )
  for module, keys, message in (
    (gpt2, {'data__length': 126}, odd),
    (t5, {'data__length': 64, 'n': 8}, r'rows of \d+ tokens \(inputs\)'),
    (rwkv, {}, "mesh.sequence is 4, but model.family='rwkv' reads a row"),
    (chinchilla, {}, "but model.position='transformer_xl' has a bias for each"),
    (gpt2, {'sharding__context': 'all'}, "is 'all'; it must be gather or ring"),
    (gpt2, {'sharding__context': 'ring', 'n': 1}, "is 'ring', but .* is 1: no"),
  ):
    with pytest.raises(ValueError, match=message):
      shared(module, **keys)


def test_where_dropout_ends():
  for changes, message in (
    (
      {'model.scan_unroll': 2, 'model.scan': False},
      'scan_unroll is 2, but model.scan=False',
    ),
    ({'train.dropout_until': 10**7}, 'must be a step before the last one'),
    (
      {
        'train.dropout_until': 5,
        'model.dropout': 0.0,
        'model.attention_dropout': 0.0,
      },
      'dropout_until is 5, but .* are 0: nothing is dropped',
    ),
  ):
    config = gpt2.get_config('tiny')
    config.update_from_flattened_dict(changes)
    with pytest.raises(ValueError, match=message):
      check_settings(config, 1)


def test_rows_end_where_positions_do():
  keys = {'data__length': 128, 'model__position_offset': 2}
  check(gpt2.get_config('tiny'), model__max_length=130, **keys)
  config = gpt2.get_config('tiny')
  refused(config, 'data.length', model__max_length=129, **keys)


def test_heads_and_objectives():
  check(bert.get_config('tiny'))
  assert bert.get_config('tiny').data.objective == 'sentence_pairs'
  check(bert.get_config('tiny'), model__head='mlm')  # BERT, table 5: no NSP
  keys = {'data__objective': 'full_sentences', 'data__short_share': 0.0}
  refused(bert.get_config('tiny'), "head='mlm_nsp'", **keys)
  check(bert.get_config('tiny'), model__head='mlm', **keys)
  refused(bert.get_config('tiny'), 'eval.samples', eval__samples=1)
  check(gpt2.get_config('tiny'), eval__samples=1)


def test_an_adversarial_generator_has_no_loss_of_tokens():
  keys = {'train__z_loss': 1e-4}
  check(electra.get_config('tiny'), **keys)
  refused(
    electra.get_config('tiny'),
    "z_loss is 0.0001, but model.generator='adversarial'",
    model__generator='adversarial',
    **keys,
  )


def test_classes_have_no_chunks_of_logits():
  keys = {
    'model__head': 'sequence',
    'model__classes': 2,
    'data__source': 'task:glue/rte',
    'data__objective': 'classification',
    'data__framing': 'bert',
    'train__phases': (),
    'data__masking': '',
  }
  off = ('masked_share', 'random_share', 'noise_density', 'short_share')
  keys |= {f'data__{key}': 0.0 for key in off}
  keys |= {'data__predictions': 0, 'data__duplicates': 0}
  keys |= {'data__concatenate': False, 'data__pack': False}
  for chunk in -1, 0:
    check(bert.get_config('tiny'), train__loss_chunk=chunk, **keys)
  refused(
    bert.get_config('tiny'), "loss_chunk is 64, but model.head='sequence'",
    train__loss_chunk=64, **keys,
  )  # fmt: skip


def test_a_groups_keys():
  """Keys that the choice uses must be set; others must be off."""

  class Group(dict):
    name = property(lambda self: self['name'])

  uses = {'a': ('x', 'y'), 'b': ('x',)}

  def check(**keys):
    check_group('group', Group(keys), uses)

  check(name='a', x=0, y=1)
  for nothing in (None, 0, 0.0, False, ''):
    check(name='b', x=1, y=nothing)
  with pytest.raises(ValueError, match=r'group\.y is 2, but group\.name=b'):
    check(name='b', x=1, y=2)
  with pytest.raises(ValueError, match=r'group\.y is not set; .*name=a uses'):
    check(name='a', x=0, y=None)
  with pytest.raises(ValueError, match="group.name is 'c'; .* one of a, b"):
    check(name='c', x=0)


@pytest.mark.parametrize(
  ('attention', 'remat', 'expected'),
  [
    ('flash', 'auto', 'dots'),
    ('xla', 'auto', 'none'),
    ('flash', 'none', 'none'),
    ('xla', 'full', 'full'),
  ],
)
def test_what_remat_auto_is(attention, remat, expected, monkeypatch):
  monkeypatch.setattr(setup, 'choose', lambda *_: (attention, 'the test'))
  config = gpt2.get_config('tiny').unlock()
  config.model.remat = remat
  found = setup.set_up(config.lock(), jax.devices()[:1])
  assert found.model.config.remat == expected
  # What is saved stays as it was written.
  assert found.config.model.remat == remat


@pytest.mark.parametrize(
  ('sources', 'message'),
  [
    (('wiki', 'textfile:a'), r'must have pairs'),
    ((('wiki', 3),), 'it must have pairs'),
    ((('a', 'docs'), ('a', 'docs')), 'names must differ'),
    ((('a/b', 'docs'),), "have no '/'"),
  ],
)
def test_further_held_out_sets(sources, message):
  with pytest.raises(ValueError, match=message):
    check(gpt2.get_config('small'), eval__sources=sources)


def test_phases_that_never_begin():
  """The run must reach its last phase; the message says when that begins."""
  phases = ((('rows', 50 * 16), 0, 0, 0, ''), (('steps', 120), 8, 0, 0, ''))
  config = gpt2.get_config('tiny')
  check(config, train__phases=phases, train__steps=121)
  for steps, message in (
    (120, r'phases\[1\] ends at step 120, but .* is 120: the last one'),
    (50, r'phases\[0\] ends at step 50, but .* is 50: train\.phases\[1\]'),
  ):
    with pytest.raises(ValueError, match=message):
      check(config, train__phases=phases, train__steps=steps)


def test_batches_smaller_than_the_mesh():
  """They get rows of padding; the last batch must divide."""
  phases = tuple(
    (('steps', 10 * n), size, 0, 0, '')
    for n, size in enumerate((2, 4, 6, 8, 10), 1)
  )
  config = gpt2.get_config('tiny')  # of 16 rows
  for parts in (1, 2):
    check(config, 8, train__phases=phases, train__accumulate=parts)
  with pytest.raises(ValueError, match='data.batch is 12; it must be a mult'):
    check(config, 8, train__phases=phases, data__batch=12)


def test_tokens_that_nothing_counts():
  """Examples of a task have any length: tokens are known once they are read."""
  keys = {
    'model__head': 'sequence', 'model__classes': 2,
    'data__source': 'task:glue/rte', 'data__objective': 'classification',
    'data__framing': 'bert', 'train__phases': (), 'data__masking': '',
    'data__predictions': 0, 'data__duplicates': 0,
    'data__concatenate': False, 'data__pack': False,
  }  # fmt: skip
  off = ('masked_share', 'random_share', 'noise_density', 'short_share')
  keys |= {f'data__{key}': 0.0 for key in off}
  config = bert.get_config('tiny')
  check(config, schedule__unit='rows', **keys)
  with pytest.raises(ValueError, match="'tokens', but the rows of .*nothing"):
    check(config, schedule__unit='tokens', **keys)


@pytest.mark.parametrize(
  ('arg', 'overrides', 'message'),
  [
    ('linear', {'model__input_dim': 4}, 'input_dim is 4, but .* data.dimen'),
    ('linear', {'data__dimensions': 4}, 'input_dim is 3, but .*dimensions=4'),
    ('linear', {'train__z_loss': 1e-4}, "train.z_loss is .*'linear' does not"),
    ('copying', {'model__input_dim': 3}, 'input_dim is 3, but .* has tokens'),
    ('copying', {'eval__samples': 1}, 'eval.samples is 1'),
    (
      'classification', {'model__head': 'tokens', 'model__classes': 2},
      "needs model.head='lm'",
    ),
  ],
)  # fmt: skip
@pytest.mark.parametrize('model', ['transformer', 'rwkv'])
def test_prompts_and_the_model_fit(arg, overrides, message, model):
  config = in_context.get_config(f'prompts={arg},model={model}')
  check(config)
  with pytest.raises(ValueError, match=message):
    check(config, **overrides)
