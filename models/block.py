"""One layer of a transformer."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from models.attention import Attention
from models.config import TransformerConfig
from models.layers import Adapter, Mlp, Norm, dropout
from models.masks import Rules
from models.sharding import shard, shard_residual

Branch = Callable[[jax.Array], jax.Array]


# The axis of a cache's keys and values that counts places. A CPU multiplies
# these fastest, and no step copies them.
PLACES = {'key': 3, 'value': 2}


class Branches(NamedTuple):
  """Texts of a row that are written side by side, from one beginning.

  Attributes:
    queries: int [T], the places in their texts of the tokens that are read.
    keys: int [S], those of the tokens in the cache.
    seen: bool [B,T,S], which of these belong to the text of each token.
  """

  queries: jax.Array
  keys: jax.Array
  seen: jax.Array


class Context(NamedTuple):
  """What all layers of a stack share."""

  # Which keys a query sees: rules, or (decoding) bool, broadcasts to [B,T,S].
  seen: Rules | jax.Array | None = None
  positions: jax.Array | None = None  # int [B,T] or [1,T], the angles of rope
  source: jax.Array | None = None  # [B,S,D], what cross-attention reads
  source_seen: Rules | jax.Array | None = None  # as `seen`, of the source
  index: jax.Array | None = None  # decoding: the place in the cache of x
  branches: Branches | None = None  # decoding: x are tokens of several texts
  # The stack adds these, and makes masks of rules that no kernel reads:
  banded: jax.Array | None = None  # the mask of layers with a window
  bias: jax.Array | None = None  # [N,T,S] or [N,R], of relative_bias, alibi
  angles: jax.Array | None = None  # [B,T,R/2], of rope
  distances: jax.Array | None = None  # [R] or [T,S], of transformer_xl


class Block(nn.Module):
  """Self-attention, cross-attention if there is a source, and the MLP.

  Pre-norm (GPT-2, T5, LLaMA): x + dropout(f(norm(x))) for each f; post-norm
  (Vaswani et al. 2017, BERT): norm(x + dropout(f(x))); parallel (GPT-J, PaLM):
  x + dropout(attention(norm(x))) + dropout(mlp(norm(x))). With
  `model.adapter_dim` an adapter reads what the MLP gives.

  A cache is a dict. 'self' has the 'key' [B,K,H,S] and the 'value' [B,K,S,H] of
  S decoding steps. 'cross' has those of the source; the first call computes
  them.
  """

  config: TransformerConfig
  cross: bool

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    cache: dict | None,
    banded: jax.Array | None,
    context: Context,
  ) -> tuple[jax.Array, dict | None]:
    """[B,T,D] -> [B,T,D], and the new cache.

    Args:
      x: the output of the layer below.
      cache: of this layer; None in training.
      banded: bool, whether this layer has a window; None: no layer has.
      context: what all layers share.
    """
    c = self.config
    new_cache = dict(cache or {})

    def norm(x: jax.Array, name: str) -> jax.Array:
      return Norm(c, name=name)(x)

    def add(x: jax.Array, y: jax.Array) -> jax.Array:
      return shard_residual(x + dropout(c)(y))

    def read(x: jax.Array) -> jax.Array:
      # Gathered once for all products; their gradients are added up once.
      return shard(x, 'act_batch', 'act_length', 'act_embed')

    def residual(x: jax.Array, f: Branch, name: str) -> jax.Array:
      if c.norm_placement == 'pre':
        return add(x, f(read(norm(x, name))))
      return norm(add(x, f(read(x))), name)

    def self_attention(y: jax.Array) -> jax.Array:
      attention = Attention(c, name='attention')
      keys_values = attention.keys_values(y, context.angles)
      if cache is not None:
        new_cache['self'] = {
          name: jax.lax.dynamic_update_slice_in_dim(
            cache['self'][name], new, context.index, PLACES[name]
          )
          for name, new in _stored(keys_values).items()
        }
        keys_values = _read(new_cache['self'])
      seen = context.seen
      if context.banded is not None:
        seen = jnp.where(banded, context.banded, seen)
      return attention(
        y, keys_values, seen, context.bias, context.angles, context.distances,
        banded,
      )  # fmt: skip

    def cross_attention(y: jax.Array) -> jax.Array:
      attention = Attention(c, cross=True, name='cross_attention')
      if context.source is None:
        keys_values = _read(cache['cross'])
      else:
        keys_values = attention.keys_values(context.source)
        new_cache['cross'] = _stored(keys_values)
      return attention(y, keys_values, context.source_seen)

    def mlp(y: jax.Array) -> jax.Array:
      y = Mlp(c, name='mlp')(y)
      return Adapter(c, name='adapter')(y) if c.adapter_dim else y

    if c.parallel == 'none':
      x = residual(x, self_attention, 'attention_norm')
      if self.cross:
        x = residual(x, cross_attention, 'cross_attention_norm')
      x = residual(x, mlp, 'mlp_norm')
    else:
      y = read(norm(x, 'attention_norm'))
      attended = self_attention(y)
      if c.parallel == 'two_norms':
        y = read(norm(x, 'mlp_norm'))
      x = add(add(x, attended), mlp(y))
    return x, None if cache is None else new_cache


def empty_cache(config: TransformerConfig, batch: int, length: int) -> dict:
  """The cache of a layer before it has read one of `length` tokens."""
  shape = (batch, length, config.kv_heads, config.head_dim)
  zeros = jnp.zeros(shape, config.dtype)
  return {'self': _stored({'key': zeros, 'value': zeros})}


def _stored(keys_values):
  """[B,S,K,H] each -> as a cache has them."""
  return {
    name: jnp.moveaxis(x, 1, PLACES[name]) for name, x in keys_values.items()
  }


def _read(stored):
  """As a cache has them -> [B,S,K,H] each."""
  return {name: jnp.moveaxis(x, PLACES[name], 1) for name, x in stored.items()}


class Kept(Block):
  """A block that hands out its output beside the cache's place."""

  def __call__(self, x: jax.Array, *others) -> tuple[jax.Array, jax.Array]:
    """[B,T,D] -> [B,T,D] twice; there is no cache."""
    x, _ = super().__call__(x, *others)
    return x, x
