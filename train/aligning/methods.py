"""The methods of `align.method`: what each reads and needs, and no more."""

from typing import Any, NamedTuple

from input_pipeline.choices import PREFERENCES
from train.reinforcing import checks


class Method(NamedTuple):
  """What a method goes with.

  Attributes:
    objectives: of the data.
    head: of the model.
    needed: keys of `align` that must be above 0.
    optional: keys that may be 0.
    reference: whether it reads the reference's log-probabilities.
    more: other keys that it reads, which `checks` checks.
    writes: whether it learns from answers that the model writes.
  """

  objectives: tuple[str, ...]
  head: str
  needed: tuple[str, ...]
  optional: tuple[str, ...] = ()
  reference: bool = False
  more: tuple[str, ...] = ()
  writes: bool = False


_WEIGHTS = 'desirable_weight', 'undesirable_weight'
_PROMPTS = 'text_to_text', 'preference'
_WRITES = 'samples', 'answer_length', 'epochs', 'minibatches'
_REWARDS = 'rewards', 'reward_seconds', 'reward_memory'


def _rewarded(needed, optional=(), head='lm', more=_REWARDS):
  return Method(
    _PROMPTS, head, (*_WRITES, *needed), optional, more=more, writes=True
  )


METHODS = {
  'reward': Method(('reward',), 'sequence', ()),
  'dpo': Method(('preference',), 'lm', ('beta',), reference=True),
  'ipo': Method(('preference',), 'lm', ('beta',), reference=True),
  'kto': Method(('desirable',), 'lm', ('beta', *_WEIGHTS), reference=True),
  'orpo': Method(('preference',), 'lm', ('beta',)),
  'simpo': Method(('preference',), 'lm', ('beta',), ('margin',)),
  'ppo': _rewarded(
    ('clip', 'value_clip', 'value_weight', 'discount', 'gae_decay'),
    ('beta', 'kl_target'),
    'lm_value',
  ),
  'grpo': _rewarded(('clip',), ('beta',)),
  'rloo': _rewarded(('clip',), ('beta', 'kl_target')),
  'filter': _rewarded((), more=(*_REWARDS, 'filters')),
}
# Of the other losses, which compared answers do not have.
_LOSSES = 'z_loss', 'label_smoothing', 'max_logit_loss'


def writes(config: Any) -> bool:
  """Whether a run learns from answers that its model writes."""
  method = config.align.method
  return bool(method) and METHODS[method].writes


def check(config: Any) -> None:
  """Checks the group `align` of a whole config, and what goes with it.

  Raises:
    ValueError: an unknown method, a key that it needs or does not read, or
      data or a head of another kind.
  """
  group, objective = config.align, config.data.objective
  if not group.method:
    for key in group:
      if group[key]:
        raise ValueError(
          f"align.{key} is {group[key]!r}, but align.method is '': no method "
          'reads it. Leave it unset, or take a recipe of configs/align/.'
        )
    if objective in PREFERENCES:
      raise ValueError(
        f'data.objective={objective!r} is for python -m train.align: set '
        'align.method, or take a recipe of configs/align/.'
      )
    return
  if group.method not in METHODS:
    raise ValueError(
      f'align.method is {group.method!r}; it must be one of '
      f'{", ".join(METHODS)}.'
    )
  method = METHODS[group.method]
  name = f'align.method={group.method!r}'
  for key in method.needed:
    if not 0 < group[key] < float('inf'):
      raise ValueError(
        f'align.{key} is {group[key]}; {name} needs a number above 0.'
      )
  for key in group:
    if key == 'method' or key in (*method.needed, *method.more):
      continue
    if key not in method.optional and group[key]:
      raise ValueError(
        f'align.{key} is {group[key]!r}, but {name} does not read it: leave it '
        'unset.'
      )
    if key in method.optional and not 0 <= group[key] < float('inf'):
      raise ValueError(f'align.{key} is {group[key]}; it must be 0 or more.')
  for key, own, wanted in (
    ('data.objective', objective, method.objectives),
    ('model.head', config.model.head, (method.head,)),
  ):
    if own not in wanted:
      needs = ' or '.join(map(repr, wanted))
      raise ValueError(f'{key} is {own!r}; {name} needs {needs}.')
  for key in _LOSSES:
    if config.train[key]:
      raise ValueError(
        f'train.{key} is {config.train[key]}, but {name} does not use it: set '
        'it to 0.'
      )
  _check_more(config, method, name)
  if method.writes:
    checks.check(config, name)


def _check_more(config, method, name):
  if method.head == 'sequence' and config.model.classes != 1:
    raise ValueError(
      f'model.classes is {config.model.classes}; {name} gives an answer one '
      'number: set it to 1.'
    )
  if config.align.method == 'kto' and config.train.accumulate > 1:
    raise ValueError(
      f'train.accumulate is {config.train.accumulate}, but {name} compares '
      'each answer with a mean over the whole batch: set it to 1.'
    )
  if config.eval.samples and config.data.objective == 'preference':
    raise ValueError(
      f'eval.samples is {config.eval.samples}, but rows of compared answers '
      'are not decoded: set it to 0. python -m train.generate writes answers.'
    )
  if method.reference and config.eval.sources:
    raise ValueError(
      f'eval.sources is {config.eval.sources!r}, but {name} knows the '
      "reference's log-probabilities of data.source and eval.source alone: set "
      'it to ().'
    )
