"""Fields of config.json, and options that are refused."""

import dataclasses
import json

import pytest
import transformers

from models import pretrained
from models.pretrained import layout as layouts
from models.pretrained import pair
from models.pretrained.fields import Fields
from models.pretrained.layouts import bert, electra, gpt_neox
from tests.helpers.checkpoints import edit, make
from tests.helpers.hf_decoders import CASES, LAYOUTS, NEOX


def test_the_number_of_classes():
  """num_labels of a classifier is read, and must agree with the labels."""
  name = {'architectures': ['BertForSequenceClassification']}
  three = {'id2label': {'0': 'a', '1': 'b', '2': 'c'}}
  for fields, classes in (
    ({}, 2),
    ({'num_labels': 3}, 3),
    (three, 3),
    (three | {'num_labels': 3}, 3),
  ):
    assert bert.read(Fields(name | fields), set()).classes == classes
  with pytest.raises(ValueError, match='num_labels is 4: id2label has 3'):
    bert.read(Fields(name | three | {'num_labels': 4}), set())


def test_the_size_of_the_generator_of_electra(tmp_path):
  """A pair's files state the share, which the generator's width must have."""
  sizes = {0.25: 0.25, '0.25': 0.25, '1/4': 0.25, 1: 1.0}
  for value, share in sizes.items():
    assert electra.generator_size(Fields({'generator_size': value})) == share
  assert electra.generator_size(Fields({})) is None
  for value in ('small', 0, -1, 2, '1/0'):
    fields = {'architectures': ['ElectraModel'], 'generator_hidden_size': value}
    with pytest.raises(ValueError, match='generator_hidden_size is .* a share'):
      electra.read(Fields(fields), set())
  config, params = make(
    family='electra', head='rtd', generator_divisor=2, max_length=32
  )
  folder = str(tmp_path / 'pair')
  pretrained.save(config, params, folder)
  half = str(tmp_path / 'pair' / pair.NAMES[0])
  edit(half, generator_size='0.5')
  assert pretrained.read_config(folder) == config
  edit(half, generator_size='0.25')
  with pytest.raises(ValueError, match='should have 0.25 of the width'):
    pretrained.read_config(folder)


@pytest.mark.parametrize('head_dim', [12, 49, 80, 96])
def test_every_share_of_a_head_is_written_as_it_is_read(head_dim):
  fields = NEOX | {'hidden_size': 3 * head_dim}
  for part in range(2, head_dim + 1, 2):
    config = dataclasses.replace(
      gpt_neox.read(Fields(fields | {'rotary_pct': 0.5}), set()),
      rope_dim=part,
    )
    again = gpt_neox.read(Fields(gpt_neox.write(config)), set())
    assert again.rope_dim == part
    theirs = transformers.GPTNeoXConfig(**gpt_neox.write(config))
    share = theirs.rope_parameters['partial_rotary_factor']
    assert int(head_dim * share) == part


@pytest.mark.parametrize('name', LAYOUTS)
def test_a_layout_is_found_without_its_name(name):
  layout, _, fields = CASES[name]
  config = layout.read(Fields(dict(fields)), set())
  found, _ = layouts.suiting(config)
  assert found is layout


def test_config_json_is_plain(tmp_path):
  """The file is plain JSON, and names the class of the head."""
  for name in LAYOUTS:
    layout, _, fields = CASES[name]
    written = layout.write(layout.read(Fields(dict(fields)), set()))
    assert json.loads(json.dumps(written)) == written
    assert written['architectures'] == [CASES[name][1]]


