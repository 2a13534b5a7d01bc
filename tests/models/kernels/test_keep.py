"""Dropout by a hash: its rate, its independence, its places."""

import jax.numpy as jnp
import numpy as np
import pytest

from models.kernels.keep import all_kept, kept

SHAPE = 4, 8, 64, 64


@pytest.mark.parametrize('rate', [0.1, 0.5])
def test_the_rate(rate):
  """The dropped share of each slice is within 4.5 standard deviations."""
  dropped = ~np.asarray(all_kept(3, rate, SHAPE))
  for axes in ((0, 1, 2, 3), (1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 1, 2)):
    count = np.prod([SHAPE[n] for n in axes])
    limit = 4.5 * np.sqrt(rate * (1 - rate) / count)
    assert np.abs(dropped.mean(axes) - rate).max() < limit


def test_no_two_places_go_together():
  """Neighbours, rows, heads and seeds agree as often as chance has it."""
  x = np.asarray(all_kept(3, 0.5, SHAPE))
  pairs = [(x, np.asarray(all_kept(4, 0.5, SHAPE)))]
  for axis in range(4):
    size = SHAPE[axis]
    for step in (1, 2, size // 2):
      first = np.take(x, np.arange(size - step), axis)
      pairs.append((first, np.take(x, np.arange(step, size), axis)))
  pairs.append((x, x.swapaxes(2, 3)))
  for a, b in pairs:
    same = (a == b).mean()
    # On the transpose's diagonal all agree: 64 of 4,096.
    assert abs(same - 0.5) < 4.5 * 0.5 / np.sqrt(a.size) + (a is x) * 0.008


def test_a_part_has_the_bits_of_the_whole():
  whole = all_kept(5, 0.3, SHAPE)
  part = kept(
    jnp.int32(5), 0.3, jnp.int32(2), jnp.int32(7),
    jnp.arange(10, 20)[:, None], jnp.arange(30, 64),
  )  # fmt: skip
  np.testing.assert_array_equal(part, whole[2, 7, 10:20, 30:])
