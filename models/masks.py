"""Which query may see which key: bool [B,T,S], True where it may.

Masks combine with `&`. A query that sees nothing (padding) attends to all keys
evenly; its weight in the loss is 0. `Rules` are what a mask is made of: a
kernel reads them in place of a mask.
"""

import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class Rules:
  """Which keys the queries of whole rows see: those of their own segment.

  Attributes:
    queries, keys: segments, int [B,T] and [B,S]; 0 is padding.
    prefix: int [B,S], 1 where a causal query sees a key after it too, or None.
    causal: no other query sees a key after it.
  """

  queries: jax.Array
  keys: jax.Array
  prefix: jax.Array | None = None
  causal: bool = flax.struct.field(pytree_node=False, default=False)

  def mask(self) -> jax.Array:
    """bool [B,T,S]."""
    own = segments(self.queries, self.keys)
    if not self.causal:
      return own
    seen = causal(self.queries.shape[1])
    if self.prefix is not None:
      seen = seen | prefix(self.prefix)
    return seen & own


def as_mask(seen: jax.Array | Rules | None) -> jax.Array | None:
  """The mask of rules; a mask, or None, stays what it is."""
  return seen.mask() if isinstance(seen, Rules) else seen


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
