"""Fine-tuning ELECTRA's discriminator (Clark et al. 2020, table 7).

`finetune/electra.py:[size=SIZE,]task=TASK`. Rates fall layer by layer from the
head down. RTE and STS-B take 10 epochs, SQuAD 2, others 3. The labels of STS-B
are divided by 5. The head reads [CLS] itself, as in the published code, which
trains on the pairs of MRPC and STS-B in both orders (double_unordered). SQuAD
has its joint head: an end depends on the start, and a class says whether there
is an answer; rows have 512 tokens.
Reached: see `configs.papers electra.table2`.
"""

from ml_collections import ConfigDict

from configs import arguments, common, electra
from configs.finetune import recipe

# size: rate, decay from layer to layer. Table 7.
RATES = {
  'tiny': (3e-4, 0.8),
  'small': (3e-4, 0.8),
  'base': (1e-4, 0.8),
  'large': (5e-5, 0.9),
}
UNORDERED = 'glue/mrpc', 'glue/stsb'  # the published code's
EPOCHS = {'glue/rte': 10.0, 'glue/stsb': 10.0}  # table 7


def get_config(arg: str = '') -> ConfigDict:
  task, rest = recipe.split_arg(arg)
  size = arguments.parse(rest, size=('base', 'tiny', 'small', 'large'))['size']
  c = recipe.read_task(electra.get_config(rest), task)

  c.model.family = 'encoder'  # the discriminator alone
  c.model.generator_divisor = 0
  c.model.head = 'sequence'
  c.model.pooler = False
  c.checkpoint.best = ''  # the last one
  if task.startswith('squad/'):
    c.model.head, c.model.pooler = 'span_joint', True
    c.data.length = min(512, c.model.max_length)  # the published code's
  c.data.framing = 'bert'
  c.data.orders = 'each' if task in UNORDERED else ''
  c.data.label_scale = 5.0  # the published code's
  c.data.batch = 32
  c.train.epochs = 2.0 if task.startswith('squad/') else EPOCHS.get(task, 3.0)
  c.schedule.learning_rate, c.tuning.layer_decay = RATES[size]
  c.train.warmup_share = 0.1
  c.optimizer.weight_decay = 0.0  # table 7
  return common.finish(c)
