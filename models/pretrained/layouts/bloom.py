"""BLOOM (transformers' BloomForCausalLM)."""

from models.config import TransformerConfig
from models.pretrained.fields import Fields
from models.pretrained.layouts import causal
from models.pretrained.mapping import Spare, Weight, dense, norm

MODEL_TYPES = ('bloom',)
BOS = 1
PREFIX = 'transformer.'
CLASSES = {
  'lm': 'BloomForCausalLM',
  'sequence': 'BloomForSequenceClassification',
}


def read(fields: Fields, tensors: set[str]) -> TransformerConfig:
  """config.json of a BLOOM -> its config."""
  f = fields
  width = causal.either(f, ('hidden_size', 'n_embed'), 64)
  f.expect(
    'apply_residual_connection_post_layernorm',
    False,
    why='each branch would be added to its norm, not to what went into it',
  )
  f.expect(
    'n_inner', None, 4 * width, why=f'the MLP is 4 * {width} wide in its code'
  )
  config = TransformerConfig(
    **causal.COMMON
    | causal.heads(f, width, 'n_head', 8)
    | causal.dropout(f, 'attention_dropout=0', 'hidden_dropout=0')
    | causal.read_head(f, CLASSES, 'BloomModel')
    | {'embed_norm': True, 'init': 'megatron'},
    vocab_size=f.size('vocab_size', 250880),
    embed_dim=width,
    mlp_dim=4 * width,
    decoder_layers=causal.either(f, ('n_layer', 'num_hidden_layers'), 2),
    position='alibi',
    norm_epsilon=f.get('layer_norm_epsilon', 1e-5),
    activation='gelu_tanh',
    tie_embeddings=f.get('tie_word_embeddings', True),
    init_std=f.get('initializer_range', 0.02),
  )
  # How its training program split and fused its sums; ALiBi has no end.
  f.done(
    (
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
  )
  return config


def write(config: TransformerConfig) -> dict:
  """A BLOOM's config -> config.json."""
  c = config
  return {
    'model_type': 'bloom',
    **causal.write_head(c, CLASSES),
    'vocab_size': c.vocab_size,
    'hidden_size': c.embed_dim,
    'n_layer': c.decoder_layers,
    'n_head': c.heads,
    'hidden_dropout': c.dropout,
    'attention_dropout': c.attention_dropout,
    'layer_norm_epsilon': c.norm_epsilon,
    'initializer_range': c.init_std or 0.02,
    'tie_word_embeddings': c.tie_embeddings,
  }


def weights(config: TransformerConfig) -> list[Weight]:
  """Our weights <-> their tensors."""
  layer = f'{PREFIX}h.*.'
  attention = f'{layer}self_attention.'
  return [
    *causal.head_weights(config, f'{PREFIX}word_embeddings.weight'),
    *norm('embed/norm', f'{PREFIX}word_embeddings_layernorm'),
    *norm('decoder/norm', f'{PREFIX}ln_f'),
    *norm('decoder/*/attention_norm', f'{layer}input_layernorm'),
    *norm('decoder/*/mlp_norm', f'{layer}post_attention_layernorm'),
    *causal.fused(config, 'decoder/*/attention', f'{attention}query_key_value'),
    *dense('decoder/*/attention/output', f'{attention}dense'),
    *dense('decoder/*/mlp/input', f'{layer}mlp.dense_h_to_4h'),
    *dense('decoder/*/mlp/output', f'{layer}mlp.dense_4h_to_h'),
  ]


def spares(config: TransformerConfig) -> list[Spare]:
  """What a file may also hold: a copy of the table."""
  return causal.head_spares(config, f'{PREFIX}word_embeddings.weight')
