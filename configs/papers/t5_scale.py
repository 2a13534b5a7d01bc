"""Tables of T5 (Raffel et al. 2020): 11 and 12 on mixtures, 13 to 15 on scale.

Cells of tables 11 to 13 and 15 are from a copy of the paper, on validation
splits. Table 14 is on test splits, except SQuAD; its cells are from public
notes or, where marked, from memory.
"""

from configs.finetune.t5 import GLUE, SUPER_GLUE
from configs.papers.records import ALONE, Column, Row, Table
from configs.papers.t5 import BASELINE, OURS, REACHED, RECIPE, TASKS

C4 = 'tfds:c4/en'
# Task -> (source, examples) of each part; 0: the source's examples are counted.
PARTS = {
  'glue': tuple((f'task:{name}', n) for name, n in GLUE),
  'cnn_dailymail': (('task:cnn_dailymail', 0),),
  'squad/v1.1': (('task:squad/v1.1', 0),),
  'super_glue': tuple((f'task:{name}', n) for name, n in SUPER_GLUE),
  'wmt/en_de': (('task:wmt/en_de', 0),),
  'wmt/en_fr': (('task:wmt/en_fr', 0),),
  'wmt/en_ro': (('task:wmt/en_ro', 0),),
}
STEPS = 'train.steps'
BEST = 'checkpoint.best'  # score: the best one for each task is kept (3.1.3)


def mixture(without='', text=0, counts=()):
  """`data.mixture` of C4 and all tasks but one.

  RTE is in both benchmarks and counts half in each, as in the published code.

  Args:
    without: the task, or the benchmark, that is left out; '': none.
    text: examples that C4 counts as; 0: data.rate_cap.
    counts: (source, examples) pairs that replace those of PARTS.
  """
  found = [(C4, text)]
  halved = without not in ('glue', 'super_glue')
  for name, parts in PARTS.items():
    for source, n in parts if name != without else ():
      n = n // 2 if halved and source.endswith('/rte') else n
      found.append((source, dict(counts).get(source, n)))
  return tuple(found)


def together(sources, rates='examples', cap=0, heat=1.0):
  """Keys of a run on a mixture; the tasks' targets have up to 512 tokens."""
  keys = {'data.source': '', 'data.mixture': sources, 'data.rates': rates}
  if cap:
    keys['data.rate_cap'] = cap
  if heat != 1:
    keys['data.rate_temperature'] = heat
  every = {'eval.every': 5000, 'checkpoint.every': 5000}
  return keys | {'data.target_length': 512} | every


# ---- Table 11: one run on all tasks, without fine-tuning (3.5.2) ----
def _multi(name, numbers, *rates):
  keys = together(mixture(), *rates) | {STEPS: 2**19 + 2**18, BEST: 'score'}
  return Row(name, numbers, OURS, keys, recipe=ALONE)


TABLE11 = (
  Row('pretrain-fine-tune', REACHED, same=BASELINE),
  _multi('equal', '76.13 19.02 76.51 63.37 23.89 34.31 26.78', 'equal'),
  *(
    _multi(f'K=2^{power}', numbers, 'examples', 2**power)
    for power, numbers in (
      (16, '80.45 19.04 77.25 69.95 24.35 34.99 27.10'),
      (17, '81.56 19.12 77.00 67.91 24.36 35.00 27.25'),
      (18, '81.67 19.07 78.17 67.94 24.57 35.19 27.39'),
      (19, '81.42 19.24 79.78 67.30 25.21 36.30 27.76'),
      (20, '80.80 19.24 80.36 67.38 25.66 36.93 27.68'),
      (21, '79.83 18.79 79.50 65.10 25.82 37.22 27.13'),
    )
  ),
  *(
    _multi(f'T={heat}', numbers, 'examples', 2**21, float(heat))
    for heat, numbers in (
      (2, '81.90 19.28 79.42 69.92 25.42 36.72 27.20'),
      (4, '80.56 19.22 77.99 69.54 25.04 35.82 27.45'),
      (8, '77.21 19.10 77.14 66.07 24.55 35.35 27.17'),
    )
  ),
)

