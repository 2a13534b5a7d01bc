"""Keys of rows draw what these rows get in the whole batch."""

import jax
import numpy as np
import pytest

from models import row_keys

KEY = jax.random.fold_in(jax.random.key(3), 7)


@pytest.mark.parametrize('shape', [(6, 5, 3), (6, 1, 4), (6,)])
def test_rows_have_the_bits_of_the_batch(shape):
  def draw(key, rows):
    shape_here = (rows, *shape[1:])
    kept = jax.random.bernoulli(key, 0.7, shape_here)
    return kept, jax.random.bits(jax.random.split(key, 3)[1], shape_here)

  @jax.jit
  def some(first):
    return draw(row_keys.of_rows(KEY, first), 2)

  for part, whole in zip(some(4), draw(KEY, 6), strict=True):
    np.testing.assert_array_equal(part, whole[4:])


def test_large_places():
  """A batch has more entries than 32 bits count."""
  low, high = 5, 3
  counted = row_keys._times(np.uint32([2**20, 2**32 - 1]), 2**13 + 7)
  exact = [row * (2**13 + 7) for row in (2**20, 2**32 - 1)]
  found = [(int(a) << 32) + int(b) for a, b in zip(*counted, strict=True)]
  assert found == exact
  start = np.uint32([[high]]), np.uint32([[2**32 - low]])
  a, b = row_keys._plus(*start, (1, 8))
  places = [(int(x) << 32) + int(y) for x, y in zip(a[0], b[0], strict=True)]
  assert places == [(high << 32) + 2**32 - low + n for n in range(8)]


def test_what_keys_of_rows_cannot_draw():
  """Other widths and longer rows are refused, and not drawn otherwise."""
  key = row_keys.of_rows(KEY, 5)
  with pytest.raises(ValueError, match='32 bits, not of 16: draw uint32'):
    jax.random.bits(key, (4,), 'uint16')
  with pytest.raises(ValueError, match='not 4294967296: draw them in parts'):
    jax.jit(lambda: jax.random.bits(key, (2, 2**16, 2**16))).lower()


def test_what_has_no_rows():
  """A seed is the same for all rows; the key says which they are."""
  key = row_keys.of_rows(KEY, 5)
  assert jax.random.bits(key, ()) == jax.random.bits(KEY, ())
  assert row_keys.first_row(key) == 5
  assert row_keys.first_row(KEY) == 0
  other = jax.random.key(0, impl='rbg')
  assert row_keys.first_row(row_keys.of_rows(other, 5)) == 0
