"""GPT-NeoX and Pythia (transformers' GPTNeoXForCausalLM)."""

from models.config import TransformerConfig
from models.pretrained.fields import Fields
from models.pretrained.layouts import common
from models.pretrained.mapping import Spare, Weight, norm

MODEL_TYPES = ('gpt_neox',)
BOS = 0
PREFIX = 'gpt_neox.'
LENGTH = 'max_position_embeddings'
CLASSES = {
  'lm': 'GPTNeoXForCausalLM',
  'sequence': 'GPTNeoXForSequenceClassification',
}
FIELDS = {
  'vocab_size': ('vocab_size', 50432),
  'embed_dim': ('hidden_size', 6144),
  'mlp_dim': ('intermediate_size', 24576),
  'decoder_layers': ('num_hidden_layers', 44),
  'heads': ('num_attention_heads', 64),
  'activation': ('hidden_act', 'gelu'),
  'dropout': ('hidden_dropout', 0.0),
  'attention_dropout': ('attention_dropout', 0.0),
  'norm_epsilon': ('layer_norm_eps', 1e-5),
  'init_std': ('initializer_range', 0.02),
  'tie_embeddings': ('tie_word_embeddings', False),
}


def read(fields: Fields, tensors: set[str]) -> TransformerConfig:
  """config.json of a GPT-NeoX -> its config."""
  f = fields
  ours = common.read_decoder(f, FIELDS, CLASSES, 'GPTNeoXModel')
  theta, share, scaling = common.rope(f, 'rotary_emb_base', 'rotary_pct', 0.25)
  if scaling:
    f.refuse('rope_scaling', 'llama3', 'wavelengths would be stretched')
  parallel = f.get('use_parallel_residual', True)
  ours |= {
    'parallel': 'two_norms' if parallel else 'none',
    'bias': 'all' if f.get('attention_bias', True) else 'mlp',
    'position': 'rope',
    'rope_theta': theta,
    'rope_dim': int(ours['head_dim'] * share),
  }
  # Rotary positions have no end; no code, or no head here, reads the rates.
  f.done(
    'attention_probs_dropout_prob',
    'classifier_dropout',
    'hidden_dropout_prob',
    'is_decoder',
    'max_position_embeddings',
  )
  return TransformerConfig(**ours)


def write(config: TransformerConfig) -> dict:
  """A GPT-NeoX's config -> config.json."""
  c = config
  return common.write(c, 'gpt_neox', CLASSES, FIELDS) | {
    'rotary_emb_base': c.rope_theta,
    'rotary_pct': _share(c.rope_dim, c.head_dim),
    'use_parallel_residual': c.parallel != 'none',
    'attention_bias': c.bias == 'all',
  }


def _share(part: int, whole: int) -> float:
  """A share of `whole` that gives `part` when rounded down."""
  if not 0 < part <= whole:
    raise ValueError('it has rotary positions')
  share = part / whole
  return share if int(whole * share) == part else (part + 0.5) / whole


def weights(config: TransformerConfig) -> list[Weight]:
  """Our weights <-> their tensors."""
  return [
    *common.head_weights(config, f'{PREFIX}embed_in.weight', 'embed_out'),
    *norm('decoder/norm', f'{PREFIX}final_layer_norm'),
    *common.megatron_layer(config, f'{PREFIX}layers.*.', 'attention'),
  ]


def spares(config: TransformerConfig) -> list[Spare]:
  """What a file may also hold: masks, wavelengths, a copy of the table."""
  buffers = ('bias', 'masked_bias', 'rotary_emb.inv_freq')
  return [
    *common.head_spares(config, f'{PREFIX}embed_in.weight', 'embed_out'),
    *(Spare(f'{PREFIX}layers.*.attention.{name}') for name in buffers),
  ]
