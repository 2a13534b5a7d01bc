"""A stack of layers: looped over or written out, computed again or kept."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from models.block import Block, Context
from models.config import TransformerConfig
from models.layers import Dense, Norm, dropout, initializer
from models.positions import RelativeBias, alibi, rope_angles

REMAT_POLICIES = {
  'full': jax.checkpoint_policies.nothing_saveable,
  'dots': jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


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
      axes, init = ('table', 'embed'), initializer(c, 'projection')
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
