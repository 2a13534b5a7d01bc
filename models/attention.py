"""Attention (Vaswani et al. 2017, 3.2), multi-head to multi-query."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from models.config import TransformerConfig
from models.layers import Dense, Dropout, shard

Cache = dict[str, jax.Array]


@jax.custom_vjp
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
  return _attend_forward(q, k, v, mask, bias)[0]


# The arrays of [B,N,T,S] are what attention costs beside its products. One is
# kept for the backward pass, the exponentials, and each pass over it is made
# once: rows are normalised after they have met the values, and the softmax's
# gradient takes its row sums from the outputs (Dao et al. 2022, appendix B).
def _attend_forward(q, k, v, mask, bias):
  B, T, N, H = q.shape
  q = q.reshape(B, T, k.shape[2], -1, H)
  logits = jnp.einsum(
    'BTKGH,BSKH->BKGTS', q, k, preferred_element_type='float32'
  )
  if bias is not None:
    logits = logits + bias.reshape(*logits.shape[1:3], *bias.shape[1:])
  if mask is not None:
    logits = jnp.where(mask[:, None, None], logits, jnp.finfo('float32').min)
  exps = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
  scale = 1 / jnp.sum(exps, axis=-1).transpose(0, 3, 1, 2)[..., None]
  exps = exps.astype(v.dtype)
  out = jnp.einsum('BKGTS,BSKH->BTKGH', exps, v) * scale.astype(v.dtype)
  saved = q, k, v, exps, scale, out, bias is not None
  return out.reshape(B, T, N, H), saved


def _attend_backward(saved, d_out):
  q, k, v, exps, scale, out, biased = saved
  d_out = d_out.reshape(out.shape)
  rows = jnp.sum(d_out * out, axis=-1, keepdims=True, dtype='float32') * scale
  d_out = (d_out * scale).astype(v.dtype)
  d_v = jnp.einsum('BKGTS,BTKGH->BSKH', exps, d_out)
  d_logits = jnp.einsum(
    'BTKGH,BSKH->BKGTS', d_out, v, preferred_element_type='float32'
  )
  d_logits = exps * (d_logits - rows.transpose(0, 2, 3, 1, 4))
  d_bias = None
  if biased:
    # A sum over rows; as a product it took an eighth of the time on CPU.
    ones = jnp.ones(d_logits.shape[0], 'float32')
    d_bias = jnp.einsum('BKGTS,B->KGTS', d_logits, ones, precision='highest')
    d_bias = d_bias.reshape(-1, *d_bias.shape[2:])
  d_logits = d_logits.astype(q.dtype)
  d_q = jnp.einsum('BKGTS,BSKH->BTKGH', d_logits, k)
  d_k = jnp.einsum('BKGTS,BTKGH->BSKH', d_logits, q)
  B, T, K, G, H = q.shape
  return d_q.reshape(B, T, K * G, H), d_k, d_v, None, d_bias


attend.defvjp(_attend_forward, _attend_backward)


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
