"""The optimizer of a config: clipping, then the one that it names."""

from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from train.learning import adafactor, adamw, muon
from train.learning.axes import check_names, is_names
from train.settings import check_group

USES = {
  'adafactor': adafactor.KEYS,
  'adamw': adamw.KEYS,
  'lamb': adamw.KEYS,
  'lion': adamw.LION,
  'muon': muon.KEYS,
}
CHOICES = {
  'decay': ('matrices', 'all'),
  'moments_dtype': ('float32', 'bfloat16'),
}
POSITIVE = (
  *('decay_rate', 'clip_threshold', 'epsilon', 'epsilon1', 'matrix_rate'),
)


def make_optimizer(
  optimizer: ConfigDict,
  schedule: optax.Schedule,
  axes: Any,
  widening: float = 1.0,
) -> optax.GradientTransformation:
  """The optimizer of a config.

  Args:
    optimizer: the config group `optimizer`.
    schedule: step -> learning rate.
    axes: a tree like the parameters, a tuple of logical axis names for each,
      one name per dimension. `axes.decaying` says which weights decay.
    widening: of the model (muP, mup.py): `TransformerConfig.widening`.

  Raises:
    ValueError: an unknown name, a missing or an unused key, an impossible
      number, a name of a parameter that the model does not have.
  """
  check_group('optimizer', optimizer, USES)
  _check_numbers(optimizer)
  clip = optax.identity()
  if optimizer.clip:
    clip = optax.clip_by_global_norm(optimizer.clip)
  settings = optimizer, schedule, axes, widening
  match optimizer.name:
    case 'adafactor':
      return optax.chain(clip, adafactor.adafactor(*settings))
    case 'muon':
      return optax.chain(clip, muon.muon(*settings))
  return optax.chain(clip, *adamw.adamw(*settings))


def state_axes(state: Any, axes: Any) -> Any:
  """Logical axis names for every array of an optimizer's state.

  Args:
    state: `jax.eval_shape(optimizer.init, params)`.
    axes: a tree like the parameters, a tuple of names for each.

  Returns:
    `state` with a tuple of names in place of each array, () for scalars. Tuples
    are trees too, so map over it behind the state:
    `jax.tree.map(f, state, state_axes(state, axes))`.

  Raises:
    TypeError: a state that `make_optimizer` does not make.
    ValueError: an array without one name per dimension.
  """

  def place(node):
    match node:
      case adafactor.AdafactorState():
        moments = jax.tree.map(
          adafactor.moment_axes, axes, node.moments, is_leaf=is_names
        )
        return adafactor.AdafactorState(count=(), moments=moments)
      case muon.MuonState():
        moments = jax.tree.map(
          lambda names, moment: dict.fromkeys(moment, names),
          axes, node.moments, is_leaf=is_names,
        )  # fmt: skip
        return muon.MuonState(count=(), moments=moments)
      case optax.ScaleByLionState():
        return optax.ScaleByLionState(count=(), mu=axes)
      case optax.ScaleByAdamState():
        return optax.ScaleByAdamState(count=(), mu=axes, nu=axes)
      case optax.ScaleByScheduleState():
        return optax.ScaleByScheduleState(count=())
      case _ if not jax.tree.leaves(node):
        return node
      case _ if type(node) is tuple:  # of optax.chain
        return tuple(place(child) for child in node)
    raise TypeError(f'No axes are known for the state {type(node).__name__}.')

  placed = place(state)
  jax.tree.map(check_names, state, placed)
  return placed


def _check_numbers(optimizer):
  numbers = {k: optimizer[k] for k in USES[optimizer.name]}
  for key, choices in CHOICES.items():
    if (value := numbers.pop(key)) not in choices:
      raise ValueError(
        f'optimizer.{key} is {value!r}; it must be one of {", ".join(choices)}.'
      )
  spared = numbers.pop('decay_except')
  if spared and not (optimizer.weight_decay or optimizer.name == 'lamb'):
    raise ValueError(
      f'optimizer.decay_except is {tuple(spared)}, but optimizer.weight_decay '
      'is 0: leave it unset.'
    )
  for name, x in numbers.pop('multipliers', {}).items():
    numbers[f'multipliers.{name}'] = x
  for key, x in numbers.items():
    need = None
    if key in POSITIVE or key.startswith('multipliers'):
      need = None if x > 0 else 'above 0'
    elif not x >= 0:
      need = 'at least 0'
    elif key in ('b1', 'b2', 'momentum') and x >= 1:
      need = 'below 1'
    if need:
      raise ValueError(f'optimizer.{key} is {x}; it must be {need}.')
