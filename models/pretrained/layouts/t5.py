"""T5 1.0, 1.1, FLAN-T5, UL2 (transformers' T5ForConditionalGeneration)."""

from models.config import TransformerConfig
from models.pretrained.fields import ACTIVATION_NAMES, ACTIVATIONS, Fields
from models.pretrained.mapping import Spare, Weight, turned

MODEL_TYPES = ('t5',)
# What its decoder reads first: padding in all published models.
START = ('decoder_start_token_id', 'pad_token_id')
PREFIX = ''
CLASSES = ('T5ForConditionalGeneration', 'T5WithLMHeadModel')


def read(fields: Fields, tensors: set[str]) -> TransformerConfig:
  """config.json of a T5 -> its config."""
  f = fields
  architecture = f.architecture(CLASSES[0])
  if architecture not in CLASSES:
    f.refuse('architectures', architecture, f'not {CLASSES[0]}')
  f.expect('is_decoder', False, why='half of the model')
  gated, activation = _activation(f)
  # The code scales outputs if the file says that tables are tied. Newer
  # versions say so in every file, and store the scaling in its own field.
  tied = f.get('tie_word_embeddings', True)
  scaled = f.get('scale_decoder_outputs', tied)
  if tied and not scaled and 'lm_head.weight' in tensors:
    tied = False
  layers = f.size('num_layers', 6)
  dropout = f.get('dropout_rate', 0.1)
  config = TransformerConfig(
    family='encoder_decoder',
    vocab_size=f.size('vocab_size', 32128),
    embed_dim=f.size('d_model', 512),
    mlp_dim=f.size('d_ff', 2048),
    heads=f.size('num_heads', 8),
    kv_heads=f.size('num_heads', 8),
    head_dim=f.size('d_kv', 64),
    encoder_layers=layers,
    decoder_layers=f.size('num_decoder_layers', None) or layers,
    position='relative_bias',
    relative_buckets=f.size('relative_attention_num_buckets', 32),
    relative_max_distance=f.size('relative_attention_max_distance', 128),
    norm='rms_norm',
    norm_epsilon=f.get('layer_norm_epsilon', 1e-6),
    norm_placement='pre',
    parallel='none',
    activation=activation,
    gated=gated,
    bias='none',
    scale_attention=False,
    embed_norm=False,
    scale_embed=False,
    tie_embeddings=tied,
    scale_output=scaled,
    output_transform=False,
    output_bias=False,
    head='lm',
    init='t5',
    dropout=dropout,
    attention_dropout=dropout,
    dropout_kind='t5',
    dtype='float32',
    scan=True,
    remat='none',
  )
  f.done(('classifier_dropout', 'initializer_factor', 'n_positions'))
  return config


def _activation(fields):
  """`feed_forward_proj`: 'relu', 'gated-gelu'; 'gelu' alone is exact."""
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
  activation = ACTIVATION_NAMES[c.activation]
  if c.gated:
    names = {'gelu_tanh': 'gelu', 'gelu': 'gelu_python'}
    activation = f'gated-{names.get(c.activation, activation)}'
  fields = {
    'model_type': 't5',
    'architectures': [CLASSES[0]],
    'vocab_size': c.vocab_size,
    'd_model': c.embed_dim,
    'd_kv': c.head_dim,
    'd_ff': c.mlp_dim,
    'num_heads': c.heads,
    'num_layers': c.encoder_layers,
    'num_decoder_layers': c.decoder_layers,
    'relative_attention_num_buckets': c.relative_buckets,
    'relative_attention_max_distance': c.relative_max_distance,
    'dropout_rate': c.dropout,
    'layer_norm_epsilon': c.norm_epsilon,
    'feed_forward_proj': activation,
    'tie_word_embeddings': c.tie_embeddings,
    'is_encoder_decoder': True,
    'decoder_start_token_id': 0,
    'pad_token_id': 0,
    'eos_token_id': 1,
  }
  if c.tie_embeddings and not c.scale_output:  # read from version 5 on
    fields['scale_decoder_outputs'] = False
  return fields


def weights(config: TransformerConfig) -> list[Weight]:
  """Our weights <-> their tensors."""
  out = [Weight('embed/table', 'shared.weight')]
  if not config.tie_embeddings:
    out.append(Weight('vocabulary/output', 'lm_head.weight', turned))
  for stack in ('encoder', 'decoder'):
    block = f'{stack}.block.*.layer'
    kinds = [('attention', 'SelfAttention')]
    if stack == 'decoder':
      kinds.append(('cross_attention', 'EncDecAttention'))
    for i, (ours, theirs) in enumerate(kinds):
      for name in ('query', 'key', 'value', 'output'):
        out.append(
          Weight(
            f'{stack}/*/{ours}/{name}/kernel',
            f'{block}.{i}.{theirs}.{name[0]}.weight',
            turned,
          )
        )
      out.append(
        Weight(f'{stack}/*/{ours}_norm/scale', f'{block}.{i}.layer_norm.weight')
      )
    mlp = {'input': 'wi', 'output': 'wo'}
    if config.gated:
      mlp = {'gate': 'wi_0', 'input': 'wi_1', 'output': 'wo'}
    place = f'{block}.{len(kinds)}'
    for ours, theirs in mlp.items():
      name = f'{place}.DenseReluDense.{theirs}.weight'
      out.append(Weight(f'{stack}/*/mlp/{ours}/kernel', name, turned))
    out += [
      Weight(f'{stack}/*/mlp_norm/scale', f'{place}.layer_norm.weight'),
      Weight(f'{stack}/norm/scale', f'{stack}.final_layer_norm.weight'),
      Weight(
        f'{stack}/relative_bias/table',
        f'{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight',
      ),
    ]
  return out


def spares(config: TransformerConfig) -> list[Spare]:
  """What a file may also hold."""
  out = [
    Spare('encoder.embed_tokens.weight', 'shared.weight'),
    Spare('decoder.embed_tokens.weight', 'shared.weight'),
    # Old files have it; no code uses it.
    Spare(
      'decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight'
    ),
  ]
  if config.tie_embeddings:
    out.append(Spare('lm_head.weight', 'shared.weight'))
  return out
