"""Checkpoints that are saved and loaded."""

import dataclasses
import json
import os

import jax
import numpy as np
import pytest
import torch
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file, save_file

from configs import bert, flan_t5, roberta, t5, ul2
from models import pretrained
from models.config import TransformerConfig
from models.pretrained import files
from models.pretrained import layout as layouts
from models.pretrained.fields import Fields
from tests.helpers.checkpoints import (
  T5,
  TABLE,
  assert_equal,
  edit,
  make,
  rewrite,
  shard,
)


@pytest.fixture
def folder(tmp_path):
  config, params = make()
  pretrained.save(config, params, str(tmp_path / 'bert'))
  return str(tmp_path / 'bert')


@pytest.mark.parametrize('scan', [True, False])
def test_what_is_saved_is_loaded(scan, tmp_path):
  config, params = make(scan=scan)
  pretrained.save(config, params, str(tmp_path / 'a'))
  again, loaded = pretrained.load(str(tmp_path / 'a'), scan=scan)
  assert again == config
  assert_equal(loaded, params)


def test_many_files_hold_the_same_as_one(folder):
  _, params = pretrained.load(folder)
  shards = shard(folder)
  assert len(shards) > 3
  assert not os.path.exists(os.path.join(folder, 'model.safetensors'))
  sizes = [os.path.getsize(os.path.join(folder, name)) for name in shards]
  assert sum(size > 6000 for size in sizes) == 0  # tensors and a header
  assert_equal(pretrained.load(folder)[1], params)


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_half_precision_is_loaded_bit_for_bit(dtype, tmp_path):
  config, params = make()
  first, second = str(tmp_path / 'a'), str(tmp_path / 'b')
  pretrained.save(config, params, first, dtype=dtype)
  _, loaded = pretrained.load(first)
  assert all(x.dtype == 'float32' for x in jax.tree.leaves(loaded))
  pretrained.save(config, loaded, second, dtype=dtype)
  a, b = (
    load_file(os.path.join(x, 'model.safetensors')) for x in (first, second)
  )
  assert a.keys() == b.keys()
  for name in a:
    assert a[name].dtype == files.dtype_of(dtype)
    assert a[name].tobytes() == b[name].tobytes(), name
  original = flatten_dict(params, sep='/')['embed/table']
  rounded = torch.from_numpy(original).to(getattr(torch, dtype)).float()
  np.testing.assert_array_equal(a[TABLE].astype('float32'), rounded.numpy())


def test_a_number_too_large_for_half_precision(tmp_path):
  config, params = make()
  params['embed']['table'][3, 4] = 1e5
  with pytest.raises(ValueError, match=r"embed/table .* dtype='float16'"):
    pretrained.save(config, params, str(tmp_path / 'a'), dtype='float16')
  assert os.listdir(tmp_path) == []
  pretrained.save(config, params, str(tmp_path / 'a'), dtype='bfloat16')


def test_the_first_layout_that_suits_or_the_named_one_is_written(tmp_path):
  config, params = make(head='tokens', classes=3)
  for layout, name in (('', 'bert'), ('electra', 'electra')):
    path = str(tmp_path / name)
    pretrained.save(config, params, path, layout=layout)
    with open(os.path.join(path, 'config.json')) as file:
      assert json.load(file)['model_type'] == name
    again, loaded = pretrained.load(path)
    assert again == config
    assert_equal(loaded, params)


def test_a_model_that_no_layout_expresses_is_refused(tmp_path):
  config, params = make(activation='silu', norm_placement='pre')
  with pytest.raises(
    ValueError, match=r"bert has no model\.norm_placement='pr"
  ):
    pretrained.save(config, params, str(tmp_path / 'a'))
  assert os.listdir(tmp_path) == []


@pytest.mark.parametrize('sizes', [{}, T5], ids=['bert', 't5'])
def test_adapters_are_in_no_layout(sizes, tmp_path):
  config, params = make(**sizes | {'adapter_dim': 4})
  with pytest.raises(ValueError, match=r'^model\.adapter_dim=4: models of'):
    pretrained.save(config, params, str(tmp_path / 'a'))
  assert not os.path.exists(tmp_path / 'a')


def test_shared_stacks_are_written_as_two(tmp_path):
  layers = {'encoder_layers': 2, 'decoder_layers': 2}
  config, params = make(**T5 | layers | {'shared_stacks': True})
  pretrained.save(config, params, str(tmp_path / 'a'))
  again, loaded = pretrained.load(str(tmp_path / 'a'))
  assert again == dataclasses.replace(config, shared_stacks=False)
  encoder = loaded.pop('encoder')
  assert_equal(loaded, params)
  for path, x in flatten_dict(encoder).items():
    np.testing.assert_array_equal(x, flatten_dict(params['decoder'])[path])


