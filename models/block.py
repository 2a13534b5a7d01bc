"""One layer, and a stack of them."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from models.attention import Attention
from models.config import TransformerConfig
from models.layers import Dense, Mlp, Norm, dropout, initializer, shard
from models.positions import RelativeBias, alibi, rope_angles

REMAT_POLICIES = {
  'full': jax.checkpoint_policies.nothing_saveable,
  'dots': jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


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


class Stack(nn.Module):
  """Blocks one after the other and, with pre-norm, a final norm.

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
    """[B,T,E] -> [B,T,D]; the cache has one more dimension, first: L."""
    c = self.config
    queries = keys = jnp.arange(x.shape[1])
    if cache is not None:
      queries = queries + context.index
      keys = jnp.arange(cache['self']['key'].shape[2])
    context = self._positions(context, queries, keys)
    banded = None
    if c.window:
      near = queries[:, None] - keys[None, :] < c.window
      context = context._replace(banded=context.mask & near)
      banded = jnp.arange(self.layers) % c.window_every == c.window_every - 1

    if x.shape[-1] != c.embed_dim or c.table_dim:
      axes, init = ('table', 'embed'), initializer(c, 'attention')
      bias = c.bias == 'all'
      x = Dense(c.embed_dim, axes, init, c.dtype, bias, name='projection')(x)
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
        in_axes=(0, 0, nn.broadcast),
        metadata_params={nn.PARTITION_NAME: 'layers'},
      )
      x, cache = scanned(c, self.cross, name='layers')(
        x, cache, banded, context
      )
    else:
      caches = []
      for i in range(self.layers):
        layer, band = jax.tree.map(lambda leaf, i=i: leaf[i], (cache, banded))
        x, layer = block(c, self.cross, name=f'layer_{i}')(
          x, layer, band, context
        )
        caches.append(layer)
      if cache is not None:
        cache = jax.tree.map(lambda *leaves: jnp.stack(leaves), *caches)
    if c.norm_placement == 'pre':
      x = Norm(c, name='norm')(x)
    return dropout(c)(x) if c.dropout_kind == 't5' else x, cache

  def _positions(self, context, queries, keys):
    """What the scheme of positions adds to the context: int [T], [S]."""
    c = self.config
    match c.position:
      case 'relative_bias':
        bias = RelativeBias(c, not self.causal, name='relative_bias')
        return context._replace(bias=bias(queries, keys))
      case 'alibi':
        return context._replace(bias=alibi(c.heads, queries, keys))
      case 'rope':
        positions = context.positions
        if positions is None:
          positions = queries[None]
        return context._replace(angles=rope_angles(c, positions))
      case 'transformer_xl':
        T = len(queries)
        distances = T - 1 - jnp.arange(T if self.causal else 2 * T - 1)
        if context.index is not None:
          distances = queries[:, None] - keys[None, :]
        return context._replace(distances=distances)
    return context
