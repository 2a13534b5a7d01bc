"""GPT-1 (transformers' OpenAIGPTLMHeadModel).

Its matrices are [in, out]. GPT-2 has the same sizes and layers (gpt2.py).
"""

from models.config import TransformerConfig
from models.pretrained.fields import Fields
from models.pretrained.layouts import common, gpt2
from models.pretrained.mapping import Spare, Weight

MODEL_TYPES = ('openai-gpt',)
PREFIX = 'transformer.'
CLASSES = {
  'lm': 'OpenAIGPTLMHeadModel',
  'sequence': 'OpenAIGPTForSequenceClassification',
}
FIELDS = gpt2.SIZES | {
  'vocab_size': ('vocab_size', 40478),
  'max_length': ('n_positions', 'max_position_embeddings', 512),
}
# Its code has its own names: 'gelu' is the approximation by tanh.
ACTIVATIONS = {
  'gelu': 'gelu_tanh',
  'relu': 'relu',
  'silu': 'silu',
  'swish': 'silu',
}


def read(fields: Fields, tensors: set[str]) -> TransformerConfig:
  """config.json of a GPT-1 -> its config."""
  f = fields
  activation = f.get('afn', 'gelu')
  if activation not in ACTIVATIONS:
    f.refuse('afn', activation, f'it has {", ".join(ACTIVATIONS)}')
  ours = common.read_decoder(f, FIELDS, CLASSES, 'OpenAIGPTModel')
  gpt2.one_rate(f, ours['dropout'], 0.1)
  ours |= {
    'mlp_dim': 4 * ours['embed_dim'],
    'norm_placement': 'post',
    'position': 'learned',
    'activation': ACTIVATIONS[activation],
  }
  f.done('n_special', 'predict_special_tokens', *gpt2.HARMLESS)
  return TransformerConfig(**ours)


def write(config: TransformerConfig) -> dict:
  """A GPT-1's config -> config.json."""
  c = config
  names = {ours: name for name, ours in reversed(ACTIVATIONS.items())}
  if c.activation not in names:
    raise ValueError(f'it has no model.activation={c.activation!r}')
  return common.write(c, 'openai-gpt', CLASSES, FIELDS) | {
    'afn': names[c.activation],
    'embd_pdrop': c.dropout,
  }


def weights(config: TransformerConfig) -> list[Weight]:
  """Our weights <-> their tensors."""
  return [
    *common.head_weights(config, f'{PREFIX}tokens_embed.weight'),
    Weight('embed/position', f'{PREFIX}positions_embed.weight'),
    *gpt2.layers(config),
  ]


def spares(config: TransformerConfig) -> list[Spare]:
  """What a file may also hold: masks, a copy of the table."""
  return [
    *common.head_spares(config, f'{PREFIX}tokens_embed.weight'),
    Spare(f'{PREFIX}h.*.attn.bias'),
    Spare(f'{PREFIX}position_ids'),
  ]
