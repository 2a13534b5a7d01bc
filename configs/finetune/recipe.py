"""What all fine-tuning recipes share: reading a task in place of text.

`train.finetune` opens the task, whose record decides the rest: the objective,
the head and its classes, and the lengths and steps that are 0 here.
"""

from ml_collections import ConfigDict

from configs import common

# Keys of data.* that a pretraining objective reads, and a task does not.
CLEARED = (
  *('sentinels', 'noise_density', 'mean_span_length', 'target_length'),
  *('document_tokens', 'denoisers', 'predictions', 'masking'),
  *('masked_share', 'random_share', 'whole_words', 'duplicates'),
  *('short_share', 'single_sentences', 'loss_on_inputs', 'concatenate'),
  *('holdout', 'documents'),
)
# Layouts of a user's own table: docs/tasks.md, or chats: docs/instructions.md.
TABLES = 'tsv', 'csv', 'jsonl', 'messages', 'instructions'


def split_arg(arg: str) -> tuple[str, str]:
  """The task in 'task=NAME,KEY=VALUE,...', and the rest.

  A user's own table has keys of its own, so it comes last.

  >>> split_arg('task=glue/rte,size=large')
  ('glue/rte', 'size=large')
  >>> split_arg('size=tiny,task=tsv:train.tsv,text=a,length=64')
  ('tsv:train.tsv,text=a,length=64', 'size=tiny')
  """
  for layout in TABLES:
    rest, found, table = arg.partition(f'task={layout}:')
    if found:
      break
  parts = [part for part in rest.split(',') if part]
  tasks = [p.removeprefix('task=') for p in parts if p.startswith('task=')]
  if len(tasks) + bool(found) > 1:
    raise ValueError(f'The config argument {arg!r} names several tasks.')
  rest = [part for part in parts if not part.startswith('task=')]
  task = f'{layout}:{table}' if found else ''.join(tasks)
  return task, ','.join(rest)


def read_task(config: ConfigDict, task: str) -> ConfigDict:
  """The pretraining config, unlocked, changed to read a task."""
  config.unlock()
  for key in CLEARED:
    config.data[key] = common.KEYS[f'data.{key}'].default
  config.data.source = f'task:{task}' if task else ''
  config.data.pack = False
  # One stream and one chunk: every epoch is a new order of all examples.
  config.data.streams, config.data.block = 1, 2**20
  config.data.length = 0  # the task's
  config.train.steps = 0  # those of train.epochs
  config.eval.samples = 0
  config.eval.every = config.checkpoint.every = 0  # an epoch
  config.checkpoint.best = 'score'
  config.checkpoint.keep = 1
  config.train.log_every = 20
  config.train.z_loss = 0.0
  config.train.phases, config.schedule.unit = (), 'steps'
  config.sharding.topology, config.train.accumulate = '', 1  # pretraining's
  config.sharding.mesh.data, config.sharding.mesh.fsdp = -1, 1
  return config
