"""Adafactor, layer by layer, in the versions of T5 and PaLM."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from train.learning.axes import (
  Names,
  check_names,
  decaying,
  own,
  without,
)
from train.learning.moments import kept_in
from train.learning.mup import slower

KEYS = (  # of the config group `optimizer`
  *('clip', 'decay_rate', 'epsilon1', 'epsilon2', 'clip_threshold'),
  *('factor_from', 'parameter_scale', 'b1', 'weight_decay', 'decay'),
  *('decay_except', 'moments_dtype'),
)


class AdafactorState(NamedTuple):
  """The state of `adafactor`."""

  count: jax.Array  # updates made so far
  # A tree like the parameters, with a dict for each. It holds running means of
  # the squared gradients: over rows and columns ('row', 'column') where they
  # are factored, otherwise of each entry ('full'). With momentum it also holds
  # the running mean of the steps ('mean').
  moments: Any


def adafactor(
  optimizer: ConfigDict,
  schedule: optax.Schedule,
  axes: Any,
  widening: float = 1.0,
) -> optax.GradientTransformation:
  """Adafactor (Shazeer & Stern 2018, algorithms 4 and 5).

  The decay of the second moments is 1 - t^-decay_rate. Moments are factored
  over the last two dimensions if both reach `factor_from`; 0 factors none.
  Updates are clipped by their root mean square (`clip_threshold`), and scaled
  by the parameter's with `parameter_scale`. With b1, the step taken is the
  running mean of the steps, learning rates included. Each layer is a parameter
  of its own: no mean is taken over a dimension named 'layers'. The weight decay
  is weight_decay times the square of the learning rate (PaLM, Chowdhery et al.
  2022, 5). The arguments are those of `optimizer.make_optimizer`.
  """
  o = optimizer
  shrinking = decaying(o, axes)
  factors = slower(axes, widening, bool(o.parameter_scale))

  def init(params):
    def zeros(param, names):
      check_names(param, names)
      shape, last = param.shape, own(names)[-2:]
      shapes = {'full': shape}
      sizes = [shape[i] for i in last]
      if o.factor_from and len(last) == 2 and min(sizes) >= o.factor_from:
        row, column = last
        shapes = {'row': without(column, shape), 'column': without(row, shape)}
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
        row, column = own(names)[-2:]
        new = {'row': square.mean(column), 'column': square.mean(row)}
      return {k: decay * moment[k] + (1 - decay) * new[k] for k in new}

    def step(grad, moment, param, names, factor):
      x, dims = grad.astype(jnp.float32), own(names)
      if 'full' in moment:
        x = x * jax.lax.rsqrt(moment['full'])
      else:
        row, column = dims[-2:]
        rows = jnp.expand_dims(moment['row'], column)
        columns = jnp.expand_dims(moment['column'], row)
        rows = rows / rows.mean(row, keepdims=True)
        x = x * jax.lax.rsqrt(rows) * jax.lax.rsqrt(columns)
      x = x / jnp.maximum(1.0, _rms(x, dims) / o.clip_threshold)
      if o.parameter_scale:
        x = x * jnp.maximum(o.epsilon2, _rms(param, dims))
      return x * (rate * factor)

    def mean(x, moment):
      return o.b1 * moment['mean'] + (1 - o.b1) * x

    def decayed(x, param, shrinks):
      return x + o.weight_decay * rate**2 * param if shrinks else x

    moments = jax.tree.map(average, grads, state.moments, axes)
    steps = jax.tree.map(step, grads, moments, params, axes, factors)
    if o.b1:
      steps = jax.tree.map(mean, steps, state.moments)
      moments = jax.tree.map(lambda x, m: m | {'mean': x}, steps, moments)
    if o.weight_decay:
      steps = jax.tree.map(decayed, steps, params, shrinking)
    updates = jax.tree.map(jnp.negative, steps)
    return updates, AdafactorState(count, moments)

  inner = optax.GradientTransformation(init, update)
  return kept_in(inner, o.moments_dtype)


def moment_axes(names: Names, moment: dict[str, Any]) -> dict[str, Names]:
  """Axis names of the arrays that AdafactorState keeps for one parameter.

  >>> moment_axes(('embed', 'mlp'), {'row': ..., 'column': ...})
  {'row': ('embed',), 'column': ('mlp',)}
  """
  placed = {'full': names, 'mean': names}
  if 'row' in moment:
    row, column = own(names)[-2:]
    placed |= {'row': without(column, names), 'column': without(row, names)}
  return {k: placed[k] for k in moment}


def _rms(x, dims):
  return jnp.sqrt(jnp.mean(jnp.square(x), dims, keepdims=True))
