"""Ladders of runs for a scaling law; a config file whose sweep() is the ladder.

  --config=configs/scaling/ladder.py:SYSTEM[:ARG],budgets=1e15+1e16[,KEY=VALUE]

`python -m configs.scaling plan` prints a ladder before anyone pays, and
docs/scaling.md explains the choices. KEY is one of OPTIONS, or a key of the
config that all runs share: data.length=256, data.source=docs.

Approaches of Hoffmann et al. 2022: 1 trains each size for several numbers of
tokens (3.1), 2 several sizes for each budget of FLOPs (3.2), 3 fits both
together (3.3). Each run has its own schedule, which ends with its last step
(their appendix B).
"""

import copy
import difflib
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from configs import arguments, common, tree
from configs.scaling import flops
from configs.scaling.laws import LAWS, Law
from configs.scaling.shapes import COUNTED, RULES, Family, Shape

# Option -> its default, and what it is.
OPTIONS = {
  'budgets': ('', 'FLOPs of the runs, joined by +, such as 1e15+1e16'),
  'approach': ('2', '1: sizes by tokens; 2: isoFLOP; 3: both'),
  'sizes': ('5', 'sizes of a budget, or of approach 1 altogether'),
  'spread': ('16', 'the largest size of a budget over the smallest'),
  'horizons': ('4', 'approach 1: numbers of tokens for each size'),
  'range': ('16', 'approach 1: the most tokens of a size over the fewest'),
  'rule': ('system', f'of shapes: {", ".join(RULES)}'),
  'count': ('total', f'parameters that N counts: {", ".join(COUNTED)}'),
  'flops': ('6nd', f'what FLOPs count: {", ".join(flops.CONVENTIONS)}'),
  'law': ('besiroglu', f'guesses the best size: {", ".join(LAWS)}'),
  'steps': ('500', 'the fewest steps: batches are halved until a run has them'),
}
# Least rows of a batch that is halved.
_ROWS = 8
# What the system's recipe sets for its own length and its own devices.
_CLEARED = {
  'train.phases': (),
  'train.accumulate': 1,
  'schedule.decay_steps': 0,
  'schedule.restarts': (),
  'model.remat': 'auto',
  'sharding.topology': '',
  'sharding.slices': 0,
  'sharding.microbatches': 0,
  'sharding.rules': 'auto',
}
# Schedules whose warm-up also decides the rate after it.
_ROOTS = 'inverse_sqrt', 'noam'


class Run(NamedTuple):
  """A run of a ladder.

  Attributes:
    name: budget or number of tokens, and shape.
    keys: its overrides, 'group.key': value.
    shape: its model.
    tokens: D, rows of all steps times their length.
    flops: C, by the ladder's convention.
    budget: the C that was asked for; of approach 1 that of its tokens.
  """

  name: str
  keys: dict[str, Any]
  shape: Shape
  tokens: int
  flops: float
  budget: float


class Ladder(NamedTuple):
  """What an argument means.

  Attributes:
    system: 'NAME[:ARG]'.
    config: what all runs share.
    options: of OPTIONS, as texts.
    budgets: FLOPs.
    law: that guesses the best sizes.
  """

  system: str
  config: ConfigDict
  options: dict[str, str]
  budgets: tuple[float, ...]
  law: Law


def get_config(arg: str = '') -> ConfigDict:
  """The system's config with the keys that all runs share."""
  return read(arg).config


def sweep(arg: str = '') -> Iterator[dict[str, Any]]:
  """The name and the overrides of each run, for train.sweep.

  Raises ValueError as `runs` does.
  """
  for run in runs(read(arg)):
    yield {'name': run.name} | run.keys


