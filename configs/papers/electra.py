"""Tables of ELECTRA (Clark et al. 2020): 1, 2 and 5, and what 3.2 compares.

Cells are from a copy of the paper. Of its figure 3 we have no number; the sizes
and names of its rows are from memory.

Scores are medians of 10 fine-tuning runs from one checkpoint (3.1). GLUE's is
the mean of 8 tasks: accuracy, Matthews of CoLA, Spearman of STS-B, no WNLI.
"""

from configs.papers.records import Column, Row, Table

GLUE = (
  Column('CoLA', 'glue/cola', 'glue/cola/matthews'),
  Column('SST', 'glue/sst2', 'glue/sst2/accuracy'),
  Column('MRPC', 'glue/mrpc', 'glue/mrpc/accuracy'),
  Column('STS', 'glue/stsb', 'glue/stsb/spearman'),
  Column('QQP', 'glue/qqp', 'glue/qqp/accuracy'),
  Column('MNLI', 'glue/mnli', 'glue/mnli@validation_matched/accuracy'),
  Column('QNLI', 'glue/qnli', 'glue/qnli/accuracy'),
  Column('RTE', 'glue/rte', 'glue/rte/accuracy'),
)
AVERAGE = Column('average', average=tuple((column.name,) for column in GLUE))
SEEDS = ('--seeds=10',)
# Tables 1 and 5 have the average alone.
ALONE = '- - - - - - - - '

_OTHER = 'It is another system, whose model Treeline does not have.'
_STEPS = 'train.steps'
_HALF = {_STEPS: 500_000}
_HEAD = 'model.head'
_DIVISOR, _WIDTH = 'model.generator_divisor', 'model.generator_dim'
_SHARES = 'model.generator_shares'
_UNIGRAM = {'model.generator': 'unigram', _DIVISOR: 0}
# RTE, MRPC and STS-B start from MNLI (RoBERTa, 5.1).
_MNLI = dict.fromkeys(
  ('glue/rte', 'glue/mrpc', 'glue/stsb'), 'glue/mnli/seed=0:best'
)


_MLM = "The discriminator's loss counts once, which is our choice."


def _small(name, average, share):
  """ELECTRA-Small after a share of its steps, a run of its own."""
  keys = {_STEPS: int(share * 10**6)} if share < 1 else {}
  recipe = 'electra.py:size=small'
  return Row(name, ALONE + average, 'electra.py:small', keys, recipe=recipe)


def _variant(name, average, keys, note=''):
  """ELECTRA-base with other keys."""
  recipe = 'electra.py:size=base'
  return Row(
    name, ALONE + average, 'electra.py:base', keys, recipe=recipe, note=note
  )


def _generator(name, width, keys):
  """A discriminator of a width, and its generator; 500,000 steps."""
  heads = width // 64
  sizes = {
    'model.embed_dim': width,
    'model.mlp_dim': 4 * width,
    'model.heads': heads,
    'model.kv_heads': heads,
  }
  sizes = sizes if width != 768 else {}
  return _variant(f'{width}-{name}', '-', sizes | keys | {_STEPS: 500_000})


# The widths of discriminators, each with those of its generators (from memory).
_WIDTHS = {
  768: (32, 64, 128, 256, 512, 768, 1024),
  512: (32, 64, 128, 256, 512, 768),
  256: (32, 64, 128, 256, 512),
}

