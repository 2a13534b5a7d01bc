"""BERT (transformers' BertFor...); RoBERTa and ELECTRA share most of it."""

from models.config import TransformerConfig
from models.pretrained.fields import Fields, Table
from models.pretrained.layouts import common
from models.pretrained.mapping import Spare, Weight, norm, parts

MODEL_TYPES = ('bert',)
PREFIX = 'bert.'
# Our head -> the class that config.json names.
CLASSES = {
  'mlm_nsp': 'BertForPreTraining',
  'mlm': 'BertForMaskedLM',
  'sequence': 'BertForSequenceClassification',
  'tokens': 'BertForTokenClassification',
  'span': 'BertForQuestionAnswering',
  'pooler': 'BertModel',
  'none': 'BertModel',
}
# Our heads' weights -> theirs.
_MLM = {
  'vocabulary/dense': 'cls.predictions.transform.dense',
  'vocabulary/norm': 'cls.predictions.transform.LayerNorm',
  'vocabulary': 'cls.predictions',
}
_POOLER = {'pooler/dense': 'bert.pooler.dense'}
HEADS = {
  'mlm_nsp': _MLM | _POOLER | {'next_sentence/dense': 'cls.seq_relationship'},
  'mlm': _MLM,
  'sequence': _POOLER | {'classes/dense': 'classifier'},
  'tokens': {'classes/dense': 'classifier'},
  'span': {'span/dense': 'qa_outputs'},
  'pooler': _POOLER,
  'none': {},
}
FIELDS = {
  'vocab_size': ('vocab_size', 30522),
  'embed_dim': ('hidden_size', 768),
  'mlp_dim': ('intermediate_size', 3072),
  'encoder_layers': ('num_hidden_layers', 12),
  'heads': ('num_attention_heads', 12),
  'max_length': ('max_position_embeddings', 512),
  'activation': ('hidden_act', 'gelu'),
  'dropout': ('hidden_dropout_prob', 0.1),
  'attention_dropout': ('attention_probs_dropout_prob', 0.1),
  'norm_epsilon': ('layer_norm_eps', 1e-12),
  'init_std': ('initializer_range', 0.02),
}
# Fields of the TensorFlow code's pooler, which no code ever read.
_POOLER_FIELDS = (
  'pooler_fc_size',
  'pooler_num_attention_heads',
  'pooler_num_fc_layers',
  'pooler_size_per_head',
  'pooler_type',
)
# Fields of TinyBERT's training.
_TINY_FIELDS = ('cell', 'emb_size', 'pre_trained', 'structure', 'training')


def read(fields: Fields, tensors: set[str]) -> TransformerConfig:
  """config.json of a BERT -> its config."""
  ours = read_encoder(fields, tensors, FIELDS, CLASSES)
  fields.done('directionality', *_POOLER_FIELDS, *_TINY_FIELDS)
  return TransformerConfig(**ours)


def read_encoder(
  fields: Fields, tensors: set[str], table: Table, classes: dict[str, str]
) -> dict:
  """The fields of our config that BERT, RoBERTa and ELECTRA read alike."""
  f = fields
  head = _head(f, tensors, classes)
  ours = common.COMMON | f.table(table)
  f.expect(
    'position_embedding_type',
    'absolute',
    None,
    why='relative positions, which this layout does not have',
  )
  f.expect('is_decoder', False, why='a causal mask')
  f.expect('add_cross_attention', False, why='a second attention')
  f.expect(
    'tie_word_embeddings',
    True,
    why='an output table of its own, and two biases, of which some versions of '
    'transformers read the one and some the other',
  )
  f.expect('pruned_heads', {}, None, why='layers of unequal size')
  own_dropout, number = f.get('classifier_dropout', None), 0
  if head in ('sequence', 'tokens'):
    number = f.classes()
    if own_dropout not in (None, ours['dropout']):
      f.refuse(
        'classifier_dropout',
        own_dropout,
        'the head would be trained with another dropout than '
        f'{ours["dropout"]}, hidden_dropout_prob',
      )
  return {
    **ours,
    **common.split_heads(f, table, ours),
    'family': 'encoder',
    'position': 'learned',
    'token_types': f.get('type_vocab_size', 2),
    'norm_placement': 'post',
    'embed_norm': True,
    'tie_embeddings': True,
    'output_transform': True,
    'output_bias': True,
    'head': head,
    'classes': number,
    'init': 'truncated_normal',
  }