# ---- Table 12: fine-tuning after it (3.5.3) ----
_CAPPED = {'cap': 2**19}
_SUPERVISED = tuple(
  part
  for name in ('cnn_dailymail', 'wmt/en_de', 'wmt/en_fr')
  for part in PARTS[name]
)
TABLE12 = (
  Row('pretrain-fine-tune', REACHED, same=BASELINE),
  Row(
    'multi-task',
    '81.42 19.24 79.78 67.30 25.21 36.30 27.76',
    same='t5.table11/K=2^19',
  ),
  Row(
    'multi-task-fine-tune',
    '83.11 19.12 80.26 71.03 27.08 39.80 28.07',
    OURS,
    together(mixture(), **_CAPPED),
  ),
  Row(
    'leave-one-out',
    '81.98 19.05 79.97 71.68 26.93 39.79 27.87',
    OURS,
    each={task: together(mixture(task), **_CAPPED) for task in PARTS},
  ),
  Row(
    'supervised-multi-task',
    '79.93 18.96 77.38 65.36 26.81 40.13 28.04',
    OURS,
    together(_SUPERVISED),
    note='The mixture is that of the published code, by examples without a '
    'cap. The text (3.5.3) can be read as all tasks without C4.',
  ),
)


# ---- Table 13: what to do with four times the compute (3.6) ----
def _size(layers):
  """BERT-large's widths, with so many layers in each stack."""
  return {
    'model.encoder_layers': layers,
    'model.decoder_layers': layers,
    'model.embed_dim': 1024,
    'model.mlp_dim': 4096,
    'model.heads': 16,
    'model.kv_heads': 16,
  }


_ENSEMBLE = 'Treeline does not average the logits of several models.'
TABLE13 = (
  Row('baseline', REACHED, same=BASELINE),
  Row(
    '1x-size-4x-steps',
    '85.33 19.33 82.45 74.72 27.08 40.66 27.93',
    OURS,
    {STEPS: 2**21},
    tuned={STEPS: 2**20},
  ),
  Row(
    '1x-size-4x-batch',
    '84.60 19.42 82.52 74.64 27.07 40.60 27.84',
    OURS,
    {'data.batch': 512},
    tuned={'data.batch': 512},
  ),
  Row(
    '2x-size-2x-steps',
    '86.18 19.66 84.18 77.18 27.52 41.03 28.19',
    OURS,
    _size(16) | {STEPS: 2**20},
    tuned={STEPS: 2**19},
  ),
  Row(
    '4x-size-1x-steps',
    '85.91 19.73 83.86 78.04 27.47 40.71 28.10',
    OURS,
    _size(32),
  ),
  Row(
    '4x-ensembled',
    '84.77 20.10 83.09 71.74 28.05 40.53 28.57',
    why=_ENSEMBLE,
  ),
  Row(
    '4x-ensembled-fine-tune-only',
    '84.05 19.57 82.36 71.55 27.55 40.22 28.09',
    why=_ENSEMBLE,
  ),
)

# ---- Tables 14 and 15: the final models (3.7) ----
# How many examples C4 counts as; each of two language pairs counts a million.
TEXT = {
  'small': 710_000,
  'base': 2_620_000,
  'large': 8_660_000,
  '3b': 33_500_000,
  '11b': 133_000_000,
}
_WMT = (('task:wmt/en_de', 10**6), ('task:wmt/en_fr', 10**6))


def _final(size):
  return together(mixture(text=TEXT[size], counts=_WMT))


def _columns(group, *names):
  """Columns of (heading, task, metric) under a group of tasks."""
  return tuple(
    Column(name, f'{group}/{task}', f'{group}/{task}{metric}')
    for name, task, metric in names
  )


