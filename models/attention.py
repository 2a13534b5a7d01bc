"""Attention (Vaswani et al. 2017, 3.2), multi-head to multi-query."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from models import mup
from models.config import TransformerConfig
from models.kernels.keep import all_kept
from models.kernels.sharded import attend_in_blocks
from models.kernels.xla import attend
from models.layers import Dense, initializer
from models.masks import Rules
from models.positions import relative_shift, rotate, sinusoids
from models.row_keys import first_row
from models.sharding import devices_of, named, shard

Cache = dict[str, jax.Array]


class Attention(nn.Module):
  """Self-attention, or attention to a source (cross-attention).

  Training: `attention(x, attention.keys_values(x or source), seen, bias)`.
  Decoding: the caller keeps keys and values in its cache (`block.py`).
  """

  config: TransformerConfig
  cross: bool = False

  def setup(self):
    c = self.config

    def dense(features, axes, role, bias=c.bias == 'all'):
      return Dense(features, axes, initializer(c, role), c.dtype, bias)

    width, kv_width = c.heads * c.head_dim, c.kv_heads * c.head_dim
    self.query = dense(width, ('embed', 'heads'), 'query')
    self.key = dense(kv_width, ('embed', 'kv_heads'), 'attention')
    self.value = dense(kv_width, ('embed', 'kv_heads'), 'attention')
    self.output = dense(c.embed_dim, ('heads', 'embed'), 'attention_output')
    if c.position == 'transformer_xl' and not self.cross:
      self.relative = dense(width, ('embed', 'heads'), 'attention', bias=False)
      shape = (c.heads, c.head_dim)
      zeros = named(nn.initializers.zeros, 'heads', 'head_dim')
      self.content_bias = self.param('content_bias', zeros, shape, 'float32')
      self.position_bias = self.param('position_bias', zeros, shape, 'float32')

  def keys_values(
    self, source: jax.Array, angles: jax.Array | None = None
  ) -> Cache:
    """[B,S,D] and rope's angles [B,S,R/2] -> 'key', 'value', [B,S,K,H] each."""
    key = self._split(self.key(source), 'act_kv_heads')
    if angles is not None:
      key = rotate(key, angles)
    value = self._split(self.value(source), 'act_kv_heads')
    return {'key': key, 'value': value}

  def __call__(
    self,
    x: jax.Array,
    keys_values: Cache,
    seen: jax.Array | Rules | None = None,
    bias: jax.Array | None = None,
    angles: jax.Array | None = None,
    distances: jax.Array | None = None,
    banded: jax.Array | None = None,
  ) -> jax.Array:
    """[B,T,D] -> [B,T,D].

    Args:
      x: what the queries are made from.
      keys_values: from the method of this name.
      seen: a mask, bool, which broadcasts to [B,T,S]; or rules, which kernels
        read, and devices that share a row.
      bias: [N,T,S], of relative_bias and alibi; with rules [N,T+S-1].
      angles: [B,T,R/2], of rope.
      distances: of transformer_xl, see `_relative`.
      banded: bool [], with rules: whether the layer has a window.
    """
    c = self.config
    q = self._split(self.query(x), 'act_heads')
    if angles is not None:
      q = rotate(q, angles)
    scale = mup.attention_scale(c)
    k, v = keys_values['key'], keys_values['value']
    if distances is not None:
      bias = scale * self._relative(q, distances)
      q = q + self.content_bias.astype(q.dtype)
    q = q * scale
    seed, rate, row, group = None, 0.0, 0, 0
    if c.attention_dropout and self.has_rng('dropout'):
      key = self.make_rng('dropout')
      seed = jax.random.bits(key, (), 'uint32').astype('int32')
      rate, row = c.attention_dropout, first_row(key)
      v = v / (1 - rate)
      if c.dropout_kind == 't5':  # a key is dropped for every query alike
        group = c.heads // c.kv_heads
        if not isinstance(seen, Rules) or c.attention != 'flash':
          v, rate = _drop_values(v, seed, rate, row), 0.0
    k, v = self._spread(k), self._spread(v)
    if isinstance(seen, Rules):
      window = 0 if banded is None else c.window
      kernel = 'xla' if c.attention == 'auto' else c.attention
      mixed = attend_in_blocks(
        kernel, q, k, v, seen, bias,
        banded if c.window_every > 1 else None, window, seed, rate,
        fixed=c.position == 'alibi', again=c.remat == 'attention',
        row=row, group=group,
      )  # fmt: skip
    else:
      shape = (*q.shape[:1], c.heads, q.shape[1], k.shape[1])
      keep = all_kept(seed, rate, shape, (row, 0, 0, 0)) if rate else None
      again = c.remat == 'attention'
      function = jax.checkpoint(attend) if again else attend
      mixed = function(q, k, v, seen, bias, keep)
    return self.output(mixed.reshape(*x.shape[:2], -1))

  def _relative(self, q: jax.Array, distances: jax.Array) -> jax.Array:
    """(q + v) r for each distance (Dai et al. 2019, 3.3) -> [B,N,T,S].

    `distances` is int [R], one for each column of `relative_shift`, or, when
    decoding, [T,S].
    """
    c = self.config
    q = q + self.position_bias.astype(q.dtype)
    lowest = 1 - distances.shape[-1] if c.prefix else 0
    at = distances
    if distances.ndim == 2:
      at = jnp.arange(lowest, distances.shape[1])
    r = self.relative(sinusoids(at, c.embed_dim))
    r = r.reshape(-1, c.heads, c.head_dim)
    logits = jnp.einsum(
      'BTNH,RNH->BNTR', q, r, preferred_element_type='float32'
    )
    if distances.ndim == 1:
      return relative_shift(logits)
    index = jnp.maximum(distances, lowest) - lowest
    index = jnp.broadcast_to(index, (*logits.shape[:3], index.shape[1]))
    return jnp.take_along_axis(logits, index, axis=-1)

  def _spread(self, x: jax.Array) -> jax.Array:
    """[B,S,K,H]: where more devices share the heads, one each, repeated."""
    devices, K = devices_of('act_heads'), x.shape[2]
    if devices <= K:
      return x
    x = jnp.repeat(x, devices // K, axis=2)
    return shard(x, 'act_batch', 'act_length', 'act_kv_heads', 'act_head_dim')

  def _split(self, x: jax.Array, heads: str) -> jax.Array:
    """[B,T,N H] -> [B,T,N,H], for any number of heads."""
    x = x.reshape(*x.shape[:2], -1, self.config.head_dim)
    return shard(x, 'act_batch', 'act_length', heads, 'act_head_dim')


@jax.named_scope('drop_values')
def _drop_values(v, seed, rate, row):
  """Drops a key for every query alike, which is to drop its value."""
  B, S, K, _ = v.shape
  keep = all_kept(seed, rate, (B, K, 1, S), (row, 0, 0, 0))
  return jnp.where(keep.transpose(0, 3, 1, 2), v, jnp.zeros_like(v))
