"""LLaMA 1, 2, 3 and 3.1 (transformers' LlamaForCausalLM).

max_position_embeddings only limits other programs: rotary positions have no
end, and our config does not hold it. A run is saved with its data.length; a
checkpoint that is loaded and saved keeps its own; LLaMA 3.1's follows from its
rope_scaling, as published.
"""

from models.config import TransformerConfig
from models.pretrained.fields import ACTIVATION_NAMES, Fields
from models.pretrained.layouts import causal
from models.pretrained.mapping import Spare, Weight, turned

MODEL_TYPES = ('llama',)
BOS = 1
PREFIX = 'model.'
LENGTH = 'max_position_embeddings'
CLASSES = {
  'lm': 'LlamaForCausalLM',
  'sequence': 'LlamaForSequenceClassification',
}
# Whether attention and MLP have biases -> model.bias.
BIASES = {(False, False): 'none', (False, True): 'mlp', (True, True): 'all'}


def read(fields: Fields, tensors: set[str]) -> TransformerConfig:
  """config.json of a LLaMA -> its config."""
  f = fields
  width = f.size('hidden_size', 4096)
  heads = f.size('num_attention_heads', 32)
  if width % heads:
    f.refuse('hidden_size', width, f'it must be a multiple of {heads} heads')
  head_dim = f.size('head_dim', None) or width // heads
  theta, share, scaling = causal.rope(f)
  if share != 1:
    f.refuse(
      'partial_rotary_factor', share, 'not all of a head would be turned'
    )
  f.expect('sliding_window', None, why='keys further back would be hidden')
  f.expect('rope_interleaved', False, None, why='neighbours would be pairs')
  biases = f.get('attention_bias', False), f.get('mlp_bias', False)
  if biases not in BIASES:
    f.refuse(
      'attention_bias',
      True,
      'only attention would have biases, and no model.bias says that',
    )
  config = TransformerConfig(
    **causal.COMMON
    | causal.read_head(f, CLASSES, 'LlamaModel')
    | {'norm': 'rms_norm', 'gated': True, 'bias': BIASES[biases]},
    vocab_size=f.size('vocab_size', 32000),
    embed_dim=width,
    mlp_dim=f.size('intermediate_size', 11008),
    heads=heads,
    kv_heads=f.size('num_key_value_heads', None) or heads,
    head_dim=head_dim,
    decoder_layers=f.size('num_hidden_layers', 32),
    position='rope',
    rope_theta=theta,
    rope_dim=head_dim,
    rope_scaling=scaling,
    norm_epsilon=f.get('rms_norm_eps', 1e-6),
    activation=f.activation('hidden_act', 'silu'),
    tie_embeddings=f.get('tie_word_embeddings', False),
    init_std=f.get('initializer_range', 0.02),
    dropout=0.0,
    attention_dropout=f.get('attention_dropout', 0.0),
  )
  # Rotary positions have no end; pretraining_tp splits a product into parts.
  f.done(
    (
      'is_decoder',
      'is_llama_config',
      'max_position_embeddings',
      'max_sequence_length',
      'pretraining_tp',
    )
  )
  return config


def write(config: TransformerConfig) -> dict:
  """A LLaMA's config -> config.json."""
  c = config
  attention, mlp = next(k for k, name in BIASES.items() if name == c.bias)
  out = {
    'model_type': 'llama',
    **causal.write_head(c, CLASSES),
    'vocab_size': c.vocab_size,
    'hidden_size': c.embed_dim,
    'intermediate_size': c.mlp_dim,
    'num_hidden_layers': c.decoder_layers,
    'num_attention_heads': c.heads,
    'num_key_value_heads': c.kv_heads,
    'head_dim': c.head_dim,
    'hidden_act': ACTIVATION_NAMES[c.activation],
    'rms_norm_eps': c.norm_epsilon,
    'rope_theta': c.rope_theta,
    'attention_bias': attention,
    'mlp_bias': mlp,
    'attention_dropout': c.attention_dropout,
    'initializer_range': c.init_std or 0.02,
    'tie_word_embeddings': c.tie_embeddings,
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
  out = [
    *causal.head_weights(config, f'{PREFIX}embed_tokens.weight'),
    Weight('decoder/norm/scale', f'{PREFIX}norm.weight'),
    Weight('decoder/*/attention_norm/scale', f'{layer}input_layernorm.weight'),
    Weight(
      'decoder/*/mlp_norm/scale', f'{layer}post_attention_layernorm.weight'
    ),
  ]
  for ours, theirs in {
    'attention/query': 'self_attn.q_proj',
    'attention/key': 'self_attn.k_proj',
    'attention/value': 'self_attn.v_proj',
    'attention/output': 'self_attn.o_proj',
    'mlp/gate': 'mlp.gate_proj',
    'mlp/input': 'mlp.up_proj',
    'mlp/output': 'mlp.down_proj',
  }.items():
    ours, theirs = f'decoder/*/{ours}', layer + theirs
    out.append(Weight(f'{ours}/kernel', f'{theirs}.weight', turned))
    if config.bias == 'all' or (config.bias == 'mlp' and '/mlp/' in ours):
      out.append(Weight(f'{ours}/bias', f'{theirs}.bias'))
  return out


def spares(config: TransformerConfig) -> list[Spare]:
  """What a file may also hold: wavelengths, a copy of the table."""
  return [
    *causal.head_spares(config, f'{PREFIX}embed_tokens.weight'),
    Spare(f'{PREFIX}layers.*.self_attn.rotary_emb.inv_freq'),
  ]
