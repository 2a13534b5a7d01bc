"""config.json of decoders: published files, and options that are refused."""

import dataclasses
import json

import pytest
import transformers

from configs import bloom, gpt1, gpt2, llama, rwkv
from models import pretrained
from models.config import TransformerConfig
from models.pretrained import layout as layouts
from models.pretrained import pair
from models.pretrained.fields import Fields
from models.pretrained.layouts import bert, electra, gpt_neox, roberta, t5
from tests.helpers.checkpoints import edit, make
from tests.helpers.hf_decoders import CASES, LAYOUTS, NEOX

# The fields of published files, with their names. Fields at their defaults, and
# those that concern generation alone, are left out.
PUBLISHED = {
  'gpt1': (
    gpt1,
    'base',
    {
      'model_type': 'openai-gpt',
      'architectures': ['OpenAIGPTLMHeadModel'],
      'afn': 'gelu',
      'attn_pdrop': 0.1,
      'embd_pdrop': 0.1,
      'resid_pdrop': 0.1,
      'initializer_range': 0.02,
      'layer_norm_epsilon': 1e-05,
      'n_ctx': 512,
      'n_embd': 768,
      'n_head': 12,
      'n_layer': 12,
      'n_positions': 512,
      'n_special': 0,
      'predict_special_tokens': True,
      'summary_type': 'cls_index',
      'vocab_size': 40478,
    },
  ),
  'gpt2': (
    gpt2,
    'xl',
    {
      'model_type': 'gpt2',
      'architectures': ['GPT2LMHeadModel'],
      'activation_function': 'gelu_new',
      'attn_pdrop': 0.1,
      'embd_pdrop': 0.1,
      'resid_pdrop': 0.1,
      'initializer_range': 0.02,
      'layer_norm_epsilon': 1e-05,
      'n_ctx': 1024,
      'n_embd': 1600,
      'n_head': 25,
      'n_layer': 48,
      'n_positions': 1024,
      'output_past': True,
      'summary_type': 'cls_index',
      'task_specific_params': {'text-generation': {'do_sample': True}},
      'vocab_size': 50257,
    },
  ),
  'llama2': (
    llama,
    'size=70b,version=2',
    {
      'model_type': 'llama',
      'architectures': ['LlamaForCausalLM'],
      'hidden_act': 'silu',
      'hidden_size': 8192,
      'initializer_range': 0.02,
      'intermediate_size': 28672,
      'max_position_embeddings': 4096,
      'num_attention_heads': 64,
      'num_hidden_layers': 80,
      'num_key_value_heads': 8,
      'pretraining_tp': 1,
      'rms_norm_eps': 1e-05,
      'rope_scaling': None,
      'tie_word_embeddings': False,
      'torch_dtype': 'float16',
      'vocab_size': 32000,
    },
  ),
  'llama3.1': (
    llama,
    'size=8b,version=3.1',
    {
      'model_type': 'llama',
      'architectures': ['LlamaForCausalLM'],
      'attention_bias': False,
      'attention_dropout': 0.0,
      'hidden_act': 'silu',
      'hidden_size': 4096,
      'intermediate_size': 14336,
      'max_position_embeddings': 131072,
      'mlp_bias': False,
      'num_attention_heads': 32,
      'num_hidden_layers': 32,
      'num_key_value_heads': 8,
      'rms_norm_eps': 1e-05,
      'rope_scaling': {
        'factor': 8.0,
        'low_freq_factor': 1.0,
        'high_freq_factor': 4.0,
        'original_max_position_embeddings': 8192,
        'rope_type': 'llama3',
      },
      'rope_theta': 500000.0,
      'tie_word_embeddings': False,
      'vocab_size': 128256,
    },
  ),
  'bloom': (
    bloom,
    '560m',
    {
      'model_type': 'bloom',
      'architectures': ['BloomForCausalLM'],
      'apply_residual_connection_post_layernorm': False,
      'attention_dropout': 0.0,
      'attention_softmax_in_fp32': True,
      'bias_dropout_fusion': True,
      'hidden_dropout': 0.0,
      'initializer_range': 0.02,
      'layer_norm_epsilon': 1e-05,
      'masked_softmax_fusion': True,
      'n_embed': 1024,
      'n_inner': None,
      'n_layer': 24,
      'num_attention_heads': 16,
      'offset_alibi': 100,
      'pretraining_tp': 1,
      'skip_bias_add': True,
      'skip_bias_add_qkv': False,
      'slow_but_exact': False,
      'unk_token_id': 0,
      'vocab_size': 250880,
    },
  ),
  'rwkv': (
    rwkv,
    '169m',
    {
      'model_type': 'rwkv',
      'architectures': ['RwkvForCausalLM'],
      'attention_hidden_size': 768,
      'context_length': 1024,
      'hidden_size': 768,
      'intermediate_size': 3072,
      'layer_norm_epsilon': 1e-05,
      'num_hidden_layers': 12,
      'rescale_every': 6,
      'tie_word_embeddings': False,
      'vocab_size': 50277,
    },
  ),
}
# Published files of systems without a file in configs/: they are read too.
OTHERS = {
  'gptj': {
    'activation_function': 'gelu_new',
    'architectures': ['GPTJForCausalLM'],
    'attn_pdrop': 0.0,
    'embd_pdrop': 0.0,
    'resid_pdrop': 0.0,
    'gradient_checkpointing': False,
    'n_embd': 4096,
    'n_head': 16,
    'n_inner': None,
    'n_layer': 28,
    'n_positions': 2048,
    'rotary': True,
    'rotary_dim': 64,
    'scale_attn_weights': True,
    'summary_type': 'cls_index',
    'tie_word_embeddings': False,
    'tokenizer_class': 'GPT2Tokenizer',
    'vocab_size': 50400,
  },
  'gpt_neox': {
    'architectures': ['GPTNeoXForCausalLM'],
    'attention_probs_dropout_prob': 0,
    'hidden_act': 'gelu_fast',
    'hidden_dropout_prob': 0,
    'hidden_size': 6144,
    'intermediate_size': 24576,
    'max_position_embeddings': 2048,
    'num_attention_heads': 64,
    'num_hidden_layers': 44,
    'rotary_emb_base': 10000,
    'rotary_pct': 0.25,
    'tie_word_embeddings': False,
    'vocab_size': 50432,
  },
  'opt': {
    '_remove_final_layer_norm': False,
    'activation_dropout': 0.0,
    'activation_function': 'relu',
    'architectures': ['OPTForCausalLM'],
    'do_layer_norm_before': True,
    'ffn_dim': 3072,
    'hidden_size': 768,
    'layerdrop': 0.0,
    'max_position_embeddings': 2048,
    'num_attention_heads': 12,
    'num_hidden_layers': 12,
    'prefix': '</s>',
    'vocab_size': 50272,
    'word_embed_proj_dim': 768,
  },
}
# Fields of published files that do not change the outputs: what made the file,
# kernels, generation, the tokenizer.
EVERYWHERE = {
  'auto_map': {'AutoModel': 'modeling.Model'},
  'custom_pipelines': {'text-generation': {'impl': 'a.B', 'pt': ['C']}},
  'num_labels': 5,
  'pruned_heads': {},
  'add_cross_attention': False,
  'cross_attention_hidden_size': None,
  'tie_encoder_decoder': False,
  'neftune_noise_alpha': 0.0,
  'transformers.js_config': {'dtype': 'q4'},
  'unsloth_version': '2024.9',
  '_flash_attn_2_enabled': True,
  'attn_implementation': 'sdpa',
  'keys_to_ignore_at_inference': ['past_key_values'],
  'max_new_tokens': 20,
  'renormalize_logits': False,
  'finetuning_task': 'mlm',
  'output_past': True,
}
ENCODERS = {
  'bert': (
    bert,
    {
      'architectures': ['BertForMaskedLM'],
      'cell': {},
      'emb_size': 312,
      'structure': [],
      'training': '',
      'pre_trained': '',
      'directionality': 'bidi',
    },
  ),
  'electra': (
    electra,
    {
      'architectures': ['ElectraForPreTraining'],
      'generator_size': '0.25',
      'summary_type': 'first',
    },
  ),
  'roberta': (roberta, {'architectures': ['RobertaForMaskedLM']}),
  't5': (t5, {'architectures': ['T5WithLMHeadModel'], 'n_positions': 512}),
}
# Fields that may differ in a file of the same model.
FREE = layouts.FREE


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_configurations_are_the_configs(name):
  file, arg, fields = PUBLISHED[name]
  layout = next(
    x for x in layouts.LAYOUTS if fields['model_type'] in x.MODEL_TYPES
  )
  found = dataclasses.asdict(layout.read(Fields(fields), set()))
  model = TransformerConfig(**file.get_config(arg).model)
  own = dataclasses.asdict(model)
  differing = {k for k in own if own[k] != found[k]} - set(FREE)
  assert not differing
  assert layouts.suiting(model)[0] is layout


