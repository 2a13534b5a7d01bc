"""What an alignment run takes from its data and its checkpoint."""

from ml_collections import ConfigDict

from input_pipeline.config import data_config
from input_pipeline.sources import labelled, opening
from input_pipeline.sources.preferences import Preferences
from train.aligning import methods
from train.finetuning import adoption


def resolve(config: ConfigDict) -> ConfigDict:
  """The config, with the steps that its data decide.

  `train.epochs` and `train.warmup_share` become steps; `eval.every` and
  `checkpoint.every` of 0 become an epoch.

  Raises:
    ValueError: the method or its keys are wrong, no preferences are named, or
      they cannot be read.
  """
  config = config.copy_and_resolve_references().unlock()
  methods.check(config)
  if not (config.data.source or config.data.mixture):
    raise ValueError(
      'data.source is not set: name preferences, --config.data.source='
      'preferences:FILE.jsonl, or a task, whose inputs are prompts.'
    )
  if config.data.objective == 'text_to_text':  # prompts of labelled tasks
    opened = labelled.fill_in(config.data, config.model.family)
    count = sum(len(source.examples) for source in opened)
  else:
    count = _examples(config)
  adoption.resolve_steps(config, count)
  return config.lock()


def _examples(config: ConfigDict) -> int:
  """How many examples an epoch has, before the bad ones are left out."""
  data, count = data_config(config), 0
  for key, name, _ in data.sources:
    source = opening.open_source(
      name, config.seed, 0, 0, key, single=data.objective == 'desirable',
      chats=bool(data.chat_template),
    )  # fmt: skip
    own = _usable(source)
    if not config.eval.source and data.holdout:
      own -= own // data.holdout
    count += min(own, data.documents) if data.documents else own
  return count


def _usable(source: Preferences) -> int:
  return sum(not isinstance(x, ValueError) for x in source.examples)


def described(config: ConfigDict) -> str:
  """What a run learns, in one line."""
  data = data_config(config)
  names = ', '.join(name for _, name, _ in data.sources)
  return (
    f'align.method={config.align.method} on {names}: {config.train.steps:,} '
    f'steps of {data.batch} rows.'
  )