def read(arg: str) -> Ladder:
  """A ladder of its argument.

  Raises:
    ValueError: an unknown system, option or key, or a value that is none.
  """
  name, *parts = _words(arg)
  chosen = {key: default for key, (default, _) in OPTIONS.items()}
  own, keys = [], {}
  for part in parts:
    key, equals, value = part.partition('=')
    if equals and '.' in key:
      keys[key] = value
    elif equals and key in OPTIONS:
      chosen[key] = value
    else:
      own.append(part)
  system = f'{name}:{",".join(own)}' if own else name
  if not system:
    raise ValueError(
      'a ladder needs a system: ladder.py:SYSTEM,budgets=1e15+1e16.'
    )
  try:
    # A copy that keeps the types of keys that have no value.
    config = copy.deepcopy(tree.config_of(system)).unlock()
  except ValueError as error:
    raise ValueError(
      f'{error} Options of a ladder: {", ".join(OPTIONS)}.'
    ) from None
  mesh = config.sharding.mesh
  mesh.update({axis: -1 if axis == 'data' else 1 for axis in mesh})
  for key, value in {**_CLEARED, **keys}.items():
    _set(config, key, value)
  if chosen['law'] not in LAWS:
    raise ValueError(arguments.unknown('law', chosen['law'], LAWS))
  if chosen['approach'] not in ('1', '2', '3'):
    raise ValueError(f'approach={chosen["approach"]} must be 1, 2 or 3.')
  budgets = tuple(
    number('budgets', x) for x in re.split(r'(?<!e)\+', chosen['budgets']) if x
  )
  return Ladder(
    system, common.finish(config), chosen, budgets, LAWS[chosen['law']]
  )


def runs(ladder: Ladder) -> list[Run]:
  """The runs, those of the smallest budget first.

  Raises:
    ValueError: there are no budgets, or one is too small for any run.
  """
  options, law = ladder.options, ladder.law
  if not ladder.budgets:
    raise ValueError('a ladder needs budgets in FLOPs: budgets=1e15+1e16+1e17.')
  family = _family(ladder)
  budgets = sorted(ladder.budgets)
  sizes, spread = whole('sizes', options), number('spread', options['spread'])
  if spread < 1:
    raise ValueError(
      f'spread={spread:g} must be at least 1: it is the largest size of a '
      'budget over the smallest.'
    )
  found = []
  if options['approach'] != '2':
    horizons = whole('horizons', options)
    reach = number('range', options['range'])
    low, high = (law.best(budgets[i])[0] for i in (0, -1))
    for N in _spaced(low, high, sizes):
      tokens = best_tokens(law, N)
      for D in _spaced(tokens / reach**0.5, tokens * reach**0.5, horizons):
        found.append(_run(ladder, family.nearest(N), D, None))
  if options['approach'] != '1':
    for budget in budgets:
      N = law.best(budget)[0]
      shapes = [
        family.nearest(n)
        for n in _spaced(N / spread**0.5, N * spread**0.5, sizes)
      ]
      found += [_run(ladder, shape, None, budget) for shape in shapes]
  unique = {run.name: run for run in found}  # small sizes may coincide
  return sorted(unique.values(), key=lambda run: run.budget)


def nearest(ladder: Ladder, params: float, budget: float) -> Run:
  """The run of a budget whose N is nearest to a number.

  Raises ValueError if the budget is too small for a run.
  """
  return _run(ladder, _family(ladder).nearest(params), None, budget)


def _family(ladder):
  options = ladder.options
  return Family(ladder.system, ladder.config, options['rule'], options['count'])


def best_tokens(law: Law, params: float) -> float:
  """D of the budget whose best size is N."""
  low, high = 0.0, 200.0  # log C
  while high - low > 1e-9:
    middle = (low + high) / 2
    smaller = law.best(math.exp(middle))[0] < params
    low, high = (middle, high) if smaller else (low, middle)
  return law.best(math.exp(low))[1]


def number(name: str, text: str) -> float:
  """A positive number of an option. Raises ValueError if it is none."""
  try:
    value = float(text)
  except ValueError:
    value = 0.0
  if not 0 < value < math.inf:
    raise ValueError(f'{name}={text} must be a positive number, such as 1e16.')
  return value


def whole(name: str, options: Mapping[str, str]) -> int:
  """A whole positive number of an option. Raises ValueError if it is none."""
  value = number(name, options[name])
  if value % 1:
    raise ValueError(f'{name}={options[name]} must be a whole number.')
  return int(value)


