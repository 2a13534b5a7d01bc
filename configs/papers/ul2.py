"""Table 2 of UL2 (Tay et al. 2022): objectives, in decoders and in pairs.

CLM and PLM are causal and prefix language modelling, SC is span corruption.
SCLM is half CLM, half SC. UniLM, after Dong et al. 2019, has CLM, PLM and
i.i.d. noise that is written out (4.1.2). Cells and what is pretrained are from
memory.
"""

from configs.papers.records import Column, Row, Table

_COLUMNS = (
  Column('SuperGLUE', 'super_glue'),
  Column('XSum', 'xsum', 'xsum/rougeLsum'),
  Column('SGD'),
  Column('ToTTo'),
)
_SYSTEM = 't5:base,version=1.1'
_RUN = {
  'model.activation': 'silu',  # 4.1.2: SwiGLU
  # A decoder of 163M parameters, an encoder-decoder of 304M; the paper's have
  # 167M and 335M (table 2), of unknown widths.
  'model.mlp_dim': 3072,
  'data.batch': 128,  # 4.1.1: rows of 512 tokens, 32B in all
  'train.steps': 500_000,
}
_DECODER = _RUN | {
  'model.family': 'decoder',
  'model.encoder_layers': 0,
  'model.decoder_layers': 12,
}
_TUNED = {
  'model.family': 'decoder',
  'model.encoder_layers': 0,
  'model.decoder_layers': 12,
  'data.length': 512 + 512,
}
_SEEN = {'model.prefix': True}
# Mode, rate, mean span, share: the shares of UniLM are ours, the paper does not
# say them.
_CAUSAL, _PREFIX = ('', 1.0, 0.0), ('', 0.0, 0.0)
SCLM = (*_CAUSAL, 1 / 2), ('', 0.15, 3.0, 1 / 2)
UNILM = (*_CAUSAL, 1 / 3), (*_PREFIX, 1 / 3), ('', 0.15, 'iid', 1 / 3)


def _row(name, cells, objective, denoisers=(), **more):
  """Two rows of a name differ in the architecture."""
  decoder = name.startswith('decoder')
  keys = dict(_DECODER if decoder else _RUN)
  tuned = dict(_TUNED) if decoder else {}
  if decoder and objective != 'causal':
    keys |= _SEEN
    tuned |= _SEEN
  if denoisers:
    keys['data.denoisers'] = denoisers
  config = f'ablations.py:{_SYSTEM},objective={objective}'
  return Row(name, cells, config, keys, tuned=tuned, **more)


_SC = 'span_corruption'
TABLE2 = Table(
  'ul2.table2',
  'objectives after 32B tokens',
  _COLUMNS,
  (
    _row('decoder-CLM', '62.24 28.18 55.44 59.40', 'causal'),
    _row('decoder-PLM', '62.44 28.21 55.55 59.52', 'prefix'),
    _row('decoder-SC', '67.67 29.14 55.48 60.47', _SC),
    _row('decoder-SCLM', '- - - -', 'ul2', SCLM),
    _row('decoder-UniLM', '- - - -', 'ul2', UNILM),
    _row('decoder-UL2', '- - - -', 'ul2'),
    _row('PLM', '69.3 - - -', 'prefix'),
    _row('SC', '72.0 - - -', _SC),
    _row('SCLM', '- - - -', 'ul2', SCLM),
    _row('UniLM', '- - - -', 'ul2', UNILM),
    _row('UL2', '73.1 - - -', 'ul2'),
  ),
  't5.py:version=1.1',
  memory=True,
  note="Fine-tuning is T5's: no source for the paper's is at hand. Decoders "
  'other than CLM read their inputs in both directions; their rows of 512 '
  'tokens hold inputs and targets.',
)
TABLES = (TABLE2,)
