"""Masks equal the examples of their docstrings."""

import jax.numpy as jnp

from models import masks


def rows(mask):
  return mask.astype(int).tolist()


def test_causal():
  assert rows(masks.causal(3)) == [[[1, 0, 0], [1, 1, 0], [1, 1, 1]]]


def test_prefix():
  marks = jnp.array([[1, 1, 0, 0], [0, 0, 0, 0]])
  assert rows(masks.prefix(marks)) == [[[1, 1, 0, 0]], [[0, 0, 0, 0]]]
  seen = masks.causal(4) | masks.prefix(marks)
  assert rows(seen) == [
    [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]],
    [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]],
  ]


def test_segments():
  """Padding sees nothing, not even itself."""
  queries, keys = jnp.array([[1, 1, 2, 0]]), jnp.array([[1, 2, 2, 0, 3]])
  assert rows(masks.segments(queries, keys)) == [
    [[1, 0, 0, 0, 0], [1, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]]
  ]


def test_padding():
  keys = jnp.array([[1, 2, 0], [0, 1, 1]])
  assert rows(masks.padding(keys)) == [[[1, 1, 0]], [[0, 1, 1]]]
