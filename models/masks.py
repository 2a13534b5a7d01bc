"""Which query may see which key: bool [B,T,S], True where it may.

Masks combine with `&`. A query that sees nothing (padding) attends to all keys
evenly; its weight in the loss is 0.
"""

import jax
import jax.numpy as jnp


def causal(length: int) -> jax.Array:
  """A position sees itself and those before it: [1,T,T].

  Example, length 3:
    1 0 0
    1 1 0
    1 1 1
  """
  return jnp.tril(jnp.ones((1, length, length), bool))


def prefix(marks: jax.Array) -> jax.Array:
  """Every query sees the positions marked 1: int [B,T] -> [B,1,T].

  Example, `causal(4) | prefix(marks)` with marks 1 1 0 0:
    1 1 0 0
    1 1 0 0
    1 1 1 0
    1 1 1 1
  """
  return (marks > 0)[:, None, :]


def segments(queries: jax.Array, keys: jax.Array) -> jax.Array:
  """A token sees the tokens of its own segment: int [B,T], [B,S] -> [B,T,S].

  Segment 0 is padding: no token sees it.

  Example, queries 1 1 2 0 and keys 1 2 2 0:
    1 0 0 0
    1 0 0 0
    0 1 1 0
    0 0 0 0
  """
  same = queries[:, :, None] == keys[:, None, :]
  return same & (keys > 0)[:, None, :]


def padding(keys: jax.Array) -> jax.Array:
  """Every query sees the keys that are not padding: int [B,S] -> [B,1,S]."""
  return (keys > 0)[:, None, :]
