"""RoBERTa and XLM-R (transformers' RobertaFor..., XLMRobertaFor...)."""

from models.config import TransformerConfig
from models.pretrained.fields import Fields
from models.pretrained.layouts import bert
from models.pretrained.mapping import Spare, Weight

MODEL_TYPES = ('roberta', 'xlm-roberta')
PREFIX = 'roberta.'
CLASSES = {
  'mlm': 'RobertaForMaskedLM',
  'sequence': 'RobertaForSequenceClassification',
  'tokens': 'RobertaForTokenClassification',
  'span': 'RobertaForQuestionAnswering',
  'pooler': 'RobertaModel',
  'none': 'RobertaModel',
}
HEADS = {
  'mlm': {
    'vocabulary/dense': 'lm_head.dense',
    'vocabulary/norm': 'lm_head.layer_norm',
    'vocabulary': 'lm_head',
  },
  # Its classification head is what BERT calls pooler and classifier.
  'sequence': {
    'pooler/dense': 'classifier.dense',
    'classes/dense': 'classifier.out_proj',
  },
  'tokens': {'classes/dense': 'classifier'},
  'span': {'span/dense': 'qa_outputs'},
  'pooler': {'pooler/dense': 'roberta.pooler.dense'},
  'none': {},
}


FIELDS = bert.FIELDS | {'vocab_size': ('vocab_size', 50265)}


def read(fields: Fields, tensors: set[str]) -> TransformerConfig:
  """config.json of a RoBERTa -> its config."""
  f = fields
  ours = bert.read_encoder(f, tensors, FIELDS, CLASSES)
  if ours['head'] == 'mlm' and ours['activation'] != 'gelu':
    why = 'another activation than the head has'
    f.refuse('hidden_act', f.get('hidden_act'), why)
  # Positions begin with the row after that of padding (fairseq).
  ours['position_offset'] = f.get('pad_token_id', 1) + 1
  f.done()
  return TransformerConfig(**ours, pooler_dropout=True)


def write(config: TransformerConfig) -> dict:
  """A RoBERTa's config -> config.json."""
  if not config.position_offset:
    raise ValueError('its positions begin after a row for padding')
  return bert.write_encoder(config, 'roberta', CLASSES) | {
    'pad_token_id': config.position_offset - 1,
    'bos_token_id': 0,
    'eos_token_id': 2,
  }


def typed(fields: dict, model_type: str) -> dict:
  """config.json of XLM-R: RoBERTa with another tokenizer."""
  names = [f'XLM{name}' for name in fields['architectures']]
  return fields | {'model_type': model_type, 'architectures': names}


def weights(config: TransformerConfig) -> list[Weight]:
  """Our weights <-> their tensors."""
  return bert.encoder(config, PREFIX) + bert.head_weights(HEADS[config.head])


def spares(config: TransformerConfig) -> list[Spare]:
  """What a file may also hold."""
  out = bert.encoder_spares(config, PREFIX)
  if config.head == 'mlm':
    out.append(Spare('lm_head.decoder.bias', 'lm_head.bias'))
    table = 'roberta.embeddings.word_embeddings.weight'
    out.append(Spare('lm_head.decoder.weight', table))
  return out
