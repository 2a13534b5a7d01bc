"""GPT-1 (transformers' OpenAIGPTLMHeadModel).

Its matrices are [in, out]. GPT-2 has the same sizes and layers (gpt2.py).
"""

from models.config import TransformerConfig
from models.pretrained.fields import Fields
from models.pretrained.layouts import causal, gpt2
from models.pretrained.mapping import Spare, Weight

MODEL_TYPES = ('openai-gpt',)
PREFIX = 'transformer.'
CLASSES = {
  'lm': 'OpenAIGPTLMHeadModel',
  'sequence': 'OpenAIGPTForSequenceClassification',
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
  sizes = gpt2.read_sizes(f, 512)
  config = TransformerConfig(
    **causal.COMMON
    | sizes
    | causal.read_head(f, CLASSES, 'OpenAIGPTModel')
    | {'norm_placement': 'post'},
    vocab_size=f.size('vocab_size', 40478),
    mlp_dim=4 * sizes['embed_dim'],
    activation=ACTIVATIONS[activation],
    tie_embeddings=f.get('tie_word_embeddings', True),
  )
  f.done(('n_special', 'predict_special_tokens', *gpt2.HARMLESS))
  return config


def write(config: TransformerConfig) -> dict:
  """A GPT-1's config -> config.json."""
  c = config
  names = {ours: name for name, ours in reversed(ACTIVATIONS.items())}
  if c.activation not in names:
    raise ValueError(f'it has no model.activation={c.activation!r}')
  return gpt2.write_sizes(c) | {
    'model_type': 'openai-gpt',
    **causal.write_head(c, CLASSES),
    'afn': names[c.activation],
  }


def weights(config: TransformerConfig) -> list[Weight]:
  """Our weights <-> their tensors."""
  return [
    *causal.head_weights(config, f'{PREFIX}tokens_embed.weight'),
    Weight('embed/position', f'{PREFIX}positions_embed.weight'),
    *gpt2.layers(config),
  ]


def spares(config: TransformerConfig) -> list[Spare]:
  """What a file may also hold: masks, a copy of the table."""
  return [
    *causal.head_spares(config, f'{PREFIX}tokens_embed.weight'),
    Spare(f'{PREFIX}h.*.attn.bias'),
    Spare(f'{PREFIX}position_ids'),
  ]