def _head(fields, tensors, classes):
  """Our head for the class that `architectures` names."""
  # XLM-R's classes are RoBERTa's by another name.
  name = fields.architecture(classes['none']).removeprefix('XLM')
  heads = {name: head for head, name in classes.items()}
  if name not in heads:
    supported = ', '.join(heads)
    why = f'a head that is not supported here; supported: {supported}'
    fields.refuse('architectures', name, why)
  paired = any(x.startswith('cls.seq_relationship.') for x in tensors)
  if paired and 'mlm_nsp' in classes:
    return 'mlm_nsp'  # published files say BertForMaskedLM and hold both
  if heads[name] in ('none', 'pooler'):
    pooled = any('pooler.dense.' in name for name in tensors)
    return 'pooler' if pooled and 'pooler' in classes else 'none'
  return heads[name]


def write(config: TransformerConfig) -> dict:
  """A BERT's config -> config.json."""
  return write_encoder(config, 'bert', CLASSES)


def write_encoder(
  config: TransformerConfig, model_type: str, classes: dict[str, str]
) -> dict:
  """The fields of config.json that BERT, RoBERTa and ELECTRA write alike."""
  out = common.write(config, model_type, classes, FIELDS)
  return out | {'type_vocab_size': config.token_types}


def weights(config: TransformerConfig) -> list[Weight]:
  """Our weights <-> their tensors."""
  return encoder(config, PREFIX) + head_weights(HEADS[config.head])


def head_weights(names: dict[str, str]) -> list[Weight]:
  """Linear layers and norms, and (for 'vocabulary') the bias of the logits."""
  layers = {ours: x for ours, x in names.items() if ours != 'vocabulary'}
  out = parts(layers, '', '')
  if 'vocabulary' in names:
    out.append(Weight('vocabulary/bias', f'{names["vocabulary"]}.bias'))
  return out


def encoder(config: TransformerConfig, prefix: str) -> list[Weight]:
  """The embeddings and layers of BERT, RoBERTa and ELECTRA."""
  tables = f'{prefix}embeddings.'
  out = [
    Weight('embed/table', f'{tables}word_embeddings.weight'),
    Weight('embed/position', f'{tables}position_embeddings.weight'),
    *norm('embed/norm', f'{tables}LayerNorm'),
  ]
  if config.token_types:
    out.append(Weight('embed/type', f'{tables}token_type_embeddings.weight'))
  names = {
    'attention/query': 'attention.self.query',
    'attention/key': 'attention.self.key',
    'attention/value': 'attention.self.value',
    'attention/output': 'attention.output.dense',
    'attention_norm': 'attention.output.LayerNorm',
    'mlp/input': 'intermediate.dense',
    'mlp/output': 'output.dense',
    'mlp_norm': 'output.LayerNorm',
  }
  return out + parts(names, 'encoder/*/', f'{prefix}encoder.layer.*.')


def spares(config: TransformerConfig) -> list[Spare]:
  """What a file may also hold."""
  out = encoder_spares(config, PREFIX)
  if config.head in ('mlm', 'mlm_nsp'):
    table = 'bert.embeddings.word_embeddings.weight'
    out += [
      Spare('cls.predictions.decoder.weight', table),
      Spare('cls.predictions.decoder.bias', 'cls.predictions.bias'),
    ]
  return out


def encoder_spares(config: TransformerConfig, prefix: str) -> list[Spare]:
  """What files of BERT, RoBERTa and ELECTRA may also hold."""
  buffers = ('embeddings.position_ids', 'embeddings.token_type_ids')
  out = [Spare(f'{prefix}{name}') for name in buffers]
  if config.head not in ('mlm_nsp', 'pooler'):
    # Older versions wrote it with every head; these heads do not read it.
    out += [Spare(f'{prefix}pooler.dense.{x}') for x in ('weight', 'bias')]
  return out
