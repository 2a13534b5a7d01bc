"""What an attention kernel does with one block of queries and one of keys.

Blocks lie with keys down and queries across, [bk,bq]: sums over keys are sums
over rows, which are fast, and what belongs to a query is a row.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from models.kernels.keep import kept

HIDDEN = -1e30  # a logit that adds nothing to a softmax
LANES = 128
SUBLANES = 8
KEPT = 'kernel'  # the name of what a backward pass needs, whatever the remat
# What `meta` holds: the seed of dropout, the window, and the places of the
# first row, head, query and key in the global arrays. The TPU's kernel then has
# the least and the greatest segment of each block of queries and of keys, row
# by row.
SEED, WINDOW, FIRST_ROW, FIRST_HEAD, FIRST_QUERY, FIRST_KEY, SEGMENTS = range(7)


@dataclasses.dataclass(frozen=True)
class Kind:
  """What is known of an attention before it runs.

  Attributes:
    causal: no query sees a key after it, but for the keys of a prefix.
    window: whether `meta` has a number of keys that a query sees at most.
    bias: whether there is one by distance.
    learned: whether it has a gradient.
    rate: the share of the weights that dropout drops.
    group: 0, or dropout drops a key for every query alike, and for this many
      query heads, which share its head.
    block: the queries and the keys of a block, at most.
    interpret: run in Python, on any machine, for tests.
  """

  causal: bool
  window: bool = False
  bias: bool = False
  learned: bool = False
  rate: float = 0.0
  group: int = 0
  block: int = 512
  interpret: bool = False


class Place(NamedTuple):
  """Where in the grid a kernel runs."""

  b: Any  # the row
  n: Any  # the query head
  i: Any  # the block of queries
  j: Any  # the block of keys
  g: Any  # which of the heads that share a key head


def up(length: int, multiple: int) -> int:
  """The least multiple that is not below a length."""
  return -(-length // multiple) * multiple


def over(x: jax.Array, divisor: int) -> jax.Array:
  """x / divisor for whole numbers that are not negative."""
  # Not `//`, which asks for the sign: its rule wants to know the TPU here.
  return jax.lax.div(jnp.int32(x), jnp.int32(divisor))


def pad(x: jax.Array, axis: int, length: int, value: int = 0) -> jax.Array:
  """x with one dimension filled up to a length."""
  widths = [(0, 0)] * x.ndim
  widths[axis] = (0, length - x.shape[axis])
  return jnp.pad(x, widths, constant_values=value)


def mean_of(d_out: jax.Array, out: jax.Array) -> jax.Array:
  """The mean of each query's gradients of weights: [B,T,N,H] -> [B,N,T]."""
  mean = jnp.sum(d_out.astype('float32') * out.astype('float32'), axis=-1)
  return mean.transpose(0, 2, 1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def of_all_keys(
  forward_part: Callable,
  backward_part: Callable,
  kind: Kind,
  *given: jax.Array | None,
) -> jax.Array:
  """Attention to all keys, by a kernel's functions of a part of them.

  `given` are the arguments of `flash.flash` after `kind`.
  """
  return _all_forward(forward_part, backward_part, kind, *given)[0]


def _all_forward(forward_part, backward_part, kind, *given):
  del backward_part
  out, lse = forward_part(kind, *given, given[2].dtype)
  out, lse = (checkpoint_name(x, KEPT) for x in (out, lse))
  return out, (*given, out, lse)


def _all_backward(forward_part, backward_part, kind, saved, d_out):
  del forward_part
  *given, out, lse = saved
  types = [x.dtype for x in given[:3]]
  found = backward_part(kind, *given, lse, mean_of(d_out, out), d_out, types)
  return *found, None, None, None, None


of_all_keys.defvjp(_all_forward, _all_backward)


def any_seen(
  kind: Kind,
  queries: jax.Array,
  keys: jax.Array,
  prefix: jax.Array | None,
  meta: jax.Array,
) -> jax.Array:
  """Whether any query of a block may see any key of another: bool [B,i,j].

  Args:
    kind: of the attention.
    queries, keys: segments, int32 [B,i,bq] and [B,j,bk]; padding has none
      above 0.
    prefix: int32 [B,j,bk], 1 where any query sees the key.
    meta: see above.
  """

  def ends(x):
    return jnp.where(x > 0, x, jnp.iinfo('int32').max).min(2), x.max(2)

  least_q, most_q = (x[:, :, None] for x in ends(queries))
  least_k, most_k = (x[:, None] for x in ends(keys))
  wanted = (least_q <= most_k) & (least_k <= most_q)
  (_, i, bq), (_, j, bk) = queries.shape, keys.shape
  query = meta[FIRST_QUERY] + jnp.arange(i)[:, None] * bq
  key = meta[FIRST_KEY] + jnp.arange(j) * bk
  if kind.causal:
    before = key <= query + bq - 1
    if prefix is not None:
      before |= (prefix > 0).any(2)[:, None]
    wanted &= before
  if kind.window:
    wanted &= query - (key + bk - 1) < meta[WINDOW]
  return wanted


def _firsts(sizes, meta, at):
  """Places in the row of a block's first query and first key."""
  query, key = meta[FIRST_QUERY], meta[FIRST_KEY]
  return query + at.i * sizes.bq, key + at.j * sizes.bk


def _places(sizes, meta, at):
  """Places in the row of a block's queries [1,bq] and keys [bk,1]."""
  query, key = _firsts(sizes, meta, at)
  across = jax.lax.broadcasted_iota(jnp.int32, (1, sizes.bq), 1)
  down = jax.lax.broadcasted_iota(jnp.int32, (sizes.bk, 1), 0)
  return query + across, key + down


def _wanted(kind, sizes, refs, at):
  """Whether any query of a block may see any of its keys."""
  meta = refs['meta']
  query, key = _firsts(sizes, meta, at)
  row = SEGMENTS + 2 * at.b * (sizes.nq + sizes.nk)
  queries, keys = row + 2 * at.i, row + 2 * (sizes.nq + at.j)
  wanted = meta[queries] <= meta[keys + 1]
  wanted &= meta[keys] <= meta[queries + 1]
  if kind.causal and 'prefix' not in refs:
    wanted &= key <= query + sizes.bq - 1
  if kind.window:
    wanted &= query - (key + sizes.bk - 1) < meta[WINDOW]
  return wanted


def _logits(kind, sizes, refs, at):
  """A block's logits [bk,bq], and True where the query sees the key."""
  query, key = _places(sizes, refs['meta'], at)
  seen = refs['keys'][0] == refs['queries'][0]
  if kind.causal:
    before = key <= query
    if 'prefix' in refs:
      before |= refs['prefix'][0] > 0
    seen &= before
  if kind.window:
    seen &= query - key < refs['meta'][WINDOW]
  logits = product(*(_read(sizes, refs, at, name) for name in ('k', 'q')), 1, 1)
  if kind.bias:
    logits += _matrix(sizes, refs['bias'][0, :, _span(sizes, at)])
  return jnp.where(seen, logits, HIDDEN), seen


def _kept(kind, sizes, refs, at, x):
  """x [bk,bq], 0 where dropout drops a weight."""
  if not kind.rate:
    return x
  meta = refs['meta']
  row, head = meta[FIRST_ROW] + at.b, meta[FIRST_HEAD] + at.n
  query, key = _places(sizes, meta, at)
  if kind.group:
    query, head = jnp.int32(0), over(head, kind.group)
  return jnp.where(kept(meta[SEED], kind.rate, row, head, query, key), x, 0.0)


def product(a, b, of_a, of_b):
  """The product that sums over a dimension of a and one of b, float32."""
  dims = ((of_a,), (of_b,)), ((), ())
  return jax.lax.dot_general(a, b, dims, preferred_element_type='float32')


def _read(sizes, refs, at, name):
  """A block of q, k, v or d_out; 0 where memory has no more rows."""
  x = refs[name][...]
  of_queries = name in ('q', 'd_out')
  length, block = (sizes.T, at.i) if of_queries else (sizes.S, at.j)
  if not sizes.in_place or length % len(x) == 0:  # else they are padded
    return x
  row = block * len(x) + jax.lax.broadcasted_iota('int32', (len(x), 1), 0)
  return jnp.where(row < length, x, jnp.zeros_like(x))


def _span(sizes, at):
  """Where in the bias the distances of a block are: bq + bk of them."""
  start = at.i * sizes.bq + (sizes.nk - 1 - at.j) * sizes.bk
  return pl.ds(pl.multiple_of(start, LANES), sizes.bq + sizes.bk)


def _matrix(sizes, vector):
  """By distance [1,bk+bq] -> [bk,bq]: row a, column b has b - a + bk - 1."""
  width = vector.shape[1]
  rows = jnp.broadcast_to(vector, (SUBLANES, width))
  above = SUBLANES - 1 - jax.lax.broadcasted_iota('int32', rows.shape, 0)
  # Row a belongs bk - 1 - a columns to the left. (One strided roll would do it,
  # which TPU v4 lacks.)
  for shift in (1, 2, 4):
    rolled = pltpu.roll(rows, width - shift, 1)
    rows = jnp.where(above & shift > 0, rolled, rows)
  while len(rows) < sizes.bk:
    upper = pltpu.roll(rows, width - len(rows), 1)
    rows = jnp.concatenate([upper, rows])
  return rows[:, : sizes.bq]


def _by_distance(sizes, block):
  """The sums of `_matrix`'s gradient [bk,bq] by distance: [1,bk+bq]."""
  rows = jnp.pad(block, [(0, 0), (0, sizes.bk)])
  # Row a belongs bk - 1 - a columns to the right. The upper half moves to where
  # the lower half is, is added, and so on.
  while len(rows) > 1:
    half = len(rows) // 2
    rows = pltpu.roll(rows[:half], half, 1) + rows[half:]
  return rows


def forward(kind, sizes, at, refs, top, total, mixed):
  @pl.when(at.j == 0)
  def _():
    top[...] = jnp.full(top.shape, HIDDEN, 'float32')
    total[...] = jnp.zeros(total.shape, 'float32')
    mixed[...] = jnp.zeros(mixed.shape, 'float32')

  @pl.when(_wanted(kind, sizes, refs, at))
  def _():
    logits, seen = _logits(kind, sizes, refs, at)
    higher = jnp.maximum(top[...], jnp.max(logits, axis=0, keepdims=True))
    weights = jnp.where(seen, jnp.exp(logits - higher), 0.0)
    scale = jnp.exp(top[...] - higher)
    top[...] = higher
    total[...] = scale * total[...] + jnp.sum(weights, axis=0, keepdims=True)
    weights = _kept(kind, sizes, refs, at, weights)
    v = _read(sizes, refs, at, 'v')
    mixed[...] = scale * mixed[...] + product(v, weights.astype(v.dtype), 0, 0)

  @pl.when(at.j == sizes.nk - 1)
  def _():
    none = total[...] == 0
    sums = jnp.where(none, 1.0, total[...])
    refs['out'][...] = (mixed[...] / sums).T.astype(refs['out'].dtype)
    refs['lse'][0, 0] = top[...] + jnp.log(sums)


def _d_logits(kind, sizes, refs, at):
  """The weights that are kept, and the logits' gradient: [bk,bq] each."""
  logits, seen = _logits(kind, sizes, refs, at)
  weights = jnp.where(seen, jnp.exp(logits - refs['lse'][0, 0]), 0.0)
  d_weights = product(
    *(_read(sizes, refs, at, name) for name in ('v', 'd_out')), 1, 1
  )
  d_weights = _kept(kind, sizes, refs, at, d_weights)
  d_logits = weights * (d_weights - refs['mean'][0, 0])
  return _kept(kind, sizes, refs, at, weights), d_logits


def d_query(kind, sizes, at, refs, d_q):
  @pl.when(at.j == 0)
  def _():
    d_q[...] = jnp.zeros(d_q.shape, 'float32')

  @pl.when(_wanted(kind, sizes, refs, at))
  def _():
    _, d_logits = _d_logits(kind, sizes, refs, at)
    k = _read(sizes, refs, at, 'k')
    d_q[...] += product(k, d_logits.astype(k.dtype), 0, 0)

  @pl.when(at.j == sizes.nk - 1)
  def _():
    refs['d_q'][...] = d_q[...].T.astype(refs['d_q'].dtype)


def d_key(kind, sizes, at, refs, d_k, d_v):
  first = (at.i == 0) & (at.g == 0)

  @pl.when(first)
  def _():
    d_k[...] = jnp.zeros(d_k.shape, 'float32')
    d_v[...] = jnp.zeros(d_v.shape, 'float32')

  if kind.learned:

    @pl.when(first & (at.b == 0) & (at.j == 0))
    def _():
      refs['d_bias'][...] = jnp.zeros(refs['d_bias'].shape, 'float32')

  @pl.when(_wanted(kind, sizes, refs, at))
  def _():
    weights, d_logits = _d_logits(kind, sizes, refs, at)
    q, d_out = (_read(sizes, refs, at, name) for name in ('q', 'd_out'))
    d_v[...] += product(weights.astype(d_out.dtype), d_out, 1, 0)
    d_k[...] += product(d_logits.astype(q.dtype), q, 1, 0)
    if kind.learned:
      found = _by_distance(sizes, d_logits)
      refs['d_bias'][at.g, :, _span(sizes, at)] += found

  @pl.when((at.i == sizes.nq - 1) & (at.g == sizes.G - 1))
  def _():
    refs['d_k'][...] = d_k[...].astype(refs['d_k'].dtype)
    refs['d_v'][...] = d_v[...].astype(refs['d_v'].dtype)
