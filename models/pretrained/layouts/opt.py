"""OPT (transformers' OPTForCausalLM)."""

from models.config import TransformerConfig
from models.pretrained.fields import ACTIVATION_NAMES, Fields
from models.pretrained.layouts import causal
from models.pretrained.mapping import Spare, Weight, norm, turned

MODEL_TYPES = ('opt',)
BOS = 2
PREFIX = 'model.'
CLASSES = {'lm': 'OPTForCausalLM', 'sequence': 'OPTForSequenceClassification'}
OFFSET = 2  # the first row of positions that its code uses


def read(fields: Fields, tensors: set[str]) -> TransformerConfig:
  """config.json of an OPT -> its config."""
  f = fields
  width = f.size('hidden_size', 768)
  pre = f.get('do_layer_norm_before', True)
  f.expect(
    'word_embed_proj_dim',
    None,
    width,
    why=f'tokens are projected to the width {width} but positions are not '
    '(opt-350m), while model.table_dim projects both',
  )
  if pre:
    f.expect(
      '_remove_final_layer_norm', False, why='the last norm would be missing'
    )
  f.expect(
    'layer_norm_elementwise_affine',
    True,
    why='norms without scales and biases',
  )
  f.expect('layerdrop', 0, why='training would leave out whole layers')
  f.expect(
    'activation_dropout', 0, why="training would drop within the MLP's layer"
  )
  config = TransformerConfig(
    **causal.COMMON
    | causal.heads(f, width, 'num_attention_heads', 12)
    | causal.dropout(f, 'attention_dropout=0', 'dropout=0.1')
    | causal.read_head(f, CLASSES, 'OPTModel')
    | {
      'norm_placement': 'pre' if pre else 'post',
      'bias': 'all' if f.get('enable_bias', True) else 'none',
    },
    vocab_size=f.size('vocab_size', 50272),
    embed_dim=width,
    mlp_dim=f.size('ffn_dim', 3072),
    decoder_layers=f.size('num_hidden_layers', 12),
    position='learned',
    max_length=f.size('max_position_embeddings', 2048) + OFFSET,
    position_offset=OFFSET,
    norm_epsilon=1e-5,
    activation=f.activation('activation_function', 'relu'),
    tie_embeddings=f.get('tie_word_embeddings', True),
    init_std=f.get('init_std', 0.02),
  )
  f.done(('_remove_final_layer_norm', 'is_decoder'))
  return config


def write(config: TransformerConfig) -> dict:
  """An OPT's config -> config.json."""
  c = config
  return {
    'model_type': 'opt',
    **causal.write_head(c, CLASSES),
    'vocab_size': c.vocab_size,
    'hidden_size': c.embed_dim,
    'word_embed_proj_dim': c.embed_dim,
    'ffn_dim': c.mlp_dim,
    'num_hidden_layers': c.decoder_layers,
    'num_attention_heads': c.heads,
    'max_position_embeddings': c.max_length - OFFSET,
    'activation_function': ACTIVATION_NAMES[c.activation],
    'do_layer_norm_before': c.norm_placement == 'pre',
    'enable_bias': c.bias == 'all',
    'dropout': c.dropout,
    'attention_dropout': c.attention_dropout,
    'init_std': c.init_std or 0.02,
    'tie_word_embeddings': c.tie_embeddings,
  }


def weights(config: TransformerConfig) -> list[Weight]:
  """Our weights <-> their tensors."""
  body = f'{PREFIX}decoder.'
  layer = f'{body}layers.*.'
  out = [
    *causal.head_weights(config, f'{body}embed_tokens.weight'),
    Weight('embed/position', f'{body}embed_positions.weight'),
    *norm('decoder/*/attention_norm', f'{layer}self_attn_layer_norm'),
    *norm('decoder/*/mlp_norm', f'{layer}final_layer_norm'),
  ]
  if config.norm_placement == 'pre':
    out += norm('decoder/norm', f'{body}final_layer_norm')
  for ours, theirs in {
    'attention/query': 'self_attn.q_proj',
    'attention/key': 'self_attn.k_proj',
    'attention/value': 'self_attn.v_proj',
    'attention/output': 'self_attn.out_proj',
    'mlp/input': 'fc1',
    'mlp/output': 'fc2',
  }.items():
    ours, theirs = f'decoder/*/{ours}', layer + theirs
    out.append(Weight(f'{ours}/kernel', f'{theirs}.weight', turned))
    if config.bias == 'all':
      out.append(Weight(f'{ours}/bias', f'{theirs}.bias'))
  return out


def spares(config: TransformerConfig) -> list[Spare]:
  """What a file may also hold: a copy of the table."""
  return causal.head_spares(config, f'{PREFIX}decoder.embed_tokens.weight')
