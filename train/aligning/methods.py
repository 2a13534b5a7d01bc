"""The methods of `align.method`: what each reads and needs, and no more."""

from typing import Any, NamedTuple


class Method(NamedTuple):
  """What a method goes with.

  Attributes:
    objective: of the data.
    head: of the model.
    needed: keys of `align` that must be above 0.
    optional: keys that may be 0.
    reference: whether it reads the reference's log-probabilities.
  """

  objective: str
  head: str
  needed: tuple[str, ...]
  optional: tuple[str, ...] = ()
  reference: bool = False


_WEIGHTS = 'desirable_weight', 'undesirable_weight'

METHODS = {
  'reward': Method('reward', 'sequence', ()),
  'dpo': Method('preference', 'lm', ('beta',), reference=True),
  'ipo': Method('preference', 'lm', ('beta',), reference=True),
  'kto': Method('desirable', 'lm', ('beta', *_WEIGHTS), reference=True),
  'orpo': Method('preference', 'lm', ('beta',)),
  'simpo': Method('preference', 'lm', ('beta',), ('margin',)),
}
# Of the other losses, which compared answers do not have.
_LOSSES = 'z_loss', 'label_smoothing', 'max_logit_loss'


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
    if objective in {method.objective for method in METHODS.values()}:
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
    if key == 'method' or key in method.needed:
      continue
    if key not in method.optional and group[key]:
      raise ValueError(
        f'align.{key} is {group[key]!r}, but {name} does not read it: leave it '
        'unset.'
      )
    if key in method.optional and not 0 <= group[key] < float('inf'):
      raise ValueError(f'align.{key} is {group[key]}; it must be 0 or more.')
  for key, own, wanted in (
    ('data.objective', objective, method.objective),
    ('model.head', config.model.head, method.head),
  ):
    if own != wanted:
      raise ValueError(f'{key} is {own!r}; {name} needs {wanted!r}.')
  for key in _LOSSES:
    if config.train[key]:
      raise ValueError(
        f'train.{key} is {config.train[key]}, but {name} does not use it: set '
        'it to 0.'
      )
  _check_more(config, method, name)


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
  if config.eval.samples:
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
