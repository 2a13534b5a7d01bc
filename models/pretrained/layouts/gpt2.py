"""GPT-2 (transformers' GPT2LMHeadModel), and what GPT-1 shares with it.

Its matrices are [in, out]. Shared: `read_sizes`, `write_sizes` and `layers`.
"""

from models.config import TransformerConfig
from models.pretrained.fields import ACTIVATION_NAMES, Fields
from models.pretrained.layouts import causal
from models.pretrained.mapping import Spare, Weight, norm

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


def read(fields: Fields, tensors: set[str]) -> TransformerConfig:
  """config.json of a GPT-2 -> its config."""
  f = fields
  f.expect('add_cross_attention', False, why='a second attention, to a source')
  f.expect(
    'scale_attn_by_inverse_layer_idx',
    False,
    why='logits of layer i divided by i + 1',
  )
  sizes = read_sizes(f, 1024)
  config = TransformerConfig(
    **causal.COMMON
    | sizes
    | causal.read_head(f, CLASSES, 'GPT2Model')
    | {'init': 'gpt2', 'scale_attention': f.get('scale_attn_weights', True)},
    vocab_size=f.size('vocab_size', 50257),
    mlp_dim=f.size('n_inner', None) or 4 * sizes['embed_dim'],
    activation=f.activation('activation_function', 'gelu_new'),
    tie_embeddings=f.get('tie_word_embeddings', True),
  )
  # Reordering concerns rounding in half precision; here it is float32 anyway.
  f.done(('reorder_and_upcast_attn', *HARMLESS))
  return config


def read_sizes(fields: Fields, length: int) -> dict:
  """The fields of our config that GPT-1 and GPT-2 read alike.

  length: the default of max_length.
  """
  f = fields
  width = causal.either(f, ('n_embd', 'hidden_size'), 768)
  rates = ('resid_pdrop=0.1', 'embd_pdrop=0.1')
  names = ('n_positions', 'max_position_embeddings')
  return {
    **causal.heads(f, width, 'n_head', 12),
    **causal.dropout(f, 'attn_pdrop=0.1', *rates),
    'embed_dim': width,
    'decoder_layers': causal.either(f, ('n_layer', 'num_hidden_layers'), 12),
    'position': 'learned',
    'max_length': causal.either(f, names, length),
    'norm_epsilon': f.get('layer_norm_epsilon', 1e-5),
    'init_std': f.get('initializer_range', 0.02),
  }


def write(config: TransformerConfig) -> dict:
  """A GPT-2's config -> config.json."""
  c = config
  return write_sizes(c) | {
    'model_type': 'gpt2',
    **causal.write_head(c, CLASSES),
    'n_inner': c.mlp_dim,
    'activation_function': ACTIVATION_NAMES[c.activation],
    'scale_attn_weights': c.scale_attention,
  }


def write_sizes(config: TransformerConfig) -> dict:
  """The fields of config.json that GPT-1 and GPT-2 write alike."""
  c = config
  return {
    'vocab_size': c.vocab_size,
    'n_embd': c.embed_dim,
    'n_layer': c.decoder_layers,
    'n_head': c.heads,
    'n_positions': c.max_length,
    'resid_pdrop': c.dropout,
    'embd_pdrop': c.dropout,
    'attn_pdrop': c.attention_dropout,
    'layer_norm_epsilon': c.norm_epsilon,
    'initializer_range': c.init_std or 0.02,
    'tie_word_embeddings': c.tie_embeddings,
  }


def weights(config: TransformerConfig) -> list[Weight]:
  """Our weights <-> their tensors."""
  return [
    *causal.head_weights(config, f'{PREFIX}wte.weight'),
    Weight('embed/position', f'{PREFIX}wpe.weight'),
    *layers(config),
    *norm('decoder/norm', f'{PREFIX}ln_f'),
  ]


def layers(config: TransformerConfig) -> list[Weight]:
  """The layers of GPT-1 and GPT-2."""
  D = config.embed_dim
  layer = f'{PREFIX}h.*.'
  out = []
  for i, name in enumerate(('query', 'key', 'value')):
    ours = f'decoder/*/attention/{name}'

    def part(x, i=i):
      return x[..., i * D : (i + 1) * D]

    theirs = f'{layer}attn.c_attn'
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
  out += norm('decoder/*/attention_norm', f'{layer}ln_1')
  out += norm('decoder/*/mlp_norm', f'{layer}ln_2')
  return out


def spares(config: TransformerConfig) -> list[Spare]:
  """What a file may also hold: masks, a copy of the table."""
  return [
    *causal.head_spares(config, f'{PREFIX}wte.weight'),
    Spare(f'{PREFIX}h.*.attn.bias'),
    Spare(f'{PREFIX}h.*.attn.masked_bias'),
  ]