def test_wrong_parameters_are_refused(tmp_path):
  config, params = make()
  table = params['embed'].pop('table')
  with pytest.raises(ValueError, match='lack embed/table'):
    pretrained.save(config, params, str(tmp_path / 'a'))
  params['embed']['table'] = table[1:]
  with pytest.raises(ValueError, match=r'embed/table has shape \(59, 12\)'):
    pretrained.save(config, params, str(tmp_path / 'a'))
  assert os.listdir(tmp_path) == []


def test_an_encoder_without_token_types_gets_one_that_is_0(tmp_path):
  own = {'position_offset': 2, 'head': 'mlm', 'pooler_dropout': True}
  config, params = make(token_types=0, **own)
  pretrained.save(config, params, str(tmp_path / 'a'))
  again, loaded = pretrained.load(str(tmp_path / 'a'))
  assert again == dataclasses.replace(config, token_types=1)
  assert not loaded['embed'].pop('type').any()
  assert_equal(loaded, params)


def test_nothing_is_overwritten(folder, tmp_path):
  config, params = make()
  with pytest.raises(ValueError, match='not empty'):
    pretrained.save(config, params, folder)
  with pytest.raises(OSError, match=r'config\.json/a cannot be made'):
    pretrained.save(config, params, os.path.join(folder, 'config.json', 'a'))
  (tmp_path / 'empty').mkdir()
  pretrained.save(config, params, str(tmp_path / 'empty'))
  assert_equal(pretrained.load(str(tmp_path / 'empty'))[1], params)


def test_a_failure_while_writing_leaves_nothing(tmp_path, monkeypatch):
  config, params = make()
  written = []

  def fails(tensors, path, **_):
    written.append(path)
    if len(written) == 2:
      raise OSError(28, 'No space left on device')
    save_file(tensors, path)

  monkeypatch.setattr(files, 'save_file', fails)
  with pytest.raises(OSError, match='No space'):
    pretrained.save(config, params, str(tmp_path / 'a'), shard_bytes=3000)
  assert os.listdir(tmp_path) == []


def test_a_new_head_is_initialised_and_the_old_one_left_behind(folder):
  _, old = pretrained.load(folder)
  config, params = pretrained.load(folder, head='sequence', classes=5)
  assert params['classes']['dense']['kernel'].shape == (12, 5)
  assert 'vocabulary' not in params
  assert_equal(params['pooler'], old['pooler'])
  assert_equal(params['encoder'], old['encoder'])
  _, same = pretrained.load(folder, head='sequence', classes=5)
  assert_equal(params, same)
  _, other = pretrained.load(folder, seed=1, head='sequence', classes=5)
  kernels = params['classes']['dense'], other['classes']['dense']
  assert np.any(kernels[0]['kernel'] != kernels[1]['kernel'])
  with pytest.raises(ValueError, match=r'model\.hed'):
    pretrained.load(folder, hed='sequence')
  del config


@pytest.mark.parametrize(
  ('own', 'new'),
  [
    ({'head': 'span_joint', 'classes': 0}, {'span'}),
    ({'head': 'tokens', 'classes': 3, 'features': 'last'}, {'lstm', 'classes'}),
  ],
)
def test_heads_that_no_file_has_stand_on_a_published_body(folder, own, new):
  _, old = pretrained.load(folder)
  config, params = pretrained.load(folder, **own)
  assert config.head == own['head']
  assert set(params) == {'embed', 'encoder'} | new
  assert_equal(params['encoder'], old['encoder'])
  with pytest.raises(ValueError, match='span_joint|model.features'):
    pretrained.save(config, params, str(folder) + '-again')


def test_names_and_extras_of_old_files(folder):
  """BERT's first files have gamma and beta, a buffer, an unread tensor."""
  config, params = pretrained.load(folder)

  def age(tensors):
    for name in [x for x in tensors if 'LayerNorm' in x]:
      old = name.replace('weight', 'gamma').replace('bias', 'beta')
      tensors[old] = tensors.pop(name)
    tensors['bert.embeddings.position_ids'] = np.arange(10)[None]

  rewrite(folder, age)
  edit(folder, architectures=['BertForMaskedLM'])  # but with both heads
  again, loaded = pretrained.load(folder)
  assert again == config
  assert_equal(loaded, params)


