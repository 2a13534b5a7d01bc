"""config.json of published checkpoints: every field is read."""

import dataclasses

import pytest

from configs import bloom, gpt1, gpt2, llama, rwkv
from models.config import TransformerConfig
from models.pretrained import layout as layouts
from models.pretrained.fields import Fields
from models.pretrained.layouts import bert, electra, roberta, t5
from tests.helpers.hf_decoders import CASES, LAYOUTS

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
