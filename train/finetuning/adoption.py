"""What a fine-tuning config takes from its task, and from its checkpoint."""

import itertools
import math
import os

from ml_collections import ConfigDict

from input_pipeline import tokenizing
from input_pipeline.chat import templates
from input_pipeline.choices import PAIRS, PREFERENCES
from input_pipeline.config import data_config
from input_pipeline.instructions.wording import Draw
from input_pipeline.sources import labelled, paths
from input_pipeline.streams.chunks import kept
from input_pipeline.tasks.task import Task
from input_pipeline.tokenizers import kinds
from input_pipeline.tokenizers.settings import CHAT_TEMPLATE
from train.runs import adapters, warm_start, warm_start_tokenizer, workdir
from train.settings import HEADS, OWN

# Keys of the data that belong to a checkpoint's tokenizer.
TOKENIZER = ('tokenizer_kind', 'lowercase', 'sentinels', 'start', 'bos')
NEW_ROWS = 3  # start, delimiter and extract of data.framing='gpt1'


def resolve(config: ConfigDict) -> ConfigDict:
  """The config, with the keys that its task decides filled in.

  An encoder, or a decoder with a head, gets the objective, the head, the number
  of classes and `data.choices`. Lengths of 0 become the task's. `train.epochs`
  and `train.warmup_share` become steps; `eval.every` and `checkpoint.every` of
  0 become an epoch.

  Raises:
    ValueError: no task is named, or it cannot be read; epochs cannot be counted
      or stand beside steps (see `resolve_steps`).
  """
  config = config.copy_and_resolve_references().unlock()
  opened = labelled.fill_in(config.data, config.model.family)
  if config.data.objective not in PAIRS:
    _resolve_head(config, opened[0].task)
  resolve_steps(config, sum(_rows(source, config) for source in opened))
  return config.lock()


def _rows(source: labelled.Labelled, config: ConfigDict) -> int:
  """How many rows the examples of a source make, where all of them fit."""
  examples, task = source.examples, source.task
  holdout = config.data.holdout
  if holdout and not (config.eval.source or source.validation):
    examples = [x for n, x in enumerate(examples) if kept(n, holdout, False)]
  if config.data.documents:  # so many are read
    examples = examples[: config.data.documents]
  if config.data.objective not in PAIRS:
    return len(examples) * (1 + (config.data.orders == 'each'))
  if not task.chats:
    return sum(len(task.text_to_text(example)) for example in examples)
  if config.model.family != 'encoder_decoder':
    return len(examples)
  chats = (task.chats(example, Draw(None)) for example in examples)
  return sum(
    message['role'] == 'assistant'
    for chat in itertools.chain.from_iterable(chats)
    for message in chat
  )


def _resolve_head(config: ConfigDict, task: Task) -> None:
  """The head that a task needs, and its classes."""
  if task.kind not in HEADS:
    raise ValueError(
      f'Task {task.name} is text to text alone, and no head learns it: take '
      '--config=finetune/t5.py, or another model that writes.'
    )
  heads = HEADS[task.kind]
  if task.kind != 'classification' and config.model.head not in heads:
    config.model.head = heads[0]
  config.model.classes = {
    'classification': len(task.labels),
    'tagging': len(task.labels),
    'regression': 1,
  }.get(task.kind, 0)
  if config.model.head not in ('sequence', 'choice'):
    config.model.pooler, config.model.pooler_dropout = True, False


def resolve_steps(config: ConfigDict, examples: int) -> None:
  """Turns epochs and shares into steps, and intervals of 0 into an epoch.

  An epoch is so many `examples`, each a row. Raises ValueError for epochs
  beside steps, and where a row has several examples, so that an epoch has an
  unknown number of steps.
  """
  train = config.train
  if train.epochs and train.steps:
    raise ValueError(
      f'train.steps is {train.steps:,}, but train.epochs={train.epochs} decides'
      ' the steps: set train.epochs=0 to train so many steps, or train.steps=0.'
    )
  if train.epochs and config.data.pack:
    raise ValueError(
      f'train.epochs is {train.epochs}, but with data.pack=True a row has '
      'several examples, and the steps of an epoch are unknown: set '
      'train.steps and train.epochs=0, or data.pack=False.'
    )
  epoch = math.ceil(examples / config.data.batch)
  if train.epochs:
    train.steps = math.ceil(train.epochs * examples / config.data.batch)
    train.epochs = 0.0
  if train.warmup_share:
    config.schedule.warmup_steps = int(train.warmup_share * train.steps)
    train.warmup_share = 0.0
  config.eval.every = config.eval.every or epoch
  config.checkpoint.every = config.checkpoint.every or config.eval.every


def is_published(source: str) -> bool:
  """Whether --from names a published checkpoint, and not a workdir."""
  return paths.is_folder(source) and not paths.is_folder(
    os.path.join(source, 'checkpoints')
  )


