"""What all alignment recipes share: reading preferences in place of text.

A recipe is for the model of any run or checkpoint: --from decides its sizes and
its tokenizer, and the argument its family.
"""

from ml_collections import ConfigDict

from configs import arguments, bert, common, llama, t5
from configs.finetune import recipe

FAMILIES = 'decoder', 'encoder_decoder', 'encoder'
SIZES = 'full', 'tiny'


def start(arg: str, head: str = 'lm') -> tuple[ConfigDict, str]:
  """'[family=FAMILY][,size=SIZE]' -> the config, unlocked, and the size.

  `size=tiny` has small batches and short rows (see `tiny`). An encoder is for a
  `head` that reads.
  """
  families = FAMILIES[: 3 if head == 'sequence' else 2]
  found = arguments.parse(arg, family=families, size=SIZES)
  family, size = found['family'], found['size']
  paper = {'decoder': llama, 'encoder_decoder': t5, 'encoder': bert}[family]
  c = recipe.read_task(paper.get_config('tiny'), '')
  c.data.source = ''  # --config.data.source=preferences:FILE.jsonl
  c.model.head, c.model.dropout, c.model.attention_dropout = head, 0.0, 0.0
  c.model.dtype = 'bfloat16'
  c.data.holdout, c.data.concatenate = 50, False
  c.data.max_bad_share = 0.05  # pairs of equal answers are common
  c.data.length, c.data.batch = 1024, 64
  c.data.target_length = 512 if family == 'encoder_decoder' else 0
  c.data.framing = 'bert' if family == 'encoder' else ''
  c.checkpoint.best = ''
  c.checkpoint.keep = 2
  c.train.log_every = 10
  return c, size


def tiny(c: ConfigDict) -> None:
  """A run of minutes on two CPU cores."""
  c.model.dtype = 'float32'
  c.data.length, c.data.batch, c.data.holdout = 64, 16, 10
  c.data.target_length = 32 if c.data.target_length else 0
  c.schedule.learning_rate, c.train.epochs = 1e-4, 3.0


def adamw(c: ConfigDict, rate: float, warmup_share: float = 0.1) -> None:
  """AdamW with a rate that rises and falls on lines."""
  for key in c.optimizer:
    c.optimizer[key] = common.base().optimizer[key]
  for key in c.schedule:
    c.schedule[key] = common.base().schedule[key]
  c.optimizer.name = 'adamw'
  c.optimizer.b1, c.optimizer.b2, c.optimizer.epsilon = 0.9, 0.999, 1e-8
  c.optimizer.bias_correction = True
  c.optimizer.weight_decay, c.optimizer.clip = 0.0, 1.0
  c.schedule.name, c.schedule.learning_rate = 'linear', rate
  c.schedule.end_fraction = 0.0
  c.train.warmup_share = warmup_share


def rewarded(arg: str, method: str) -> tuple[ConfigDict, str]:
  """`start` for a method that learns from answers which the model writes.

  Its prompts are the inputs of text-to-text tasks, whose targets rules compare
  answers with, or those of preferences. AdamW has a constant rate: there is no
  last step that is known before.
  """
  c, size = start(arg, 'lm_value' if method == 'ppo' else 'lm')
  c.data.objective = 'text_to_text'
  c.data.holdout = 0
  c.align.method = method
  c.align.rewards = (('exact', 1.0),)
  c.align.epochs = c.align.minibatches = 1
  c.data.length, c.align.answer_length = 512, 512
  if c.model.family == 'encoder_decoder':
    c.data.target_length = 512
  adamw(c, rate=1e-6, warmup_share=0.0)
  c.schedule.name, c.schedule.warmup_steps = 'constant', None
  c.schedule.end_fraction = None
  c.train.steps, c.train.log_every = 1000, 1
  c.eval.every = c.checkpoint.every = 100
  if size == 'tiny':
    c.model.dtype = 'float32'
    c.data.length, c.align.answer_length = 32, 16
    if c.model.family == 'encoder_decoder':
      c.data.target_length = 16
    c.schedule.learning_rate = 1e-4
    c.train.steps, c.eval.every, c.checkpoint.every = 20, 20, 10
  return c, size
