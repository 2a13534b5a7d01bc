"""T5 1.0, 1.1, FLAN-T5, UL2 (transformers' T5ForConditionalGeneration).

A head of classes, such as a reward model's, is T5ForSequenceClassification's.
"""

from models.config import TransformerConfig
from models.pretrained.fields import (
  ACTIVATION_NAMES,
  ACTIVATIONS,
  Fields,
  written,
)
from models.pretrained.layouts import common
from models.pretrained.mapping import Spare, Weight, norm, parts, turned

MODEL_TYPES = ('t5',)
# What its decoder reads first: padding in all published models.
START = ('decoder_start_token_id', 'pad_token_id')
PREFIX = 'transformer.'  # of JUDGE alone
CLASSES = ('T5ForConditionalGeneration', 'T5WithLMHeadModel')
JUDGE = 'T5ForSequenceClassification'
FIELDS = {
  'vocab_size': ('vocab_size', 32128),
  'embed_dim': ('d_model', 512),
  'mlp_dim': ('d_ff', 2048),
  'encoder_layers': ('num_layers', 6),
  'heads': ('num_heads', 8),
  'head_dim': ('d_kv', 64),
  'relative_buckets': ('relative_attention_num_buckets', 32),
  'relative_max_distance': ('relative_attention_max_distance', 128),
  'dropout': ('dropout_rate', 0.1),
  'norm_epsilon': ('layer_norm_epsilon', 1e-6),
}


def read(fields: Fields, tensors: set[str]) -> TransformerConfig:
  """config.json of a T5 -> its config."""
  f = fields
  architecture = f.architecture(CLASSES[0])
  if architecture not in (*CLASSES, JUDGE):
    f.refuse('architectures', architecture, f'not {CLASSES[0]}')
  judges = architecture == JUDGE
  f.expect('is_decoder', False, why='half of the model')
  gated, activation = read_activation(f)
  # The code scales outputs if the file says that tables are tied. Newer
  # versions say so in every file, and store the scaling in its own field.
  tied = f.get('tie_word_embeddings', True)
  scaled = f.get('scale_decoder_outputs', tied)
  if tied and not scaled and 'lm_head.weight' in tensors:
    tied = False
  ours = common.COMMON | f.table(FIELDS)
  layers = f.size('num_decoder_layers', None) or ours['encoder_layers']
  ours |= {
    'family': 'encoder_decoder',
    'kv_heads': ours['heads'],
    'decoder_layers': layers,
    'position': 'relative_bias',
    'norm': 'rms_norm',
    'activation': activation,
    'gated': gated,
    'bias': 'none',
    'scale_attention': False,
    'tie_embeddings': tied,
    'scale_output': scaled,
    'head': 'sequence' if judges else 'lm',
    'classes': f.classes() if judges else 0,
    'init': 't5',
    'attention_dropout': ours['dropout'],
    'dropout_kind': 't5',
  }
  f.done('classifier_dropout', 'initializer_factor', 'n_positions')
  return TransformerConfig(**ours)


def read_activation(fields: Fields) -> tuple[bool, str]:
  """Gated or not, and the activation, of `feed_forward_proj`.

  It is 'relu', 'gated-gelu' and so on; 'gelu' alone is exact.
  """
  name = fields.get('feed_forward_proj', 'relu')
  gated, activation = name.startswith('gated-'), name.split('-')[-1]
  if name == 'gated-gelu':
    activation = 'gelu_new'
  if activation not in ACTIVATIONS or name.count('-') > gated:
    fields.refuse(
      'feed_forward_proj', name, 'an MLP that this layout does not have'
    )
  # Newer versions of transformers also write what follows from it.
  why = f'it contradicts feed_forward_proj={name!r}'
  fields.expect('dense_act_fn', activation, why=why)
  fields.expect('is_gated_act', gated, why=why)
  return gated, ACTIVATIONS[activation]


