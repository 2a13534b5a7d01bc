"""RWKV-4 (transformers' RwkvForCausalLM).

With rescale_every=n above 0 (6 by default) transformers halves the states every
n layers in evaluation. The norms' epsilon is not halved, so the result differs
slightly from its training form, which is ours. A run is exported with 0, for no
halving; a checkpoint that is loaded and saved keeps its own.
"""

from models.config import TransformerConfig
from models.pretrained.fields import Fields
from models.pretrained.layouts import common
from models.pretrained.mapping import Spare, Weight, dense, norm

MODEL_TYPES = ('rwkv',)
BOS = 0
PREFIX = 'rwkv.'
LENGTH = 'context_length'
CLASSES = {'lm': 'RwkvForCausalLM'}
FIELDS = {
  'vocab_size': ('vocab_size', 50277),
  'embed_dim': ('hidden_size', 4096),
  'decoder_layers': ('num_hidden_layers', 32),
  'norm_epsilon': ('layer_norm_epsilon', 1e-5),
  'tie_embeddings': ('tie_word_embeddings', False),
}


def read(fields: Fields, tensors: set[str]) -> TransformerConfig:
  """config.json of an RWKV-4 -> its config."""
  f = fields
  ours = common.read_decoder(f, FIELDS, CLASSES, 'RwkvModel')
  width = ours['embed_dim']
  f.expect(
    'attention_hidden_size',
    None,
    width,
    why=f'the time mix would have another width than {width}',
  )
  f.expect(
    'layer_norm_epsilon',
    1e-5,
    why='the last norm has 1e-5 in its code, the others would have another',
  )
  ours |= {
    'family': 'rwkv',
    'mlp_dim': f.size('intermediate_size', None) or 4 * width,
    **dict.fromkeys(('heads', 'kv_heads', 'head_dim'), 0),
    'bias': 'none',
    'scale_attention': False,
    'embed_norm': True,
    'position': 'none',
    'activation': 'squared_relu',
    'init': 'rwkv',
    'dropout': 0.0,
    'attention_dropout': 0.0,
  }
  # The state has no end. Halving the states avoids overflow in half precision
  # and cancels out, except in the epsilon of the norms.
  f.done('context_length', 'max_position_embeddings', 'rescale_every')
  return TransformerConfig(**ours)


def write(config: TransformerConfig) -> dict:
  """An RWKV-4's config -> config.json."""
  c = config
  return common.write(c, 'rwkv', CLASSES, FIELDS) | {
    'attention_hidden_size': c.embed_dim,
    'intermediate_size': c.mlp_dim,
    'rescale_every': 0,
  }


def weights(config: TransformerConfig) -> list[Weight]:
  """Our weights <-> their tensors."""
  layer = f'{PREFIX}blocks.*.'
  out = [
    *common.head_weights(config, f'{PREFIX}embeddings.weight', 'head'),
    *norm('embed/norm', f'{PREFIX}blocks.0.pre_ln'),
    *norm('decoder/norm', f'{PREFIX}ln_out'),
    *norm('decoder/*/time_mix_norm', f'{layer}ln1'),
    *norm('decoder/*/channel_mix_norm', f'{layer}ln2'),
    Weight('decoder/*/time_mix/time_decay', f'{layer}attention.time_decay'),
    Weight('decoder/*/time_mix/time_first', f'{layer}attention.time_first'),
  ]
  halves = {
    'time_mix': ('attention', ('key', 'value', 'receptance'), ('output',)),
    'channel_mix': ('feed_forward', ('key', 'receptance'), ('value',)),
  }
  shape = (1, 1, config.embed_dim)
  for ours, (theirs, mixed, others) in halves.items():
    ours, theirs = f'decoder/*/{ours}', layer + theirs
    for name in mixed:
      mu = f'{theirs}.time_mix_{name}'
      out.append(Weight(f'{ours}/mix_{name}', mu, shape=shape))
    for name in (*mixed, *others):
      out += dense(f'{ours}/{name}', f'{theirs}.{name}', bias=False)
  return out


def spares(config: TransformerConfig) -> list[Spare]:
  """What a file may also hold: a copy of the table."""
  return common.head_spares(config, f'{PREFIX}embeddings.weight', 'head')
