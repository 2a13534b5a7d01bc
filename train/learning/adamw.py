"""AdamW, LAMB and Lion, Adam's bias correction or none; rates by name."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from train.learning.axes import decaying, is_names, own
from train.learning.moments import kept_in
from train.learning.mup import slower, times

LION = (  # keys of the config group `optimizer`
  *('clip', 'b1', 'b2'),
  *('weight_decay', 'decay', 'decay_except', 'moments_dtype', 'multipliers'),
)
KEYS = *LION, 'epsilon', 'bias_correction'


def adamw(
  optimizer: ConfigDict,
  schedule: optax.Schedule,
  axes: Any,
  widening: float = 1.0,
) -> tuple[optax.GradientTransformation, ...]:
  """AdamW (Loshchilov & Hutter 2019), as transformations to chain.

  The weight decay is weight_decay times the learning rate. With the name lamb
  (You et al. 2020, algorithm 2) each weight that decays moves by its own norm:
  its update, decay included, is scaled to the norm of the weight. With lion
  (Chen et al. 2023, algorithm 2) a number moves by the sign of a mean of its
  gradients, b1 of the one kept, which decays by b2, and 1 - b1 of the new one.
  muP's factors leave the weight decay as it is, as the authors' code does; only
  LAMB scales both. `multipliers` multiply the learning rate of the parameters
  with their names (RWKV); raises ValueError if the model has no parameter of a
  name. The arguments are those of `optimizer.make_optimizer`.
  """
  shrinking = decaying(optimizer, axes)
  inner = kept_in(_direction(optimizer), optimizer.moments_dtype)
  trust = optax.identity()
  if optimizer.name == 'lamb':  # what it scales forgets earlier factors
    trust = times(_trust(axes, shrinking), slower(axes, widening, shrinking))
  else:
    inner = times(inner, slower(axes, widening))
  return (
    inner,
    optax.add_decayed_weights(optimizer.weight_decay, mask=shrinking),
    trust,
    _multiply(optimizer.multipliers, axes),
    optax.scale_by_learning_rate(schedule),
  )


def _direction(optimizer):
  if optimizer.name == 'lion':
    return optax.scale_by_lion(optimizer.b1, optimizer.b2)
  if not optimizer.bias_correction:
    return uncorrected_adam(optimizer)
  return optax.scale_by_adam(optimizer.b1, optimizer.b2, optimizer.epsilon)


def uncorrected_adam(optimizer: ConfigDict) -> optax.GradientTransformation:
  """Adam (Kingma & Ba 2015) without its bias correction, as in BERT's code.

  Both means start at 0 and are not corrected for it. After t updates the step
  is (1 - b1^t) / (1 - b2^t)^1/2 times the corrected one: with 0.9 and 0.999 it
  is 3.2 times as large at first, which the warmup makes up for.
  """
  b1, b2, epsilon = optimizer.b1, optimizer.b2, optimizer.epsilon

  def update(grads, state, params=None):
    del params
    mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, grads)
    nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, grads)
    updates = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + epsilon), mu, nu)
    return updates, optax.ScaleByAdamState(state.count + 1, mu, nu)

  return optax.GradientTransformation(optax.scale_by_adam().init, update)


def _trust(axes: Any, scaled: Any) -> optax.GradientTransformation:
  """Scales updates to the norms of their weights, each layer's by itself.

  A weight or an update of zeros is left as it is. `axes` and `scaled`, whether
  a weight is scaled, are trees like the parameters.
  """

  def scale(update, weight, names, is_scaled):
    if not is_scaled:
      return update
    length, size = (
      jnp.sqrt(jnp.sum(jnp.square(x), axis=own(names), keepdims=True))
      for x in (weight, update)
    )
    known = (length > 0) & (size > 0)
    return update * jnp.where(known, length / jnp.where(known, size, 1), 1)

  return optax.stateless(
    lambda updates, params: jax.tree.map(scale, updates, params, axes, scaled)
  )


def _multiply(
  multipliers: Mapping[str, float], axes: Any
) -> optax.GradientTransformation:
  """Multiplies the updates of the named parameters."""
  if not multipliers:
    return optax.identity()

  names = set()

  def factor(path, _):
    names.add(path[-1].key)
    return multipliers.get(path[-1].key, 1.0)

  factors = jax.tree_util.tree_map_with_path(factor, axes, is_leaf=is_names)
  for name in multipliers:
    if name not in names:
      raise ValueError(
        f'optimizer.multipliers.{name} is {multipliers[name]}, but the model '
        f'has no parameter of that name; it has {", ".join(sorted(names))}.'
      )
  return optax.stateless(
    lambda updates, params: jax.tree.map(jnp.multiply, updates, factors)
  )
