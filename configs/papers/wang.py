"""Three architectures and three objectives (Wang et al. 2022), untuned.

"What Language Model Architecture and Pretraining Objective Work Best for
Zero-Shot Generalization?". CD, ND and ED are a causal decoder, a decoder whose
inputs see one another, and an encoder-decoder; FLM, PLM and MLM are causal
language modelling, prefix language modelling and T5's span corruption. The
paper then tunes each model on T0's tasks, which Treeline does not have.

Lengths, batches, steps and dropout are those of the authors' code
(bigscience/gins of architecture-objective), the models those of its README. The
sizes are from memory; they give the paper's 4.8B and 11.0B parameters.
Positions are T5's relative bias, as in the paper.
"""

from configs.papers.records import ALONE, Column, Row, Table

# Averages over the tasks of T0 and of EleutherAI's harness, without examples.
_COLUMNS = Column('T0-Eval'), Column('EAI-Eval')
# T5 1.1's largest model, with one table for inputs and outputs, in T5's C4.
_SYSTEM = 't5:11b,version=1.1'
_STEPS = 131_072  # of 2,048 rows of 626 tokens: 168B tokens
_FURTHER = 171_008  # 51B more
_SHARED = {
  'model.tie_embeddings': True,
  'model.scale_output': True,  # as T5 does where the table is shared
  'train.steps': _STEPS,
  'data.sentinels': 100,  # all have T5's vocabulary
}
_DECODER = _SHARED | {
  'model.family': 'decoder',
  'model.encoder_layers': 0,
  'model.decoder_layers': 24,
  'data.length': 626,  # span corruption's inputs and targets together
}
# One model under two masks: its relative bias counts one direction.
_SEEN = {'model.prefix': True, 'model.causal_bias': True}


def _row(name, cells, objective, keys, **more):
  config = f'ablations.py:{_SYSTEM},objective={objective}'
  return Row(name, cells, config, keys, recipe=ALONE, **more)


def _further(name, before, objective, keys, **more):
  """A row that begins where another one ends, with another objective."""
  keys = keys | {'train.steps': _FURTHER}
  start = f'wang.pretraining/{before}'
  return _row(name, '- -', objective, keys, start=start, **more)


_MLM = 'span_corruption'
PRETRAINING = Table(
  'wang.pretraining',
  'architecture and objective after 168B tokens, zero-shot',
  _COLUMNS,
  (
    _row('CD-FLM', '42.4 44.2', 'causal', _DECODER),
    _row('ND-PLM', '41.8 43.5', 'prefix', _DECODER | _SEEN),
    _row(
      'ED-PLM',
      '41.7 39.9',
      'prefix',
      # Two texts share a row, so there are half as many rows.
      _SHARED | {'data.length': 626, 'data.batch': 1024},
    ),
    _row('CD-MLM', '- -', _MLM, _DECODER),
    _row('ND-MLM', '- -', _MLM, _DECODER | _SEEN),
    _row('ED-MLM', '- -', _MLM, _SHARED),
  ),
  ALONE,
  memory=True,
  note='A text ends with EOS here, and a prefix with another one.',
)
ADAPTATION = Table(
  'wang.adaptation',
  'a trained decoder goes on with another mask and objective',
  _COLUMNS,
  (
    Row('CD-FLM', '42.4 44.2', same='wang.pretraining/CD-FLM'),
    _further('CD-FLM-219B', 'CD-FLM', 'causal', _DECODER),
    _further(
      'CD-FLM-ND-MLM',
      'CD-FLM',
      _MLM,
      _DECODER | _SEEN,
      note='Non-causal MLM adaptation: 168B tokens, then 51B.',
    ),
    _further(
      'ND-MLM-CD-FLM',
      'ND-MLM',
      'causal',
      _DECODER,
      note='Language modelling adaptation. How long it takes is ours: as long '
      'as the other.',
    ),
  ),
  ALONE,
  memory=True,
)
TABLES = PRETRAINING, ADAPTATION
