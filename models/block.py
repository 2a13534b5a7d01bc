"""One layer, and a stack of them."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from models.attention import Attention
from models.config import TransformerConfig
from models.layers import Dropout, Mlp, Norm, shard
from models.positions import RelativeBias

REMAT_POLICIES = {
  'full': jax.checkpoint_policies.nothing_saveable,
  'dots': jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


class Context(NamedTuple):
  """What every layer of a stack sees alike."""

  mask: jax.Array | None = None  # bool, broadcasts to [B,T,T]
  bias: jax.Array | None = None  # [N,T,T]
  source: jax.Array | None = None  # [B,S,D], what cross-attention reads
  source_mask: jax.Array | None = None  # bool, broadcasts to [B,T,S]
  index: jax.Array | None = None  # decoding: where in the cache x stands


class Block(nn.Module):
  """Self-attention, cross-attention where there is a source, MLP.

  Pre-norm (T5, GPT-2, LLaMA): x + dropout(f(norm(x))) for each f.

  A cache is a dict: 'self' of 'key', 'value' [B,S,K,H] for S decoding steps,
  and 'cross', the source's, which a first call without it computes.
  """

  config: TransformerConfig
  cross: bool

  @nn.compact
  def __call__(
    self, x: jax.Array, cache: dict | None, context: Context
  ) -> tuple[jax.Array, dict | None]:
    c = self.config

    def norm(x, name):
      return Norm(c.norm_epsilon, c.dtype, name=name)(x)

    def add(x, y):
      x = x + Dropout(c.dropout)(y)
      return shard(x, 'act_batch', 'act_length', 'act_embed')

    attention = Attention(c, name='attention')
    y = norm(x, 'attention_norm')
    keys_values = attention.keys_values(y)
    if cache is not None:
      keys_values = {
        name: jax.lax.dynamic_update_slice_in_dim(
          cache['self'][name], new, context.index, axis=1
        )
        for name, new in keys_values.items()
      }
      cache = cache | {'self': keys_values}
    x = add(x, attention(y, keys_values, context.mask, context.bias))

    if self.cross:
      attention = Attention(c, name='cross_attention')
      y = norm(x, 'cross_attention_norm')
      if cache is not None and 'cross' in cache:
        keys_values = cache['cross']
      else:
        keys_values = attention.keys_values(context.source)
      if cache is not None:
        cache = cache | {'cross': keys_values}
      x = add(x, attention(y, keys_values, context.source_mask))

    x = add(x, Mlp(c, name='mlp')(norm(x, 'mlp_norm')))
    return x, cache


class Stack(nn.Module):
  """Blocks one after the other, between dropouts, and a final norm.

  With `model.scan` the blocks' weights are stacked along a first dimension
  named 'layers' and one compiled block loops over them.
  """

  config: TransformerConfig
  layers: int
  causal: bool
  cross: bool = False

  @nn.compact
  def __call__(
    self, x: jax.Array, context: Context, cache: dict | None = None
  ) -> tuple[jax.Array, dict | None]:
    """[B,T,D] -> [B,T,D]; the cache has one more dimension, first: L."""
    c = self.config
    queries = keys = jnp.arange(x.shape[1])
    if cache is not None:
      queries = queries + context.index
      keys = jnp.arange(cache['self']['key'].shape[2])
    bias = RelativeBias(c, not self.causal, name='relative_bias')
    context = context._replace(bias=bias(queries, keys))

    x = Dropout(c.dropout)(x)
    block = Block
    if c.remat != 'none':
      block = nn.remat(
        Block, policy=REMAT_POLICIES[c.remat], prevent_cse=not c.scan
      )
    if c.scan:
      scanned = nn.scan(
        block,
        length=self.layers,
        variable_axes={'params': 0},
        split_rngs={'params': True, 'dropout': True},
        in_axes=(0, nn.broadcast),
        metadata_params={nn.PARTITION_NAME: 'layers'},
      )
      x, cache = scanned(c, self.cross, name='layers')(x, cache, context)
    else:
      caches = []
      for i in range(self.layers):
        layer = jax.tree.map(lambda leaf, i=i: leaf[i], cache)
        x, layer = block(c, self.cross, name=f'layer_{i}')(x, layer, context)
        caches.append(layer)
      if cache is not None:
        cache = jax.tree.map(lambda *leaves: jnp.stack(leaves), *caches)
    return Dropout(c.dropout)(
      Norm(c.norm_epsilon, c.dtype, name='norm')(x)
    ), cache
