"""A decoder of T5's blocks alone: LaMDA, T5's language and prefix models.

No class of transformers has it: the layout is ours. Names are those of T5's
decoder without cross-attention, and so are the fields of config.json, beside
`prefix`, which is model.prefix: whether inputs see one another.
"""

from models.config import TransformerConfig
from models.pretrained.fields import Fields, written
from models.pretrained.layouts import common, t5
from models.pretrained.mapping import Spare, Weight

MODEL_TYPES = ('t5_decoder',)
PREFIX = ''
HEADS = ('lm',)
CLASS = 'T5DecoderForCausalLM'
FIELDS = {
  **{k: x for k, x in t5.FIELDS.items() if k != 'encoder_layers'},
  'decoder_layers': ('num_layers', 6),
  'kv_heads': ('num_key_value_heads', 8),
  'scale_attention': ('scale_attention', False),
  'scale_output': ('scale_decoder_outputs', False),
  'tie_embeddings': ('tie_word_embeddings', True),
  'prefix': ('prefix', False),
}


def read(fields: Fields, tensors: set[str]) -> TransformerConfig:
  """config.json -> the config."""
  del tensors
  architecture = fields.architecture(CLASS)
  if architecture != CLASS:
    fields.refuse('architectures', architecture, f'not {CLASS}')
  fields.expect('is_decoder', True, why='half of the model')
  gated, activation = t5.read_activation(fields)
  ours = common.COMMON | fields.table(FIELDS)
  fields.done()
  return TransformerConfig(
    **ours
    | {
      'family': 'decoder',
      'position': 'relative_bias',
      'norm': 'rms_norm',
      'activation': activation,
      'gated': gated,
      'bias': 'none',
      'head': 'lm',
      'init': 't5',
      'attention_dropout': ours['dropout'],
      'dropout_kind': 't5',
    }
  )


def write(config: TransformerConfig) -> dict:
  """The config -> config.json."""
  return written(config, FIELDS) | {
    'model_type': MODEL_TYPES[0],
    'architectures': [CLASS],
    'feed_forward_proj': t5.activation_name(config),
    'is_decoder': True,
  }


def weights(config: TransformerConfig) -> list[Weight]:
  """Our weights <-> their tensors."""
  return t5.weights(config, ('decoder',))


def spares(config: TransformerConfig) -> list[Spare]:
  """What a file may also hold: nothing."""
  del config
  return []
