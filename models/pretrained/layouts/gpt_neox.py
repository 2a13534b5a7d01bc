"""GPT-NeoX and Pythia (transformers' GPTNeoXForCausalLM)."""

from models.config import TransformerConfig
from models.pretrained.fields import ACTIVATION_NAMES, Fields
from models.pretrained.layouts import causal
from models.pretrained.mapping import Spare, Weight, dense, norm, turned

MODEL_TYPES = ('gpt_neox',)
BOS = 0
PREFIX = 'gpt_neox.'
LENGTH = 'max_position_embeddings'
CLASSES = {
  'lm': 'GPTNeoXForCausalLM',
  'sequence': 'GPTNeoXForSequenceClassification',
}


def read(fields: Fields, tensors: set[str]) -> TransformerConfig:
  """config.json of a GPT-NeoX -> its config."""
  f = fields
  width = f.size('hidden_size', 6144)
  heads = causal.heads(f, width, 'num_attention_heads', 64)
  theta, share, scaling = causal.rope(f, 'rotary_emb_base', 'rotary_pct', 0.25)
  if scaling:
    f.refuse('rope_scaling', 'llama3', 'wavelengths would be stretched')
  parallel = f.get('use_parallel_residual', True)
  config = TransformerConfig(
    **causal.COMMON
    | heads
    | causal.dropout(f, 'attention_dropout=0', 'hidden_dropout=0')
    | causal.read_head(f, CLASSES, 'GPTNeoXModel')
    | {
      'parallel': 'two_norms' if parallel else 'none',
      'bias': 'all' if f.get('attention_bias', True) else 'mlp',
    },
    vocab_size=f.size('vocab_size', 50432),
    embed_dim=width,
    mlp_dim=f.size('intermediate_size', 24576),
    decoder_layers=f.size('num_hidden_layers', 44),
    position='rope',
    rope_theta=theta,
    rope_dim=int(heads['head_dim'] * share),
    norm_epsilon=f.get('layer_norm_eps', 1e-5),
    activation=f.activation('hidden_act', 'gelu'),
    tie_embeddings=f.get('tie_word_embeddings', False),
    init_std=f.get('initializer_range', 0.02),
  )
  # Rotary positions have no end; no code, or no head here, reads the rates.
  f.done(
    (
      'attention_probs_dropout_prob',
      'classifier_dropout',
      'hidden_dropout_prob',
      'is_decoder',
      'max_position_embeddings',
    )
  )
  return config


def write(config: TransformerConfig) -> dict:
  """A GPT-NeoX's config -> config.json."""
  c = config
  return {
    'model_type': 'gpt_neox',
    **causal.write_head(c, CLASSES),
    'vocab_size': c.vocab_size,
    'hidden_size': c.embed_dim,
    'intermediate_size': c.mlp_dim,
    'num_hidden_layers': c.decoder_layers,
    'num_attention_heads': c.heads,
    'hidden_act': ACTIVATION_NAMES[c.activation],
    'hidden_dropout': c.dropout,
    'attention_dropout': c.attention_dropout,
    'rotary_emb_base': c.rope_theta,
    'rotary_pct': _share(c.rope_dim, c.head_dim),
    'use_parallel_residual': c.parallel != 'none',
    'attention_bias': c.bias == 'all',
    'layer_norm_eps': c.norm_epsilon,
    'initializer_range': c.init_std or 0.02,
    'tie_word_embeddings': c.tie_embeddings,
  }


def _share(part: int, whole: int) -> float:
  """A share of `whole` that gives `part` when rounded down."""
  if not 0 < part <= whole:
    raise ValueError('it has rotary positions')
  share = part / whole
  return share if int(whole * share) == part else (part + 0.5) / whole


def weights(config: TransformerConfig) -> list[Weight]:
  """Our weights <-> their tensors."""
  layer = f'{PREFIX}layers.*.'
  attention = f'{layer}attention.'
  out = [
    *causal.head_weights(config, f'{PREFIX}embed_in.weight', 'embed_out'),
    *norm('decoder/norm', f'{PREFIX}final_layer_norm'),
    *norm('decoder/*/attention_norm', f'{layer}input_layernorm'),
    *norm('decoder/*/mlp_norm', f'{layer}post_attention_layernorm'),
    *causal.fused(config, 'decoder/*/attention', f'{attention}query_key_value'),
    *dense('decoder/*/mlp/input', f'{layer}mlp.dense_h_to_4h'),
    *dense('decoder/*/mlp/output', f'{layer}mlp.dense_4h_to_h'),
  ]
  ours, theirs = 'decoder/*/attention/output', f'{attention}dense'
  if config.bias == 'all':
    return out + dense(ours, theirs)
  return [*out, Weight(f'{ours}/kernel', f'{theirs}.weight', turned)]


def spares(config: TransformerConfig) -> list[Spare]:
  """What a file may also hold: masks, wavelengths, a copy of the table."""
  attention = f'{PREFIX}layers.*.attention.'
  return [
    *causal.head_spares(config, f'{PREFIX}embed_in.weight', 'embed_out'),
    Spare(f'{attention}bias'),
    Spare(f'{attention}masked_bias'),
    Spare(f'{attention}rotary_emb.inv_freq'),
  ]
