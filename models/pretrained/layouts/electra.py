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
  ours = bert.read_encoder(f, tensors, bert.FIELDS, CLASSES)
  if ours['head'] == 'mlm' and ours['activation'] != 'gelu':
    why = 'another activation than the head has'
    f.refuse('hidden_act', f.get('hidden_act'), why)
  generator_size(f)
  width, table = f.size('hidden_size', 256), f.size('embedding_size', 128)
  ours |= {'embed_dim': width, 'table_dim': 0 if table == width else table}
  f.done(
    'summary_activation',
    'summary_last_dropout',
    'summary_type',
    'summary_use_proj',
  )
  return TransformerConfig(**ours)


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
  out = bert.write_encoder(config, 'electra', CLASSES)
  return out | {'embedding_size': config.table_width}


def weights(config: TransformerConfig) -> list[Weight]:
  """Our weights <-> their tensors."""
  out = bert.encoder(config, PREFIX) + bert.head_weights(HEADS[config.head])
  if config.table_dim:
    out += dense('encoder/projection', 'electra.embeddings_project')
  return out


def spares(config: TransformerConfig) -> list[Spare]:
  """What a file may also hold."""
  out = bert.encoder_spares(config, PREFIX)
  if config.head == 'mlm':
    table = 'electra.embeddings.word_embeddings.weight'
    out.append(Spare('generator_lm_head.weight', table))
  return out
