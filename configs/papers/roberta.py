"""Tables of RoBERTa (Liu et al. 2019): 1 to 4.

Cells are from memory, except the row 500K-steps of table 4, which is in the
README of the release. Scores are medians of five runs.
"""

from configs.papers.bert import MATCHED, PERPLEXITY, SST2
from configs.papers.records import Column, Row, Table

SQUAD1 = Column('SQuAD-1.1', 'squad/v1.1', 'squad/v1.1/f1')
# The official script's F1 at the threshold for no answer that is best on dev.
SQUAD2 = Column('SQuAD-2.0', 'squad/v2.0', 'squad/v2.0/best_f1')
RACE = Column('RACE', 'race/all', 'race/all/accuracy')

_OTHER = 'It is another system, whose model Treeline does not have.'
_COPY = 'It is copied from another paper.'
# Section 4: BERT-base's size and corpora; 1M steps of batches of 256 (3.1).
_BASE = {
  'data.batch': 256,
  'train.steps': 10**6,
  'schedule.learning_rate': 1e-4,
  'schedule.warmup_steps': 10_000,
}
# A pair of sentences has 49 tokens of C4 on average, a pair of segments 266: a
# batch of 1,408 has as many as the others have in 256 rows (4.2). Rows of 128
# tokens cut one pair in 100.
_SINGLE = {
  'data.single_sentences': True,
  'data.short_share': 0.0,
  'data.length': 128,
  'data.predictions': 20,
  'data.batch': 1408,
}


def _format(name, numbers, objective, **more):
  """A row of table 2, where only the objective changes."""
  config = f'ablations.py:roberta:base,objective={objective}'
  return Row(name, numbers, config, _BASE, **more)


def _batch(name, numbers, batch, steps, rate):
  """A row of table 3; warm-up over 6% of the steps is ours."""
  keys = {
    'data.batch': batch,
    'train.steps': steps,
    'schedule.learning_rate': rate,
    'schedule.warmup_steps': steps * 6 // 100,
  }
  return Row(name, numbers, 'roberta.py:base', keys)


_TABLES = (
  Table(
    'roberta.table1',
    'static and dynamic masks, base size, dev',
    (SQUAD2, MATCHED, SST2),
    (
      Row('reference', '76.3 84.3 92.8', why=_COPY),
      Row(
        'static',
        '78.3 84.3 92.5',
        'roberta.py:base',
        _BASE | {'data.duplicates': 10},
      ),
      Row('dynamic', '78.7 84.0 92.9', 'roberta.py:base', _BASE),
    ),
    'roberta.py',
    ('--seeds=5',),
    'median',
    memory=True,
    note="Rows are full sentences here; the paper's are pairs of segments with "
    "BERT's next-sentence prediction.",
  ),
  Table(
    'roberta.table2',
    'what a row of text is, base size, dev',
    (SQUAD1, SQUAD2, MATCHED, SST2, RACE),
    (
      Row(
        'segment-pair',
        '90.4 78.7 84.0 92.9 64.2',
        'ablations.py:roberta:base,objective=sentence_pairs',
        _BASE,
      ),
      Row(
        'sentence-pair',
        '88.7 76.2 82.9 92.1 63.0',
        'ablations.py:roberta:base,objective=sentence_pairs',
        _BASE | _SINGLE,
        note='Rows of 128 tokens hold 99% of the pairs; later positions stay '
        'as they are drawn.',
      ),
      Row(
        'full-sentences',
        '90.4 79.1 84.7 92.5 64.8',
        'roberta.py:base',
        _BASE,
      ),
      _format('doc-sentences', '90.6 79.7 84.7 92.7 65.6', 'doc_sentences'),
      Row('BERT-base', '88.5 76.3 84.3 92.8 64.3', why=_COPY),
      Row('XLNet-base-K=7', '- 81.3 85.8 92.7 66.1', why=_OTHER),
      Row('XLNet-base-K=6', '- 81.0 85.6 93.4 66.7', why=_OTHER),
    ),
    'roberta.py',
    ('--seeds=5',),
    'median',
    memory=True,
  ),
  Table(
    'roberta.table3',
    'batches of the same number of rows in all, base size, dev',
    (PERPLEXITY, MATCHED, SST2),
    (
      _batch('256', '3.99 84.7 92.7', 256, 1_000_000, 1e-4),
      _batch('2K', '3.68 85.2 92.9', 2048, 125_000, 7e-4),
      _batch('8K', '3.77 84.6 92.8', 8192, 31_000, 1e-3),
    ),
    'roberta.py',
    ('--seeds=5',),
    'median',
    memory=True,
    note='The perplexity is that of held-out masked tokens at the end of '
    'pretraining.',
  ),
  Table(
    'roberta.table4',
    'more text and more steps, large size, dev',
    (SQUAD1, SQUAD2, MATCHED, SST2),
    (
      Row(
        'books-wikipedia',
        '93.6m 87.3m 89.0m 95.3m',
        same='roberta.table4/additional-data',
        note='The 16 GB of books and Wikipedia are not public: with C4 the run '
        'is that of the next row.',
      ),
      Row(
        'additional-data',
        '94.0m 87.7m 89.3m 95.6m',
        'roberta.py:large',
        {'train.steps': 100_000},
        note='The text is C4 in place of 160 GB of five corpora.',
      ),
      Row(
        '300K-steps',
        '94.4m 88.7m 90.0m 96.1m',
        'roberta.py:large',
        {'train.steps': 300_000},
      ),
      Row('500K-steps', '94.6 89.4 90.2 96.4', 'roberta.py:large'),
      Row('BERT-large', '90.9m 81.8m 86.6m 93.7m', why=_COPY),
      Row('XLNet-large', '94.0m 87.8m 88.4m 94.4m', why=_OTHER),
      Row('XLNet-large-126GB', '94.5m 88.8m 89.8m 95.6m', why=_OTHER),
    ),
    'roberta.py',
    ('--seeds=5',),
    'median',
  ),
)
TEXTS = 'BooksCorpus', 'Wikipedia', 'CC-News', 'OpenWebText', 'Stories'
TABLES = tuple(table._replace(texts=TEXTS) for table in _TABLES)
