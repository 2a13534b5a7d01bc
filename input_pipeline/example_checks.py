"""The rules of keys data.* of examples: tasks, prompts, preferences."""

from input_pipeline import choices
from input_pipeline.rules import DataConfig, at_least, must, one_of, share


def check(config: DataConfig) -> None:
  """Raises ValueError, naming the key, for the first rule that is broken."""
  if config.labelled:
    _labelled(config)
  if config.objective == 'in_context':
    _prompts(config)
  _worded(config)
  _preferences(config)


def _labelled(config):
  one_of(config, 'framing', choices.FRAMING)
  task = config.source.startswith('task:')
  rule = f"be 'task:NAME': data.objective={config.objective!r} reads labels"
  must(config, task, 'source', rule)
  if config.phases:
    raise ValueError(
      f'train.phases must be (): data.objective={config.objective!r} reads the '
      'examples of a task, which has one phase.'
    )
  kinds = choices.ORDERS
  rule = f'be one of {", ".join(map(repr, kinds))}'
  must(config, config.orders in kinds, 'orders', rule)
  if config.objective == 'choice':
    at_least(config, 'choices', 2)
  if config.objective == 'regression':
    rule = 'be above 0; 1 leaves labels as they are'
    must(config, config.label_scale > 0, 'label_scale', rule)


def _prompts(config):
  one_of(config, 'prompts', choices.PROMPTS)
  rule = "be 'synthetic': data.objective='in_context' reads no text"
  must(config, config.source == 'synthetic', 'source', rule)
  must(config, not config.pack, 'pack', 'be False: a prompt fills a row')
  what = f'data.prompts={config.prompts!r}'
  if choices.PROMPTS[config.prompts]:
    at_least(config, 'dimensions', 1, f' for {what}')
  else:
    rule = f'be 0: {what} has no x of several symbols'
    must(config, config.dimensions == 0, 'dimensions', rule)
  if config.phases:
    raise ValueError(
      "train.phases must be (): data.objective='in_context' has one phase."
    )


def _worded(config):
  """How tasks in words are drawn."""
  names = [name for _, name, _ in config.sources]
  read = any(name.startswith(choices.IN_WORDS) for name in names)
  for key in choices.WORDED:
    if key == 'shots':
      at_least(config, key, 0)
    else:
      share(config, key)
    rule = "be 0: only tasks in words, 'task:flan/NAME', read it"
    must(config, read or not getattr(config, key), key, rule)
  both = bool(config.shots) == bool(config.shot_share)
  rule = 'be above 0, as data.shots is, or both 0'
  must(config, both, 'shot_share', rule)


def _preferences(config):
  """Preferences and their objectives need each other."""
  for key, name, _ in config.sources:
    found = name.startswith('preferences:')
    if found != config.preferences:
      objectives = choices.either(choices.PREFERENCES)
      raise ValueError(
        f'{key}={name!r} does not suit data.objective={config.objective!r}: '
        f"sources 'preferences:GLOB' are for {objectives}, and these for such "
        'sources alone.'
      )
  if config.preferences and config.phases:
    raise ValueError(
      f'train.phases must be (): data.objective={config.objective!r} has one '
      'phase.'
    )
