"""Random keys that know which rows of a batch they are for.

A pipeline computes some rows at a time. With such a key a draw of shape
[rows,...] gives the bits that these rows have in a draw for the whole batch:
Threefry makes each bit from its place in the array.
"""

import math

import jax
import jax.numpy as jnp
from jax.extend import random

_WHOLE = random.threefry_prng_impl


def of_rows(key: jax.Array, first: jax.Array) -> jax.Array:
  """The key for the rows from the number `first`, int32 [], of a batch.

  Only Threefry's keys can do that. Of another kind the result is a new key for
  these rows, whose bits are not those of the whole batch.
  """
  if jax.random.key_impl(key) != 'threefry2x32':
    return jax.random.fold_in(key, first)
  row = jnp.asarray(first, 'uint32')[None]
  return jax.random.wrap_key_data(
    jnp.concatenate([jax.random.key_data(key), row]), impl=_OF_ROWS
  )


def first_row(key: jax.Array) -> jax.Array | int:
  """The number in its batch of the first row that a key is for."""
  if jax.random.key_impl(key) != _OF_ROWS:
    return 0
  return jax.random.key_data(key)[2].astype('int32')


def _seed(seed):
  return jnp.append(_WHOLE.seed(seed), jnp.uint32(0))


def _split(key, shape):
  keys = _WHOLE.split(key[:2], shape)
  rows = jnp.broadcast_to(key[2], (*shape, 1))
  return jnp.concatenate([keys, rows], axis=-1)


def _fold_in(key, data):
  return jnp.append(_WHOLE.fold_in(key[:2], data), key[2])


def _random_bits(key, bit_width, shape):
  """As Threefry's bits of 32, with the places of the rows; int [] has none."""
  if bit_width != 32:
    raise ValueError(
      f'The key of some rows of a batch draws numbers of 32 bits, not of '
      f'{bit_width}: draw uint32 or float32, and cast what is drawn.'
    )
  places = (jnp.zeros(shape, 'uint32'),) * 2
  if shape:
    row = key[2] + jax.lax.iota('uint32', shape[0])
    high, low = _times(row, math.prod(shape[1:]))
    starts = (x.reshape(-1, *(1,) * (len(shape) - 1)) for x in (high, low))
    places = _plus(*starts, shape)
  return jnp.bitwise_xor(*random.threefry2x32_p.bind(key[0], key[1], *places))


def _times(x, n):
  """x n, for uint32 x and an int n < 2^32, as the high and low 32 bits."""
  if n >= 2**32:
    raise ValueError(
      f'The key of some rows of a batch draws fewer than 2^32 numbers for a '
      f'row, not {n}: draw them in parts, with a key for each.'
    )
  half = 2**16 - 1
  a, b, c, d = x >> 16, x & half, jnp.uint32(n >> 16), jnp.uint32(n & half)
  middle = (b * d >> 16) + (a * d & half) + (b * c & half)
  high = a * c + (a * d >> 16) + (b * c >> 16) + (middle >> 16)
  return high, x * jnp.uint32(n)


def _plus(high, low, shape):
  """A row's start, as two halves, plus the place in the row: [rows,...]."""
  within = jnp.zeros((1, *shape[1:]), 'uint32')
  step = 1
  for axis in reversed(range(1, len(shape))):
    place = jax.lax.broadcasted_iota('uint32', within.shape, axis)
    within = within + place * jnp.uint32(step)
    step *= shape[axis]
  total = low + within
  high = jnp.broadcast_to(high, shape) + (total < low).astype('uint32')
  return high, total


_OF_ROWS = random.define_prng_impl(
  key_shape=(3,),
  seed=_seed,
  split=_split,
  random_bits=_random_bits,
  fold_in=_fold_in,
  name='threefry2x32_of_rows',
  tag='rows',
)