_TABLES = (
  Table(
    'electra.table1',
    'small and base models, GLUE dev',
    (*GLUE, AVERAGE),
    (
      Row('ELMo', ALONE + '71.2', why=_OTHER),
      Row('GPT', ALONE + '78.8', 'gpt1.py:base', recipe='gpt1.py'),
      Row(
        'BERT-small',
        ALONE + '75.1',
        'bert.py:size=base,length=128',
        {
          'model.embed_dim': 256,
          'model.mlp_dim': 1024,
          'model.heads': 4,
          'model.kv_heads': 4,
          'model.table_dim': 128,
          'data.batch': 128,
          'schedule.learning_rate': 5e-4,
          _STEPS: 1_450_000,
        },
        recipe='bert.py',
      ),
      Row(
        'BERT-base',
        ALONE + '82.2',
        start='bert.table1/BERT-base',
        recipe='bert.py',
      ),
      _small('ELECTRA-small', '79.9', 1),
      _small('ELECTRA-small-50%', '79.0', 0.5),
      _small('ELECTRA-small-25%', '77.7', 0.25),
      _small('ELECTRA-small-12.5%', '76.0', 0.125),
      _small('ELECTRA-small-6.25%', '74.1', 0.0625),
      Row('ELECTRA-base', ALONE + '85.1', 'electra.py:base'),
    ),
    'electra.py:size=base',
    SEEDS,
    'median',
  ),
  Table(
    'electra.table2',
    'large models, GLUE dev',
    (*GLUE, AVERAGE),
    (
      Row(
        'BERT',
        '60.6 93.2 88.0 90.0 91.3 86.6 92.3 70.4 84.0',
        start='bert.table1/BERT-large',
        recipe='bert.py',
      ),
      Row(
        'RoBERTa-100K',
        '66.1 95.6 91.4 92.2 92.0 89.3 94.0 82.7 87.9',
        start='roberta.table4/additional-data',
        recipe='roberta.py',
        after=_MNLI,
      ),
      Row(
        'RoBERTa-500K',
        '68.0 96.4 90.9 92.1 92.2 90.2 94.7 86.6 88.9',
        start='roberta.table4/500K-steps',
        recipe='roberta.py',
        after=_MNLI,
      ),
      Row('XLNet', '69.0 97.0 90.8 92.2 92.3 90.8 94.9 85.9 89.1', why=_OTHER),
      Row(
        'BERT-theirs',
        '67.0 95.9 89.1 91.2 91.5 89.6 93.5 79.5 87.2',
        'roberta.py:large',
        {'data.batch': 2048, _STEPS: 464_000},
        recipe='roberta.py',
        after=_MNLI,
        note='BERT with dynamic masks and no sentence pairs, with as many '
        'FLOPs as ELECTRA-400K. The number of steps is from memory; the '
        "vocabulary and rates are RoBERTa's.",
      ),
      Row(
        'ELECTRA-400K',
        '69.3 96.0 90.6 92.1 92.4 90.5 94.5 86.8 89.0',
        'electra.py:large',
      ),
      Row(
        'ELECTRA-1.75M',
        '69.1 96.9 90.8 92.6 92.4 90.9 95.0 88.0 89.5',
        'electra.py:large',
        {_STEPS: 1_750_000},
      ),
    ),
    'electra.py:size=large',
    SEEDS,
    'median',
  ),
  Table(
    'electra.table5',
    'where the gain comes from, base size, GLUE dev',
    (*GLUE, AVERAGE),
    (
      Row('ELECTRA', ALONE + '85.0', start='electra.table1/ELECTRA-base'),
      _variant('all-tokens-MLM', '84.3', {_HEAD: 'all_tokens_mlm'}, _MLM),
      _variant('replace-MLM', '82.4', {_HEAD: 'replace_mlm'}, _MLM),
      _variant('ELECTRA-15%', '82.4', {_HEAD: 'rtd_masked'}),
      Row(
        'BERT', ALONE + '82.2', start='bert.table1/BERT-base', recipe='bert.py'
      ),
    ),
    'electra.py:size=base',
    SEEDS,
    'median',
  ),
  Table(
    'electra.weight_sharing',
    'what generator and discriminator share, GLUE dev (3.2)',
    (*GLUE, AVERAGE),
    (
      _variant('none', '83.6', {_DIVISOR: 1, _SHARES: 'none'} | _HALF),
      _variant('tokens', '84.3', {_DIVISOR: 1, _SHARES: 'tokens'} | _HALF),
      _variant('all', '84.4', {_DIVISOR: 1, _SHARES: 'all'} | _HALF),
    ),
    'electra.py:size=base',
    SEEDS,
    'median',
    note='Both have the same size and 500,000 steps.',
  ),
  Table(
    'electra.figure3',
    'sizes of generator and discriminator, GLUE dev (left)',
    (*GLUE, AVERAGE),
    (
      *(
        _generator(str(own), width, {_DIVISOR: 0, _WIDTH: own})
        for width, widths in _WIDTHS.items()
        for own in widths
      ),
      *(_generator('unigram', width, _UNIGRAM) for width in _WIDTHS),
    ),
    'electra.py:size=base',
    SEEDS,
    'median',
    note="A row is named by the widths of both, the discriminator's first. The "
    'widths are from memory, and we have no number of the figure. Widths alone '
    'differ, and the heads with them; 500,000 steps (3.2).',
  ),
  Table(
    'electra.training_algorithms',
    'how the pair is trained, GLUE dev (figure 3, right)',
    (*GLUE, AVERAGE),
    (
      Row('ELECTRA', ALONE + '-', start='electra.table1/ELECTRA-base'),
      _variant('adversarial', '-', {'model.generator': 'adversarial'}),
      _variant(
        'two-stage',
        '-',
        {_DIVISOR: 1, _SHARES: 'none', 'tuning.train': 'two_stage'},
        'Each stage has half of the steps and the whole schedule of rates, '
        'which is our choice.',
      ),
      Row('BERT', ALONE + '-', start='bert.table1/BERT-base', recipe='bert.py'),
    ),
    'electra.py:size=base',
    SEEDS,
    'median',
    note='We have no number of the figure. It compares equal FLOPs, of which '
    'train.fit counts those of a step; all rows but BERT have the steps of '
    'ELECTRA-base.',
  ),
  Table(
    'electra.figure2',
    'GLUE dev by the FLOPs of pretraining',
    (*GLUE, AVERAGE),
    tuple(
      Row(name, ALONE + average, same=f'electra.{table}/{name}')
      for table, name, average in (
        ('table1', 'ELECTRA-small-6.25%', '74.1'),
        ('table1', 'ELECTRA-small-12.5%', '76.0'),
        ('table1', 'ELECTRA-small-25%', '77.7'),
        ('table1', 'ELECTRA-small-50%', '79.0'),
        ('table1', 'ELECTRA-small', '79.9'),
        ('table1', 'BERT-small', '75.1'),
        ('table1', 'GPT', '78.8'),
        ('table1', 'BERT-base', '82.2'),
        ('table1', 'ELECTRA-base', '85.1'),
        ('table2', 'BERT', '84.0'),
        ('table2', 'RoBERTa-100K', '87.9'),
        ('table2', 'RoBERTa-500K', '88.9'),
        ('table2', 'ELECTRA-400K', '89.0'),
        ('table2', 'ELECTRA-1.75M', '89.5'),
      )
    ),
    'electra.py:size=base',
    SEEDS,
    'median',
    note='The numbers are those of tables 1 and 2; the figure has more points '
    'of the same runs.',
  ),
)
TEXTS = 'BooksCorpus', 'Wikipedia', "XLNet's"  # the last for large
TABLES = tuple(table._replace(texts=TEXTS) for table in _TABLES)