ROPE = {'factor': 2.0}
REFUSED = [
  ('gpt1', {'afn': 'tanh'}, 'afn is'),
  ('gpt1', {'n_head': 7}, 'n_head is 7'),
  ('gpt2', {'n_head': 0}, 'n_head is 0: it must be a whole number above 0'),
  ('gpt2', {'n_inner': '64'}, "n_inner is '64': it must be a whole number"),
  ('llama1', {'num_attention_heads': 0}, 'num_attention_heads is 0'),
  ('llama1', {'num_key_value_heads': 'all'}, "num_key_value_heads is 'all'"),
  ('llama1', {'rope_theta': '1e4'}, "rope_theta is '1e4': it must be a number"),
  ('llama1', {'rope_scaling': 'llama3'}, "rope_scaling is 'llama3': it must"),
  (
    'llama1',
    {
      'rope_scaling': {
        'rope_type': 'llama3',
        'factor': '8',
        'low_freq_factor': 1.0,
        'high_freq_factor': 4.0,
        'original_max_position_embeddings': 8192,
      }
    },
    "rope_scaling.factor is '8': it must be a number",
  ),
  ('gpt1', {'embd_pdrop': 0.2}, 'embd_pdrop is 0.2.*resid_pdrop'),
  ('gpt2', {'activation_function': 'tanh'}, 'activation_function is'),
  ('gpt2', {'add_cross_attention': True}, 'second attention'),
  (
    'gpt2',
    {'scale_attn_by_inverse_layer_idx': True},
    'scale_attn_by_inverse_layer_idx is True',
  ),
  ('gpt2', {'architectures': ['GPT2DoubleHeadsModel']}, 'architectures'),
  ('gpt2', {'hidden_size': 31}, 'n_embd says otherwise'),
  ('gpt2', {'some_option': 3}, 'some_option'),
  ('llama1', {'sliding_window': 8}, 'sliding_window is 8'),
  ('llama1', {'attention_bias': True}, 'attention_bias is True'),
  ('llama1', {'partial_rotary_factor': 0.5}, 'partial_rotary_factor is 0.5'),
  ('llama1', {'rope_scaling': ROPE | {'type': 'linear'}}, 'divided'),
  ('llama1', {'rope_scaling': ROPE | {'rope_type': 'dynamic'}}, 'grow'),
  ('llama1', {'rope_parameters': ROPE | {'rope_type': 'yarn'}}, 'stretched'),
  ('llama1', {'rope_parameters': ROPE | {'rope_type': 'new'}}, "'new'"),
  ('llama1', {'rope_parameters': ROPE}, 'factor is unknown'),
  (
    'llama1',
    {'rope_scaling': ROPE | {'rope_type': 'llama3'}},
    'lacks low_freq_factor',
  ),
  ('llama1', {'num_key_value_heads': 4}, 'model.kv_heads is 4'),
  (
    'bloom',
    {'apply_residual_connection_post_layernorm': True},
    'apply_residual_connection_post_layernorm is True',
  ),
  ('bloom', {'n_inner': 99}, 'n_inner is 99'),
  ('gptj', {'rotary_dim': None}, 'rotary_dim is None'),
  ('gptj', {'rotary_dim': 5}, 'model.rope_dim is 5'),
  ('gptj', {'rotary': False}, 'rotary is False'),
  ('gpt_neox', {'rope_scaling': ROPE | {'type': 'linear'}}, 'divided'),
  ('gpt_neox', {'hidden_act': 'mish'}, 'hidden_act is'),
  ('opt', {'word_embed_proj_dim': 16}, 'word_embed_proj_dim is 16'),
  ('opt', {'_remove_final_layer_norm': True}, '_remove_final_layer_norm'),
  ('opt', {'layer_norm_elementwise_affine': False}, 'without scales'),
  ('opt', {'max_position_embeddings': None}, 'max_position_embeddings is None'),
  ('opt', {'layerdrop': 0.1}, 'layerdrop is 0.1'),
  ('opt', {'activation_dropout': 0.1}, 'activation_dropout is 0.1'),
  ('rwkv', {'attention_hidden_size': 32}, 'attention_hidden_size is 32'),
  ('rwkv', {'layer_norm_epsilon': 1e-6}, 'layer_norm_epsilon is 1e-06'),
]


@pytest.mark.parametrize(
  ('name', 'change', 'message'),
  REFUSED,
  ids=[f'{name}-{"-".join(change)}' for name, change, _ in REFUSED],
)
def test_unsupported_options_are_refused_by_name(name, change, message):
  layout, _, fields = CASES[name]
  layout.read(Fields(dict(fields)), set())
  with pytest.raises(ValueError, match=message):
    layout.read(Fields(fields | change), set())
