"""Tables of BERT (Devlin et al. 2019).

Cells are from a copy of the paper, except tables 7 and 8, which are from
memory.
"""

from configs.papers.records import Column, Row, Table

MATCHED = Column('MNLI-m', 'glue/mnli', 'glue/mnli@validation_matched/accuracy')
MISMATCHED = Column(
  'MNLI-mm', 'glue/mnli', 'glue/mnli@validation_mismatched/accuracy'
)
MRPC = Column('MRPC', 'glue/mrpc', 'glue/mrpc/accuracy')
# Of held-out masked tokens: e to their mean cross-entropy.
PERPLEXITY = Column('perplexity', metric='perplexity')
SST2 = Column('SST-2', 'glue/sst2', 'glue/sst2/accuracy')
QNLI = Column('QNLI', 'glue/qnli', 'glue/qnli/accuracy')
# Table 1: F1 of QQP and MRPC, Spearman of STS-B, Matthews of CoLA (4.1).
GLUE = (
  MATCHED,
  MISMATCHED,
  Column('QQP', 'glue/qqp', 'glue/qqp/f1'),
  QNLI,
  SST2,
  Column('CoLA', 'glue/cola', 'glue/cola/matthews'),
  Column('STS-B', 'glue/stsb', 'glue/stsb/spearman'),
  Column('MRPC', 'glue/mrpc', 'glue/mrpc/f1'),
  Column('RTE', 'glue/rte', 'glue/rte/accuracy'),
)
GLUE = (*GLUE, Column('average', average=tuple((c.name,) for c in GLUE)))
RATES = ('--grid', 'schedule.learning_rate=5e-5,4e-5,3e-5,2e-5')  # 4.1
RESTARTS = (*RATES, '--seeds=5')  # 4.1: of the large model; how many is ours

_OTHER = 'It is another system, whose model Treeline does not have.'
# A decoder: no token sees a later one, in pretraining and in fine-tuning (5.1).
_LEFT = {
  'model.family': 'decoder',
  'model.encoder_layers': 0,
  'model.decoder_layers': 12,
  'model.token_types': 0,
}
_UNKNOWN = 'The paper does not say which rate: 3e-5 is the recipe of 4.1.'

BASE = 'bert.table1/BERT-base'


def _size(layers, width, heads):
  return {
    'model.encoder_layers': layers,
    'model.embed_dim': width,
    'model.mlp_dim': 4 * width,
    'model.heads': heads,
    'model.kv_heads': heads,
    'model.head_dim': width // heads,
  }


def _frozen(layers):
  """Keys of a model that stays as it is, under a BiLSTM (5.3)."""
  return {
    'model.features': layers,
    'tuning.train': 'head',
    'model.dropout': 0.0,
    'model.attention_dropout': 0.0,
    'schedule.learning_rate': 1e-3,
  }


def _features(name, number, layers):
  """A row of table 7 with features of layers."""
  return Row(
    name,
    f'{number} -',
    start='bert.table7/BERT-base',
    tuned=_frozen(layers),
    flags=('--seeds=5',),
    note='The rate of the BiLSTM, 1e-3, and its 768 units in each direction '
    'are ours: the paper says 768 dimensions.',
  )


def _masks(mask, random):
  return {'data.masked_share': mask, 'data.random_share': random}