def write(config: TransformerConfig) -> dict:
  """A T5's config -> config.json."""
  c = config
  if c.scale_output and not c.tie_embeddings:
    raise ValueError('it scales its output only if embeddings are tied')
  fields = written(c, FIELDS) | {
    'model_type': 't5',
    'architectures': [JUDGE if c.head == 'sequence' else CLASSES[0]],
    **common.labels(c.classes),
    'num_decoder_layers': c.decoder_layers,
    'feed_forward_proj': activation_name(c),
    'tie_word_embeddings': c.tie_embeddings,
    'is_encoder_decoder': True,
    'decoder_start_token_id': 0,
    'pad_token_id': 0,
    'eos_token_id': 1,
  }
  if c.tie_embeddings and not c.scale_output:  # read from version 5 on
    fields['scale_decoder_outputs'] = False
  return fields


def activation_name(config: TransformerConfig) -> str:
  """What `feed_forward_proj` says of a config."""
  name = ACTIVATION_NAMES[config.activation]
  if not config.gated:
    return name
  names = {'gelu_tanh': 'gelu', 'gelu': 'gelu_python'}
  return f'gated-{names.get(config.activation, name)}'


def weights(
  config: TransformerConfig, stacks: tuple[str, ...] = ('encoder', 'decoder')
) -> list[Weight]:
  """Our weights <-> their tensors; a decoder alone has no cross-attention."""
  before = PREFIX if config.head == 'sequence' else ''
  out = [Weight('embed/table', f'{before}shared.weight')]
  if config.head == 'sequence':
    names = {'dense': 'pooler/dense', 'out_proj': 'classes/dense'}
    for theirs, ours in names.items():
      place = f'classification_head.{theirs}'
      out.append(Weight(f'{ours}/kernel', f'{place}.weight', turned))
      out.append(Weight(f'{ours}/bias', f'{place}.bias'))
  elif not config.tie_embeddings:
    out.append(Weight('vocabulary/output', 'lm_head.weight', turned))
  attention = {name: name[0] for name in ('query', 'key', 'value', 'output')}
  mlp = {'input': 'wi', 'output': 'wo'}
  if config.gated:
    mlp = {'gate': 'wi_0', 'input': 'wi_1', 'output': 'wo'}
  for stack in stacks:
    theirs = f'{before}{stack}'
    branches = [('attention', 'SelfAttention.', attention)]
    if stack == 'decoder' and len(stacks) == 2:
      branches.append(('cross_attention', 'EncDecAttention.', attention))
    branches.append(('mlp', 'DenseReluDense.', mlp))
    for i, (branch, part, names) in enumerate(branches):
      ours, layer = f'{stack}/*/{branch}', f'{theirs}.block.*.layer.{i}.'
      out += parts(names, f'{ours}/', layer + part, bias=False)
      out += norm(f'{ours}_norm', f'{layer}layer_norm', bias=False)
    bias = 'block.0.layer.0.SelfAttention.relative_attention_bias.weight'
    out.append(Weight(f'{stack}/relative_bias/table', f'{theirs}.{bias}'))
    out += norm(f'{stack}/norm', f'{theirs}.final_layer_norm', bias=False)
  return out


def spares(config: TransformerConfig) -> list[Spare]:
  """What a file may also hold."""
  judges = config.head == 'sequence'
  shared = f'{PREFIX * judges}shared.weight'
  # A name that no weight has gets the prefix, in files of all classes.
  out = [
    Spare(f'{PREFIX}encoder.embed_tokens.weight', shared),
    Spare(f'{PREFIX}decoder.embed_tokens.weight', shared),
    # Old files have it; no code uses it.
    Spare(
      f'{PREFIX}decoder.block.0.layer.1.EncDecAttention.'
      'relative_attention_bias.weight'
    ),
  ]
  if judges:  # a language model's, which becomes one
    out.append(Spare(f'{PREFIX}lm_head.weight'))
  elif config.tie_embeddings:
    out.append(Spare(f'{PREFIX}lm_head.weight', shared))
  return out
