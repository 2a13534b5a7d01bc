"""Tables of T5 (Raffel et al. 2020): 1, 2 and 4 to 10; t5_scale.py: 11 to 15.

Cells are from a copy of the paper, on validation splits. The baseline (3.1)
pretrains for 2^19 steps, then learns each task alone for 2^18 steps; each task
takes the checkpoint that is best for it (3.1.3).
"""

from configs.papers.records import Column, Row, Table

TASKS = (
  Column('GLUE', 'glue'),
  Column('CNNDM', 'cnn_dailymail', 'cnn_dailymail/rouge2'),
  Column('SQuAD', 'squad/v1.1', 'squad/v1.1/exact_match'),
  Column('SGLUE', 'super_glue'),
  Column('EnDe', 'wmt/en_de', 'wmt/en_de/bleu'),
  Column('EnFr', 'wmt/en_fr', 'wmt/en_fr/bleu'),
  Column('EnRo', 'wmt/en_ro', 'wmt/en_ro/bleu'),
)
BASELINE = 't5.table1/baseline'
OURS = 't5.py:base,recipe=baseline'
REACHED = '83.28 19.24 80.88 71.36 26.98 39.82 27.65'
RECIPE = 't5.py'


def _baseline(name, **more):
  """A row that is the baseline under another name."""
  return Row(name, REACHED, same=BASELINE, **more)


def _objective(name, numbers, objective, keys=(), **more):
  """A row that changes the baseline's objective alone."""
  config = f'ablations.py:t5:base,recipe=baseline,objective={objective}'
  return Row(name, numbers, config, dict(keys), **more)


# ---- Table 2 (3.2) ----
_SHARED = {'model.shared_stacks': True}  # the published code's bi_v1_shared.gin
_HALF = {'model.encoder_layers': 6, 'model.decoder_layers': 6}
_DECODER = {
  'model.family': 'decoder',
  'model.encoder_layers': 0,
  'model.decoder_layers': 12,
}
_PREFIX = {'model.prefix': True}
_INPUTS = {'data.loss_on_inputs': True}  # the published code's lm_v1.gin
# A row holds the inputs, 512 tokens, and the targets.
_DENOISING = {'data.length': 512 + 192}
_TUNED = _DECODER | {'data.length': 512 + 512}

TABLE2 = (
  _baseline('encoder-decoder-denoising'),
  Row(
    'shared-denoising',
    '82.81 18.78 80.63 70.73 26.72 39.03 27.46',
    OURS,
    _SHARED,
  ),
  Row(
    '6-layers-denoising',
    '80.88 18.97 77.59 68.42 26.38 38.40 26.95',
    OURS,
    _HALF,
  ),
  Row(
    'decoder-denoising',
    '74.70 17.93 61.14 55.02 25.09 35.28 25.86',
    OURS,
    _DECODER | _DENOISING | _INPUTS,
    tuned=_TUNED | _INPUTS,
  ),
  Row(
    'prefix-decoder-denoising',
    '81.82 18.61 78.94 68.11 26.43 37.98 27.39',
    OURS,
    _DECODER | _DENOISING | _PREFIX,
    tuned=_TUNED | _PREFIX,
  ),
  _objective(
    'encoder-decoder-LM', '79.56 18.59 76.02 64.29 26.27 39.17 26.86', 'prefix'
  ),
  _objective(
    'shared-LM',
    '79.60 18.13 76.35 63.50 26.62 39.17 27.05',
    'prefix',
    _SHARED,
  ),
  _objective(
    '6-layers-LM',
    '78.67 18.26 75.32 64.06 26.13 38.42 26.89',
    'prefix',
    _HALF,
  ),
  _objective(
    'decoder-LM',
    '73.78 17.54 53.81 56.51 25.23 34.31 25.38',
    'causal',
    _DECODER,
    tuned=_TUNED | _INPUTS,
  ),
  _objective(
    'prefix-decoder-LM',
    '79.68 17.84 76.87 64.86 26.28 37.51 26.76',
    'prefix',
    _DECODER | _PREFIX,
    tuned=_TUNED | _PREFIX,
  ),
)

# ---- Tables 4 to 7: objectives (3.3) ----
TABLE4 = (
  _objective(
    'prefix-LM', '80.69 18.94 77.99 65.27 26.86 39.73 27.49', 'prefix'
  ),
  _objective(
    'BERT-style', '82.96 19.17 80.65 69.85 26.78 40.03 27.41', 'bert_style'
  ),
  _objective(
    'deshuffling', '73.17 18.59 67.61 58.47 26.11 39.30 25.62', 'deshuffling'
  ),
)
TABLE5 = (
  Row('BERT-style', TABLE4[1].cells, same='t5.table4/BERT-style'),
  _objective(
    'MASS-style', '82.32 19.16 80.10 69.28 26.79 39.89 27.55', 'mass_style'
  ),
  _baseline('replace-spans'),
  _objective(
    'drop-tokens', '84.44 19.31 80.52 68.67 27.07 39.76 27.82', 'drop_tokens'
  ),
)


def _noise(density, length, **keys):
  return {'data.noise_density': density, 'data.target_length': length, **keys}


