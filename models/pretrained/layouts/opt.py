"""OPT (transformers' OPTForCausalLM)."""

from models.config import TransformerConfig
from models.pretrained.fields import Fields
from models.pretrained.layouts import common
from models.pretrained.mapping import Spare, Weight, norm, parts

MODEL_TYPES = ('opt',)
BOS = 2
PREFIX = 'model.'
CLASSES = {'lm': 'OPTForCausalLM', 'sequence': 'OPTForSequenceClassification'}
FIELDS = {
  'vocab_size': ('vocab_size', 50272),
  'embed_dim': ('hidden_size', 768),
  'mlp_dim': ('ffn_dim', 3072),
  'decoder_layers': ('num_hidden_layers', 12),
  'heads': ('num_attention_heads', 12),
  'activation': ('activation_function', 'relu'),
  'dropout': ('dropout', 0.1),
  'attention_dropout': ('attention_dropout', 0.0),
  'init_std': ('init_std', 0.02),
  'tie_embeddings': ('tie_word_embeddings', True),
}
OFFSET = 2  # the first row of positions that its code uses


def read(fields: Fields, tensors: set[str]) -> TransformerConfig:
  """config.json of an OPT -> its config."""
  f = fields
  ours = common.read_decoder(f, FIELDS, CLASSES, 'OPTModel')
  width = ours['embed_dim']
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
  ours |= {
    'norm_placement': 'pre' if pre else 'post',
    'norm_epsilon': 1e-5,
    'bias': 'all' if f.get('enable_bias', True) else 'none',
    'position': 'learned',
    'max_length': f.size('max_position_embeddings', 2048) + OFFSET,
    'position_offset': OFFSET,
  }
  f.done('_remove_final_layer_norm', 'is_decoder')
  return TransformerConfig(**ours)


def write(config: TransformerConfig) -> dict:
  """An OPT's config -> config.json."""
  c = config
  return common.write(c, 'opt', CLASSES, FIELDS) | {
    'word_embed_proj_dim': c.embed_dim,
    'max_position_embeddings': c.max_length - OFFSET,
    'do_layer_norm_before': c.norm_placement == 'pre',
    'enable_bias': c.bias == 'all',
  }


def weights(config: TransformerConfig) -> list[Weight]:
  """Our weights <-> their tensors."""
  body = f'{PREFIX}decoder.'
  layer = f'{body}layers.*.'
  out = [
    *common.head_weights(config, f'{body}embed_tokens.weight'),
    Weight('embed/position', f'{body}embed_positions.weight'),
    *norm('decoder/*/attention_norm', f'{layer}self_attn_layer_norm'),
    *norm('decoder/*/mlp_norm', f'{layer}final_layer_norm'),
  ]
  if config.norm_placement == 'pre':
    out += norm('decoder/norm', f'{body}final_layer_norm')
  names = {
    'attention/query': 'self_attn.q_proj',
    'attention/key': 'self_attn.k_proj',
    'attention/value': 'self_attn.v_proj',
    'attention/output': 'self_attn.out_proj',
    'mlp/input': 'fc1',
    'mlp/output': 'fc2',
  }
  return out + parts(names, 'decoder/*/', layer, config.bias == 'all')


def spares(config: TransformerConfig) -> list[Spare]:
  """What a file may also hold: a copy of the table."""
  return common.head_spares(config, f'{PREFIX}decoder.embed_tokens.weight')
