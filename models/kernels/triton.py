"""Attention by blocks for NVIDIA GPUs, with dropout of the weights.

cuDNN fixes the seed of its dropout when a program is compiled. This kernel
drops by the hash of `keep.py`, as all others do. It is flash attention 2 (Dao
2023): a program has one block of queries and reads keys block by block; its
backward pass does so once for queries, and once for a block of keys that reads
queries. Pallas lowers it by Triton.

Which blocks see each other is found before, in `_ranges`: those that the causal
rule, the window or the segments hide are passed over.
"""

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from models.kernels.blocks import (
  FIRST_HEAD,
  FIRST_KEY,
  FIRST_QUERY,
  FIRST_ROW,
  HIDDEN,
  SEED,
  WINDOW,
  Kind,
  any_seen,
  of_all_keys,
  pad,
  product,
)
from models.kernels.keep import kept

try:  # deprecated since jax 0.11: a later one lacks it
  from jax.experimental.pallas import triton as pltriton
except ImportError:
  pltriton = None

BLOCK = 64  # queries and keys of a block; with 128 registers spill
WIDEST = 128  # a head; with 256 they spill too
_LEAST = 16  # rows and columns of a product, which are powers of two


def is_here() -> bool:
  """Whether this jax lowers Pallas by Triton."""
  return pltriton is not None


def attend(
  kind: Kind,
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  bias: None,
  queries: jax.Array,
  keys: jax.Array,
  prefix: None,
  meta: jax.Array,
) -> jax.Array:
  """Weighted means of values: [B,T,N,H] in the dtype of all three.

  The arguments are those of `flash`, without a bias or a prefix. The block of
  `kind` is a power of two. A query that sees no key gets 0.
  """
  given = q, k, v, bias, queries, keys, prefix, meta
  return of_all_keys(forward_part, backward_part, kind, *given)


def forward_part(
  kind, q, k, v, bias, queries, keys, prefix, meta, dtype
) -> tuple[jax.Array, jax.Array]:
  """As `flash.forward_part`."""
  del bias, prefix
  sizes = _Sizes(kind, q, k)
  arrays, by_query, _ = _padded(kind, sizes, q, k, v, queries, keys, meta)
  length = sizes.nq * sizes.bq
  writes = {
    'out': jax.ShapeDtypeStruct(arrays['q'].shape, dtype),
    'lse': jax.ShapeDtypeStruct((sizes.B, sizes.N, length), 'float32'),
  }
  arrays['range'] = by_query
  out, lse = _call(_attend, kind, sizes, arrays, writes)
  return out[:, : sizes.T, :, : sizes.H], lse[:, :, : sizes.T]


def backward_part(
  kind, q, k, v, bias, queries, keys, prefix, meta, lse, mean, d_out, types
) -> tuple[jax.Array | None, ...]:
  """As `flash.backward_part`."""
  del bias, prefix
  sizes = _Sizes(kind, q, k)
  given = q, k, v, queries, keys, meta
  arrays, by_query, by_key = _padded(kind, sizes, *given)
  arrays |= {
    'd_out': _filled(d_out, sizes.nq * sizes.bq, sizes.width),
    'mean': pad(mean, 2, sizes.nq * sizes.bq),
    'lse': pad(lse, 2, sizes.nq * sizes.bq),
    'range': by_query,
  }
  d_q, d_k, d_v = (
    jax.ShapeDtypeStruct(arrays[name].shape, dtype)
    for name, dtype in zip('qkv', types, strict=True)
  )
  (d_q,) = _call(_d_query, kind, sizes, arrays, {'d_q': d_q})
  arrays['range'] = by_key
  d_k, d_v = _call(_d_key, kind, sizes, arrays, {'d_k': d_k, 'd_v': d_v})
  d_k, d_v = (x[:, : sizes.S, :, : sizes.H] for x in (d_k, d_v))
  return d_q[:, : sizes.T, :, : sizes.H], d_k, d_v, None


