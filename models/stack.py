"""A stack of layers: what runs them, and what they share."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from models import pipelining
from models.block import Block, Context, Kept
from models.config import TransformerConfig
from models.kernels import cudnn
from models.kernels.blocks import KEPT
from models.layers import Dense, Norm, dropout, initializer
from models.masks import Rules, as_mask
from models.positions import RelativeBias, alibi, rope_angles
from models.sharding import equal_parts

_POLICIES = jax.checkpoint_policies
_DOTS = _POLICIES.dots_with_no_batch_dims_saveable
_KERNELS = _POLICIES.save_only_these_names(KEPT)
_REMAT = {
  'mlp': _DOTS,
  'dots': _DOTS,
  'offload': _POLICIES.offload_dot_with_no_batch_dims('device', 'pinned_host'),
}
_STACKED, _SINGLE = 'layers', 'layer_'  # names of parameters


def _policy(config):
  """What a layer keeps for the backward pass, by `model.remat`; None: all.

  `attention` keeps all but the logits and weights of attention, which
  recomputes them itself. All but `full` keep what the backward passes of the
  kernels need.
  """
  if config.remat == 'full':
    return _POLICIES.nothing_saveable
  if config.remat not in _REMAT:
    return None

  def policy(primitive, *inputs, **params):
    if cudnn.is_kept(primitive) or _KERNELS(primitive, *inputs, **params):
      return True
    wide = primitive.name == 'dot_general' and (
      inputs[1].shape[-1] == config.mlp_dim
    )
    if config.remat == 'mlp' and wide:
      return False
    return _REMAT[config.remat](primitive, *inputs, **params)

  return policy


def repeat(
  block: type[nn.Module],
  layers: int,
  x: jax.Array,
  cache: Any,
  own: Any,
  shared: Any,
  *,
  config: TransformerConfig,
  ready: Callable[[Any], Any] = lambda shared: shared,
  staged: bool = False,
  **fields: Any,
) -> tuple[jax.Array, Any]:
  """Runs `layers` blocks one after the other, inside a compact module.

  With `model.scan` one compiled block loops over weights that are stacked: the
  parameters are in 'layers', and their first dimension has the axis name
  'layers'. Without it every block is written out: 'layer_0', 'layer_1', ...
  `model.remat` says what the backward pass computes again.

  Args:
    block: the class of a layer. It is called with (x, cache, own, shared) and
      returns the new x and the layer's new cache.
    x: [B,T,D], what the first block reads.
    cache: a tree of [L,...] arrays, without `model.scan` a tuple of the layers'
      own trees; or None. See `repeated`.
    own: a tree of [L,...] arrays that differ from layer to layer, or None.
    shared: a tree that is the same in every layer.
    config: of the model; a field of `block`.
    ready: makes of `shared` what a layer reads, for all rows or some.
    staged: the parameters exist and there is no cache. Then, if the mesh cuts
      layers into stages, they are a pipeline.
    **fields: the other fields of `block`.

  Returns:
    The last block's x, and the new cache.
  """
  fields = {'config': config} | fields
  policy = _policy(config)
  if staged and config.scan and pipelining.stages() > 1:
    pipeline = pipelining.Pipeline(
      block, fields, ready, policy, config.scan_unroll, name=_STACKED
    )
    return pipeline(x, own, shared), None
  shared = ready(shared)
  if policy:
    block = nn.remat(block, policy=policy, prevent_cse=not config.scan)
  if config.scan:
    scanned = nn.scan(
      block,
      length=layers,
      unroll=config.scan_unroll,
      variable_axes={'params': 0},
      split_rngs={'params': True, 'dropout': True},
      in_axes=(0, 0, nn.broadcast),
      metadata_params={nn.PARTITION_NAME: 'layers'},
    )
    return scanned(**fields, name=_STACKED)(x, cache, own, shared)

  caches = []
  for i in range(layers):
    here = None if cache is None else cache[i]
    own_here = jax.tree.map(lambda leaf, i=i: leaf[i], own)
    x, here = block(**fields, name=f'{_SINGLE}{i}')(x, here, own_here, shared)
    caches.append(here)
  known = caches and caches[0] is not None
  return x, tuple(caches) if known else None


def repeated(config: TransformerConfig, layers: int, cache: Any) -> Any:
  """The caches of all layers, each as that of one layer, for `repeat`."""
  if not config.scan:
    return (cache,) * layers
  return jax.tree.map(lambda x: jnp.broadcast_to(x, (layers, *x.shape)), cache)


def places_of(cache: Any) -> int:
  """S, how many tokens a cache of keys and values holds."""
  cache = cache[0] if isinstance(cache, tuple) else cache
  return cache['self']['value'].shape[-2]


def written_out(model: nn.Module, params: Any) -> tuple[nn.Module, Any]:
  """The same model with a block for each layer, and its parameters.

  A loop over stacked layers copies each layer's weights and cache in each turn,
  which is most of the time of a step that reads one token. The new parameters
  take as much memory as the old ones.
  """
  if not model.config.scan:
    return model, params
  apart = jax.jit(lambda x: [x[i] for i in range(len(x))])
  flat = {}
  for path, x in flatten_dict(params).items():
    if _STACKED not in path:
      flat[path] = x
      continue
    at = path.index(_STACKED)
    for i, own in enumerate(apart(x)):
      flat[(*path[:at], f'{_SINGLE}{i}', *path[at + 1 :])] = own
  config = dataclasses.replace(model.config, scan=False)
  return model.clone(config=config), unflatten_dict(flat)


def _masked(context, window, queries, keys):
  """The context with masks in place of rules, which no kernel reads."""
  seen = as_mask(context.seen)
  near = queries[:, None] - keys[None, :] < window
  return context._replace(
    seen=seen,
    source_seen=as_mask(context.source_seen),
    banded=seen & near if window else None,
  )


class Stack(nn.Module):
  """Blocks one after the other and, with pre-norm, a final norm.

  causal: relative positions have only one direction, as no query sees a key
    after it. (The mask itself is in the context. Under a prefix a query may see
    one, which then counts as being at distance 0: `model.causal_bias`.)
  keep: every layer's output is returned in place of the cache.
  """

  config: TransformerConfig
  layers: int
  causal: bool
  cross: bool = False
  keep: bool = False

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    context: Context,
    cache: dict | None = None,
    encodes: bool = False,
  ) -> tuple[jax.Array, dict | None]:
    """[B,T,E] -> [B,T,D] and the cache; see `repeat`.

    With `keep` the latter is [1+L,B,T,D]: what the first layer reads, then the
    outputs. A decoder that `encodes` reads a source with the same weights, but
    without cross-attention and in both directions (`model.shared_stacks`).
    """
    c = self.config
    causal, cross = self.causal and not encodes, self.cross and not encodes
    queries = keys = jnp.arange(x.shape[1])
    staged = cache is None and not self.keep and not self.is_initializing()
    if cache is not None:
      queries = queries + context.index
      keys = jnp.arange(places_of(cache))
    if context.branches is not None:
      queries, keys, _ = context.branches
    # A kernel reads the rules of whole rows, and so do devices that share them.
    # Decoding has a mask.
    by_rules = c.attention not in ('auto', 'xla')
    by_rules |= equal_parts('act_length', x.shape[1]) > 1
    by_rules &= isinstance(context.seen, Rules)
    context = self._positions(context, queries, keys, by_rules, causal)
    banded = None
    if c.window:
      banded = jnp.arange(self.layers) % c.window_every == c.window_every - 1

    def ready(context: Context) -> Context:
      return context if by_rules else _masked(context, c.window, queries, keys)

    if x.shape[-1] != c.embed_dim or c.table_dim:
      axes, init = ('table', 'embed'), initializer(c, 'projection')
      bias = c.bias == 'all'
      x = Dense(c.embed_dim, axes, init, c.dtype, bias, name='projection')(x)
    block, first = Kept if self.keep else Block, x
    x, cache = repeat(
      block, self.layers, x, cache, banded, context, config=c, ready=ready,
      staged=staged, cross=cross,
    )  # fmt: skip
    if self.keep:
      outputs = cache if c.scan else jnp.stack(cache)
      cache = jnp.concatenate([first[None], outputs])
    if c.norm_placement == 'pre':
      x = Norm(c, name='norm')(x)
    return dropout(c)(x) if c.dropout_kind == 't5' else x, cache

  def _positions(self, context, queries, keys, by_rules, causal):
    """The context with what the scheme of positions adds: int [T], [S]."""
    c = self.config
    if by_rules:  # by distance, of the farthest key after a query first
      distance = len(keys) - 1 - jnp.arange(len(queries) + len(keys) - 1)
    else:
      distance = keys[None, :] - queries[:, None]
    match c.position:
      case 'relative_bias':
        bias = RelativeBias(c, not causal, name='relative_bias')
        return context._replace(bias=bias(distance))
      case 'alibi':
        return context._replace(bias=alibi(c.heads, distance))
      case 'rope':
        positions = context.positions
        if positions is None:
          positions = queries[None]
        return context._replace(angles=rope_angles(c, positions))
      case 'transformer_xl':
        T = len(queries)
        distances = T - 1 - jnp.arange(T if causal else 2 * T - 1)
        if context.index is not None:
          distances = queries[:, None] - keys[None, :]
        return context._replace(distances=distances)
    return context
