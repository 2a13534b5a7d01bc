"""GPT-J (transformers' GPTJForCausalLM).

Its rotary embedding turns pairs of neighbours; ours pairs the first half with
the second. So the columns of queries and keys are reordered.
"""

from models.config import TransformerConfig
from models.pretrained.fields import ACTIVATION_NAMES, Fields
from models.pretrained.layouts import causal, gpt2
from models.pretrained.mapping import Spare, Weight, dense, norm, turned

MODEL_TYPES = ('gptj',)
BOS = 50256
PREFIX = 'transformer.'
LENGTH = 'n_positions'  # transformers computes this many angles
CLASSES = {'lm': 'GPTJForCausalLM', 'sequence': 'GPTJForSequenceClassification'}


def read(fields: Fields, tensors: set[str]) -> TransformerConfig:
  """config.json of a GPT-J -> its config."""
  f = fields
  width = causal.either(f, ('n_embd', 'hidden_size'), 4096)
  rope_dim = f.size('rotary_dim', 64)
  f.expect('rotary', True, why='positions of another kind')
  f.expect('scale_attn_weights', True, why='its code always scales')
  rates = ('resid_pdrop=0', 'embd_pdrop=0')
  config = TransformerConfig(
    **causal.COMMON
    | causal.heads(f, width, 'n_head', 16)
    | causal.dropout(f, 'attn_pdrop=0', *rates)
    | causal.read_head(f, CLASSES, 'GPTJModel')
    | {'parallel': 'one_norm', 'bias': 'mlp', 'output_bias': True},
    vocab_size=f.size('vocab_size', 50400),
    embed_dim=width,
    mlp_dim=f.size('n_inner', None) or 4 * width,
    decoder_layers=causal.either(f, ('n_layer', 'num_hidden_layers'), 28),
    position='rope',
    rope_theta=10_000.0,
    rope_dim=rope_dim,
    norm_epsilon=f.get('layer_norm_epsilon', 1e-5),
    activation=f.activation('activation_function', 'gelu_new'),
    tie_embeddings=f.get('tie_word_embeddings', False),
    init_std=f.get('initializer_range', 0.02),
  )
  # Rotary positions have no end.
  f.done(('max_position_embeddings', 'n_positions', *gpt2.HARMLESS))
  return config


def write(config: TransformerConfig) -> dict:
  """A GPT-J's config -> config.json."""
  c = config
  return {
    'model_type': 'gptj',
    **causal.write_head(c, CLASSES),
    'vocab_size': c.vocab_size,
    'n_embd': c.embed_dim,
    'n_layer': c.decoder_layers,
    'n_head': c.heads,
    'n_inner': c.mlp_dim,
    'rotary_dim': c.rope_dim,
    'activation_function': ACTIVATION_NAMES[c.activation],
    'resid_pdrop': c.dropout,
    'embd_pdrop': c.dropout,
    'attn_pdrop': c.attention_dropout,
    'layer_norm_epsilon': c.norm_epsilon,
    'initializer_range': c.init_std or 0.02,
    'tie_word_embeddings': c.tie_embeddings,
  }


def weights(config: TransformerConfig) -> list[Weight]:
  """Our weights <-> their tensors."""
  layer = f'{PREFIX}h.*.'
  out = [
    *causal.head_weights(config, f'{PREFIX}wte.weight'),
    *norm('decoder/norm', f'{PREFIX}ln_f'),
    *norm('decoder/*/attention_norm', f'{layer}ln_1'),
    *dense('decoder/*/mlp/input', f'{layer}mlp.fc_in'),
    *dense('decoder/*/mlp/output', f'{layer}mlp.fc_out'),
  ]
  for ours, theirs in {'value': 'v_proj', 'output': 'out_proj'}.items():
    ours = f'decoder/*/attention/{ours}/kernel'
    out.append(Weight(ours, f'{layer}attn.{theirs}.weight', turned))
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

  out = [
    Weight(ours, theirs, pairs, shape, lambda k: k.reshape(D, N, H)[..., :R])
  ]
  if R < H:
    out.append(
      Weight(
        ours,
        theirs,
        lambda x: x.reshape(N, H, D)[:, R:].transpose(2, 0, 1),
        shape,
        lambda k: k.reshape(D, N, H)[..., R:],
      )
    )
  return out


def spares(config: TransformerConfig) -> list[Spare]:
  """What a file may also hold: masks, angles, a copy of the table."""
  return [
    *causal.head_spares(config, f'{PREFIX}wte.weight'),
    Spare(f'{PREFIX}h.*.attn.bias'),
    Spare(f'{PREFIX}h.*.attn.masked_bias'),
    Spare(f'{PREFIX}h.*.attn.embed_positions'),
  ]