class _Sizes:
  """Lengths, and the sizes and numbers of blocks."""

  def __init__(self, kind, q, k):
    self.B, self.T, self.N, self.H = q.shape
    self.S, self.K = k.shape[1:3]
    self.G = self.N // self.K
    self.width = max(_LEAST, pl.next_power_of_2(self.H))
    self.bq, self.bk = (
      max(_LEAST, min(kind.block, pl.next_power_of_2(length)))
      for length in (self.T, self.S)
    )
    self.nq, self.nk = -(-self.T // self.bq), -(-self.S // self.bk)


def _padded(kind, sizes, q, k, v, queries, keys, meta):
  """What all kernels read, as whole blocks; and the ranges of blocks."""
  T, S = sizes.nq * sizes.bq, sizes.nk * sizes.bk
  arrays = {
    'q': _filled(q, T, sizes.width),
    'k': _filled(k, S, sizes.width),
    'v': _filled(v, S, sizes.width),
    'queries': pad(queries, 1, T),
    # A query that is padding has segment 0 too: it must not see these.
    'keys': pad(jnp.where(keys > 0, keys, -1), 1, S, -1),
    'meta': pad(meta, 0, 8),  # a power of two
  }
  queries = arrays['queries'].reshape(sizes.B, sizes.nq, sizes.bq)
  keys = arrays['keys'].reshape(sizes.B, sizes.nk, sizes.bk)
  wanted = any_seen(kind, queries, keys, None, meta)
  return arrays, _ranges(wanted), _ranges(wanted.swapaxes(1, 2))


def _filled(x, length, width):
  """[B,T,N,H] with T and H filled up."""
  return pad(pad(x, 1, length), 3, width)


def _ranges(wanted):
  """The first block that is wanted and the one after the last: [B,n,2]."""
  count = wanted.shape[2]
  place = jnp.arange(count, dtype='int32')
  first = jnp.where(wanted, place, count).min(2)
  return jnp.stack([first, jnp.where(wanted, place + 1, 0).max(2)], axis=2)


def _masks(kind, meta, at, query, key, of_query, of_key):
  """What the rules and dropout do with a block.

  Args:
    kind, meta: as `attend` has them.
    at: the row and the head.
    query, key: places on the device; they broadcast to the block.
    of_query, of_key: their segments.

  Returns:
    True where a query sees a key; and what puts 0 where a weight is dropped.
  """
  query, key = meta[FIRST_QUERY] + query, meta[FIRST_KEY] + key
  seen = of_query == of_key
  if kind.causal:
    seen &= key <= query
  if kind.window:
    seen &= query - key < meta[WINDOW]
  if not kind.rate:
    return seen, lambda x: x
  at = meta[FIRST_ROW] + at[0], meta[FIRST_HEAD] + at[1]
  keep = kept(meta[SEED], kind.rate, *at, query, key)
  return seen, lambda x: jnp.where(keep, x, 0.0)


def _places(block, size):
  return block * size + jax.lax.iota('int32', size)


def _attend(kind, sizes, refs):
  """Writes a block of `out` and of `lse`; blocks of logits are [bq,bk]."""
  i, n, b = (pl.program_id(axis) for axis in range(3))
  meta, q = refs['meta'], refs['q'][...]
  query, of_query = _places(i, sizes.bq)[:, None], refs['queries'][...][:, None]

  def step(j, sums):
    mixed, top, total = sums
    at = pl.ds(j * sizes.bk, sizes.bk)
    key, v = _places(j, sizes.bk)[None], refs['v'][at, :]
    places = query, key, of_query, refs['keys'][at][None]
    seen, drop = _masks(kind, meta, (b, n), *places)
    logits = jnp.where(seen, product(q, refs['k'][at, :], 1, 1), HIDDEN)
    higher = jnp.maximum(top, jnp.max(logits, axis=1))
    weights = jnp.where(seen, jnp.exp(logits - higher[:, None]), 0.0)
    scale = jnp.exp(top - higher)
    total = scale * total + jnp.sum(weights, axis=1)
    weights = drop(weights).astype(v.dtype)
    mixed = scale[:, None] * mixed + product(weights, v, 1, 0)
    return mixed, higher, total

  zeros = jnp.zeros(sizes.bq, 'float32')
  sums = jnp.zeros((sizes.bq, sizes.width), 'float32'), zeros + HIDDEN, zeros
  first, end = refs['range'][0], refs['range'][1]
  mixed, top, total = jax.lax.fori_loop(first, end, step, sums)
  total = jnp.where(total == 0, 1.0, total)
  refs['out'][...] = (mixed / total[:, None]).astype(refs['out'].dtype)
  refs['lse'][...] = top + jnp.log(total)


def _d_query(kind, sizes, refs):
  """Writes a block of `d_q`; blocks of logits are [bq,bk]."""
  i, n, b = (pl.program_id(axis) for axis in range(3))
  meta, q, d_out = refs['meta'], refs['q'][...], refs['d_out'][...]
  query, of_query = _places(i, sizes.bq)[:, None], refs['queries'][...][:, None]
  lse, mean = refs['lse'][...][:, None], refs['mean'][...][:, None]

  def step(j, d_q):
    at = pl.ds(j * sizes.bk, sizes.bk)
    key, k = _places(j, sizes.bk)[None], refs['k'][at, :]
    places = query, key, of_query, refs['keys'][at][None]
    seen, drop = _masks(kind, meta, (b, n), *places)
    weights = jnp.where(seen, jnp.exp(product(q, k, 1, 1) - lse), 0.0)
    d_weights = drop(product(d_out, refs['v'][at, :], 1, 1))
    d_logits = weights * (d_weights - mean)
    return d_q + product(d_logits.astype(k.dtype), k, 1, 0)

  d_q = jnp.zeros((sizes.bq, sizes.width), 'float32')
  first, end = refs['range'][0], refs['range'][1]
  d_q = jax.lax.fori_loop(first, end, step, d_q)
  refs['d_q'][...] = d_q.astype(refs['d_q'].dtype)


def _d_key(kind, sizes, refs):
  """Writes a block of `d_k` and of `d_v`; blocks of logits are [bk,bq]."""
  j, n, b = (pl.program_id(axis) for axis in range(3))
  first, end = refs['range'][0], refs['range'][1]
  meta, k, v = refs['meta'], refs['k'][...], refs['v'][...]
  key, of_key = _places(j, sizes.bk)[:, None], refs['keys'][...][:, None]

  def of_head(g, sums):
    def step(i, sums):
      d_k, d_v = sums
      at = pl.ds(i * sizes.bq, sizes.bq)
      q, d_out = refs['q'][at, g, :], refs['d_out'][at, g, :]
      lse, mean = refs['lse'][g, at][None], refs['mean'][g, at][None]
      query, of_query = _places(i, sizes.bq)[None], refs['queries'][at][None]
      seen, drop = _masks(
        kind, meta, (b, n * sizes.G + g), query, key, of_query, of_key
      )
      weights = jnp.where(seen, jnp.exp(product(k, q, 1, 1) - lse), 0.0)
      d_logits = weights * (drop(product(v, d_out, 1, 1)) - mean)
      d_v += product(drop(weights).astype(d_out.dtype), d_out, 1, 0)
      d_k += product(d_logits.astype(q.dtype), q, 1, 0)
      return d_k, d_v

    return jax.lax.fori_loop(first, end, step, sums)

  zeros = jnp.zeros((sizes.bk, sizes.width), 'float32')
  d_k, d_v = jax.lax.fori_loop(0, sizes.G, of_head, (zeros, zeros))
  refs['d_k'][...] = d_k.astype(refs['d_k'].dtype)
  refs['d_v'][...] = d_v.astype(refs['d_v'].dtype)


def _specs(sizes, by_key):
  """Name -> the part of an array that a program sees.

  Programs are numbered by block, head and row. They see whole rows of what is
  on the other side, and with a block of keys all heads that share it.
  """
  s, spec = sizes, pl.BlockSpec
  T, S = s.nq * s.bq, s.nk * s.bk
  if by_key:
    q = spec((None, T, s.G, s.width), lambda j, n, b: (b, 0, n, 0))
    k = spec((None, s.bk, None, s.width), lambda j, n, b: (b, j, n, 0))
    lse = spec((None, s.G, T), lambda j, n, b: (b, n, 0))
    queries = spec((None, T), lambda j, n, b: (b, 0))
    keys = spec((None, s.bk), lambda j, n, b: (b, j))
  else:
    q = spec((None, s.bq, None, s.width), lambda i, n, b: (b, i, n, 0))
    k = spec(
      (None, S, None, s.width), lambda i, n, b: (b, 0, jax.lax.div(n, s.G), 0)
    )
    lse = spec((None, None, s.bq), lambda i, n, b: (b, n, i))
    queries = spec((None, s.bq), lambda i, n, b: (b, i))
    keys = spec((None, S), lambda i, n, b: (b, 0))
  return {
    **dict.fromkeys(('q', 'd_out', 'out', 'd_q'), q),
    **dict.fromkeys(('k', 'v', 'd_k', 'd_v'), k),
    **dict.fromkeys(('lse', 'mean'), lse),
    'queries': queries,
    'keys': keys,
    'range': spec((None, None, 2), lambda i, n, b: (b, i, 0)),
    'meta': spec((8,), lambda i, n, b: (0,)),
  }


def _call(kernel, kind, sizes, arrays, writes):
  """Runs a kernel on every block of queries, or of keys.

  Args:
    kernel: takes (kind, sizes, refs of what it reads and writes by name).
    kind, sizes: of the attention.
    arrays: name -> what the kernel reads.
    writes: name -> what has the shape and the dtype of what it writes.
  """
  s, by_key = sizes, kernel is _d_key
  specs = _specs(s, by_key)

  def body(*refs):
    names = [*arrays, *writes]
    kernel(kind, s, dict(zip(names, refs, strict=True)))

  return pl.pallas_call(
    body,
    grid=(s.nk, s.K, s.B) if by_key else (s.nq, s.N, s.B),
    in_specs=[specs[name] for name in arrays],
    out_specs=[specs[name] for name in writes],
    out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in writes.values()],
    compiler_params=pltriton.CompilerParams(
      num_warps=4 if s.width <= 64 else 8, num_stages=2
    ),
    interpret=kind.interpret,
    name=kernel.__name__,
  )(*arrays.values())
