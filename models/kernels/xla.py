"""Attention with all weights in memory, and the same for parts of a row.

`attend` is what every kernel's results are compared with. The other functions
compute it where a mesh cuts the length: their queries and keys may begin
anywhere in the row.
"""

import jax
import jax.numpy as jnp

from models.kernels.blocks import (
  FIRST_HEAD,
  FIRST_KEY,
  FIRST_QUERY,
  FIRST_ROW,
  HIDDEN,
  SEED,
  WINDOW,
  mean_of,
)
from models.kernels.keep import all_kept
from models.masks import segments


def attend(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  mask: jax.Array | None = None,
  bias: jax.Array | None = None,
  keep: jax.Array | None = None,
) -> jax.Array:
  """Weighted means of values, with all weights in memory.

  `sharded.attend_in_blocks` computes the same block by block.

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
  d_weights = _kept(d_weights, keep) - mean_of(d_out, out)[..., None]
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


def attend_part(kind, q, k, v, bias, queries, keys, prefix, meta) -> jax.Array:
  """`attend`, given what `flash` is; a query that sees no key sees all."""
  T, S = q.shape[1], k.shape[1]
  mask = _seen(kind, queries, keys, prefix, meta)
  matrix = None if bias is None else by_place(bias, T, S)
  return attend(q, k, v, mask, matrix, _keep(kind, q, k, meta))


def _seen(kind, queries, keys, prefix, meta):
  """The mask of the rules: bool [B,T,S]."""
  seen = segments(queries, keys)
  query = meta[FIRST_QUERY] + jnp.arange(queries.shape[1])[:, None]
  distance = query - (meta[FIRST_KEY] + jnp.arange(keys.shape[1]))
  if kind.causal:
    before = distance >= 0
    seen &= before if prefix is None else before | (prefix > 0)[:, None]
  return seen & (distance < meta[WINDOW]) if kind.window else seen


def _keep(kind, q, k, meta):
  """The weights that dropout keeps, bool [B,N,T,S]; None: all."""
  if not kind.rate:
    return None
  places = [meta[n] for n in (FIRST_ROW, FIRST_HEAD, FIRST_QUERY, FIRST_KEY)]
  B, T, N, _ = q.shape
  return all_kept(meta[SEED], kind.rate, (B, N, T, k.shape[1]), places)


def _logits(kind, q, k, bias, queries, keys, prefix, meta):
  """The logits [B,N,T,S], what is seen, and what dropout does with weights."""
  B, T, N, H = q.shape
  S, K = k.shape[1:3]
  logits = jnp.einsum(
    'BTKGH,BSKH->BKGTS', q.reshape(B, T, K, N // K, H), k,
    preferred_element_type='float32',
  ).reshape(B, N, T, S)  # fmt: skip
  if bias is not None:
    logits += by_place(bias, T, S)
  seen = _seen(kind, queries, keys, prefix, meta)[:, None]
  keep = _keep(kind, q, k, meta)
  return jnp.where(seen, logits, HIDDEN), seen, lambda x: _kept(x, keep)


def forward_part(
  kind, q, k, v, bias, queries, keys, prefix, meta, dtype
) -> tuple[jax.Array, jax.Array]:
  """As `flash.forward_part`."""
  given = bias, queries, keys, prefix, meta
  logits, seen, drop = _logits(kind, q, k, *given)
  top = jnp.max(logits, axis=-1, keepdims=True)
  weights = jnp.where(seen, jnp.exp(logits - top), 0.0)
  total = jnp.sum(weights, axis=-1, keepdims=True)
  total = jnp.where(total == 0, 1.0, total)
  weights = _by_key_head(drop(weights), k).astype(v.dtype)
  out = jnp.einsum(
    'BKGTS,BSKH->BKGTH', weights, v, preferred_element_type='float32'
  )
  out = out.reshape(*total.shape[:3], -1) / total
  return out.swapaxes(1, 2).astype(dtype), (top + jnp.log(total))[..., 0]


def backward_part(
  kind, q, k, v, bias, queries, keys, prefix, meta, lse, mean, d_out, types
) -> tuple[jax.Array | None, ...]:
  """As `flash.backward_part`."""
  given = bias, queries, keys, prefix, meta
  logits, seen, drop = _logits(kind, q, k, *given)
  weights = jnp.where(seen, jnp.exp(logits - lse[..., None]), 0.0)
  B, T, N, H = q.shape
  S, K = k.shape[1:3]
  split = B, T, K, N // K, H
  q, d_out = q.reshape(split), d_out.reshape(split)

  def product(spec, a, b):
    return jnp.einsum(spec, a, b, preferred_element_type='float32')

  d_weights = product('BTKGH,BSKH->BKGTS', d_out, v).reshape(B, N, T, S)
  d_logits = weights * (drop(d_weights) - mean[..., None])
  weights = _by_key_head(drop(weights), k).astype(d_out.dtype)
  d_v = product('BKGTS,BTKGH->BSKH', weights, d_out)
  rounded = _by_key_head(d_logits, k).astype(q.dtype)
  d_q = product('BKGTS,BSKH->BTKGH', rounded, k).reshape(B, T, N, H)
  d_k = product('BKGTS,BTKGH->BSKH', rounded, q)
  d_bias = None
  if kind.learned:
    _, back = jax.vjp(lambda x: by_place(x, T, S), bias)
    (d_bias,) = back(jnp.sum(d_logits, axis=0))
  found = zip((d_q, d_k, d_v), types, strict=True)
  return *(x.astype(dtype) for x, dtype in found), d_bias


def _by_key_head(x, k):
  """[B,N,T,S] -> [B,K,G,T,S]."""
  K = k.shape[2]
  return x.reshape(x.shape[0], K, x.shape[1] // K, *x.shape[2:])


def by_place(bias: jax.Array, queries: int, keys: int) -> jax.Array:
  """By query - key [N,T+S-1] -> [N,T,S].

  As `positions.relative_shift`: copies of the vector, one row after the other,
  are read with rows one shorter. So the gradient is a sum of rows; that of
  a lookup would be a scatter.
  """
  T, S = queries, keys
  heads, R = bias.shape
  rows = jnp.pad(bias[:, ::-1], [(0, 0), (0, 1)])
  rows = jnp.broadcast_to(rows[:, None], (heads, T, R + 1)).reshape(heads, -1)
  rows = rows[:, T - 1 : T - 1 + T * R].reshape(heads, T, R)
  return rows[:, :, :S]
