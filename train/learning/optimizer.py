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
    'b1',
    'weight_decay',
    'decay',
  ),
  'adamw': (
    'clip',
    'b1',
    'b2',
    'epsilon',
    'bias_correction',
    'weight_decay',
    'decay',
    'multipliers',
  ),
}
DECAY = ('matrices', 'all')


class AdafactorState(NamedTuple):
  """The state of `adafactor`."""

  count: jax.Array  # updates made so far
  # The tree of the parameters, with a dict for each: running means of its
  # squared gradients over rows and columns ('row', 'column') where they are
  # factored, otherwise of each entry ('full'); with momentum also of its
  # steps ('mean').
  moments: Any


def make_optimizer(
  optimizer: Any, schedule: optax.Schedule, axes: Any
) -> optax.GradientTransformation:
  """Clips by global norm, then takes a step of Adafactor or AdamW.

  With `decay` 'matrices' weights of two dimensions or more decay, 'layers' not
  counted: kernels and embeddings, not biases, scales or tables of
  relative-position biases. With 'all' these decay too (fairseq's RoBERTa).
  AdamW's decay (Loshchilov & Hutter 2019) is weight_decay times the learning
  rate, that of Adafactor times its square (PaLM, Chowdhery et al. 2022, 5).
  `multipliers` are of the learning rate of AdamW's parameters, by name (RWKV).

  Args:
    optimizer: the config group `optimizer`.
    schedule: step -> learning rate.
    axes: the tree of the parameters with a tuple of logical axis names for
      each, one name per dimension.

  Raises:
    ValueError: an unknown name, a missing or an ignored key, an impossible
      number, a multiplier of a parameter that the model does not have.
  """
  check_group('optimizer', optimizer, USES)
  _check_numbers(optimizer)
  clip = optax.identity()
  if optimizer.clip:
    clip = optax.clip_by_global_norm(optimizer.clip)
  if optimizer.name == 'adafactor':
    return optax.chain(clip, adafactor(optimizer, schedule, axes))
  adam = optax.scale_by_adam(optimizer.b1, optimizer.b2, optimizer.epsilon)
  if not optimizer.bias_correction:
    adam = uncorrected_adam(optimizer)
  return optax.chain(
    clip,
    adam,
    optax.add_decayed_weights(
      optimizer.weight_decay,
      mask=jax.tree.map(_decays(optimizer), axes, is_leaf=_is_names),
    ),
    _multiply(optimizer.multipliers, axes),
    optax.scale_by_learning_rate(schedule),
  )


def uncorrected_adam(optimizer: Any) -> optax.GradientTransformation:
  """Adam (Kingma & Ba 2015) without its bias correction, as BERT's code is.

  Both means start at 0 and are taken as they are. After t updates the step is
  (1 - b1^t) / (1 - b2^t)^1/2 times the corrected one, 3.2 times at first with
  0.9 and 0.999: the warmup covers for it.
  """
  b1, b2, epsilon = optimizer.b1, optimizer.b2, optimizer.epsilon

  def update(grads, state, params=None):
    del params
    mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, grads)
    nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, grads)
    updates = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + epsilon), mu, nu)
    return updates, optax.ScaleByAdamState(state.count + 1, mu, nu)

  return optax.GradientTransformation(optax.scale_by_adam().init, update)


