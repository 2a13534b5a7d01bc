"""Attention by blocks for NVIDIA GPUs, with dropout of the weights.

cuDNN fixes the seed of its dropout when a program is compiled. This kernel
drops by the hash of `keep.py`, as all others do. It is flash attention 2 (Dao
2023): a program has one block of queries and reads keys block by block; its
backward pass does so once for queries, and once for a block of keys that reads
queries. Pallas lowers it by Triton.

Which blocks see each other is found before, in `_ranges`: those that the causal
rule, the window or the segments hide are passed over.
"""

import functools

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl

from models.kernels.blocks import (
  FIRST_HEAD,
  FIRST_ROW,
  HIDDEN,
  KEPT,
  SEED,
  WINDOW,
  pad,
  product,
)
from models.kernels.flash import Kind
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


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def attend(
  kind: Kind,
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  queries: jax.Array,
  keys: jax.Array,
  meta: jax.Array,
) -> jax.Array:
  """Weighted means of values: [B,T,N,H] in the dtype of all three.

  A query that sees no key gets 0.

  Args:
    kind: what is known before; without a bias, its block a power of two.
    q: [B,T,N,H] queries, already scaled.
    k: [B,S,K,H] keys; query heads n G .. (n + 1) G - 1 share key head n.
    v: [B,S,K,H] values, already divided by the share that dropout keeps.
    queries: int32 [B,T] segments, from 1; a query sees keys of its own segment.
    keys: int32 [B,S] segments; 0 is padding, which no query sees.
    meta: int32 [4]: as `flash` has it.
  """
  return _forward(kind, q, k, v, queries, keys, meta)[0]


def _forward(kind, q, k, v, queries, keys, meta):
  sizes = _Sizes(kind, q, k)
  arrays, by_query, _ = _padded(kind, sizes, q, k, v, queries, keys, meta)
  length = sizes.nq * sizes.bq
  writes = {
    'out': arrays['q'],
    'lse': jax.ShapeDtypeStruct((sizes.B, sizes.N, length), 'float32'),
  }
  arrays['range'] = by_query
  out, lse = _call(_attend, kind, sizes, arrays, writes)
  out = out[:, : sizes.T, :, : sizes.H]
  out, lse = (checkpoint_name(x, KEPT) for x in (out, lse))
  return out, (q, k, v, queries, keys, meta, out, lse)


def _backward(kind, saved, d_out):
  *given, out, lse = saved
  q, k, v = given[:3]
  sizes = _Sizes(kind, q, k)
  arrays, by_query, by_key = _padded(kind, sizes, *given)
  length = sizes.nq * sizes.bq
  mean = jnp.sum(d_out.astype('float32') * out.astype('float32'), axis=-1)
  arrays |= {
    'd_out': _filled(d_out, length, sizes.width),
    'mean': pad(mean.transpose(0, 2, 1), 2, length),
    'lse': lse,
    'range': by_query,
  }
  (d_q,) = _call(_d_query, kind, sizes, arrays, {'d_q': arrays['q']})
  arrays['range'] = by_key
  writes = {'d_k': arrays['k'], 'd_v': arrays['v']}
  d_k, d_v = _call(_d_key, kind, sizes, arrays, writes)
  d_q = d_q[:, : sizes.T, :, : sizes.H]
  d_k, d_v = (x[:, : sizes.S, :, : sizes.H] for x in (d_k, d_v))
  return d_q, d_k, d_v, None, None, None


attend.defvjp(_forward, _backward)


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
    'meta': meta,
  }
  wanted = _wanted(kind, sizes, arrays)
  return arrays, _ranges(wanted), _ranges(wanted.swapaxes(1, 2))


def _filled(x, length, width):
  """[B,T,N,H] with T and H filled up."""
  return pad(pad(x, 1, length), 3, width)


def _wanted(kind, sizes, arrays):
  """Whether any query of a block may see any key of another: [B,nq,nk]."""

  def ends(segments, blocks):
    x = segments.reshape(sizes.B, blocks, -1)
    return jnp.where(x > 0, x, jnp.iinfo('int32').max).min(2), x.max(2)

  least_q, most_q = (x[:, :, None] for x in ends(arrays['queries'], sizes.nq))
  least_k, most_k = (x[:, None] for x in ends(arrays['keys'], sizes.nk))
  wanted = (least_q <= most_k) & (least_k <= most_q)
  query = jnp.arange(sizes.nq)[:, None] * sizes.bq
  key = jnp.arange(sizes.nk) * sizes.bk
  if kind.causal:
    wanted &= key <= query + sizes.bq - 1
  if kind.window:
    wanted &= query - (key + sizes.bk - 1) < arrays['meta'][WINDOW]
  return wanted


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
    query, key: places; they broadcast to the block.
    of_query, of_key: their segments.

  Returns:
    True where a query sees a key; and what puts 0 where a weight is dropped.
  """
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
    'meta': spec((4,), lambda i, n, b: (0,)),
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
