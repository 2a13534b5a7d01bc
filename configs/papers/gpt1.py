"""GLUE of GPT-1 (Radford et al. 2018, tables 2 and 4), cells from memory."""

from configs.papers.bert import MATCHED, MISMATCHED, QNLI
from configs.papers.records import Column, Row, Table

COLUMNS = (
  MATCHED,
  MISMATCHED,
  QNLI,
  Column('RTE', 'glue/rte', 'glue/rte/accuracy'),
  Column('CoLA', 'glue/cola', 'glue/cola/matthews'),
  Column('SST-2', 'glue/sst2', 'glue/sst2/accuracy'),
  Column('MRPC', 'glue/mrpc', 'glue/mrpc/f1'),
  Column('STS-B', 'glue/stsb', 'glue/stsb/pearson'),
  Column('QQP', 'glue/qqp', 'glue/qqp/f1'),
  Column('GLUE'),
)

_TABLES = (
  Table(
    'gpt1.glue',
    'GLUE, test; ours is on the validation split',
    COLUMNS,
    (
      Row(
        'GPT-1',
        '82.1 81.4 88.1 56.0 45.4 91.3 82.3 82.0 70.3 72.8',
        'gpt1.py:base',
      ),
    ),
    'gpt1.py',
    memory=True,
    note="GLUE's own score counts WNLI and two metrics of some tasks, which "
    'are not in the paper. So we have no number for it.',
  ),
)
TEXTS = ('BooksCorpus',)
TABLES = tuple(table._replace(texts=TEXTS) for table in _TABLES)
