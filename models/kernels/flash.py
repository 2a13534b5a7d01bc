"""Attention by blocks for TPUs, with its gradients (Dao et al. 2022).

Blocks of logits are made, used and forgotten on the chip: memory holds the
output and the logarithm of the softmax's sum for each query. Published TPU
kernels have no gradient of a learned bias and no dropout. This one has both:

  logits  k q + bias[q - k], -inf where the rules hide the key
  bias    a vector by distance for each head (T5's buckets, ALiBi), never a
          matrix; its gradient is such a vector as well
  dropout a hash of each weight's place: `keep.py`

`blocks.py` has what is done with a block.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from models.kernels.blocks import (
  FIRST_KEY,
  FIRST_QUERY,
  LANES,
  Kind,
  Place,
  d_key,
  d_query,
  forward,
  of_all_keys,
  over,
  pad,
  up,
)


def flash(
  kind: Kind,
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  bias: jax.Array | None,
  queries: jax.Array,
  keys: jax.Array,
  prefix: jax.Array | None,
  meta: jax.Array,
) -> jax.Array:
  """Weighted means of values: [B,T,N,H] in the dtype of `v`.

  A query that sees no key gets 0.

  Args:
    kind: what is known before.
    q: [B,T,N,H] queries, already scaled.
    k: [B,S,K,H] keys; query heads n G .. (n + 1) G - 1 share key head n.
    v: [B,S,K,H] values, already divided by the share that dropout keeps.
    bias: float32 [N,T+S-1], the logits' bias where query - key, as places in
      the row, is 1 - S .. T - 1; None without.
    queries: int32 [B,T] segments, from 1; a query sees keys of its own segment.
    keys: int32 [B,S] segments; 0 is padding, which no query sees.
    prefix: int32 [B,S], 1 where every query of the segment sees the key; None:
      nowhere.
    meta: int32 [6], see `blocks.py`.
  """
  given = q, k, v, bias, queries, keys, prefix, meta
  return of_all_keys(forward_part, backward_part, kind, *given)


def forward_part(
  kind, q, k, v, bias, queries, keys, prefix, meta, dtype
) -> tuple[jax.Array, jax.Array]:
  """`flash` of a part of the keys, without a gradient.

  Returns:
    The means over these keys, [B,T,N,H] in `dtype`, and the logarithm of each
    softmax's sum, float32 [B,N,T]; HIDDEN for a query that sees none of them.
  """
  sizes = _Sizes(kind, q, k, bias)
  arrays = _padded(sizes, q, k, v, bias, queries, keys, prefix)
  out, lse = _call(
    functools.partial(forward, kind, sizes),
    kind,
    sizes,
    'BNij',
    arrays | {'meta': meta},
    {'out': ('q', dtype), 'lse': ('lse', 'float32')},
    [(1, sizes.bq), (1, sizes.bq), (sizes.H, sizes.bq)],
    products=2,
  )
  return _back(sizes, out, sizes.T), lse[:, :, 0, : sizes.T]


def backward_part(
  kind, q, k, v, bias, queries, keys, prefix, meta, lse, mean, d_out, types
) -> tuple[jax.Array | None, ...]:
  """The gradients of q, k, v (in `types`) and bias through a part of the keys.

  `lse` is that of all keys, `mean` is `mean_of` the whole output: [B,N,T].
  """
  sizes = _Sizes(kind, q, k, bias)
  length = sizes.nq * sizes.bq
  arrays = _padded(sizes, q, k, v, bias, queries, keys, prefix) | {
    'd_out': _laid(sizes, d_out, length),
    'mean': pad(mean, 2, length)[:, :, None],
    'lse': pad(lse, 2, length)[:, :, None],
    'meta': meta,
  }
  (d_q,) = _call(
    functools.partial(d_query, kind, sizes),
    kind,
    sizes,
    'BNij',
    arrays,
    {'d_q': ('q', types[0])},
    [(sizes.H, sizes.bq)],
    products=3,
  )
  writes = {'d_k': ('k', types[1]), 'd_v': ('k', types[2])}
  if kind.learned:
    writes['d_bias'] = 'bias', 'float32'
  d_k, d_v, *d_bias = _call(
    functools.partial(d_key, kind, sizes),
    kind,
    sizes,
    'KBjgi',
    arrays,
    writes,
    [(sizes.bk, sizes.H)] * 2,
    products=4,
  )
  d_bias = d_bias[0][:, 0, sizes.before :] if d_bias else None
  if d_bias is not None:
    d_bias = d_bias[:, : bias.shape[1]]
  d_k, d_v = (_back(sizes, x, sizes.S) for x in (d_k, d_v))
  return _back(sizes, d_q, sizes.T), d_k, d_v, d_bias


class _Sizes:
  """Lengths and the numbers of blocks; the bias covers all distances."""

  def __init__(self, kind, q, k, bias):
    self.B, self.T, self.N, self.H = q.shape
    self.S, self.K = k.shape[1:3]
    self.G = self.N // self.K
    self.in_place = self.H % LANES == 0  # heads are read where they lie
    self.bq, self.nq = _blocks(self.T, kind.block)
    self.bk, self.nk = _blocks(self.S, kind.block)
    # Distances from 1 - nk bk on; the bias given begins at 1 - S.
    self.before = self.nk * self.bk - self.S
    longest = self.T if bias is None else bias.shape[1] + 1 - self.S
    self.distances = self.nk * self.bk + up(longest, self.bq)


def _blocks(length, block):
  """The size of a block, and how many there are."""
  count = -(-length // block)
  size = up(-(-length // count), LANES)
  return size, -(-length // size)


def _padded(sizes, q, k, v, bias, queries, keys, prefix):
  """What all kernels read, as whole blocks; padding is segment 0."""
  T, S = sizes.nq * sizes.bq, sizes.nk * sizes.bk
  arrays = {
    'q': _laid(sizes, q, T),
    'k': _laid(sizes, k, S),
    'v': _laid(sizes, v, S),
    'queries': pad(queries, 1, T)[:, None],
    # A query that is padding has segment 0 too: it must not see these.
    'keys': pad(jnp.where(keys > 0, keys, -1), 1, S, -1)[..., None],
  }
  if prefix is not None:
    arrays['prefix'] = pad(prefix, 1, S)[..., None]
  if bias is not None:
    after = sizes.distances - sizes.before - bias.shape[1]
    arrays['bias'] = jnp.pad(bias, [(0, 0), (sizes.before, after)])[:, None]
  return arrays


def _laid(sizes, x, length):
  """[B,T,N,H] as the kernels read it.

  A head of whole LANES is read where it lies, in [B,T,N H]. Others are
  transposed first, to [B,N,T,H], and filled up to a length, which moves all of
  the array.
  """
  if sizes.in_place:
    return x.reshape(*x.shape[:2], -1)
  return pad(x, 1, length).transpose(0, 2, 1, 3)


def _back(sizes, x, length):
  """What `_laid` made, as [B,T,N,H]."""
  if sizes.in_place:
    return x.reshape(*x.shape[:2], -1, sizes.H)
  return x.transpose(0, 2, 1, 3)[:, :length]


def _place(sizes, grid, ids):
  at = dict(zip(grid, ids, strict=True))
  if 'K' not in at:
    return Place(at['B'], at['N'], at['i'], at['j'], 0)
  n = at['K'] * sizes.G + at['g']
  return Place(at['B'], n, at['i'], at['j'], at['g'])


def _segments(sizes, arrays):
  """The least and the greatest of each block: int32 [B (nq + nk) 2]."""
  queries = arrays['queries'].reshape(sizes.B, sizes.nq, sizes.bq)
  keys = arrays['keys'].reshape(sizes.B, sizes.nk, sizes.bk)
  ends = [jnp.stack([x.min(2), x.max(2)], axis=2) for x in (queries, keys)]
  return jnp.concatenate(ends, axis=1).ravel()


def _call(kernel, kind, sizes, grid, arrays, writes, scratch, products):
  """Runs a kernel on every block of a grid.

  Args:
    kernel: takes (place, refs of what it reads and writes by name, scratch).
    kind, sizes: of the attention.
    grid: the letters of its dimensions, the outermost first.
    arrays: name -> what the kernel reads.
    writes: name -> (the name of an array of the same shape, dtype).
    scratch: shapes of float32 memory that lasts from block to block.
    products: how many products of matrices there are in a block.
  """
  s = sizes
  counts = {'B': s.B, 'N': s.N, 'K': s.K, 'g': s.G, 'i': s.nq, 'j': s.nk}
  # Blocks that the kernel passes over are not fetched: the one before stays.
  skips = kind.causal and 'prefix' not in arrays

  def spec(name, written=False):
    def index(*ids):
      *ids, meta = ids
      b, n, i, j, _ = _place(s, grid, ids)
      if skips and not written:
        before = meta[FIRST_QUERY] - meta[FIRST_KEY]
        if grid[-1] == 'j':
          last = jnp.maximum(before + i * s.bq + s.bq - 1, 0)
          j = jnp.minimum(j, over(last, s.bk))
        else:
          first = jnp.maximum(j * s.bk - before, 0)
          i = jnp.minimum(jnp.maximum(i, over(first, s.bq)), s.nq - 1)
      if name in ('q', 'd_out'):
        return (b, i, n) if s.in_place else (b, n, i, 0)
      if name in ('k', 'v'):
        n = over(n, s.G)
        return (b, j, n) if s.in_place else (b, n, j, 0)
      if name in ('mean', 'lse'):
        return b, n, 0, i
      if name == 'bias':
        return over(n, s.G) if written else n, 0, 0
      return (b, 0, i) if name == 'queries' else (b, j, 0)

    heads = s.G if written else 1
    alone = (None,) if s.in_place else (None, None)
    shape = {
      'bias': (heads, 1, s.distances),
      'queries': (1, 1, s.bq),
      'keys': (1, s.bk, 1),
      'prefix': (1, s.bk, 1),
      'mean': (1, 1, 1, s.bq),
      'lse': (1, 1, 1, s.bq),
      'k': (*alone, s.bk, s.H),
      'v': (*alone, s.bk, s.H),
    }.get(name, (*alone, s.bq, s.H))
    return pl.BlockSpec(shape, index)

  shapes = {name: x.shape for name, x in arrays.items()}
  shapes['lse'] = (s.B, s.N, 1, s.nq * s.bq)
  names = [name for name in arrays if name != 'meta']

  def body(meta, *refs):
    place = _place(s, grid, [pl.program_id(n) for n in range(len(grid))])
    known = [*names, *writes]
    found = dict(zip(known, refs[: len(known)], strict=True))
    kernel(place, found | {'meta': meta}, *refs[len(known) :])

  meta = jnp.concatenate([arrays['meta'], _segments(s, arrays)])
  kept_apart = {'B', 'N', 'i'} if grid[-1] == 'j' else {'K'}
  if grid[-1] == 'i' and 'bias' not in arrays:
    kept_apart |= {'B', 'j'}
  weights = s.B * s.N * s.nq * s.bq * s.nk * s.bk // (2 if skips else 1)
  written = [
    jax.ShapeDtypeStruct(shapes[like], dtype) for like, dtype in writes.values()
  ]
  return pl.pallas_call(
    body,
    grid_spec=pltpu.PrefetchScalarGridSpec(
      num_scalar_prefetch=1,
      grid=tuple(counts[letter] for letter in grid),
      in_specs=[spec(name) for name in names],
      out_specs=[spec(like, True) for like, _ in writes.values()],
      scratch_shapes=[pltpu.VMEM(shape, jnp.float32) for shape in scratch],
    ),
    out_shape=written,
    cost_estimate=pl.CostEstimate(
      flops=2 * products * weights * s.H,
      transcendentals=weights,
      bytes_accessed=sum(
        x.size * x.dtype.itemsize for x in [*arrays.values(), *written]
      ),
    ),
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=tuple(
        'parallel' if letter in kept_apart else 'arbitrary' for letter in grid
      )
    ),
    interpret=kind.interpret,
  )(meta, *(arrays[name] for name in names))
