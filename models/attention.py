"""Attention (Vaswani et al. 2017, 3.2), multi-head to multi-query."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from models.config import TransformerConfig
from models.kernels.keep import all_kept
from models.kernels.sharded import attend_in_blocks
from models.layers import Dense, Dropout, devices_of, initializer, named, shard
from models.masks import Rules
from models.positions import relative_shift, rotate, sinusoids
from models.row_keys import first_row

Cache = dict[str, jax.Array]


def attend(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  mask: jax.Array | None = None,
  bias: jax.Array | None = None,
  keep: jax.Array | None = None,
) -> jax.Array:
  """Weighted means of values, with all weights in memory.

  `kernels.sharded.attend_in_blocks` computes the same block by block.

  Args:
    q: [B,T,N,H] queries, already scaled.
    k: [B,S,K,H] keys; query heads n G .. (n + 1) G - 1 share key head n.
    v: [B,S,K,H] values.
    mask: bool, broadcasts to [B,T,S]; True where a query may see a key.
    bias: float32 [N,T,S] or [B,N,T,S], added to the logits.
    keep: bool [B,N,T,S], False where dropout drops a weight. The caller divides
      the values by the share that is kept.

  Returns:
    [B,T,N,H] in the dtype of `v`; the softmax is float32.
  """
  B, T, N, H = q.shape
  S, K = k.shape[1:3]
  G = N // K
  # Put the queries that share a key head one after the other, as if T were
  # longer: a dimension of its own for G slows the products down where G is 1.
  q = q.reshape(B, T, K, G, H).transpose(0, 3, 1, 2, 4).reshape(B, G * T, K, H)
  if mask is not None:
    mask = jnp.broadcast_to(mask, (*mask.shape[:1], T, S))
    mask = jnp.tile(mask, (1, G, 1))
  if bias is not None:
    bias = bias.reshape(*bias.shape[:-3], K, G * T, S)
  if keep is not None:
    keep = keep.reshape(B, K, G * T, S)
  out = _attend(q, k, v, mask, bias, keep)
  return out.reshape(B, G, T, K, H).transpose(0, 2, 3, 1, 4).reshape(B, T, N, H)


@jax.custom_vjp
def _attend(q, k, v, mask, bias, keep):
  """`attend` with as many query heads as key heads: bias [K,T,S]."""
  return _attend_forward(q, k, v, mask, bias, keep)[0]


def _attend_forward(q, k, v, mask, bias, keep):
  logits = jnp.einsum('BTKH,BSKH->BKTS', q, k, preferred_element_type='float32')
  if bias is not None:
    logits = logits + bias
  if mask is not None:
    logits = jnp.where(mask[:, None], logits, jnp.finfo('float32').min)
  weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
  # Asked for BTKH, einsum multiplies values by weights. That is slow on a CPU
  # where query heads share keys.
  out = jnp.einsum('BKTS,BSKH->BKTH', _kept(weights, keep), v).swapaxes(1, 2)
  return out, (q, k, v, weights, keep, out, None if bias is None else bias.ndim)


def _kept(weights, keep):
  return weights if keep is None else jnp.where(keep, weights, 0)


# Autodiff's gradient, but without two sums over [B,K,T,S], which took a quarter
# of attention's time on a CPU. The softmax's sum over S comes from the outputs
# (Dao et al. 2022, B.4); the bias's sum over B is a product.
def _attend_backward(saved, d_out):
  q, k, v, weights, keep, out, bias_dims = saved
  d_v = jnp.einsum('BKTS,BTKH->BSKH', _kept(weights, keep), d_out)
  d_weights = jnp.einsum(
    'BTKH,BSKH->BKTS', d_out, v, preferred_element_type='float32'
  )
  mean = d_out.astype('float32') * out.astype('float32')
  mean = jnp.sum(mean, axis=-1, keepdims=True)
  d_weights = _kept(d_weights, keep) - mean.transpose(0, 2, 1, 3)
  d_logits = weights * d_weights
  d_bias = None
  if bias_dims == 3:
    ones = jnp.ones(d_logits.shape[0], 'float32')
    d_bias = jnp.einsum('B,BKTS->KTS', ones, d_logits, precision='highest')
  elif bias_dims == 4:
    d_bias = d_logits
  d_logits = d_logits.astype(q.dtype)
  d_q = jnp.einsum('BKTS,BSKH->BTKH', d_logits, k)
  d_k = jnp.einsum('BKTS,BTKH->BSKH', d_logits, q)
  return d_q, d_k, d_v, None, d_bias, None


_attend.defvjp(_attend_forward, _attend_backward)


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
    # T5 drops a key for every query alike, which is to drop its value.
    self.drop_values = Dropout(c.attention_dropout, broadcast=(-1,))
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
      seen: a mask, bool, which broadcasts to [B,T,S]; or rules, which the
        flash kernel reads.
      bias: [N,T,S], of relative_bias and alibi; with rules [N,T+S-1].
      angles: [B,T,R/2], of rope.
      distances: of transformer_xl, see `_relative`.
      banded: bool [], with rules: whether the layer has a window.
    """
    c = self.config
    q = self._split(self.query(x), 'act_heads')
    if angles is not None:
      q = rotate(q, angles)
    scale = c.head_dim**-0.5 if c.scale_attention else 1.0
    k, v = (self._spread(keys_values[name]) for name in ('key', 'value'))
    if distances is not None:
      bias = scale * self._relative(q, distances)
      q = q + self.content_bias.astype(q.dtype)
    q = q * scale
    seed, rate, row = None, 0.0, 0
    if c.dropout_kind == 't5':
      v = self.drop_values(v)
    elif c.attention_dropout and self.has_rng('dropout'):
      key = self.make_rng('dropout')
      seed = jax.random.bits(key, (), 'uint32').astype('int32')
      rate, row = c.attention_dropout, first_row(key)
      v = v / (1 - rate)
    if isinstance(seen, Rules):
      window = 0 if banded is None else c.window
      mixed = attend_in_blocks(
        c.attention, q, k, v, seen, bias,
        banded if c.window_every > 1 else None, window, seed, rate,
        fixed=c.position == 'alibi', row=row,
      )  # fmt: skip
    else:
      shape = (*q.shape[:1], c.heads, q.shape[1], k.shape[1])
      keep = all_kept(seed, rate, shape, row) if rate else None
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