@pytest.mark.parametrize('name', OTHERS)
def test_published_configurations_of_other_systems(name):
  layout = CASES[name][0]
  config = layout.read(Fields(OTHERS[name]), set())
  assert config.rope_dim == {'gptj': 64, 'gpt_neox': 24, 'opt': 0}[name]
  assert config.activation == ('relu' if name == 'opt' else 'gelu_tanh')
  assert config.max_length == (2050 if name == 'opt' else 0)


@pytest.mark.parametrize('name', [*LAYOUTS, *ENCODERS])
def test_harmless_fields_of_published_files(name):
  layout, own = CASES[name][::2] if name in CASES else ENCODERS[name]
  plain = {k: x for k, x in own.items() if k == 'architectures'}
  plain = own if name in CASES else plain
  found = layout.read(Fields({**own, **EVERYWHERE}), set())
  assert found == layout.read(Fields(dict(plain)), set())
  for field, value in {
    'add_cross_attention': True,
    'cross_attention_hidden_size': 8,
    'neftune_noise_alpha': 5.0,
    'pruned_heads': {'0': [1]},
    'tie_encoder_decoder': True,
    'some_field': 1,
  }.items():
    with pytest.raises(ValueError, match=field):
      layout.read(Fields({**own, field: value}), set())


def test_smol_lm_is_a_llama():
  fields = {
    'model_type': 'llama',
    'architectures': ['LlamaForCausalLM'],
    'attention_bias': False,
    'attention_dropout': 0.0,
    'hidden_size': 576,
    'bos_token_id': 0,
    'eos_token_id': 0,
    'hidden_act': 'silu',
    'initializer_range': 0.041666666666666664,
    'num_key_value_heads': 3,
    'intermediate_size': 1536,
    'is_llama_config': True,
    'mlp_bias': False,
    'max_position_embeddings': 8192,
    'num_attention_heads': 9,
    'num_hidden_layers': 30,
    'pretraining_tp': 1,
    'rms_norm_eps': 1e-05,
    'rope_interleaved': False,
    'rope_scaling': None,
    'rope_theta': 100000,
    'tie_word_embeddings': True,
    'vocab_size': 49152,
    'use_cache': True,
  }
  layout = CASES['llama1'][0]
  found = layout.read(Fields(fields), set())
  assert (found.rope_theta, found.kv_heads) == (100_000.0, 3)
  with pytest.raises(ValueError, match='rope_interleaved is True: neighbours'):
    layout.read(Fields(fields | {'rope_interleaved': True}), set())


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
  """In a pair it is compared with the generator's width."""
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
  """It is plain JSON, and names the class of the head."""
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
