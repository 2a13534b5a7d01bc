"""Fine-tuning GPT-1 (Radford et al. 2018, 3.2, 3.3 and 4.1).

`finetune/gpt1.py:[size=SIZE,]task=TASK`: 3 epochs of batches of 32, rate
6.25e-5, warm-up over 0.2% of the steps, then a line to 0. A text begins with a
start token, a delimiter stands between two, and the class is read from an
extract token at the end: three new rows of the table. The loss of the text
itself is added with weight 0.5, except for numbers (STS-B) and choices. --from
takes a workdir; convert a published checkpoint to one with
`python -m models.pretrained --from=CHECKPOINT --workdir=RUN`.

Sentences that are compared (MRPC, QQP, STS-B) have no order: both are read, and
the two vectors at their ends are added before the classes (3.3).
Reached: GLUE 72.8; see `configs.papers gpt1.glue`.
"""

from ml_collections import ConfigDict

from configs import common, gpt1
from configs.finetune import recipe

SIMILARITY = 'glue/mrpc', 'glue/qqp', 'glue/stsb'  # 4.2


def get_config(arg: str = '') -> ConfigDict:
  task, rest = recipe.split_arg(arg)
  c = recipe.read_task(gpt1.get_config(rest), task)

  c.model.vocab_size += 3  # start, delimiter, extract
  c.model.head = 'sequence_lm'  # 3.2
  c.checkpoint.best = ''  # the last one
  c.data.start = 'pad'  # not read: the frame begins a text
  c.data.framing = 'gpt1'
  c.data.length = c.model.max_length  # 4.1: contexts of 512 tokens
  c.data.orders = 'both' if task in SIMILARITY else ''  # 3.3
  c.data.label_scale = 1.0
  c.data.batch = 32  # 4.1
  c.train.epochs = 3.0  # 4.1
  c.schedule.name = 'linear'  # 4.1
  c.schedule.learning_rate = 6.25e-5  # 4.1
  c.train.warmup_share = 0.002  # 4.1
  return common.finish(c)
