"""Fine-tuning BERT (Devlin et al. 2019, 4 and A.3).

`finetune/bert.py:[size=SIZE,][vocabulary=...,]task=TASK`: docs/tasks.md lists
the tasks, and --config.data.source=task:... names any other. Sizes are those of
`bert.py`. They count only without --from: a checkpoint decides the sizes of its
model.

GLUE: 3 epochs of batches of 32, the rate that is best on the validation split
(4.1). SQuAD 1.1: rate 5e-5, 3 epochs (4.2); 2.0: batches of 48, 2 epochs (4.3).
SWAG: 2e-5, batches of 16 (4.4). --grid=recipe is the grid of A.3, or that of
the miniatures (README of the release).
Reached: GLUE test 79.6 (base), 82.1 (large); see `configs.papers bert.table1`.
"""

import itertools
from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import arguments, bert, common
from configs.finetune import recipe

# task: rate, batch, epochs.
OWN = {
  'squad/v1.1': (5e-5, 32, 3.0),  # 4.2
  'squad/v2.0': (5e-5, 48, 2.0),  # 4.3
  'swag': (2e-5, 16, 3.0),  # 4.4
}
# README of the miniatures: each is trained for 4 epochs.
MINIATURES = {
  'schedule.learning_rate': (3e-4, 1e-4, 5e-5, 3e-5),
  'data.batch': (8, 16, 32, 64, 128),
  'train.epochs': (4.0,),
}


def get_config(arg: str = '') -> ConfigDict:
  task, rest = recipe.split_arg(arg)
  c = recipe.read_task(bert.get_config(rest), task)
  rate, batch, epochs = OWN.get(task, (3e-5, 32, 3.0))

  c.model.head = 'sequence'
  c.model.remat = 'auto'  # large's is for pretraining's batches
  c.checkpoint.best = ''  # the last one
  c.data.framing = 'bert'
  c.data.label_scale = 1.0
  c.data.batch = batch
  c.train.epochs = epochs
  c.schedule.learning_rate = rate
  c.train.warmup_share = 0.1  # the published code's
  return common.finish(c)


def sweep(arg: str = '') -> Iterator[dict[str, float]]:
  """The grid of A.3; of the miniatures theirs. `arg` is that of get_config."""
  size = arguments.parse(
    recipe.split_arg(arg)[1],
    size=('base', *bert.SIZES, *bert.GRID),
    vocabulary=('uncased', 'cased'),
    length=('512', '128'),
  )['size']
  if size not in ('base', 'large', 'tiny'):
    for values in itertools.product(*MINIATURES.values()):
      yield dict(zip(MINIATURES, values, strict=True))
    return
  for batch in (16, 32):
    for rate in (5e-5, 3e-5, 2e-5):
      for epochs in (2.0, 3.0, 4.0):
        yield {
          'data.batch': batch,
          'schedule.learning_rate': rate,
          'train.epochs': epochs,
        }
