"""GPT-J (transformers' GPTJForCausalLM).

Its rotary embedding turns pairs of neighbours; ours pairs the first half with
the second. So the columns of queries and keys are reordered.
"""

from models.config import TransformerConfig
from models.pretrained.fields import Fields
from models.pretrained.layouts import common, gpt2
from models.pretrained.mapping import Spare, Weight, norm, parts

MODEL_TYPES = ('gptj',)
BOS = 50256
PREFIX = 'transformer.'
LENGTH = 'n_positions'  # transformers computes this many angles
CLASSES = {'lm': 'GPTJForCausalLM', 'sequence': 'GPTJForSequenceClassification'}
FIELDS = gpt2.SIZES | {
  'vocab_size': ('vocab_size', 50400),
  'embed_dim': ('n_embd', 'hidden_size', 4096),
  'decoder_layers': ('n_layer', 'num_hidden_layers', 28),
  'heads': ('n_head', 'num_attention_heads', 16),
  'rope_dim': ('rotary_dim', 64),
  'activation': ('activation_function', 'gelu_new'),
  'dropout': ('resid_pdrop', 0.0),
  'attention_dropout': ('attn_pdrop', 0.0),
  'tie_embeddings': ('tie_word_embeddings', False),
}


def read(fields: Fields, tensors: set[str]) -> TransformerConfig:
  """config.json of a GPT-J -> its config."""
  f = fields
  ours = common.read_decoder(f, FIELDS, CLASSES, 'GPTJModel')
  gpt2.one_rate(f, ours['dropout'], 0.0)
  f.expect('rotary', True, why='positions of another kind')
  f.expect('scale_attn_weights', True, why='its code always scales')
  ours |= {
    'mlp_dim': f.size('n_inner', None) or 4 * ours['embed_dim'],
    'parallel': 'one_norm',
    'bias': 'mlp',
    'output_bias': True,
    'position': 'rope',
    'rope_theta': 10_000.0,
  }
  # Rotary positions have no end.
  f.done('max_position_embeddings', 'n_positions', *gpt2.HARMLESS)
  return TransformerConfig(**ours)


def write(config: TransformerConfig) -> dict:
  """A GPT-J's config -> config.json."""
  c = config
  return common.write(c, 'gptj', CLASSES, FIELDS) | {
    'n_inner': c.mlp_dim,
    'embd_pdrop': c.dropout,
  }


def weights(config: TransformerConfig) -> list[Weight]:
  """Our weights <-> their tensors."""
  layer = f'{PREFIX}h.*.'
  mlp = {'attention_norm': 'ln_1'}
  mlp |= {'mlp/input': 'mlp.fc_in', 'mlp/output': 'mlp.fc_out'}
  attention = {'value': 'v_proj', 'output': 'out_proj'}
  out = [
    *common.head_weights(config, f'{PREFIX}wte.weight'),
    *norm('decoder/norm', f'{PREFIX}ln_f'),
    *parts(mlp, 'decoder/*/', layer),
    *parts(attention, 'decoder/*/attention/', f'{layer}attn.', bias=False),
  ]
  for ours, theirs in {'query': 'q_proj', 'key': 'k_proj'}.items():
    ours = f'decoder/*/attention/{ours}/kernel'
    out += _unpaired(config, ours, f'{layer}attn.{theirs}.weight')
  return out


def _unpaired(config, ours, theirs):
  """A kernel whose pairs 01 23 45 are turned -> ours, whose halves 024 135 are.

  What is not turned follows as it is.
  """
  D, N, H = config.embed_dim, config.heads, config.head_dim
  R = config.rope_dim
  shape = (N * H, D)

  def pairs(x):
    x = x.reshape(N, H, D)[:, :R].reshape(N, R // 2, 2, D)
    return x.transpose(3, 0, 2, 1)  # [D,N,2,R/2]

  def rest(x):
    return x.reshape(N, H, D)[:, R:].transpose(2, 0, 1)

  out = [
    Weight(ours, theirs, pairs, shape, lambda k: k.reshape(D, N, H)[..., :R]),
    Weight(ours, theirs, rest, shape, lambda k: k.reshape(D, N, H)[..., R:]),
  ]
  return out if R < H else out[:1]


def spares(config: TransformerConfig) -> list[Spare]:
  """What a file may also hold: masks, angles, a copy of the table."""
  buffers = ('bias', 'masked_bias', 'embed_positions')
  return [
    *common.head_spares(config, f'{PREFIX}wte.weight'),
    *(Spare(f'{PREFIX}h.*.attn.{name}') for name in buffers),
  ]
