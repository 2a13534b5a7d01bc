"""Tiny decoders of odd sizes as transformers' torch models, with inputs."""

import numpy as np
import torch
import transformers

from models.pretrained.layouts import (
  bloom,
  gpt1,
  gpt2,
  gpt_neox,
  gptj,
  llama,
  opt,
  rwkv,
)
from tests.helpers import hf_reference as reference

V, T = 67, 23
EAGER = {'attn_implementation': 'eager'}
GPT = {
  'vocab_size': V,
  'n_embd': 30,
  'n_layer': 3,
  'n_head': 5,
  'n_positions': T,
}
LLAMA = {
  'vocab_size': V,
  'hidden_size': 24,
  'intermediate_size': 44,
  'num_hidden_layers': 3,
  'num_attention_heads': 6,
}
# Within one row some wavelengths are kept, some stretched, some in between.
STRETCHED = {
  'rope_theta': 30.0,
  'rope_scaling': {
    'rope_type': 'llama3',
    'factor': 4.0,
    'low_freq_factor': 1.0,
    'high_freq_factor': 3.0,
    'original_max_position_embeddings': 16,
  },
}
NEOX = {
  'vocab_size': V,
  'hidden_size': 36,
  'intermediate_size': 44,
  'num_hidden_layers': 3,
  'num_attention_heads': 3,
}
OPT = {
  'vocab_size': V,
  'hidden_size': 30,
  'ffn_dim': 44,
  'num_hidden_layers': 3,
  'num_attention_heads': 5,
  'max_position_embeddings': T,
}
THREE = {'id2label': {0: 'a', 1: 'b', 2: 'c'}, 'pad_token_id': 1}
# Name, layout, class, fields.
CASES = {
  'gpt1': (gpt1, 'OpenAIGPTLMHeadModel', GPT),
  'gpt2': (gpt2, 'GPT2LMHeadModel', GPT | {'n_inner': 44}),
  'gpt2-other': (
    gpt2,
    'GPT2LMHeadModel',
    GPT
    | {
      'activation_function': 'gelu',
      'tie_word_embeddings': False,
      'scale_attn_weights': False,
      'reorder_and_upcast_attn': True,
    },
  ),
  'gpt2-classes': (gpt2, 'GPT2ForSequenceClassification', GPT | THREE),
  'llama1': (llama, 'LlamaForCausalLM', LLAMA),
  'llama3.1': (
    llama,
    'LlamaForCausalLM',
    LLAMA
    | STRETCHED
    | {
      'num_key_value_heads': 2,
      'head_dim': 10,
      'tie_word_embeddings': True,
      'attention_bias': True,
      'mlp_bias': True,
    },
  ),
  'llama-classes': (
    llama,
    'LlamaForSequenceClassification',
    LLAMA | THREE | {'num_key_value_heads': 3, 'mlp_bias': True},
  ),
  'bloom': (
    bloom,
    'BloomForCausalLM',
    {'vocab_size': V, 'hidden_size': 35, 'n_layer': 3, 'n_head': 7},
  ),
  'gptj': (
    gptj,
    'GPTJForCausalLM',
    GPT | {'n_embd': 36, 'n_head': 3, 'n_inner': 44, 'rotary_dim': 6},
  ),
  'gptj-whole': (  # all of a head is turned
    gptj,
    'GPTJForCausalLM',
    GPT | {'n_layer': 1, 'rotary_dim': 6, 'tie_word_embeddings': True},
  ),
  'gpt_neox': (
    gpt_neox,
    'GPTNeoXForCausalLM',
    NEOX | {'rotary_pct': 0.4, 'rotary_emb_base': 100},
  ),
  'gpt_neox-other': (
    gpt_neox,
    'GPTNeoXForCausalLM',
    NEOX
    | {
      'rotary_pct': 1.0,
      'use_parallel_residual': False,
      'attention_bias': False,
      'tie_word_embeddings': True,
      'hidden_act': 'gelu_pytorch_tanh',
    },
  ),
  'opt': (opt, 'OPTForCausalLM', OPT),
  'opt-post': (
    opt,
    'OPTForCausalLM',
    OPT | {'do_layer_norm_before': False, 'enable_bias': False},
  ),
  'rwkv': (
    rwkv,
    'RwkvForCausalLM',
    {
      'vocab_size': V,
      'hidden_size': 24,
      'intermediate_size': 44,
      'num_hidden_layers': 3,
      'use_cache': False,
    },
  ),
}
# One case of each layout.
LAYOUTS = [name for name in CASES if name.isidentifier()] + ['llama3.1']


def torch_model(name, **changes):
  """A torch model of odd sizes, with no weight at 0."""
  _, cls, fields = CASES[name]
  cls = getattr(transformers, cls)
  torch.manual_seed(0)
  config = cls.config_class(**EAGER | fields | changes)
  return reference.randomise(cls(config))


def make_batch():
  """Rows without padding, and padded at the end or at the start."""
  mask = np.ones((4, T), 'int32')
  mask[1, 9:] = 0
  mask[2, :8] = 0
  mask[3, 1:] = 0
  tokens = np.random.default_rng(1).integers(2, V, (4, T))
  return {
    'inputs': np.where(mask, tokens, 1).astype('int32'),
    'segments': mask,
    'positions': np.maximum(mask.cumsum(1) - 1, 0).astype('int32'),
  }


def torch_logits(name, model, batch):
  """Logits [B,T,V], or of classes [B,C]; undefined at padding."""
  ids, mask, positions = (
    torch.from_numpy(batch[key]).long()
    for key in ('inputs', 'segments', 'positions')
  )
  if name == 'rwkv':  # knows no padding
    out = []
    for row, real in zip(ids, mask > 0, strict=True):
      before, after = (int(x) for x in (real.long().argmax(), real.sum()))
      logits = model(row[None, real]).logits[0]
      pad = (0, 0, before, T - before - after)
      out.append(torch.nn.functional.pad(logits, pad))
    return torch.stack(out)
  more = {'position_ids': positions}
  if name.startswith(('bloom', 'opt')):  # count positions themselves
    more = {}
  return model(ids, attention_mask=mask, **more).logits


class InFiles:
  """A torch model whose weights have the names of its files."""

  def __init__(self, model):
    self._model = model

  def named_parameters(self):
    neox = isinstance(self._model, transformers.GPTNeoXForCausalLM)
    for name, p in self._model.named_parameters():
      yield name.replace('lm_head.', 'embed_out.') if neox else name, p


def of_real_tokens(batch, logits):
  mask = batch['segments'] > 0
  return mask if logits.ndim == 3 else mask.any(1)
