"""Pretraining at many sizes: GPT-2, Chinchilla's runs, Kaplan et al.'s shapes.

Their papers compare losses of texts that are not public, so there are no cells.
"""

from configs import chinchilla
from configs.papers.records import ALONE, Column, Row, Table

_LOSS = (Column('loss', metric='loss'),)


def _shape(layers, width):
  """One of the models whose shapes Kaplan et al. compare; heads have 64 units.

  Batch, steps and warm-up are from memory, and so is the last layer of the
  schedule: a cosine to 0.
  """
  return Row(
    f'{layers}x{width}',
    '-',
    'gpt2.py:small',
    {
      'model.decoder_layers': layers,
      'model.embed_dim': width,
      'model.mlp_dim': 4 * width,
      'model.heads': width // 64,
      'model.kv_heads': width // 64,
      'train.steps': 250_000,
      'schedule.warmup_steps': 3000,
      'schedule.decay_steps': 0,
      'schedule.end_fraction': 0.0,
    },
  )


TABLES = (
  Table(
    'gpt2.table2',
    'the four sizes (Radford et al. 2019)',
    _LOSS,
    tuple(
      Row(size, '-', f'gpt2.py:{size}')
      for size in ('small', 'medium', 'large', 'xl')
    ),
    ALONE,
    texts=('WebText',),
    note="The paper has no recipe: steps, batch and rates are GPT-3's.",
  ),
  Table(
    'chinchilla.tableA9',
    'the 50 models that the law was fitted to (Hoffmann et al. 2022)',
    _LOSS,
    tuple(
      Row(size, '-', f'chinchilla.py:{size}')
      for size in chinchilla.SIZES
      if size not in ('70b', 'tiny')
    ),
    ALONE,
    texts=('MassiveText',),
    note='Each on twenty tokens for each parameter. The paper trained each for '
    'several lengths: --config.train.steps.',
  ),
  Table(
    'kaplan.shapes',
    'two shapes of 1.5B parameters (Kaplan et al. 2020, 3.1)',
    _LOSS,
    (_shape(48, 1600), _shape(6, 4288)),
    ALONE,
    texts=('WebText',),
    note='The losses of the two differ by less than 3%. Batch, steps and '
    'warm-up are from memory.',
  ),
)
