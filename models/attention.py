"""Attention (Vaswani et al. 2017, 3.2), multi-head to multi-query."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from models.config import TransformerConfig
from models.layers import Dense, Dropout, shard

Cache = dict[str, jax.Array]


def attend(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  mask: jax.Array | None = None,
  bias: jax.Array | None = None,
  drop: Callable[[jax.Array], jax.Array] = lambda weights: weights,
) -> jax.Array:
  """Weighted means of values: the one place where a kernel can stand in.

  Args:
    q: [B,T,N,H] queries, already scaled.
    k: [B,S,K,H] keys; query heads n G .. (n + 1) G - 1 share head n of them.
    v: [B,S,K,H] values.
    mask: bool, broadcasts to [B,T,S]; True where a query may see a key.
    bias: float32 [N,T,S], added to the logits.
    drop: applied to the weights [B,N,T,S].

  Returns:
    [B,T,N,H] in the dtype of `v`; the softmax is float32.
  """
  B, T, N, H = q.shape
  K = k.shape[2]
  q = q.reshape(B, T, K, N // K, H)
  logits = jnp.einsum(
    'BTKGH,BSKH->BKGTS', q, k, preferred_element_type='float32'
  )
  logits = logits.reshape(B, N, T, -1)
  if bias is not None:
    logits = logits + bias
  if mask is not None:
    logits = jnp.where(mask[:, None], logits, jnp.finfo('float32').min)
  weights = drop(jax.nn.softmax(logits, axis=-1).astype(v.dtype))
  weights = weights.reshape(B, K, N // K, T, -1)
  return jnp.einsum('BKGTS,BSKH->BTKGH', weights, v).reshape(B, T, N, H)


class Attention(nn.Module):
  """Self-attention, or attention to a source (cross-attention).

  Training: `attention(x, keys_values(x or source), mask, bias)`. Decoding: the
  caller keeps the keys and values and passes them back in (`decoder.py`).
  """

  config: TransformerConfig

  def setup(self):
    c = self.config
    # T5 divides no logits; its queries are born smaller by sqrt(H) instead.
    fan_in = nn.initializers.variance_scaling(1.0, 'fan_in', 'normal')
    query = nn.initializers.normal((c.embed_dim * c.head_dim) ** -0.5)

    def dense(heads, axes, init):
      return Dense(heads * c.head_dim, axes, init, c.dtype)

    self.query = dense(c.heads, ('embed', 'heads'), query)
    self.key = dense(c.kv_heads, ('embed', 'kv_heads'), fan_in)
    self.value = dense(c.kv_heads, ('embed', 'kv_heads'), fan_in)
    self.output = Dense(c.embed_dim, ('heads', 'embed'), fan_in, c.dtype)
    self.dropout = Dropout(c.dropout)

  def keys_values(self, source: jax.Array) -> Cache:
    """[B,S,D] -> {'key', 'value'} of [B,S,K,H]."""
    return {
      'key': self._split(self.key(source), 'act_kv_heads'),
      'value': self._split(self.value(source), 'act_kv_heads'),
    }

  def __call__(
    self,
    x: jax.Array,
    keys_values: Cache,
    mask: jax.Array | None = None,
    bias: jax.Array | None = None,
  ) -> jax.Array:  # [B,T,D] -> [B,T,D]
    c = self.config
    q = self._split(self.query(x), 'act_heads')
    if c.scale_attention:
      q = q * c.head_dim**-0.5
    k, v = keys_values['key'], keys_values['value']
    mixed = attend(q, k, v, mask, bias, self.dropout)
    return self.output(mixed.reshape(*x.shape[:2], -1))

  def _split(self, x: jax.Array, heads: str) -> jax.Array:
    x = x.reshape(*x.shape[:2], -1, self.config.head_dim)
    return shard(x, 'act_batch', 'act_length', heads, 'act_head_dim')
