"""Supervised tuning of LLaMA on chats (Touvron et al. 2023b, 3.1).

`finetune/llama.py:[size=SIZE,][version=VERSION,]task=TASK`: TASK is
messages:FILE,validation=FILE or instructions:FILE,validation=FILE
(docs/instructions.md), or any labelled task. A file comes last, since what
follows it is its own. Sizes and versions are those of llama.py.

Version 2 is LLaMA 2-Chat's first step: two epochs over 27,540 chats, rows of
4,096 tokens in batches of 64, a cosine from 2e-5, loss on the answers alone
(3.1; memory). The paper fills its rows with several chats. Here a row has one,
so that epochs can be counted: to fill them set data.pack=True, train.epochs=0
and train.steps. The other versions take its recipe: 1 had no such step, and 3's
is published in part (1e-5 for 405B; Llama Team 2024, 4.1.3, memory). Chats are
written as each version's are; LLaMA 3's needs its tokenizer, so that `tiny`
takes LLaMA 2's.
"""

from ml_collections import ConfigDict

from configs import common, llama
from configs.finetune import recipe


def get_config(arg: str = '') -> ConfigDict:
  task, rest = recipe.split_arg(arg)
  c = llama.get_config(rest)
  version_3 = c.data.tokenizer_kind == 'byte_bpe'
  tiny = 'tiny' in rest
  c = recipe.read_task(c, task)

  c.data.objective = 'text_to_text'
  c.data.chat_template = 'llama3' if version_3 and not tiny else 'llama2'
  c.data.length = 4096  # 3.1
  c.data.batch = 64  # 3.1
  c.data.streams, c.data.block = 8, 2**12
  c.optimizer.weight_decay = 0.1  # 3.1
  c.schedule.name = 'cosine'  # 3.1
  c.schedule.learning_rate = 2e-5  # 3.1
  c.schedule.warmup_steps, c.schedule.end_fraction = 0, 0.1  # not stated
  c.train.epochs = 2.0  # 3.1
  if tiny:
    c.data.length, c.data.batch, c.data.streams = 128, 16, 4
    c.schedule.learning_rate = 1e-3
  return common.finish(c)
