"""ELECTRA (transformers' ElectraFor...): a discriminator or a generator."""

from fractions import Fraction

from models.config import TransformerConfig
from models.pretrained.fields import Fields
from models.pretrained.layouts import bert
from models.pretrained.mapping import Spare, Weight, dense

MODEL_TYPES = ('electra',)
PREFIX = 'electra.'
CLASSES = {
  'rtd': 'ElectraForPreTraining',
  'mlm': 'ElectraForMaskedLM',
  'tokens': 'ElectraForTokenClassification',
  'span': 'ElectraForQuestionAnswering',
  'none': 'ElectraModel',
}
SEQUENCE = 'ElectraForSequenceClassification'  # not supported
HEADS = {
  'rtd': {
    'replaced/dense': 'discriminator_predictions.dense',
    'replaced/output': 'discriminator_predictions.dense_prediction',
  },
  'mlm': {
    'vocabulary/dense': 'generator_predictions.dense',
    'vocabulary/norm': 'generator_predictions.LayerNorm',
    'vocabulary': 'generator_lm_head',
  },
  'tokens': {'classes/dense': 'classifier'},
  'span': {'span/dense': 'qa_outputs'},
  'none': {},
}


def read(fields: Fields, tensors: set[str]) -> TransformerConfig:
  """config.json of an ELECTRA -> its config."""
  f = fields
  if f.architecture(CLASSES['none']) == SEQUENCE:
    f.refuse(
      'architectures',
      SEQUENCE,
      "its head has a gelu where model.head='sequence' has BERT's tanh; "
      f'supported: {", ".join(CLASSES.values())}',
    )
  head = bert.read_head(f, tensors, CLASSES)
  common = bert.encoder_fields(f, head)
  if head == 'mlm' and common['activation'] != 'gelu':
    f.refuse(
      'hidden_act', f.get('hidden_act'), 'another activation than the head has'
    )
  generator_size(f)
  table_dim = f.size('embedding_size', 128)
  embed_dim = f.size('hidden_size', 256)
  config = TransformerConfig(
    **common,
    position='learned',
    max_length=f.size('max_position_embeddings', 512),
    token_types=f.get('type_vocab_size', 2),
    vocab_size=f.size('vocab_size', 30522),
    embed_dim=embed_dim,
    table_dim=0 if table_dim == embed_dim else table_dim,
  )
  f.done(
    (
      'summary_activation',
      'summary_last_dropout',
      'summary_type',
      'summary_use_proj',
    )
  )
  return config


def generator_size(fields: Fields) -> float | None:
  """The generator's width as a share of the discriminator's; None: not stated.

  Files write it as a number, '0.25' or '1/4'. `pair.check_size` compares it
  with the other half of the pair.

  Raises:
    ValueError: it is not a share.
  """
  for name in ('generator_size', 'generator_hidden_size'):
    value = fields.get(name, None)
    if value is None:
      continue
    try:
      share = float(Fraction(str(value)))
    except (ValueError, ZeroDivisionError):
      share = 0.0
    if not 0 < share <= 1:
      fields.refuse(name, value, 'it must be a share, above 0 and at most 1')
    return share
  return None


def write(config: TransformerConfig) -> dict:
  """An ELECTRA's config -> config.json."""
  if config.head not in CLASSES:
    raise ValueError(f'there is no ELECTRA with model.head={config.head!r}')
  return bert.encoder_json(config) | {
    'model_type': 'electra',
    'architectures': [CLASSES[config.head]],
    'embedding_size': config.table_width,
  }


def weights(config: TransformerConfig) -> list[Weight]:
  """Our weights <-> their tensors."""
  out = bert.body(config, PREFIX)
  if config.table_dim:
    out += dense('encoder/projection', 'electra.embeddings_project')
  for ours, theirs in HEADS[config.head].items():
    out += bert.head_part(ours, theirs)
  return out


def spares(config: TransformerConfig) -> list[Spare]:
  """What a file may also hold."""
  out = bert.body_spares(config, PREFIX)
  if config.head == 'mlm':
    table = 'electra.embeddings.word_embeddings.weight'
    out.append(Spare('generator_lm_head.weight', table))
  return out
