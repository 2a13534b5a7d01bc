"""Muon for the matrices of the layers, AdamW for everything else."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from train.learning.axes import check_names, decaying, decays, own
from train.learning.layers import in_layer
from train.learning.moments import kept_in
from train.learning.mup import slower

KEYS = (  # of the config group `optimizer`
  *('clip', 'momentum', 'matrix_rate', 'b1', 'b2', 'epsilon'),
  *('weight_decay', 'decay', 'decay_except', 'moments_dtype'),
)
# Of a x + b x^3 + c x^5, which is applied to each singular value: five times
# bring those between 0.01 and 1 near 1, if not quite there.
COEFFICIENTS = 3.4445, -4.7750, 2.0315
TIMES = 5


class MuonState(NamedTuple):
  """The state of `muon`."""

  count: jax.Array  # updates made so far
  # A tree like the parameters, with a dict for each: the running mean of its
  # gradients ('mean'), and where AdamW moves it that of their squares
  # ('square').
  moments: Any


def muon(
  optimizer: ConfigDict,
  schedule: optax.Schedule,
  axes: Any,
  widening: float = 1.0,
) -> optax.GradientTransformation:
  """Muon (Jordan et al. 2024, and its published code).

  A matrix of a layer moves by the mean of its gradients (with Nesterov's look
  ahead) made orthogonal, times (O / I)^1/2 if it has more outputs O than inputs
  I, and times matrix_rate and the learning rate. Query, key and value kernels
  are matrices of their own, and so are those of each layer, stacked or not. All
  else (tables, heads, norms, biases) moves by AdamW, with b1, b2 and epsilon.
  The weight decay is weight_decay times a parameter's own rate. The arguments
  are those of `optimizer.make_optimizer`.
  """
  o = optimizer
  shrinking = decaying(o, axes)
  # Orthogonal steps are as large as any width needs: muP slows AdamW alone.
  factors = slower(axes, widening)

  def init(params):
    def zeros(path, param, names):
      check_names(param, names)
      kept = ('mean',) if _is_matrix(path, names) else ('mean', 'square')
      return {k: jnp.zeros(param.shape, jnp.float32) for k in kept}

    moments = jax.tree_util.tree_map_with_path(zeros, params, axes)
    return MuonState(jnp.zeros([], jnp.int32), moments)

  def update(grads, state, params):
    count = state.count + 1
    rate = schedule(state.count)

    def average(grad, moment):
      grad = grad.astype(jnp.float32)
      if 'square' not in moment:
        return {'mean': _mix(moment['mean'], grad, o.momentum)}
      return {
        'mean': _mix(moment['mean'], grad, o.b1),
        'square': _mix(moment['square'], jnp.square(grad), o.b2),
      }

    def step(grad, moment, param, names, factor, shrinks):
      if 'square' not in moment:
        ahead = _mix(grad.astype(jnp.float32), moment['mean'], 1 - o.momentum)
        x, own_rate = orthogonal(ahead, own(names)[-2:]), o.matrix_rate * rate
      else:
        mean = moment['mean'] / (1 - o.b1**count)
        square = moment['square'] / (1 - o.b2**count)
        x, own_rate = factor * mean / (jnp.sqrt(square) + o.epsilon), rate
      if shrinks:
        x = x + o.weight_decay * param
      return -own_rate * x

    moments = jax.tree.map(average, grads, state.moments)
    updates = jax.tree.map(
      step, grads, moments, params, axes, factors, shrinking
    )
    return updates, MuonState(count, moments)

  inner = optax.GradientTransformation(init, update)
  return kept_in(inner, o.moments_dtype)


def orthogonal(x: jax.Array, dims: tuple[int, int]) -> jax.Array:
  """Nearly the orthogonal matrix nearest to x, times (O / I)^1/2 if O > I.

  The singular values of x, over the dimensions `dims` (inputs I, outputs O),
  become about 1 by a Newton-Schulz iteration; the published code computes it in
  bfloat16. Each place in the other dimensions has a matrix of its own.
  """
  wide = jnp.moveaxis(x, dims, (-2, -1))
  inputs, outputs = wide.shape[-2:]
  if inputs > outputs:  # the smaller product
    wide = wide.mT
  norm = jnp.linalg.norm(wide, axis=(-2, -1), keepdims=True)
  wide = wide / (norm + 1e-7)
  a, b, c = COEFFICIENTS
  for _ in range(TIMES):
    square = wide @ wide.mT
    wide = a * wide + (b * square + c * square @ square) @ wide
  if inputs > outputs:
    wide = wide.mT
  scaled = max(1, outputs / inputs) ** 0.5 * wide
  return jnp.moveaxis(scaled, (-2, -1), dims)


def _is_matrix(path, names):
  """Whether Muon moves a parameter: the matrices of the layers."""
  inside = in_layer(tuple(key.key for key in path)) is not None
  return inside and decays(names, 'matrices')


def _mix(mean, new, decay):
  return decay * mean + (1 - decay) * new
