"""One layer."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from models.attention import Attention
from models.config import TransformerConfig
from models.layers import Mlp, Norm, dropout, shard


class Context(NamedTuple):
  """What every layer of a stack sees alike."""

  mask: jax.Array | None = None  # bool, broadcasts to [B,T,S]
  positions: jax.Array | None = None  # int [B,T] or [1,T]; rope turns by them
  source: jax.Array | None = None  # [B,S,D], what cross-attention reads
  source_mask: jax.Array | None = None  # bool, broadcasts to [B,T,S]
  index: jax.Array | None = None  # decoding: where in the cache x stands
  # Made by the stack:
  banded: jax.Array | None = None  # the mask of layers with a window
  bias: jax.Array | None = None  # [N,T,S]
  angles: jax.Array | None = None  # of rope, [B,T,R/2]
  distances: jax.Array | None = None  # of transformer_xl, [R] or [T,S]


class Block(nn.Module):
  """Self-attention, cross-attention where there is a source, MLP.

  Pre-norm (GPT-2, T5, LLaMA): x + dropout(f(norm(x))) for each f; post-norm
  (Vaswani et al. 2017, BERT): norm(x + dropout(f(x))); parallel (GPT-J, PaLM):
  x + dropout(attention(norm(x))) + dropout(mlp(norm(x))).

  A cache is a dict: 'self' of 'key', 'value' [B,S,K,H] for S decoding steps,
  and 'cross', the source's, which a first call without it computes.
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
    c = self.config
    pre = c.norm_placement == 'pre'

    def norm(x, name):
      return Norm(c, name=name)(x)

    def add(x, y):
      return shard(x + dropout(c)(y), 'act_batch', 'act_length', 'act_embed')

    attention = Attention(c, name='attention')
    y = norm(x, 'attention_norm') if pre else x
    keys_values = attention.keys_values(y, context.angles)
    if cache is not None:
      keys_values = {
        name: jax.lax.dynamic_update_slice_in_dim(
          cache['self'][name], new, context.index, axis=1
        )
        for name, new in keys_values.items()
      }
      cache = cache | {'self': keys_values}
    mask = context.mask
    if banded is not None:
      mask = jnp.where(banded, context.banded, mask)
    attended = attention(
      y, keys_values, mask, context.bias, context.angles, context.distances
    )
    mlp = Mlp(c, name='mlp')
    if c.parallel != 'none':
      if c.parallel == 'two_norms':
        y = norm(x, 'mlp_norm')
      return add(add(x, attended), mlp(y)), cache

    x = add(x, attended)
    if not pre:
      x = norm(x, 'attention_norm')

    if self.cross:
      attention = Attention(c, cross=True, name='cross_attention')
      y = norm(x, 'cross_attention_norm') if pre else x
      if cache is not None and 'cross' in cache:
        keys_values = cache['cross']
      else:
        keys_values = attention.keys_values(context.source)
      if cache is not None:
        cache = cache | {'cross': keys_values}
      x = add(x, attention(y, keys_values, context.source_mask))
      if not pre:
        x = norm(x, 'cross_attention_norm')

    x = add(x, mlp(norm(x, 'mlp_norm') if pre else x))
    return x if pre else norm(x, 'mlp_norm'), cache