@pytest.mark.parametrize(
  ('layout', 'head', 'asked', 'has'),
  [
    ('bert', 'mlm_nsp', 'rtd', 'mlm_nsp, mlm, sequence'),
    ('roberta', 'mlm', 'mlm_nsp', 'mlm, sequence'),
    ('electra', 'rtd', 'mlm_nsp', 'rtd, mlm'),
    ('electra', 'rtd', 'sequence', 'rtd, mlm'),
  ],
)
def test_a_head_that_a_layout_lacks(layout, head, asked, has, tmp_path):
  offset = 2 if layout == 'roberta' else 0
  config, params = make(head=head, position_offset=offset)
  folder = str(tmp_path / 'a')
  pretrained.save(config, params, folder, layout=layout)
  classes = 2 if asked == 'sequence' else 0
  with pytest.raises(
    ValueError,
    match=rf"model\.head is '{asked}'; {folder} is a {layout} .* one of {has}",
  ):
    pretrained.read_config(folder, head=asked, classes=classes)


BERT_BASE = {
  'model_type': 'bert',
  'architectures': ['BertForMaskedLM'],
  'attention_probs_dropout_prob': 0.1,
  'gradient_checkpointing': False,
  'hidden_act': 'gelu',
  'hidden_dropout_prob': 0.1,
  'hidden_size': 768,
  'initializer_range': 0.02,
  'intermediate_size': 3072,
  'layer_norm_eps': 1e-12,
  'max_position_embeddings': 512,
  'num_attention_heads': 12,
  'num_hidden_layers': 12,
  'pad_token_id': 0,
  'position_embedding_type': 'absolute',
  'transformers_version': '4.6.0.dev0',
  'type_vocab_size': 2,
  'use_cache': True,
  'vocab_size': 30522,
}
ROBERTA_BASE = BERT_BASE | {
  'model_type': 'roberta',
  'architectures': ['RobertaForMaskedLM'],
  'bos_token_id': 0,
  'eos_token_id': 2,
  'layer_norm_eps': 1e-5,
  'max_position_embeddings': 514,
  'pad_token_id': 1,
  'type_vocab_size': 1,
  'vocab_size': 50265,
}
T5_SMALL = {
  'model_type': 't5',
  'architectures': ['T5ForConditionalGeneration'],
  'd_ff': 2048,
  'd_kv': 64,
  'd_model': 512,
  'decoder_start_token_id': 0,
  'dropout_rate': 0.1,
  'eos_token_id': 1,
  'initializer_factor': 1.0,
  'is_encoder_decoder': True,
  'layer_norm_epsilon': 1e-6,
  'n_positions': 512,
  'num_heads': 8,
  'num_layers': 6,
  'output_past': True,
  'pad_token_id': 0,
  'relative_attention_num_buckets': 32,
  'task_specific_params': {'summarization': {'early_stopping': True}},
  'vocab_size': 32128,
}
FLAN_T5_SMALL = T5_SMALL | {
  'd_ff': 1024,
  'dense_act_fn': 'gelu_new',
  'feed_forward_proj': 'gated-gelu',
  'is_gated_act': True,
  'num_decoder_layers': 8,
  'num_heads': 6,
  'num_layers': 8,
  'tie_word_embeddings': False,
}
UL2 = FLAN_T5_SMALL | {
  'd_ff': 16384,
  'd_kv': 256,
  'd_model': 4096,
  'dense_act_fn': 'silu',
  'dropout_rate': 0.0,
  'feed_forward_proj': 'gated-silu',
  'num_decoder_layers': 32,
  'num_heads': 16,
  'num_layers': 32,
}


@pytest.mark.parametrize(
  ('published', 'recipe', 'differs'),
  [
    # The paper's own code approximates gelu, while the released files name the
    # exact one, and the class without the next-sentence head.
    (BERT_BASE, bert.get_config(), {'activation': 'gelu', 'head': 'mlm'}),
    # Released with a token type that it does not use: its row is 0.
    (ROBERTA_BASE, roberta.get_config(), {'token_types': 1}),
    (T5_SMALL, t5.get_config('small'), {}),
    (FLAN_T5_SMALL, flan_t5.get_config('small'), {}),
    (UL2, ul2.get_config(), {}),
  ],
)
def test_released_configs_are_those_of_the_papers(published, recipe, differs):
  layout = layouts.named(published['model_type'])
  config = layout.read(Fields(published), {'lm_head.weight'})
  expected = TransformerConfig(**dict(recipe.model) | differs)
  for field in dataclasses.fields(config):
    if field.name not in layouts.FREE:
      values = (getattr(x, field.name) for x in (config, expected))
      assert len(set(values)) == 1, field.name
  # And `save` would choose that layout for our config.
  assert layouts.suiting(expected)[0] is layout
