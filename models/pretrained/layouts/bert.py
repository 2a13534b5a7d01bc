"""BERT (transformers' BertFor...), and what RoBERTa and ELECTRA share with it.

Shared: `read_head`, `encoder_fields`, `encoder_json`, `head_part`, `body` and
`body_spares`.
"""

from models.config import TransformerConfig
from models.pretrained.fields import ACTIVATION_NAMES, Fields, labels
from models.pretrained.mapping import Spare, Weight, dense, norm

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


def read(fields: Fields, tensors: set[str]) -> TransformerConfig:
  """config.json of a BERT -> its config."""
  f = fields
  embed_dim = f.size('hidden_size', 768)
  head = read_head(f, tensors, CLASSES)
  if any(name.startswith('cls.seq_relationship.') for name in tensors):
    head = 'mlm_nsp'  # published files say BertForMaskedLM and hold both
  config = TransformerConfig(
    **encoder_fields(f, head),
    position='learned',
    max_length=f.size('max_position_embeddings', 512),
    token_types=f.get('type_vocab_size', 2),
    vocab_size=f.size('vocab_size', 30522),
    embed_dim=embed_dim,
  )
  f.done(('directionality', *_POOLER_FIELDS, *_TINY_FIELDS))
  return config


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


def read_head(fields: Fields, tensors: set[str], classes: dict) -> str:
  """Our head for the class that `architectures` names."""
  # XLM-R's classes are RoBERTa's by another name.
  name = fields.architecture(classes['none']).removeprefix('XLM')
  heads = {name: head for head, name in classes.items()}
  if name not in heads:
    fields.refuse(
      'architectures',
      name,
      f'a head that is not supported here; supported: {", ".join(heads)}',
    )
  head = heads[name]
  if head in ('none', 'pooler'):
    pooled = any('pooler.dense.' in name for name in tensors)
    return 'pooler' if pooled and 'pooler' in classes else 'none'
  return head


def encoder_fields(fields: Fields, head: str) -> dict:
  """The fields of our config that BERT, RoBERTa and ELECTRA read alike."""
  f = fields
  heads = f.size('num_attention_heads', 12)
  width = f.size('hidden_size', 768)
  dropout = f.get('hidden_dropout_prob', 0.1)
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
  if head in ('sequence', 'tokens'):
    f.expect(
      'classifier_dropout',
      None,
      dropout,
      why=f'the head would be trained with another dropout than {dropout}, '
      'hidden_dropout_prob',
    )
  else:
    f.get('classifier_dropout', None)
  if width % heads:
    f.refuse('hidden_size', width, f'not a multiple of {heads} heads')
  return {
    'family': 'encoder',
    'mlp_dim': f.size('intermediate_size', 3072),
    'heads': heads,
    'kv_heads': heads,
    'head_dim': width // heads,
    'encoder_layers': f.size('num_hidden_layers', 12),
    'norm': 'layer_norm',
    'norm_epsilon': f.get('layer_norm_eps', 1e-12),
    'norm_placement': 'post',
    'parallel': 'none',
    'activation': f.activation('hidden_act', 'gelu'),
    'gated': False,
    'bias': 'all',
    'scale_attention': True,
    'embed_norm': True,
    'scale_embed': False,
    'tie_embeddings': True,
    'scale_output': False,
    'output_transform': True,
    'output_bias': True,
    'head': head,
    'classes': f.classes() if head in ('sequence', 'tokens') else 0,
    'init': 'truncated_normal',
    'init_std': f.get('initializer_range', 0.02),
    'dropout': dropout,
    'attention_dropout': f.get('attention_probs_dropout_prob', 0.1),
    'dropout_kind': 'residual',
    'dtype': 'float32',
    'scan': True,
    'remat': 'none',
  }


def write(config: TransformerConfig) -> dict:
  """A BERT's config -> config.json."""
  if config.head not in CLASSES:
    raise ValueError(f'there is no BERT with model.head={config.head!r}')
  return encoder_json(config) | {
    'model_type': 'bert',
    'architectures': [CLASSES[config.head]],
  }


def encoder_json(config: TransformerConfig) -> dict:
  """The fields of config.json that BERT, RoBERTa and ELECTRA write alike."""
  c = config
  out = {
    'vocab_size': c.vocab_size,
    'hidden_size': c.embed_dim,
    'num_hidden_layers': c.encoder_layers,
    'num_attention_heads': c.heads,
    'intermediate_size': c.mlp_dim,
    'hidden_act': ACTIVATION_NAMES[c.activation],
    'hidden_dropout_prob': c.dropout,
    'attention_probs_dropout_prob': c.attention_dropout,
    'max_position_embeddings': c.max_length,
    'type_vocab_size': c.token_types,
    'initializer_range': c.init_std or 0.02,
    'layer_norm_eps': c.norm_epsilon,
  }
  return out | labels(c.classes)


def weights(config: TransformerConfig) -> list[Weight]:
  """Our weights <-> their tensors."""
  out = body(config, PREFIX)
  for ours, theirs in HEADS[config.head].items():
    out += head_part(ours, theirs)
  return out


def head_part(ours: str, theirs: str) -> list[Weight]:
  """A dense layer, a norm, or (for 'vocabulary') the bias of the logits."""
  if ours == 'vocabulary':
    return [Weight('vocabulary/bias', f'{theirs}.bias')]
  return norm(ours, theirs) if ours.endswith('norm') else dense(ours, theirs)


def body(config: TransformerConfig, prefix: str) -> list[Weight]:
  """The embeddings and layers of BERT, RoBERTa and ELECTRA."""
  tables = f'{prefix}embeddings.'
  layer = f'{prefix}encoder.layer.*.'
  out = [
    Weight('embed/table', f'{tables}word_embeddings.weight'),
    Weight('embed/position', f'{tables}position_embeddings.weight'),
    *norm('embed/norm', f'{tables}LayerNorm'),
  ]
  if config.token_types:
    out.append(Weight('embed/type', f'{tables}token_type_embeddings.weight'))
  for name in ('query', 'key', 'value'):
    out += dense(f'encoder/*/attention/{name}', f'{layer}attention.self.{name}')
  out += dense('encoder/*/attention/output', f'{layer}attention.output.dense')
  out += norm('encoder/*/attention_norm', f'{layer}attention.output.LayerNorm')
  out += dense('encoder/*/mlp/input', f'{layer}intermediate.dense')
  out += dense('encoder/*/mlp/output', f'{layer}output.dense')
  out += norm('encoder/*/mlp_norm', f'{layer}output.LayerNorm')
  return out


def spares(config: TransformerConfig) -> list[Spare]:
  """What a file may also hold."""
  out = body_spares(config, PREFIX)
  if config.head in ('mlm', 'mlm_nsp'):
    table = 'bert.embeddings.word_embeddings.weight'
    out += [
      Spare('cls.predictions.decoder.weight', table),
      Spare('cls.predictions.decoder.bias', 'cls.predictions.bias'),
    ]
  return out


def body_spares(config: TransformerConfig, prefix: str) -> list[Spare]:
  """What files of BERT, RoBERTa and ELECTRA may also hold."""
  buffers = ('embeddings.position_ids', 'embeddings.token_type_ids')
  out = [Spare(f'{prefix}{name}') for name in buffers]
  if config.head not in ('mlm_nsp', 'pooler'):
    # Older versions wrote it with every head; these heads do not read it.
    out += [Spare(f'{prefix}pooler.dense.{x}') for x in ('weight', 'bias')]
  return out
