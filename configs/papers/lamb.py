"""BERT-large with LAMB by size of the batch (You et al. 2020), from memory.

Rates are scaled by the square root of the batch. Every row warms up over 3,125
steps: a share of them that doubles with the batch, from 1/320 to 1/5.
"""

from configs.papers.records import Column, Row, Table

_BATCH, _STEPS, _RATE = 32_768, 15_625, 5e-3  # of the largest; bert.py has it


def _row(name, f1, exact, batch):
  share = batch / _BATCH
  steps = int(_STEPS / share)
  keys = {
    'data.batch': batch,
    'train.steps': steps,
    'train.phases': ((('steps', steps * 9 // 10), 0, 128, 20, ''),),
    'schedule.learning_rate': float(f'{_RATE * share**0.5:.4g}'),
  }
  return Row(
    name,
    f'{f1} {exact}',
    'bert.py:large,recipe=lamb',
    keys if batch < _BATCH else {},
  )


_TABLES = (
  Table(
    'lamb.table1',
    'SQuAD 1.1 after pretraining with each batch, dev',
    (
      Column('F1', 'squad/v1.1', 'squad/v1.1/f1'),
      Column('exact-match', 'squad/v1.1', 'squad/v1.1/exact_match'),
    ),
    (
      Row(
        'baseline-512',
        '90.395 -',
        'bert.py:large',
        {'data.batch': 512},
        note="Its rate for 512 rows is not at hand: it is that of BERT's 256.",
      ),
      _row('512', 91.752, 85.090, 512),
      _row('1k', 91.761, 85.260, 1024),
      _row('2k', 91.946, 85.355, 2048),
      _row('4k', 91.137, 84.172, 4096),
      _row('8k', 91.263, 84.901, 8192),
      _row('16k', 91.345, 84.816, 16_384),
      _row('32k', 91.475, 84.939, 32_768),
      Row(
        '64k-32k',
        '90.584 -',
        'bert.py:large,recipe=lamb',
        {
          'train.steps': 8599,
          'train.phases': ((('steps', 7038), 65_536, 128, 20, ''),),
          'schedule.learning_rate': 6e-3,
          'schedule.warmup_steps': 2000,
          'schedule.restarts': ((7038, 4e-3, 200),),
        },
        note='76 minutes: 65,536 rows of 128 tokens, then 32,768 of 512, each '
        'with its own warm-up. The steps of each and the rates are those of '
        "NVIDIA's reproduction.",
      ),
    ),
    'bert.py',
    memory=True,
    note="Of the last row the 8,599 steps and both batches are the abstract's.",
  ),
)
TEXTS = 'BooksCorpus', 'Wikipedia'
TABLES = tuple(table._replace(texts=TEXTS) for table in _TABLES)
