"""Fine-tuning RoBERTa (Liu et al. 2019, 5).

`finetune/roberta.py:[size=SIZE,]task=TASK`. GLUE: rates, batches, updates and
warm-up of the published configs, which stop after 10 epochs at most (table 10).
RTE, MRPC and STS-B start from the model that learned MNLI: `--from` its workdir
(5.1). --grid=recipe is the grid of table 10. SQuAD: rate 1.5e-5, batches of 48,
2 epochs (table 10). RACE: rate 1e-5, batches of 16, 4 epochs (table 10, from
memory).
Reached: see `configs.papers roberta.table4`.
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import common, roberta
from configs.finetune import recipe

# task: rate, batch, updates, warm-up (examples/roberta/config/finetuning).
UPDATES = {
  'glue/cola': (1e-5, 16, 5336, 320),
  'glue/mnli': (1e-5, 32, 123873, 7432),
  'glue/mrpc': (1e-5, 16, 2296, 137),
  'glue/qnli': (1e-5, 32, 33112, 1986),
  'glue/qqp': (1e-5, 32, 113272, 28318),
  'glue/rte': (2e-5, 16, 2036, 122),
  'glue/sst2': (1e-5, 32, 20935, 1256),
  'glue/stsb': (2e-5, 16, 3598, 214),
}


def get_config(arg: str = '') -> ConfigDict:
  task, rest = recipe.split_arg(arg)
  c = recipe.read_task(roberta.get_config(rest), task)

  c.model.head = 'sequence'
  c.data.framing = 'roberta'
  c.data.length = min(512, c.model.max_length - 2)  # of the published model
  c.data.label_scale = 1.0
  c.optimizer.weight_decay = 0.1  # table 10
  c.schedule.warmup_steps = 0
  if task in UPDATES:
    own = UPDATES[task]
    c.schedule.learning_rate, c.data.batch, c.train.steps = own[:3]
    c.schedule.warmup_steps = own[3]
  elif task.startswith('squad/'):
    c.schedule.learning_rate, c.data.batch, c.train.epochs = 1.5e-5, 48, 2.0
    c.optimizer.weight_decay = 0.01  # table 10
  elif task.startswith('race/'):  # table 10, from memory
    c.schedule.learning_rate, c.data.batch, c.train.epochs = 1e-5, 16, 4.0
  else:
    c.schedule.learning_rate, c.data.batch, c.train.epochs = 1e-5, 32, 10.0
  if c.train.epochs:
    c.train.warmup_share = 0.06  # table 10
  return common.finish(c)


def sweep(arg: str = '') -> Iterator[dict[str, float]]:
  """The grid of table 10 for GLUE: 10 epochs, warm-up over 6% of the steps.

  Raises:
    ValueError: the task is SQuAD or RACE, which have one setting.
  """
  task, _ = recipe.split_arg(arg)
  if task.startswith(('squad/', 'race/')):
    raise ValueError(
      f'--grid=recipe: table 10 has one setting for {task}, that of the '
      'recipe: leave the flag out, or give --grid=KEY=VALUE,VALUE.'
    )
  for rate in (1e-5, 2e-5, 3e-5):
    for batch in (16, 32):
      yield {
        'name': (
          f'learning_rate={rate},batch={batch},epochs=10.0,warmup_share=0.06'
        ),
        'schedule.learning_rate': rate,
        'data.batch': batch,
        'train.epochs': 10.0,
        'train.steps': 0,  # in place of the updates of UPDATES
        'train.warmup_share': 0.06,
      }
