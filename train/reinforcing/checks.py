"""What methods that learn from rewarded answers need of a config."""

from typing import Any

from train.reinforcing import rules

# What they have no use for, or what would make their probabilities those of
# another model: key -> (its value, why).
_OFF = {
  'model.dropout': (0, 'old and new probabilities must be of one model'),
  'model.attention_dropout': (0, 'as model.dropout'),
  'train.ema_decay': (0, 'the policy itself writes the answers'),
  'train.spike_factor': (0, 'a loss about 0 has no spikes'),
  'train.phases': ((), 'there is one phase'),
  'data.loss_on_inputs': (False, 'what is predicted is the answer'),
  'data.pack': (False, 'a row has one prompt'),
}
SHARES = 'discount', 'gae_decay'  # at most 1


def check(config: Any, name: str) -> None:
  """Checks a whole config.

  `name` is that of the method, for messages. Raises ValueError for what it
  cannot use.
  """
  align = config.align
  for key, (wanted, why) in _OFF.items():
    group, _, last = key.partition('.')
    value = config[group][last]
    if value != wanted and (value,) != (wanted,):
      raise ValueError(f'{key} is {value!r}; {name} needs {wanted!r}: {why}.')
  for key in SHARES:
    if align[key] > 1:
      raise ValueError(f'align.{key} is {align[key]}; it must be at most 1.')
  if align.clip >= 1:
    raise ValueError(f'align.clip is {align.clip}; it must be below 1.')
  if align.samples < 2 and align.method in ('grpo', 'rloo'):
    raise ValueError(
      f'align.samples is {align.samples}; {name} compares the answers to a '
      'prompt with one another: it needs 2 or more.'
    )
  if align.kl_target and not align.beta:
    raise ValueError(
      f'align.kl_target is {align.kl_target}, but align.beta is 0: there is '
      'nothing to adapt. Give it the first value.'
    )
  _check_rewards(align, name)
  _check_limits(align)
  _check_rows(config)


def _check_rewards(align, name):
  if not align.rewards:
    raise ValueError(
      f'align.rewards is (); {name} needs what answers are worth, such as '
      "(('exact', 1.0),)."
    )
  for key in 'rewards', 'filters':
    for pair in align[key]:
      pair = (*pair,) if isinstance(pair, tuple | list) else (pair,)
      number = len(pair) == 2 and isinstance(pair[1], int | float)
      if not number or not isinstance(pair[0], str):
        raise ValueError(
          f'align.{key} has {pair!r}; it must have pairs of a name and a '
          "number, such as ('exact', 1.0)."
        )


def _check_limits(align):
  names = [name for name, _ in (*align.rewards, *align.filters)]
  limited = [name for name in names if rules.is_limited(name)]
  keys = 'reward_seconds', 'reward_memory'
  bad = [key for key in keys if not 0 < align[key] < float('inf')]
  if limited and bad:
    values = ' and '.join(f'align.{key} is {align[key]}' for key in bad)
    raise ValueError(
      f'{values}; {limited[0]} runs under limits on the seconds of an answer '
      'and the MiB of its process: give numbers above 0, such as 2 and 1024.'
    )
  for key in keys:
    value = align[key]
    if value and not limited:
      raise ValueError(
        f'align.{key} is {value}, but no function, pattern or test is in '
        'align.rewards or align.filters: leave it unset.'
      )


def _check_rows(config):
  """Answers must fall into minibatches, and have positions."""
  align, model = config.align, config.model
  count = config.data.batch * align.samples
  if count % (align.minibatches * config.train.accumulate):
    raise ValueError(
      f'data.batch={config.data.batch} and align.samples={align.samples} make '
      f'{count} answers, which align.minibatches={align.minibatches} parts of '
      f'train.accumulate={config.train.accumulate} cannot share equally.'
    )
  if model.position != 'learned' or not config.data.length:
    return
  longest = align.answer_length
  if model.family != 'encoder_decoder':
    longest += config.data.length
  places = model.max_length - model.position_offset
  if longest > places:
    raise ValueError(
      f'data.length={config.data.length} and align.answer_length='
      f'{align.answer_length} make rows of {longest} tokens, but '
      f'model.max_length={model.max_length} has positions for {places}: lower '
      'one of them.'
    )