# The lengths of targets are the published code's. If a quarter or half of the
# tokens are corrupted one by one, there are up to 123 or 151 spans, more than
# the 100 sentinels (extra_ids of iid_25_u_u.gin and iid_50_u_u.gin). The code
# counts ids down from the end of the vocabulary, so that others are pieces.
_BORROW = {'data.borrow_sentinels': True}
_BORROWED = (
  'Spans after the hundredth are marked by ordinary pieces, from id 31999 '
  'down, as in the published code.'
)
TABLE6 = (
  Row(
    '10%', '82.82 19.00 80.38 69.55 26.87 39.28 27.44', OURS, _noise(0.1, 103)
  ),
  _baseline('15%'),
  Row(
    '25%',
    '83.00 19.54 80.96 70.48 27.04 39.83 27.47',
    OURS,
    _noise(0.25, 256, **_BORROW),
    note=_BORROWED,
  ),
  Row(
    '50%',
    '81.27 19.32 79.80 70.33 27.01 39.90 27.49',
    OURS,
    _noise(0.5, 512, **_BORROW),
    note=_BORROWED,
  ),
)
TABLE7 = (
  _baseline('iid'),
  *(
    _objective(
      f'span-{length}',
      numbers,
      'span_corruption',
      {'data.mean_span_length': float(length)},
    )
    for length, numbers in (
      (2, '83.54 19.39 82.09 72.20 26.76 39.99 27.63'),
      (3, '83.49 19.62 81.84 72.53 26.86 39.65 27.62'),
      (5, '83.40 19.24 82.05 72.23 26.88 39.40 27.53'),
      (10, '82.85 19.33 81.84 70.44 26.79 39.49 27.69'),
    )
  ),
)


# ---- Tables 8 and 9: data (3.4) ----
def _source(name):
  return {'data.source': f'tfds:{name}'}


TABLE8 = (
  _baseline('C4'),
  Row(
    'C4-unfiltered',
    '81.46m 19.14m 78.78m 68.04m 26.55m 39.34m 27.21m',
    why='6.1 TB of unfiltered text were not published: TFDS builds them '
    'from Common Crawl (c4/en.noclean) on a cluster.',
  ),
  Row(
    'RealNews-like',
    '83.83m 19.23m 80.39m 72.38m 26.75m 39.90m 27.48m',
    OURS,
    _source('c4/realnewslike'),
  ),
  Row(
    'WebText-like',
    '84.03 19.31 81.42 71.40 26.80 39.74 27.59',
    OURS,
    _source('c4/webtextlike'),
    note='TFDS builds this set from twelve dumps of Common Crawl.',
  ),
  Row(
    'Wikipedia',
    '81.85 19.31 81.29 68.01 26.94 39.69 27.67',
    OURS,
    _source('wikipedia/20190301.en') | {'data.holdout': 1000},
  ),
  Row(
    'Wikipedia-TBC',
    '83.65 19.28 82.08 73.24 26.77 39.63 27.57',
    why='The Toronto Books Corpus is no longer published.',
  ),
)
TOKENS = 480  # of a document of C4, on average
TABLE9 = (
  _baseline('full'),
  *(
    Row(
      f'2^{power}-tokens',
      numbers,
      OURS,
      {'data.documents': 2**power // TOKENS},
      note=f'Documents of {TOKENS} tokens, the average of C4, are counted.',
    )
    for power, numbers in (
      (29, '82.87 19.19 80.97 72.03 26.83 39.74 27.63'),
      (27, '82.62 19.20 79.78 69.97 27.02 39.71 27.33'),
      (25, '79.55 18.57 76.27 64.76 26.38 39.56 26.80'),
      (23, '76.34 18.33 70.92 59.29 26.37 38.84 25.81'),
    )
  ),
)


# ---- Table 10: what is trained (3.5.1) ----
def _adapters(width, numbers, **more):
  tuned = {'tuning.train': 'adapters', 'model.adapter_dim': width}
  return Row(f'adapters-{width}', numbers, start=BASELINE, tuned=tuned, **more)


_ODD = 'A copy of the paper prints the cells of width 128: likely a mistake.'
TABLE10 = (
  _baseline('all-parameters'),
  _adapters(32, '80.52 15.08 79.32 60.40 13.84 17.88 15.54'),
  _adapters(128, '81.51 16.62 79.47 63.03 19.83 27.50 22.63'),
  _adapters(512, '81.54 17.78 79.18 64.30 23.45 33.98 25.81'),
  _adapters(2048, '81.51 16.62 79.47 63.03 19.83 27.50 22.63', note=_ODD),
  Row(
    'gradual-unfreezing',
    '82.50 18.95 79.17 70.79 26.71 39.02 26.93',
    start=BASELINE,
    tuned={'tuning.train': 'unfreezing'},
  ),
)

# ---- Table 1: the baseline (3.1) ----
TABLE1 = (
  Row('baseline', REACHED, OURS),
  Row(
    'standard-deviation',
    '.235 .065 .343 .416 .112 .090 .108',
    why='It is the spread over ten runs of the baseline, each pretrained '
    'and fine-tuned with its own seed (--config.seed).',
  ),
  Row(
    'no-pretraining',
    '66.22 17.60 50.31 53.04 25.86 39.77 24.04',
    start=BASELINE,
    flags=('--scratch',),
    note="The vocabulary is the baseline's.",
  ),
)

TABLES = tuple(
  Table(f't5.table{number}', f'{title}; validation', TASKS, rows, RECIPE)
  for number, title, rows in (
    (1, 'the baseline (3.1)', TABLE1),
    (2, 'architectures (3.2)', TABLE2),
    (4, 'kinds of objectives (3.3.1)', TABLE4),
    (5, "simpler forms of BERT's objective (3.3.2)", TABLE5),
    (6, 'how much is corrupted (3.3.3)', TABLE6),
    (7, 'lengths of corrupted spans (3.3.4)', TABLE7),
    (8, 'sources of text (3.4.1)', TABLE8),
    (9, 'repeated text (3.4.2)', TABLE9),
    (10, 'what is fine-tuned (3.5.1)', TABLE10),
  )
)
