"""Adafactor and AdamW, and where their states lie on the mesh."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from train.settings import check_group

USES = {
  'adafactor': (
    'clip',
    'decay_rate',
    'epsilon1',
    'epsilon2',
    'clip_threshold',
    'factor_from',
    'parameter_scale',
  ),
  'adamw': ('clip', 'b1', 'b2', 'epsilon', 'weight_decay'),
}


class AdafactorState(NamedTuple):
  """The state of `adafactor`."""

  count: jax.Array  # updates made so far
  # The tree of the parameters, with a dict for each: running means of its
  # squared gradients over rows and columns ('row', 'column') where they are
  # factored, otherwise of each entry ('full').
  moments: Any


def make_optimizer(
  optimizer: Any, schedule: optax.Schedule, axes: Any
) -> optax.GradientTransformation:
  """Clips by global norm, then takes a step of Adafactor or AdamW.

  AdamW (Loshchilov & Hutter 2019) decays weights of two dimensions or more,
  'layers' not counted: kernels and embeddings, not biases, scales or tables of
  relative-position biases. The decay is multiplied by the learning rate.

  Args:
    optimizer: the config group `optimizer`.
    schedule: step -> learning rate.
    axes: the tree of the parameters with a tuple of logical axis names for
      each, one name per dimension.

  Raises:
    ValueError: an unknown name, a missing or an ignored key, an impossible
      number.
  """
  check_group('optimizer', optimizer, USES)
  _check_numbers(optimizer)
  clip = optax.identity()
  if optimizer.clip:
    clip = optax.clip_by_global_norm(optimizer.clip)
  if optimizer.name == 'adafactor':
    steps = [adafactor(optimizer, axes)]
  else:
    steps = [
      optax.scale_by_adam(optimizer.b1, optimizer.b2, optimizer.epsilon),
      optax.add_decayed_weights(
        optimizer.weight_decay,
        mask=jax.tree.map(_decays, axes, is_leaf=_is_names),
      ),
    ]
  return optax.chain(clip, *steps, optax.scale_by_learning_rate(schedule))


def adafactor(optimizer: Any, axes: Any) -> optax.GradientTransformation:
  """Adafactor as T5 used it (Shazeer & Stern 2018, algorithms 4 and 5).

  No momentum; decay 1 - t^-decay_rate; second moments factored over the last
  two dimensions where both reach `factor_from`; updates clipped by their root
  mean square and scaled by the parameter's. Each layer is a parameter by
  itself: no mean is taken over a dimension named 'layers'. The caller applies
  the learning rate.
  """
  o = optimizer

  def init(params):
    def zeros(param, names):
      _check_names(param, names)
      shape, last = param.shape, _own(names)[-2:]
      shapes = {'full': shape}
      if len(last) == 2 and min(shape[i] for i in last) >= o.factor_from:
        row, column = last
        shapes = {
          'row': _without(column, shape),
          'column': _without(row, shape),
        }
      return {k: jnp.zeros(kept, jnp.float32) for k, kept in shapes.items()}

    moments = jax.tree.map(zeros, params, axes)
    return AdafactorState(jnp.zeros([], jnp.int32), moments)

  def update(grads, state, params):
    count = state.count + 1
    decay = 1 - count.astype(jnp.float32) ** -o.decay_rate

    def average(grad, moment, names):
      square = jnp.square(grad.astype(jnp.float32)) + o.epsilon1
      if 'full' in moment:
        new = {'full': square}
      else:
        row, column = _own(names)[-2:]
        new = {'row': square.mean(column), 'column': square.mean(row)}
      return {k: decay * moment[k] + (1 - decay) * new[k] for k in moment}

    def scale(grad, moment, param, names):
      x, own = grad.astype(jnp.float32), _own(names)
      if 'full' in moment:
        x = x * jax.lax.rsqrt(moment['full'])
      else:
        row, column = own[-2:]
        rows = jnp.expand_dims(moment['row'], column)
        columns = jnp.expand_dims(moment['column'], row)
        rows = rows / rows.mean(row, keepdims=True)
        x = x * jax.lax.rsqrt(rows) * jax.lax.rsqrt(columns)
      x = x / jnp.maximum(1.0, _rms(x, own) / o.clip_threshold)
      if o.parameter_scale:
        x = x * jnp.maximum(o.epsilon2, _rms(param, own))
      return x

    moments = jax.tree.map(average, grads, state.moments, axes)
    updates = jax.tree.map(scale, grads, moments, params, axes)
    return updates, AdafactorState(count, moments)

  return optax.GradientTransformation(init, update)


def state_axes(state: Any, axes: Any) -> Any:
  """Logical axis names for every array of an optimizer's state.

  Args:
    state: `jax.eval_shape(optimizer.init, params)`.
    axes: the tree of the parameters with a tuple of names for each.

  Returns:
    `state` with a tuple of names in place of each array, () for scalars. Tuples
    are trees too, so map over it behind the state:
    `jax.tree.map(f, state, state_axes(state, axes))`.

  Raises:
    TypeError: a state that `make_optimizer` does not make.
    ValueError: an array without one name per dimension.
  """

  def moment_axes(names, moment):
    if 'full' in moment:
      return {'full': names}
    row, column = _own(names)[-2:]
    return {'row': _without(column, names), 'column': _without(row, names)}

  def place(node):
    match node:
      case AdafactorState():
        moments = jax.tree.map(
          moment_axes, axes, node.moments, is_leaf=_is_names
        )
        return AdafactorState(count=(), moments=moments)
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
  jax.tree.map(_check_names, state, placed)
  return placed


def _check_numbers(optimizer):
  for key in USES[optimizer.name]:
    x = optimizer[key]
    need = None
    if key in ('decay_rate', 'clip_threshold', 'epsilon', 'epsilon1'):
      need = None if x > 0 else 'above 0'
    elif not x >= 0:
      need = 'at least 0'
    elif key in ('b1', 'b2') and x >= 1:
      need = 'below 1'
    if need:
      raise ValueError(f'optimizer.{key} is {x}; it must be {need}.')


def _is_names(x):
  return isinstance(x, tuple)


def _check_names(array, names):
  if len(names) != array.ndim:
    raise ValueError(
      f'An array of shape {array.shape} needs {array.ndim} axis names, not '
      f'{names}.'
    )


def _decays(names):
  return len(_own(names)) >= 2 and 'buckets' not in names


def _own(names):
  """The dimensions of a weight within its layer."""
  return tuple(i for i, name in enumerate(names) if name != 'layers')


def _without(i, items):
  return (*items[:i], *items[i + 1 :])


def _rms(x, dims):
  return jnp.sqrt(jnp.mean(jnp.square(x), dims, keepdims=True))
