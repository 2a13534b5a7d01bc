"""Moments of an optimizer that are kept in bfloat16."""

import jax
import jax.numpy as jnp
import optax


def kept_in(
  inner: optax.GradientTransformation, dtype: str
) -> optax.GradientTransformation:
  """`inner`, which computes in float32, with its moments kept in `dtype`.

  Float32 leaves it as it is. A mean that decays by 0.999 changes by less than
  bfloat16's spacing (2^-8): rounded to the nearest number it would never move.
  So it is rounded up or down at random, and is right on average (Gupta et al.
  2015, 3).

  Args:
    inner: its state has `count`, the updates made, and moments in float32.
    dtype: 'float32' or 'bfloat16'.
  """
  if dtype == 'float32':
    return inner

  def init(params):
    state = inner.init(params)
    return jax.tree.map(
      lambda x: x.astype(dtype) if x.dtype == 'float32' else x, state
    )

  def update(grads, state, params=None):
    wide = jax.tree.map(
      lambda x: x.astype('float32') if x.dtype == dtype else x, state
    )
    updates, new = inner.update(grads, wide, params)
    rng = jax.random.fold_in(jax.random.key(0), new.count)
    leaves, tree = jax.tree.flatten(new)
    kept = [
      rounded(x, jax.random.fold_in(rng, i)) if x.dtype == 'float32' else x
      for i, x in enumerate(leaves)
    ]
    return updates, jax.tree.unflatten(tree, kept)

  return optax.GradientTransformation(init, update)


def rounded(x: jax.Array, rng: jax.Array) -> jax.Array:
  """float32 -> one of the two bfloat16 numbers around it; the mean is x."""
  noise = jax.random.bits(rng, x.shape, 'uint16').astype('uint32')
  bits = jax.lax.bitcast_convert_type(x, 'uint32') + noise
  bits = (bits >> 16).astype('uint16')
  drawn = jax.lax.bitcast_convert_type(bits, jnp.bfloat16)
  return jnp.where(jnp.isfinite(x), drawn, x.astype('bfloat16'))
