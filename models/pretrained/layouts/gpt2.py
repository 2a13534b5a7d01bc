"""GPT-2 (transformers' GPT2LMHeadModel); GPT-1 and GPT-J share some of it.

Its matrices are [in, out].
"""

from models.config import TransformerConfig
from models.pretrained.fields import Fields
from models.pretrained.layouts import common
from models.pretrained.mapping import Spare, Weight, norm, parts

MODEL_TYPES = ('gpt2',)
BOS = 50256
PREFIX = 'transformer.'
CLASSES = {'lm': 'GPT2LMHeadModel', 'sequence': 'GPT2ForSequenceClassification'}
# Fields of heads that are not read, and of how the released code trained.
HARMLESS = (
  'is_decoder',
  'n_ctx',
  'summary_activation',
  'summary_first_dropout',
  'summary_proj_to_labels',
  'summary_type',
  'summary_use_proj',
)
SIZES = {
  'embed_dim': ('n_embd', 'hidden_size', 768),
  'decoder_layers': ('n_layer', 'num_hidden_layers', 12),
  'heads': ('n_head', 'num_attention_heads', 12),
  'dropout': ('resid_pdrop', 0.1),
  'attention_dropout': ('attn_pdrop', 0.1),
  'norm_epsilon': ('layer_norm_epsilon', 1e-5),
  'init_std': ('initializer_range', 0.02),
  'tie_embeddings': ('tie_word_embeddings', True),
}
FIELDS = SIZES | {
  'vocab_size': ('vocab_size', 50257),
  'max_length': ('n_positions', 'max_position_embeddings', 1024),
  'activation': ('activation_function', 'gelu_new'),
  'scale_attention': ('scale_attn_weights', True),
}


def read(fields: Fields, tensors: set[str]) -> TransformerConfig:
  """config.json of a GPT-2 -> its config."""
  f = fields
  ours = common.read_decoder(f, FIELDS, CLASSES, 'GPT2Model')
  one_rate(f, ours['dropout'], 0.1)
  f.expect('add_cross_attention', False, why='a second attention, to a source')
  f.expect(
    'scale_attn_by_inverse_layer_idx',
    False,
    why='logits of layer i divided by i + 1',
  )
  ours |= {
    'mlp_dim': f.size('n_inner', None) or 4 * ours['embed_dim'],
    'position': 'learned',
    'init': 'gpt2',
  }
  # Reordering concerns rounding in half precision; here it is float32 anyway.
  f.done('reorder_and_upcast_attn', *HARMLESS)
  return TransformerConfig(**ours)


def one_rate(fields: Fields, rate: float, default: float) -> None:
  """Checks that embeddings drop at the rate of residual branches."""
  other = fields.get('embd_pdrop', default)
  if other != rate:
    fields.refuse(
      'embd_pdrop',
      other,
      'training would drop here at another rate than resid_pdrop, '
      f'{rate}; if you do not train, make them equal',
    )


def write(config: TransformerConfig) -> dict:
  """A GPT-2's config -> config.json."""
  c = config
  return common.write(c, 'gpt2', CLASSES, FIELDS) | {
    'n_inner': c.mlp_dim,
    'embd_pdrop': c.dropout,
  }


def weights(config: TransformerConfig) -> list[Weight]:
  """Our weights <-> their tensors."""
  return [
    *common.head_weights(config, f'{PREFIX}wte.weight'),
    Weight('embed/position', f'{PREFIX}wpe.weight'),
    *layers(config),
    *norm('decoder/norm', f'{PREFIX}ln_f'),
  ]


def layers(config: TransformerConfig) -> list[Weight]:
  """The layers of GPT-1 and GPT-2."""
  D = config.embed_dim
  layer = f'{PREFIX}h.*.'
  out = parts(
    {'attention_norm': 'ln_1', 'mlp_norm': 'ln_2'}, 'decoder/*/', layer
  )
  for i, name in enumerate(('query', 'key', 'value')):

    def part(x, i=i):
      return x[..., i * D : (i + 1) * D]

    ours, theirs = f'decoder/*/attention/{name}', f'{layer}attn.c_attn'
    out += [
      Weight(f'{ours}/kernel', f'{theirs}.weight', part, (D, 3 * D)),
      Weight(f'{ours}/bias', f'{theirs}.bias', part, (3 * D,)),
    ]
  for ours, theirs in {
    'attention/output': 'attn.c_proj',
    'mlp/input': 'mlp.c_fc',
    'mlp/output': 'mlp.c_proj',
  }.items():
    out += [
      Weight(f'decoder/*/{ours}/kernel', f'{layer}{theirs}.weight'),
      Weight(f'decoder/*/{ours}/bias', f'{layer}{theirs}.bias'),
    ]
  return out


def spares(config: TransformerConfig) -> list[Spare]:
  """What a file may also hold: masks, a copy of the table."""
  return [
    *common.head_spares(config, f'{PREFIX}wte.weight'),
    Spare(f'{PREFIX}h.*.attn.bias'),
    Spare(f'{PREFIX}h.*.attn.masked_bias'),
  ]