FINAL = (
  Column(
    'GLUE',
    average=(
      *(('CoLA',), ('SST-2',), ('MRPC-F1', 'MRPC-acc')),
      *(('STS-B-P', 'STS-B-S'), ('QQP-F1', 'QQP-acc')),
      *(('MNLI-m', 'MNLI-mm'), ('QNLI',), ('RTE',)),
    ),
  ),
  *_columns(
    'glue',
    ('CoLA', 'cola', '/matthews'),
    ('SST-2', 'sst2', '/accuracy'),
    ('MRPC-F1', 'mrpc', '/f1'),
    ('MRPC-acc', 'mrpc', '/accuracy'),
    ('STS-B-P', 'stsb', '/pearson'),
    ('STS-B-S', 'stsb', '/spearman'),
    ('QQP-F1', 'qqp', '/f1'),
    ('QQP-acc', 'qqp', '/accuracy'),
    ('MNLI-m', 'mnli', '@validation_matched/accuracy'),
    ('MNLI-mm', 'mnli', '@validation_mismatched/accuracy'),
    ('QNLI', 'qnli', '/accuracy'),
    ('RTE', 'rte', '/accuracy'),
  ),
  Column('WNLI'),
  *_columns(
    'squad', ('SQuAD-EM', 'v1.1', '/exact_match'), ('SQuAD-F1', 'v1.1', '/f1')
  ),
  Column(
    'SGLUE',
    average=(
      *(('BoolQ',), ('CB-F1', 'CB-acc'), ('COPA',)),
      *(('MultiRC-F1a', 'MultiRC-EM'), ('ReCoRD-F1', 'ReCoRD-EM')),
      *(('SG-RTE',), ('WiC',), ('WSC',)),
    ),
  ),
  *_columns(
    'super_glue',
    ('BoolQ', 'boolq', '/accuracy'),
    ('CB-F1', 'cb', '/f1_macro'),
    ('CB-acc', 'cb', '/accuracy'),
    ('COPA', 'copa', '/accuracy'),
    ('MultiRC-F1a', 'multirc', '/f1'),
    ('MultiRC-EM', 'multirc', '/exact_match'),
    ('ReCoRD-F1', 'record', '/f1'),
    ('ReCoRD-EM', 'record', '/exact_match'),
    ('SG-RTE', 'rte', '/accuracy'),
    ('WiC', 'wic', '/accuracy'),
    ('WSC', 'wsc', '/accuracy'),
  ),
  *_columns(
    'wmt',
    ('EnDe', 'en_de', '/bleu'),
    ('EnFr', 'en_fr', '/bleu'),
    ('EnRo', 'en_ro', '/bleu'),
  ),
  Column('R-1', 'cnn_dailymail', 'cnn_dailymail/rouge1'),
  Column('R-2', 'cnn_dailymail', 'cnn_dailymail/rouge2'),
  Column('R-L', 'cnn_dailymail', 'cnn_dailymail/rougeLsum'),
)
# 3.7: batches of 8 for each task of the benchmarks; beams for long outputs.
_OWN = {
  column.task: {'data.batch': 8, 'eval.every': 1000, 'checkpoint.every': 1000}
  for column in FINAL
  if column.task.startswith(('glue/', 'super_glue/'))
} | {
  column.task: {'eval.beams': 4}
  for column in FINAL
  if column.task == 'cnn_dailymail' or column.task.startswith('wmt/')
}
_SIZES = {
  'small': '77.4 41.0m 91.8m 89.7m 86.6m 85.6m 85.0m 70.0m 88.0m 82.4m 82.3m '
  '90.3m 69.9m 69.2m 79.10 87.24 63.3 76.4m 56.9m 81.6m 46.0m 69.3m 26.3m '
  '56.3m 55.4m 73.3m 66.9m 70.5m 26.7 36.0 26.8 41.12 19.56 38.35',
  'base': '82.7 51.1m 95.2m 90.7m 87.5m 89.4m 88.6m 72.6m 89.4m 87.1m 86.2m '
  '93.7m 80.1m 78.8m 85.44 92.08 76.2 81.4m 86.2m 94.0m 71.2m 79.7m 43.1m '
  '75.0m 74.2m 81.5m 68.3m 80.8m 30.9 41.2 28.0 42.05 20.34 39.40',
  'large': '86.4 61.2m 96.3m 92.4m 89.9m 89.9m 89.2m 73.9m 89.9m 89.9m 89.6m '
  '94.8m 87.2m 85.6m 86.66 93.79 82.3 85.4m 91.6m 94.8m 83.4m 83.3m 50.7m '
  '86.8m 85.9m 87.8m 69.3m 86.3m 32.0 41.5 28.1 42.50 20.68 39.75',
  '3b': '88.5 67.1m 97.4m 92.5m 90.0m 90.6m 89.8m 74.4m 89.7m 91.4m 91.2m '
  '96.3m 91.1m 89.7m 88.53 94.95 86.4 89.9m 90.3m 94.4m 92.0m 86.8m 58.3m '
  '91.2m 90.4m 90.7m 72.1m 90.4m 31.8 42.6 28.2 42.72 21.02 39.94',
  '11b': '90.3 71.6 97.5 92.8m 90.4m 93.1 92.8 75.1m 90.6m 92.2 91.9m '
  '96.9m 92.8m 94.5m 91.26 96.22 88.9 91.2 93.9 96.8 94.8 88.1 63.3 '
  '94.1 93.4 92.5 76.9 93.8 32.1 43.4 28.1 43.52 21.55 40.69',
}
TABLE14 = (
  Row(
    'prior-best',
    '89.4 69.2 97.1 93.6m 91.5m 92.7 92.3m 74.8m 90.7m 91.3 91.0m 99.2m '
    '89.2m 91.8m 90.1 95.5 84.6 87.1m 90.5m 95.2m 90.6m 84.4m 52.5m 90.6m '
    '90.0m 88.2m 69.9m 89.0m 33.8 43.8 38.5 43.47 20.30 40.63',
    why='Its cells are the best of many systems.',
  ),
  *(
    Row(size, numbers, f't5.py:{size}', _final(size), by_task=_OWN)
    for size, numbers in _SIZES.items()
  ),
)
TABLE15 = (
  Row('baseline', REACHED, same=BASELINE),
  Row(
    'baseline-1T',
    '84.80 19.62 83.01 73.90 27.46 40.30 28.34',
    OURS,
    {'data.batch': 2048, STEPS: 10**6},
  ),
  Row(
    'T5-base',
    '85.97 20.90 85.44 75.64 28.37 41.37 28.98',
    start='t5.table14/base',
  ),
)

TABLES = (
  *(
    Table(f't5.table{number}', f'{title}; validation', TASKS, rows, RECIPE)
    for number, title, rows in (
      (11, 'rates of a mixture of all tasks (3.5.2)', TABLE11),
      (12, 'mixtures, then fine-tuning (3.5.3)', TABLE12),
      (13, 'four times the compute (3.6)', TABLE13),
    )
  ),
  Table(
    't5.table14',
    'the final models (3.7); test, SQuAD validation; ours is on validation',
    FINAL,
    TABLE14,
    RECIPE,
    note='For the answers to a test set: python -m train.evaluate --workdir=W '
    '--step=best --source=task:TASK@test --predictions=DIR. '
    'WSC is trained on its own examples, without those of DPR. WNLI is not '
    'trained on, and our average of GLUE is without it.',
  ),
  Table(
    't5.table15',
    'the baseline with as many tokens as T5 (3.7); validation',
    TASKS,
    TABLE15,
    RECIPE,
  ),
)
