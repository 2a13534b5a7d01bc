"""Attention to keys that travel from device to device (Liu et al. 2023).

Each device has some of a row's queries, and some of its keys and values. Keys
and values go around a ring: in each turn a device computes its queries' means
over the keys that it has then, and passes these keys on. Means over parts of
the keys are merged by the logarithms of their softmaxes' sums, exactly. In the
backward pass the gradients of keys and values travel with them.

Under a causal rule later queries see more keys. `deal` cuts what each device
has in two, and gives device i parts i and 2n - 1 - i of 2n: together they see
as much as those of any other device.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from models.kernels.blocks import (
  FIRST_KEY,
  FIRST_QUERY,
  HIDDEN,
  KEPT,
  Kind,
  any_seen,
  mean_of,
)

Parts = tuple[jax.Array, ...]
_FLOAT = ('float32',) * 3  # of d_q, d_k and d_v


class Ring(NamedTuple):
  """What is known before it runs.

  Attributes:
    kind: of the attention.
    forward, backward: `forward_part` and `backward_part` of a kernel.
    axis: of the mesh, around which keys travel.
    devices: how many it has.
    keys: S, of the whole row.
  """

  kind: Kind
  forward: Callable
  backward: Callable
  axis: str
  devices: int
  keys: int

  def passed(self, x):
    """A tree of arrays, each from the device before."""
    there = [(i, (i + 1) % self.devices) for i in range(self.devices)]
    return jax.lax.ppermute(x, self.axis, there)


class Keys(NamedTuple):
  """What is known of some keys: segments and prefix [B,d], places [1,d]."""

  segments: jax.Array
  prefix: jax.Array | None
  places: jax.Array


def deal(x: jax.Array | None, axis: str, devices: int) -> Parts:
  """Exchanges halves between devices: [B,c,...] -> two of [B,c/2,...].

  Device i gets parts i and 2n - 1 - i of 2n of the whole, in either order.
  """
  if x is None:
    return None, None
  halves = zip(jnp.split(x, 2, axis=1), _dealt(devices), strict=True)
  return tuple(
    jax.lax.ppermute(half, axis, [*enumerate(there)]) for half, there in halves
  )


def collect(parts: Parts, axis: str, devices: int) -> jax.Array:
  """The inverse of `deal`."""
  halves = [
    jax.lax.ppermute(part, axis, [(to, i) for i, to in enumerate(there)])
    for part, there in zip(parts, _dealt(devices), strict=True)
  ]
  return jnp.concatenate(halves, axis=1)


def _dealt(devices):
  """Where the first halves go, and the second ones."""
  n = 2 * devices
  goes = [min(part, n - 1 - part) for part in range(n)]
  return goes[::2], goes[1::2]


def ring(
  how: Ring,
  queries: Sequence[Sequence[jax.Array]],
  keys: Sequence[Sequence[jax.Array | None]],
  bias: jax.Array | None,
  meta: jax.Array,
) -> Parts:
  """Weighted means of all values, [B,c,N,H] for each part of the queries.

  A query that sees no key gets 0.

  Args:
    how: what is known before.
    queries: parts of this device's, which may stand anywhere in the row: the
      queries [B,c,N,H], already scaled, their segments [B,c] and places [1,c].
    keys: parts of this device's: keys and values [B,d,K,H], segments and
      prefix (or None) [B,d], places [1,d].
    bias: float32 [N,T+S-1], by query - key; of the whole row.
    meta: see `blocks.py`; its first query and key are not read.
  """
  q, *of_queries = zip(*queries, strict=True)
  k, v, *of_keys = zip(*keys, strict=True)
  of_queries = [*zip(*of_queries, strict=True)]
  of_keys = [Keys(*x) for x in zip(*of_keys, strict=True)]
  return _ring(how, q, k, v, bias, of_queries, of_keys, meta)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _ring(how, q, k, v, bias, queries, keys, meta):
  return _forward(how, q, k, v, bias, queries, keys, meta)[0]


def _forward(how, q, k, v, bias, queries, keys, meta):
  def turn(sums, k, v, keys):
    found = []
    for of_query, q_part, own in zip(queries, q, sums, strict=True):
      for of_key, *k_v in zip(keys, k, v, strict=True):
        given = _given(how, q_part, *k_v, bias, of_query, of_key, meta)
        own = jax.lax.cond(
          _wanted(how, given),
          lambda own, given=given: _merged(
            own, how.forward(how.kind, *given, 'float32')
          ),
          lambda own: own,
          own,
        )
      found.append(own)
    return tuple(found)

  def step(carry, _):
    sums, here = carry
    ahead = how.passed(here)
    return (turn(sums, *here), ahead), None

  sums = tuple((_zeros(x), _nothing(x)) for x in q)
  (sums, _), _ = jax.lax.scan(step, (sums, (k, v, keys)), length=how.devices)
  out = tuple(x.astype(v[0].dtype) for x, _ in sums)
  lse = tuple(x for _, x in sums)
  out, lse = jax.tree.map(lambda x: checkpoint_name(x, KEPT), (out, lse))
  return out, (q, k, v, bias, queries, keys, meta, out, lse)


def _backward(how, saved, d_out):
  q, k, v, bias, queries, keys, meta, out, lse = saved
  means = [mean_of(d, x) for d, x in zip(d_out, out, strict=True)]
  each = [*zip(queries, q, lse, means, d_out, strict=True)]
  learned = how.kind.learned

  def turn(sums, k, v, keys):
    """Adds to d_q and d_bias; also returns d_k and d_v of these keys."""
    (*d_q,), d_bias = sums
    d_k, d_v = [_zeros(x) for x in k], [_zeros(x) for x in v]
    for n, (of_query, q_part, *known) in enumerate(each):
      for m, (of_key, *k_v) in enumerate(zip(keys, k, v, strict=True)):
        given = _given(how, q_part, *k_v, bias, of_query, of_key, meta)

        def added(sums, given=given, known=known):
          *sums, d_bias = sums
          *found, d_own = how.backward(how.kind, *given, *known, _FLOAT)
          sums = [a + b for a, b in zip(sums, found, strict=True)]
          if learned:
            at = 0, _first_distance(how, given)
            before = jax.lax.dynamic_slice(d_bias, at, d_own.shape)
            d_bias = jax.lax.dynamic_update_slice(d_bias, before + d_own, at)
          return *sums, d_bias

        sums = d_q[n], d_k[m], d_v[m], d_bias
        sums = jax.lax.cond(_wanted(how, given), added, lambda x: x, sums)
        d_q[n], d_k[m], d_v[m], d_bias = sums
    return (tuple(d_q), d_bias), (d_k, d_v)

  def step(carry, _):
    sums, here, d_here = carry
    ahead, d_ahead = how.passed((here, d_here))
    sums, found = turn(sums, *here)
    return (sums, ahead, _added(d_ahead, found)), None

  sums = tuple(_zeros(x) for x in q), _zeros(bias) if learned else None
  d_here = [_zeros(x) for x in k], [_zeros(x) for x in v]
  carry = sums, (k, v, keys), d_here
  carry, _ = jax.lax.scan(step, carry, length=how.devices)
  (d_q, d_bias), _, d_here = carry
  d_k, d_v = how.passed(d_here)  # home
  d_q, d_k, d_v = (
    tuple(d.astype(x.dtype) for d, x in zip(*pair, strict=True))
    for pair in ((d_q, q), (d_k, k), (d_v, v))
  )
  return d_q, d_k, d_v, d_bias, None, None, None


_ring.defvjp(_forward, _backward)


def _added(a, b):
  return jax.tree.map(jnp.add, a, b)


def _zeros(x):
  return jnp.zeros(x.shape, 'float32')


def _nothing(q):
  """The logarithm of the sum over no keys: [B,c,N,H] -> [B,N,c]."""
  return jnp.full((q.shape[0], q.shape[2], q.shape[1]), HIDDEN, 'float32')


def _given(how, q, k, v, bias, of_query, of_key, meta):
  """What a kernel is given of a part of the queries and one of the keys."""
  segments, places = of_query
  meta = meta.at[FIRST_QUERY].set(places[0, 0])
  meta = meta.at[FIRST_KEY].set(of_key.places[0, 0])
  given = q, k, v, None, segments, of_key.segments, of_key.prefix, meta
  if bias is None:
    return given
  length = q.shape[1] + k.shape[1] - 1
  start = _first_distance(how, given)
  bias = jax.lax.dynamic_slice_in_dim(bias, start, length, axis=1)
  return *given[:3], bias, *given[4:]


def _first_distance(how, given):
  """Where in the whole row's bias the distances of two parts begin."""
  meta, length = given[-1], given[1].shape[1]
  return meta[FIRST_QUERY] - meta[FIRST_KEY] + how.keys - length


def _wanted(how, given):
  """Whether any of these queries may see any of these keys."""
  *_, queries, keys, prefix, meta = given
  if prefix is not None:
    prefix = prefix[:, None]
  return any_seen(how.kind, queries[:, None], keys[:, None], prefix, meta).any()


def _merged(sums, found):
  """Means over some keys, and over others: those over both."""
  (out, lse), (more, more_lse) = sums, found
  both = jnp.logaddexp(lse, more_lse)

  def share(x):
    return jnp.exp(x - both).swapaxes(1, 2)[..., None]

  return share(lse) * out + share(more_lse) * more, both
