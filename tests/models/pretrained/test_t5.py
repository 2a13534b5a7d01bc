"""T5 1.0, 1.1 and UL2 checkpoints equal transformers' torch class."""

import json
import os

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import T5Config, T5ForConditionalGeneration

from models import pretrained
from models.build import build
from models.pretrained.layouts import t5
from tests.helpers import hf_reference as reference

V = 89
SIZES = {
  'vocab_size': V,
  'd_model': 24,
  'd_kv': 10,
  'd_ff': 40,
  'num_heads': 3,
  'num_layers': 2,
  'num_decoder_layers': 3,
  'relative_attention_num_buckets': 8,
  'relative_attention_max_distance': 20,
  'decoder_start_token_id': 0,
  'attn_implementation': 'eager',
}
VERSIONS = {
  '1.0': {},
  '1.1': {'feed_forward_proj': 'gated-gelu', 'tie_word_embeddings': False},
  'ul2': {'feed_forward_proj': 'gated-silu', 'tie_word_embeddings': False},
}


def torch_model(version):
  torch.manual_seed(0)
  model = T5ForConditionalGeneration(T5Config(**SIZES | VERSIONS[version]))
  if version != '1.0':  # transformers 5 ties them in its constructor
    model.lm_head.weight = torch.nn.Parameter(torch.zeros(V, 24))
  reference.randomise(model)
  with torch.no_grad():  # T5 scales no logits: its queries are smaller
    for name, weight in model.named_parameters():
      if name.endswith('.q.weight'):
        weight *= SIZES['d_kv'] ** -0.5
  return model


def published(model, version, folder):
  """Saves a model with the config.json of the released files.

  transformers 5 would write that 1.1 is tied as well.
  """
  folder = reference.saved(model, folder)
  path = os.path.join(folder, 'config.json')
  with open(path) as file:
    fields = json.load(file)
  fields['tie_word_embeddings'] = version == '1.0'
  for name in ('scale_decoder_outputs', 'dense_act_fn', 'is_gated_act'):
    fields.pop(name, None)
  with open(path, 'w') as file:
    json.dump(fields, file)
  return folder


def make_batch(S=37, T=31):
  """Rows without padding, and padded at the end or at the start."""
  rng = np.random.default_rng(1)
  source, target = np.ones((4, S), 'int32'), np.ones((4, T), 'int32')
  source[1, 11:] = target[1, 5:] = 0
  source[2, :12] = target[2, :7] = 0
  source[3, 1:] = target[3, :-1] = 0
  return {
    'encoder_inputs': rng.integers(1, V, (4, S)).astype('int32'),
    'inputs': rng.integers(1, V, (4, T)).astype('int32'),
    'encoder_segments': source,
    'segments': target,
  }


def torch_logits(model, batch):
  inputs = {
    'input_ids': batch['encoder_inputs'],
    'attention_mask': batch['encoder_segments'],
    'decoder_input_ids': batch['inputs'],
    'decoder_attention_mask': batch['segments'],
  }
  return model(
    **{name: torch.from_numpy(x).long() for name, x in inputs.items()}
  ).logits


@pytest.mark.parametrize('version', VERSIONS)
def test_logits_gradients_and_weights_equal_torch(version, tmp_path):
  """Rows reach beyond the distance of 20, where the last bucket begins."""
  model = torch_model(version)
  folder = published(model, version, tmp_path / 'theirs')
  config, params = pretrained.load(folder)
  assert config.tie_embeddings == config.scale_output == (version == '1.0')
  batch = make_batch()
  theirs = torch_logits(model, batch)
  real = batch['segments'] > 0
  factors = {'logits': reference.projection(theirs.shape, real=real)}
  inputs = {name: batch[name] for name in build(config).INPUTS}
  logits, grads = reference.outputs_and_gradients(
    config,
    params,
    inputs,
    lambda x: reference.weighted({'logits': x}, factors),
  )
  worst = reference.close(logits, theirs, real)
  reference.weighted({'logits': theirs}, factors).backward()
  worst_grad = reference.gradients_close(config, grads, model, t5)
  print(f'\nLARGEST T5 {version}: {worst:.1e}, gradients {worst_grad:.1e}')
  reference.round_trip(model, folder, tmp_path)


def test_a_file_of_transformers_5_that_wrongly_says_tied(tmp_path):
  model = torch_model('1.1')
  folder = reference.saved(model, tmp_path / 'theirs')
  config, _ = pretrained.load(folder)
  assert not config.tie_embeddings
  assert not config.scale_output


def test_tied_tables_without_a_scale_are_written_as_transformers_5_does(
  tmp_path,
):
  model = T5ForConditionalGeneration(
    T5Config(**SIZES | VERSIONS['1.1'] | {'tie_word_embeddings': False})
  )
  reference.randomise(model)
  folder = reference.saved(model, tmp_path / 'theirs')
  config, params = pretrained.load(folder)
  assert config.tie_embeddings
  assert not config.scale_output
  pretrained.save(config, params, str(tmp_path / 'ours'))
  again = T5ForConditionalGeneration.from_pretrained(str(tmp_path / 'ours'))
  batch = make_batch()
  for name, weight in again.state_dict().items():
    assert torch.equal(weight, model.state_dict()[name])
  theirs, ours = (torch_logits(x.eval(), batch) for x in (model, again))
  reference.close(ours.detach().numpy(), theirs, batch['segments'] > 0)


def test_old_files_hold_the_table_up_to_four_times(tmp_path):
  model = torch_model('1.0')
  folder = published(model, '1.0', tmp_path / 'theirs')
  path = os.path.join(folder, 'model.safetensors')
  tensors = load_file(path)
  for name in ('encoder.embed_tokens', 'decoder.embed_tokens', 'lm_head'):
    tensors[f'{name}.weight'] = tensors['shared.weight'].copy()
  unused = 'decoder.block.0.layer.1.EncDecAttention.relative_attention_bias'
  tensors[f'{unused}.weight'] = np.ones((8, 3), 'float32')
  save_file(tensors, path)
  config, params = pretrained.load(folder)
  np.testing.assert_array_equal(
    params['embed']['table'], tensors['shared.weight']
  )
  assert config.tie_embeddings

  tensors['lm_head.weight'][3, 4] += 1
  save_file(tensors, path)
  with pytest.raises(ValueError, match=r'lm_head\.weight .* differs from sha'):
    pretrained.load(folder)


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'feed_forward_proj': 'gated-tanh'}, 'feed_forward_proj.*gated-tanh'),
    ({'feed_forward_proj': 'gated-gelu', 'dense_act_fn': 'relu'}, 'dense_act'),
    ({'architectures': ['T5EncoderModel']}, 'T5EncoderModel'),
    ({'is_decoder': True}, 'is_decoder'),
    ({'moe_layers': 2}, 'moe_layers'),
  ],
)
def test_an_unsupported_field_is_named(fields, message, tmp_path):
  folder = published(torch_model('1.0'), '1.0', tmp_path / 'theirs')
  path = os.path.join(folder, 'config.json')
  with open(path) as file:
    changed = json.load(file) | fields
  with open(path, 'w') as file:
    json.dump(changed, file)
  with pytest.raises(ValueError, match=message):
    pretrained.load(folder)
