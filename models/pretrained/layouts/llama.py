"""LLaMA 1, 2, 3 and 3.1 (transformers' LlamaForCausalLM).

max_position_embeddings only limits other programs: rotary positions have no
end, and our config does not hold it. A run is saved with its data.length; a
checkpoint that is loaded and saved keeps its own; LLaMA 3.1's follows from its
rope_scaling, as published.
"""

from models.config import TransformerConfig
from models.pretrained.fields import Fields
from models.pretrained.layouts import common
from models.pretrained.mapping import Spare, Weight, norm, parts

MODEL_TYPES = ('llama',)
BOS = 1
PREFIX = 'model.'
LENGTH = 'max_position_embeddings'
CLASSES = {
  'lm': 'LlamaForCausalLM',
  'sequence': 'LlamaForSequenceClassification',
}
FIELDS = {
  'vocab_size': ('vocab_size', 32000),
  'embed_dim': ('hidden_size', 4096),
  'mlp_dim': ('intermediate_size', 11008),
  'decoder_layers': ('num_hidden_layers', 32),
  'heads': ('num_attention_heads', 32),
  'activation': ('hidden_act', 'silu'),
  'attention_dropout': ('attention_dropout', 0.0),
  'norm_epsilon': ('rms_norm_eps', 1e-6),
  'init_std': ('initializer_range', 0.02),
  'tie_embeddings': ('tie_word_embeddings', False),
}
# Whether attention and MLP have biases -> model.bias.
BIASES = {(False, False): 'none', (False, True): 'mlp', (True, True): 'all'}


def read(fields: Fields, tensors: set[str]) -> TransformerConfig:
  """config.json of a LLaMA -> its config."""
  f = fields
  ours = common.read_decoder(f, FIELDS, CLASSES, 'LlamaModel')
  head_dim = f.size('head_dim', None) or ours['head_dim']
  theta, share, scaling = common.rope(f)
  f.expect('sliding_window', None, why='keys further back would be hidden')
  f.expect('rope_interleaved', False, None, why='neighbours would be pairs')
  if share != 1:
    why = 'not all of a head would be turned'
    f.refuse('partial_rotary_factor', share, why)
  biases = f.get('attention_bias', False), f.get('mlp_bias', False)
  if biases not in BIASES:
    why = 'only attention would have biases, and no model.bias says that'
    f.refuse('attention_bias', True, why)
  ours |= {
    'norm': 'rms_norm',
    'gated': True,
    'bias': BIASES[biases],
    'kv_heads': f.size('num_key_value_heads', None) or ours['heads'],
    'head_dim': head_dim,
    'position': 'rope',
    'rope_theta': theta,
    'rope_dim': head_dim,
    'rope_scaling': scaling,
    'dropout': 0.0,
  }
  # Rotary positions have no end; pretraining_tp splits a product into parts.
  f.done(
    'is_decoder',
    'is_llama_config',
    'max_position_embeddings',
    'max_sequence_length',
    'pretraining_tp',
  )
  return TransformerConfig(**ours)


def write(config: TransformerConfig) -> dict:
  """A LLaMA's config -> config.json."""
  c = config
  attention, mlp = next(k for k, name in BIASES.items() if name == c.bias)
  out = common.write(c, 'llama', CLASSES, FIELDS) | {
    'num_key_value_heads': c.kv_heads,
    'head_dim': c.head_dim,
    'rope_theta': c.rope_theta,
    'attention_bias': attention,
    'mlp_bias': mlp,
  }
  if c.rope_scaling:
    factor, low, high, length = c.rope_scaling
    out['max_position_embeddings'] = int(factor * length)
    out['rope_scaling'] = {
      'rope_type': 'llama3',
      'factor': factor,
      'low_freq_factor': low,
      'high_freq_factor': high,
      'original_max_position_embeddings': int(length),
    }
  return out


def weights(config: TransformerConfig) -> list[Weight]:
  """Our weights <-> their tensors."""
  layer = f'{PREFIX}layers.*.'
  norms = {
    'attention_norm': 'input_layernorm',
    'mlp_norm': 'post_attention_layernorm',
  }
  attention = {
    'query': 'q_proj',
    'key': 'k_proj',
    'value': 'v_proj',
    'output': 'o_proj',
  }
  mlp = {'gate': 'gate_proj', 'input': 'up_proj', 'output': 'down_proj'}
  ours, bias = 'decoder/*/', config.bias
  return [
    *common.head_weights(config, f'{PREFIX}embed_tokens.weight'),
    *norm('decoder/norm', f'{PREFIX}norm', bias=False),
    *parts(norms, ours, layer, bias=False),
    *parts(attention, f'{ours}attention/', f'{layer}self_attn.', bias == 'all'),
    *parts(mlp, f'{ours}mlp/', f'{layer}mlp.', bias != 'none'),
  ]


def spares(config: TransformerConfig) -> list[Spare]:
  """What a file may also hold: wavelengths, a copy of the table."""
  return [
    *common.head_spares(config, f'{PREFIX}embed_tokens.weight'),
    Spare(f'{PREFIX}layers.*.self_attn.rotary_emb.inv_freq'),
  ]