_TABLES = (
  Table(
    'bert.table1',
    'GLUE, test; ours is on the validation split',
    GLUE,
    (
      Row(
        'pre-OpenAI-SOTA',
        '80.6 80.1 66.1 82.3 93.2 35.0 81.0 86.0 61.7 74.0',
        why=_OTHER,
      ),
      Row(
        'BiLSTM-ELMo',
        '76.4 76.1 64.8 79.8 90.4 36.0 73.3 84.9 56.8 71.0',
        why=_OTHER,
      ),
      Row(
        'OpenAI-GPT',
        '82.1 81.4 70.3 87.4 91.3 45.4 80.0 82.3 56.0 75.1',
        'gpt1.py:base',
        recipe='gpt1.py',
        flags=(),
      ),
      Row(
        'BERT-base',
        '84.6 83.4 71.2 90.5 93.5 52.1 85.8 88.9 66.4 79.6',
        'bert.py:base',
      ),
      Row(
        'BERT-large',
        '86.7 85.9 72.1 92.7 94.9 60.5 86.5 89.3 70.1 82.1',
        'bert.py:large',
        flags=RESTARTS,
      ),
    ),
    'bert.py',
    RATES,
  ),
  Table(
    'bert.table5',
    'pretraining tasks, base size, dev',
    (
      MATCHED,
      QNLI,
      MRPC,
      SST2,
      Column('SQuAD-F1', 'squad/v1.1', 'squad/v1.1/f1'),
    ),
    (
      Row('base', '84.4 88.4 86.7 92.7 88.5', start=BASE),
      Row(
        'no-NSP',
        '83.9 84.9 86.5 92.6 87.9',
        'bert.py:base',
        {'model.head': 'mlm'},
      ),
      Row(
        'left-to-right',
        '82.1 84.3 77.5 92.1 77.8',
        'ablations.py:bert:base,objective=causal',
        _LEFT | {'model.head': 'lm', 'data.pack': True},
        tuned=_LEFT,
        note='Rows are joined texts of 512 tokens, which begin with [PAD], not '
        'pairs, and have no segment embeddings. A class is read from the last '
        'token, [SEP]; the paper does not say from which.',
      ),
      Row(
        'left-to-right-BiLSTM',
        '82.1 84.1 75.7 91.6 84.9',
        start='bert.table5/left-to-right',
        tuned=_LEFT | {'model.features': 'last'},
        note='The BiLSTM has two layers of 768 units in each direction, as '
        "table 7's; the paper does not say its size here.",
      ),
    ),
    'bert.py',
    note=_UNKNOWN + ' SQuAD has its own (4.2).',
  ),
  Table(
    'bert.table6',
    'size of the model, dev, averages of 5 restarts; layers-width-heads',
    (PERPLEXITY, MATCHED, MRPC, SST2),
    (
      Row('3-768-12', '5.84 77.9 79.8 88.4', 'bert.py:base', _size(3, 768, 12)),
      Row('6-768-3', '5.24 80.6 82.2 90.7', 'bert.py:base', _size(6, 768, 3)),
      Row('6-768-12', '4.68 81.9 84.8 91.3', 'bert.py:base', _size(6, 768, 12)),
      Row('12-768-12', '3.99 84.4 86.7 92.9', start=BASE),
      Row(
        '12-1024-16',
        '3.54 85.7 86.9 93.3',
        'bert.py:base',
        _size(12, 1024, 16),
      ),
      Row('24-1024-16', '3.23 86.6 87.8 93.7', start='bert.table1/BERT-large'),
    ),
    'bert.py',
    ('--seeds=5',),
    note=_UNKNOWN + ' The perplexity is that of held-out masked tokens at the '
    'end of pretraining.',
  ),
  Table(
    'bert.table7',
    'CoNLL-2003 named entities, F1; averages of 5 runs',
    (
      Column('dev', 'conll2003', 'conll2003/f1'),
      Column('test'),
    ),
    (
      Row('ELMo', '95.7 92.2', why=_OTHER),
      Row('CVT', '- 92.6', why=_OTHER),
      Row('CSE', '- 93.1', why=_OTHER),
      Row('BERT-large', '96.6 92.8', 'bert.py:large,vocabulary=cased'),
      Row('BERT-base', '96.4 92.4', 'bert.py:base,vocabulary=cased'),
      _features('embeddings', '91.0', 'embeddings'),
      _features('second-to-last', '95.6', 'second_to_last'),
      _features('last', '94.9', 'last'),
      _features('weighted-sum-last-four', '95.9', 'sum_last_four'),
      _features('concatenated-last-four', '96.1', 'concat_last_four'),
      _features('weighted-sum-all', '95.5', 'sum_all'),
    ),
    'bert.py',
    ('--grid', 'schedule.learning_rate=5e-5,3e-5,2e-5', '--seeds=5'),
    memory=True,
    note='For the test set: python -m train.evaluate --workdir=W '
    '--source=task:conll2003@test.',
  ),
  Table(
    'bert.table8',
    'how chosen tokens are replaced, dev; mask-same-random in percent',
    (
      MATCHED,
      Column('NER', 'conll2003', 'conll2003/f1'),
      Column(
        'NER-features',
        'conll2003',
        'conll2003/f1',
        tuned=_frozen('concat_last_four'),
      ),
    ),
    (
      Row('80-10-10', '84.2 95.4 94.9', 'bert.py:base'),
      Row('100-0-0', '84.3 94.9 94.0', 'bert.py:base', _masks(1.0, 0.0)),
      Row('80-0-20', '84.1 95.2 94.6', 'bert.py:base', _masks(0.8, 0.2)),
      Row('80-20-0', '84.4 95.2 94.7', 'bert.py:base', _masks(0.8, 0.0)),
      Row('0-20-80', '83.7 94.8 94.6', 'bert.py:base', _masks(0.0, 0.8)),
      Row('0-0-100', '83.6 94.9 94.6', 'bert.py:base', _masks(0.0, 1.0)),
    ),
    'bert.py',
    memory=True,
    note='The last column is that of table 7, concatenated-last-four, on each '
    'of these models. The vocabulary is uncased; the paper does not say.',
  ),
  Table(
    'bert.figure5',
    'MNLI dev accuracy by the steps of pretraining (C.1)',
    (MATCHED,),
    (
      Row('1M-steps', '-', same=BASE),
      Row(
        '500K-steps',
        '-',
        'bert.py:base',
        {
          'train.steps': 500_000,
          'train.phases': ((('steps', 450_000), 0, 128, 20, ''),),
        },
      ),
    ),
    'bert.py',
    note='The figure has no numbers: one million steps are almost 1.0 better '
    'than half of them. The paper took points of one run.',
  ),
)
TEXTS = 'BooksCorpus', 'Wikipedia'
TABLES = tuple(table._replace(texts=TEXTS) for table in _TABLES)
