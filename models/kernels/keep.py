"""Which attention weights dropout keeps: a hash of a weight's own place.

A kernel computes it block by block, and any mesh gives the same bits: nothing
is drawn in an order, and nothing is stored.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

_BITS = 24  # of the hash that are compared with the rate


def kept(
  seed: jax.Array,
  rate: float,
  row: jax.Array,
  head: jax.Array,
  query: jax.Array,
  key: jax.Array,
) -> jax.Array:
  """Whether each weight is kept: bool, False with probability `rate`.

  Args:
    seed: int32 [], another one for each step and layer.
    rate: the share that is dropped.
    row, head, query, key: int32, the weight's place in the global batch; they
      broadcast against each other.
  """
  stream = _mixed(seed ^ _times(row, 0x9E3779B1)) ^ _times(head, 0x85EBCA77)
  place = _times(query, 0xC2B2AE3D) + _times(key, 0x27D4EB2F)
  found = _mixed(_mixed(stream) ^ place)
  found = jax.lax.shift_right_logical(found, np.int32(32 - _BITS))
  return found >= np.int32(round(rate * 2**_BITS))


def all_kept(
  seed: jax.Array,
  rate: float,
  shape: tuple[int, int, int, int],
  firsts: Sequence[jax.Array | int] = (0, 0, 0, 0),
) -> jax.Array:
  """`kept` of all weights: bool [B,N,T,S], which is `shape`.

  `firsts` are the places of the first row, head, query and key.
  """
  return kept(
    seed,
    rate,
    *(
      (first + jax.lax.iota('int32', n)).reshape(-1, *(1,) * axis)
      for n, first, axis in zip(shape, firsts, (3, 2, 1, 0), strict=True)
    ),
  )


def _times(x, factor):
  return jnp.asarray(x, 'int32') * np.uint32(factor).astype('int32')


def _mixed(x):
  """A bijection of 32 bits: 'lowbias32' of Wellons 2018, hash prospector."""
  for shift, factor in (16, 0x7FEB352D), (15, 0x846CA68B):
    x = _times(x ^ jax.lax.shift_right_logical(x, np.int32(shift)), factor)
  return x ^ jax.lax.shift_right_logical(x, np.int32(16))