def adafactor(
  optimizer: Any, schedule: optax.Schedule, axes: Any
) -> optax.GradientTransformation:
  """Adafactor (Shazeer & Stern 2018, algorithms 4 and 5), T5's and PaLM's.

  Decay 1 - t^-decay_rate; second moments factored over the last two dimensions
  where both reach `factor_from`, nowhere where that is 0; updates clipped by
  their root mean square and scaled by the parameter's. With b1 the step taken
  is the running mean of steps, learning rates included. Each layer is a
  parameter by itself: no mean is taken over a dimension named 'layers'.
  """
  o, decays = optimizer, _decays(optimizer)

  def init(params):
    def zeros(param, names):
      _check_names(param, names)
      shape, last = param.shape, _own(names)[-2:]
      shapes = {'full': shape}
      sizes = [shape[i] for i in last]
      if o.factor_from and len(last) == 2 and min(sizes) >= o.factor_from:
        row, column = last
        shapes = {
          'row': _without(column, shape),
          'column': _without(row, shape),
        }
      if o.b1:
        shapes['mean'] = shape
      return {k: jnp.zeros(kept, jnp.float32) for k, kept in shapes.items()}

    moments = jax.tree.map(zeros, params, axes)
    return AdafactorState(jnp.zeros([], jnp.int32), moments)

  def update(grads, state, params):
    count = state.count + 1
    decay = 1 - count.astype(jnp.float32) ** -o.decay_rate
    rate = schedule(state.count)

    def average(grad, moment, names):
      square = jnp.square(grad.astype(jnp.float32)) + o.epsilon1
      if 'full' in moment:
        new = {'full': square}
      else:
        row, column = _own(names)[-2:]
        new = {'row': square.mean(column), 'column': square.mean(row)}
      return {k: decay * moment[k] + (1 - decay) * new[k] for k in new}

    def step(grad, moment, param, names):
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
      return x * rate

    def mean(x, moment):
      return o.b1 * moment['mean'] + (1 - o.b1) * x

    def decayed(x, param, names):
      return x + o.weight_decay * rate**2 * param if decays(names) else x

    moments = jax.tree.map(average, grads, state.moments, axes)
    steps = jax.tree.map(step, grads, moments, params, axes)
    if o.b1:
      steps = jax.tree.map(mean, steps, state.moments)
      moments = jax.tree.map(lambda x, m: m | {'mean': x}, steps, moments)
    if o.weight_decay:
      steps = jax.tree.map(decayed, steps, params, axes)
    updates = jax.tree.map(jnp.negative, steps)
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
    placed = {'full': names, 'mean': names}
    if 'row' in moment:
      row, column = _own(names)[-2:]
      placed['row'] = _without(column, names)
      placed['column'] = _without(row, names)
    return {k: placed[k] for k in moment}

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
  numbers = {k: optimizer[k] for k in USES[optimizer.name]}
  if (decay := numbers.pop('decay')) not in DECAY:
    raise ValueError(
      f'optimizer.decay is {decay!r}; it must be one of {", ".join(DECAY)}.'
    )
  for name, x in numbers.pop('multipliers', {}).items():
    numbers[f'multipliers.{name}'] = x
  for key, x in numbers.items():
    need = None
    if key in ('decay_rate', 'clip_threshold', 'epsilon', 'epsilon1'):
      need = None if x > 0 else 'above 0'
    elif not x >= 0:
      need = 'at least 0'
    elif key in ('b1', 'b2') and x >= 1:
      need = 'below 1'
    elif key.startswith('multipliers') and not x > 0:
      need = 'above 0'
    if need:
      raise ValueError(f'optimizer.{key} is {x}; it must be {need}.')


def _multiply(multipliers, axes):
  """Multiplies the updates of the parameters that are named."""
  if not multipliers:
    return optax.identity()

  def factor(path, _):
    names.add(path[-1].key)
    return multipliers.get(path[-1].key, 1.0)

  names = set()
  factors = jax.tree_util.tree_map_with_path(factor, axes, is_leaf=_is_names)
  for name in multipliers:
    if name not in names:
      raise ValueError(
        f'optimizer.multipliers.{name} is {multipliers[name]}, but the model '
        f'has no parameter of that name; it has {", ".join(sorted(names))}.'
      )
  return optax.stateless(
    lambda updates, params: jax.tree.map(jnp.multiply, updates, factors)
  )


def _is_names(x):
  return isinstance(x, tuple)


def _check_names(array, names):
  if len(names) != array.ndim:
    raise ValueError(
      f'An array of shape {array.shape} needs {array.ndim} axis names, not '
      f'{names}.'
    )


def _decays(optimizer):
  """Axis names of a weight -> whether it decays."""

  def decays(names):
    own = [names[i] for i in _own(names)]
    # transformer_xl's two biases have a number for each of a head's dimensions.
    bias = own == ['heads', 'head_dim']
    matrix = len(own) >= 2 and 'buckets' not in own and not bias
    return matrix or optimizer.decay == 'all'

  return decays


def _own(names):
  """The dimensions of a weight within its layer."""
  return tuple(i for i, name in enumerate(names) if name != 'layers')


def _without(i, items):
  return (*items[:i], *items[i + 1 :])


def _rms(x, dims):
  return jnp.sqrt(jnp.mean(jnp.square(x), dims, keepdims=True))
