"""Attention (Vaswani et al. 2017, 3.2), multi-head to multi-query."""

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
) -> jax.Array:
  """Weighted means of values: the one place where a kernel can stand in.

  Args:
    q: [B,T,N,H] queries, already scaled.
    k: [B,S,K,H] keys; query heads n G .. (n + 1) G - 1 share head n of them.
    v: [B,S,K,H] values.
    mask: bool, broadcasts to [B,T,S]; True where a query may see a key.
    bias: float32 [N,T,S], added to the logits.

  Returns:
    [B,T,N,H] in the dtype of `v`; the softmax is float32.
  """
  B, T, N, H = q.shape
  K = k.shape[2]
  G = N // K
  # The queries that share a key head stand one after the other, as if T were
  # longer: a dimension of size G slows the products down where G is 1.
  q = q.reshape(B, T, K, G, H).transpose(0, 3, 1, 2, 4).reshape(B, G * T, K, H)
  if mask is not None:
    mask = jnp.broadcast_to(mask, (*mask.shape[:1], T, k.shape[1]))
    mask = jnp.tile(mask, (1, G, 1))
  if bias is not None:
    bias = bias.reshape(K, G * T, -1)
  out = _attend(q, k, v, mask, bias)
  return out.reshape(B, G, T, K, H).transpose(0, 2, 3, 1, 4).reshape(B, T, N, H)


@jax.custom_vjp
def _attend(q, k, v, mask, bias):
  """`attend` with as many query heads as keys have: bias [K,T,S]."""
  return _attend_forward(q, k, v, mask, bias)[0]


def _attend_forward(q, k, v, mask, bias):
  logits = jnp.einsum('BTKH,BSKH->BKTS', q, k, preferred_element_type='float32')
  if bias is not None:
    logits = logits + bias
  if mask is not None:
    logits = jnp.where(mask[:, None], logits, jnp.finfo('float32').min)
  weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
  out = jnp.einsum('BKTS,BSKH->BTKH', weights, v)
  return out, (q, k, v, weights, out, bias is not None)


# Autodiff's gradient but for two sums over [B,K,T,S], which took a quarter of
# attention's time on a CPU: the softmax's over S is taken from the outputs (Dao
# et al. 2022, B.4), the bias's over B is a product.
def _attend_backward(saved, d_out):
  q, k, v, weights, out, biased = saved
  d_v = jnp.einsum('BKTS,BTKH->BSKH', weights, d_out)
  d_weights = jnp.einsum(
    'BTKH,BSKH->BKTS', d_out, v, preferred_element_type='float32'
  )
  mean = jnp.sum(d_out * out, axis=-1, keepdims=True, dtype='float32')
  d_logits = weights * (d_weights - mean.transpose(0, 2, 1, 3))
  d_bias = None
  if biased:
    ones = jnp.ones(d_logits.shape[0], 'float32')
    d_bias = jnp.einsum('B,BKTS->KTS', ones, d_logits, precision='highest')
  d_logits = d_logits.astype(q.dtype)
  d_q = jnp.einsum('BKTS,BSKH->BTKH', d_logits, k)
  d_k = jnp.einsum('BKTS,BTKH->BSKH', d_logits, q)
  return d_q, d_k, d_v, None, d_bias


_attend.defvjp(_attend_forward, _attend_backward)


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
    # A weight dropped for every query alike (T5) is a value dropped.
    self.dropout = Dropout(c.dropout, broadcast=(-1,))

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
    mixed = attend(q, k, self.dropout(v), mask, bias)
    return self.output(mixed.reshape(*x.shape[:2], -1))

  def _split(self, x: jax.Array, heads: str) -> jax.Array:
    x = x.reshape(*x.shape[:2], -1, self.config.head_dim)
    return shard(x, 'act_batch', 'act_length', heads, 'act_head_dim')