def adopt(config: ConfigDict, source: str, scratch: bool = False) -> ConfigDict:
  """The config with the model and the tokenizer of `source`; '': unchanged.

  `source` is a workdir; see `pretrained.adopt` for published checkpoints. With
  `scratch`, data.tokenizer names its tokenizer, which otherwise comes with its
  parameters.

  Raises:
    ValueError: there is no such folder, it is of another family, or it has no
      tokenizer.
  """
  if not source:
    return config
  folder, step = warm_start.parse(source)
  if not paths.is_folder(folder):
    raise ValueError(f'--from={source}: there is no folder {folder}.')
  checkpoints = adapters.open_checkpoints(folder, read_only=True)
  saved = checkpoints.run(checkpoints.find(step))
  theirs = workdir.checked(saved['config'], "The checkpoint's config")
  family = theirs.model.family
  if family == 'electra' and config.model.family == 'encoder':
    family = 'encoder'  # the discriminator
  if family != config.model.family:
    advice = 'use a recipe of that family.'
    if config.align.method:
      advice = (
        "give the recipe that run's family=. align/ has decoder and "
        'encoder_decoder, align/reward.py encoder too, and no other.'
      )
    raise ValueError(
      f'--from={source} has model.family={theirs.model.family!r}, but the '
      f'config has {config.model.family!r}: {advice}'
    )
  config = config.copy_and_resolve_references().unlock()
  own = {*OWN, 'family'} - {'scan'}
  own |= {key for key in theirs.model if key.startswith('generator')}
  if config.data.framing:
    own |= {'start', 'bos'}  # the frame begins a text
  with config.ignore_type():
    for group, keys in (
      ('model', sorted({*theirs.model} - own)),
      ('data', [key for key in TOKENIZER if key not in own]),
    ):
      for key in keys:
        ours, new = config[group][key], theirs[group][key]
        if key == 'vocab_size' and config.data.framing == 'gpt1':
          new += NEW_ROWS
        if ours != new:
          print(f'{group}.{key}: {new!r} (the config had {ours!r})')
          config[group][key] = new
    if config.data.objective == 'text_to_text' or _compares(config):
      _adopt_template(config, folder, theirs)
    if scratch:
      _keep_tokenizer(config, folder, theirs)
  return config.lock()


def _compares(config):
  """Whether a model that reads chats learns from preferences."""
  compared = config.data.objective in PREFERENCES
  return compared and config.model.family != 'encoder'


def _adopt_template(config: ConfigDict, folder: str, theirs: ConfigDict):
  """Writes chats as the checkpoint's run did, unless the config says how."""
  name = theirs.data.chat_template
  if not name or config.data.chat_template:
    return
  kept = os.path.join(folder, CHAT_TEMPLATE)
  config.data.chat_template = kept if paths.exists(kept) else name
  print(
    f"data.chat_template: {config.data.chat_template!r} (the config had '')"
  )


def adopt_published_template(
  config: ConfigDict, folder: str, source: str
) -> ConfigDict:
  """Writes chats as a published checkpoint does, unless the config says how.

  A run that has begun in `folder` goes on with what it has.
  """
  reads = config.data.objective == 'text_to_text' or _compares(config)
  if config.data.chat_template or not reads:
    return config
  if paths.exists(os.path.join(folder, workdir.NAME)):
    name = workdir.read_config(folder).data.chat_template
  else:  # that of the tokenizer, which is the checkpoint's unless it is named
    place = config.data.tokenizer or source
    name = templates.OWN if templates.read(place) else ''
    if not name and templates.read(source):
      print(
        f'The chat template of {source} is left out: data.tokenizer={place!r} '
        'has none. Set data.chat_template to write chats by one.'
      )
  if not name:
    return config
  config = config.copy_and_resolve_references().unlock()
  config.data.chat_template = name
  print(
    f"data.chat_template: {name!r} (the config had ''; 'plain' leaves the "
    "checkpoint's out)"
  )
  return config.lock()


def _keep_tokenizer(config: ConfigDict, folder: str, theirs: ConfigDict):
  """Sets data.tokenizer to a run's, unless it is that one already.

  Raises ValueError if it is another one; see `warm_start_tokenizer.compare`.
  """
  path = tokenizing.path_in(folder, theirs.data.tokenizer_kind)
  if not config.data.tokenizer:
    config.data.tokenizer = path
  elif paths.exists(path) and paths.exists(config.data.tokenizer):
    data = data_config(config)
    kind = data.sentinels, data.tokenizer_kind, data.lowercase
    with paths.local(data.tokenizer) as copy:
      ours = kinds.load(copy, *kind)
    print(
      warm_start_tokenizer.compare(ours, kinds.load(path, *kind), path, data)
    )


def begin_published(
  config: ConfigDict, folder: str, source: str, scratch: bool = False
) -> ConfigDict:
  """The config of a run that begins, or has begun, with published weights.

  With `scratch` the run takes the sizes and the tokenizer alone. Raises
  ValueError if the checkpoint does not suit the config.
  """
  from train import pretrained  # it needs the extra `pretrained`

  if config.data.framing == 'gpt1':
    raise ValueError(
      f'--from={source} is a published checkpoint, whose table lacks the rows '
      "of data.framing='gpt1'. Convert it to a workdir first: python -m "
      f'models.pretrained --from={source} --workdir=RUN --config=gpt1.py.'
    )
  if scratch or workdir.begun(folder):
    return pretrained.adopt(source, config)
  return pretrained.begin(source, config, folder)


def described(config: ConfigDict) -> str:
  """What a run learns, in one line."""
  data = data_config(config)
  names = ', '.join(name for _, name, _ in data.sources)
  return (
    f'Learning {names} as {data.objective}: {config.train.steps:,} steps of '
    f'{data.batch} rows of {data.length} tokens.'
  )