def _run(ladder, shape, tokens, budget):
  """A run of so many tokens, or of a budget."""
  c = ladder.config.copy_and_resolve_references().unlock()
  for key, value in shape.keys.items():
    _set(c, key, value)
  convention = ladder.options['flops']
  each = _flops_per_row(ladder, c, shape, convention) / c.data.length
  wanted = tokens or budget / each
  least = whole('steps', ladder.options)
  batch = c.data.batch
  while batch > _ROWS and wanted < least * batch * c.data.length:
    batch = max(_ROWS, batch // 2)
  steps = round(wanted / batch / c.data.length)
  if steps < 20:
    raise ValueError(
      f'a run of {wanted:.3g} tokens has {steps} steps of {batch} rows of '
      f'{c.data.length} tokens ({shape.name}, {shape.params:,} parameters): '
      'raise the budget, or lower data.length.'
    )
  made = steps * batch * c.data.length
  keys = dict(shape.keys)
  keys |= {'data.batch': batch, 'train.steps': steps}
  keys['data.streams'] = math.gcd(c.data.streams, batch)
  keys |= _schedule(c, batch, steps)
  keys['eval.every'] = -(-steps // 4)  # points of a curve
  keys['checkpoint.every'] = min(c.checkpoint.every, steps)
  keys['train.log_every'] = max(1, min(c.train.log_every, steps // 20))
  flat = {key: _get(ladder.config, key) for key in keys}
  keys = {key: x for key, x in keys.items() if flat[key] != x}
  what = f'{budget:.3g}' if budget else f'{wanted:.2g}-tokens'
  name = f'{what}-{shape.name}'.replace('+', '')
  return Run(name, keys, shape, made, made * each, budget or made * each)


def _schedule(c, batch, steps):
  """Warm-up and constant part: the shares of the run that the recipe has."""
  keys, s = {}, c.schedule
  if s.name in _ROOTS:
    return keys
  rows = c.data.batch if s.unit != 'steps' else 1
  length = c.data.length if s.unit == 'tokens' else 1
  before = c.train.steps * rows * length
  now = steps * (batch if s.unit != 'steps' else 1) * length
  if s.warmup_steps:
    share = min(max(s.warmup_steps / max(before, 1), 0.01), 0.1)
    keys['schedule.warmup_steps'] = max(1, int(now * share))
  if s.constant_steps:
    share = min(s.constant_steps / max(before, 1), 0.9)
    keys['schedule.constant_steps'] = round(now * share)
  return keys


def _flops_per_row(ladder, config, shape, convention):
  if convention == '6nd':
    return 6.0 * shape.params * config.data.length
  return flops.of_step(config, convention) / config.data.batch


def _spaced(low, high, count):
  if count == 1:
    return [math.sqrt(low * high)]
  return [low * (high / low) ** (i / (count - 1)) for i in range(count)]


def _words(arg):
  head, *rest = arg.split(',')
  name, colon, own = head.partition(':')
  return [name, *([own] if colon else []), *rest]


def _get(config, key):
  group, _, name = key.rpartition('.')
  return config[group][name] if group else config[name]


def _set(config, key, value):
  """Sets a key, of its own type. Raises ValueError if there is none such."""
  if key not in common.KEYS or key.startswith('sharding.mesh.'):
    near = difflib.get_close_matches(key, common.KEYS, 1)
    hint = f' Did you mean {near[0]!r}?' if near else ''
    raise ValueError(f'a ladder cannot set {key!r}: no such key.{hint}')
  kind = common.KEYS[key].type
  if isinstance(value, str) and kind is not str:
    try:
      if kind in (tuple, dict):
        raise ValueError
      if kind is bool:
        value = {'True': True, 'False': False}[value]
      else:
        value = kind(float(value)) if kind is int else kind(value)
    except (ValueError, KeyError):
      raise ValueError(
        f'{key}={value} is no {kind.__name__} that a ladder takes: set it with '
        f'--config.{key} of the sweep.'
      ) from None
  group, _, name = key.rpartition('.')
  (config[group] if group else config)[name] = value
