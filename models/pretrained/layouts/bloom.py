"""BLOOM (transformers' BloomForCausalLM)."""

from models.config import TransformerConfig
from models.pretrained.fields import Fields
from models.pretrained.layouts import common
from models.pretrained.mapping import Spare, Weight, norm

MODEL_TYPES = ('bloom',)
BOS = 1
PREFIX = 'transformer.'
CLASSES = {
  'lm': 'BloomForCausalLM',
  'sequence': 'BloomForSequenceClassification',
}
FIELDS = {
  'vocab_size': ('vocab_size', 250880),
  'embed_dim': ('hidden_size', 'n_embed', 64),
  'decoder_layers': ('n_layer', 'num_hidden_layers', 2),
  'heads': ('n_head', 'num_attention_heads', 8),
  'dropout': ('hidden_dropout', 0.0),
  'attention_dropout': ('attention_dropout', 0.0),
  'norm_epsilon': ('layer_norm_epsilon', 1e-5),
  'init_std': ('initializer_range', 0.02),
  'tie_embeddings': ('tie_word_embeddings', True),
}


def read(fields: Fields, tensors: set[str]) -> TransformerConfig:
  """config.json of a BLOOM -> its config."""
  f = fields
  ours = common.read_decoder(f, FIELDS, CLASSES, 'BloomModel')
  width = ours['embed_dim']
  f.expect(
    'apply_residual_connection_post_layernorm',
    False,
    why='each branch would be added to its norm, not to what went into it',
  )
  f.expect(
    'n_inner', None, 4 * width, why=f'the MLP is 4 * {width} wide in its code'
  )
  ours |= {
    'mlp_dim': 4 * width,
    'position': 'alibi',
    'embed_norm': True,
    'activation': 'gelu_tanh',
    'init': 'megatron',
  }
  # How its training program split and fused its sums; ALiBi has no end.
  f.done(
    'attention_softmax_in_fp32',
    'bias_dropout_fusion',
    'is_decoder',
    'masked_softmax_fusion',
    'offset_alibi',
    'pretraining_tp',
    'seq_length',
    'skip_bias_add',
    'skip_bias_add_qkv',
    'slow_but_exact',
  )
  return TransformerConfig(**ours)


def write(config: TransformerConfig) -> dict:
  """A BLOOM's config -> config.json."""
  return common.write(config, 'bloom', CLASSES, FIELDS)


def weights(config: TransformerConfig) -> list[Weight]:
  """Our weights <-> their tensors."""
  return [
    *common.head_weights(config, f'{PREFIX}word_embeddings.weight'),
    *norm('embed/norm', f'{PREFIX}word_embeddings_layernorm'),
    *norm('decoder/norm', f'{PREFIX}ln_f'),
    *common.megatron_layer(config, f'{PREFIX}h.*.', 'self_attention'),
  ]


def spares(config: TransformerConfig) -> list[Spare]:
  """What a file may also hold: a copy of the table."""
  return common.head_spares(config, f'{PREFIX}word_embeddings.weight')
