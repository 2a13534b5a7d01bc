"""Attention by blocks, on every device of a mesh."""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from models.kernels import cudnn, flash, ring, triton, xla
from models.kernels.blocks import FIRST_KEY, FIRST_QUERY, Kind
from models.masks import Rules
from models.sharding import devices_of, equal_parts

INTERPRET = False  # tests set it: the kernel then runs on any machine
# By name: with all keys; with a part of them, and that part's gradients.
_KERNELS = {
  'xla': (xla.attend_part, xla.forward_part, xla.backward_part),
  'flash': (flash.flash, flash.forward_part, flash.backward_part),
  'triton': (triton.attend, triton.forward_part, triton.backward_part),
}


class Cut(NamedTuple):
  """How the mesh cuts a row.

  Attributes:
    axis: of the mesh, or None.
    devices: how many parts there are.
    queries, keys: whether they are cut.
    turns: keys go around a ring; else each device gathers all of them.
  """

  axis: str | None
  devices: int
  queries: bool
  keys: bool
  turns: bool


def attend_in_blocks(
  kernel: str,
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  rules: Rules,
  bias: jax.Array | None = None,
  banded: jax.Array | None = None,
  window: int = 0,
  seed: jax.Array | None = None,
  rate: float = 0.0,
  fixed: bool = False,
  row: jax.Array | int = 0,
  again: bool = False,
  group: int = 0,
) -> jax.Array:
  """Weighted means of values, as `xla.attend`, for whole rows.

  Each device computes its own rows, heads and queries. Where the mesh cuts the
  length of keys, it gathers them (Llama Team 2024, 3.3.2), or, if the rules cut
  'act_keys' too, sees them pass by (`ring.py`). For a query that sees no key,
  each kernel says what it gets.

  Args:
    kernel: 'flash', 'triton', 'cudnn' or 'cudnn_unpacked': `choice.choose`; or
      'xla', which keeps the weights of a device's queries.
    q: [B,T,N,H] queries, already scaled.
    k, v: [B,S,K,H] keys and values; v is divided by the share that is kept.
    rules: which keys a query sees.
    bias: float32 [N,T+S-1], by query - key = 1 - S .. T - 1.
    banded: bool [], whether the window counts; None: always.
    window: how many keys a query sees at most, with its own; 0: all.
    seed: int32 [], of dropout.
    rate: the share of the weights that dropout drops.
    fixed: the bias is not learned, and gets no gradient.
    row: int32 [], the number in the batch of the first row, for dropout.
    again: the backward pass of 'xla' computes the weights again.
    group: 0, or 'flash' drops a key for every query alike, and for this many
      query heads, which share its head.

  Returns:
    [B,T,N,H] in the dtype of `v`.
  """
  T, S = q.shape[1], k.shape[1]
  cut = _cut(T, S)
  if kernel in _KERNELS:
    kind = Kind(
      causal=rules.causal,
      window=window > 0,
      bias=bias is not None,
      learned=bias is not None and not fixed,
      rate=rate,
      group=group,
      block=triton.BLOCK if kernel == 'triton' else Kind.block,
      interpret=INTERPRET,
    )
    near = jnp.int32(window)
    if banded is not None:
      near = jnp.where(banded, near, T)
    seed = jnp.int32(0) if seed is None else seed
    attend = functools.partial(_attend, kernel, kind, cut, S, again)
  else:
    near = banded

    def attend(q, k, v, bias, rules, banded, *_):
      packed = kernel == 'cudnn'
      return cudnn.attend(q, k, v, rules, bias, banded, window, fixed, packed)

  rows, heads = (jax.lax.iota('int32', q.shape[n]) for n in (0, 2))
  rows = row + rows
  places = tuple(jax.lax.iota('int32', n)[None] for n in (T, S))
  mesh = jax.sharding.get_abstract_mesh()
  if not mesh.empty:
    # One call for each: a mesh axis is given out once in a call.
    (batch, by_head), (_, by_key_head) = (
      nn.logical_to_mesh_axes(('act_batch', name))
      for name in ('act_heads', 'act_kv_heads')
    )
    length, of_keys = (cut.axis if x else None for x in (cut.queries, cut.keys))
    queries = PartitionSpec(batch, length, by_head)
    keys = PartitionSpec(batch, of_keys, by_key_head)
    of_rules = rules.replace(
      queries=PartitionSpec(batch, length),
      keys=PartitionSpec(batch, of_keys),
      prefix=PartitionSpec(batch, of_keys),
    )
    attend = jax.shard_map(
      attend,
      axis_names={*mesh.axis_names} - {*mesh.manual_axes},
      in_specs=(
        *(queries, keys, keys, PartitionSpec(by_head)),
        *(of_rules, PartitionSpec(), PartitionSpec(batch)),
        *(PartitionSpec(by_head), PartitionSpec()),
        (PartitionSpec(None, length), PartitionSpec(None, of_keys)),
      ),
      out_specs=queries,
      check_vma=False,
    )
  return attend(q, k, v, bias, rules, near, rows, heads, seed, places)


def _cut(T, S):
  """How the mesh cuts rows of T queries and S keys, or leaves them whole."""
  (axis,) = nn.logical_to_mesh_axes(('act_length',)) or (None,)
  queries, keys = (equal_parts('act_length', n) > 1 for n in (T, S))
  turns = queries and keys and devices_of('act_keys') > 1
  return Cut(axis, devices_of('act_length'), queries, keys, turns)


def _attend(
  kernel, kind, cut, S, again, q, k, v, bias, rules, near, rows, heads, seed,
  places,
):  # fmt: skip
  """One device's rows, heads and queries; `near` is the window."""
  attend, *of_part = _KERNELS[kernel]
  meta = jnp.stack([seed, near, rows[0], heads[0], *(x[0, 0] for x in places)])
  # Devices have equal work where each has early and late queries, except that
  # `xla` computes what nobody sees too.
  even = cut.queries and kind.causal and rules.prefix is None
  even &= q.shape[1] % 2 == 0 and (cut.turns or kernel != 'xla')
  on = cut.axis, cut.devices

  def parts(*arrays):
    if not even:
      return [arrays]
    return [*zip(*(ring.deal(x, *on) for x in arrays), strict=True)]

  queries = parts(q, rules.queries, places[0])
  if cut.turns:
    how = ring.Ring(kind, *of_part, *on, S)
    keys = parts(k, v, rules.keys, rules.prefix, places[1])
    out = ring.ring(how, queries, keys, bias, meta)
  else:
    keys = k, v, rules.keys, rules.prefix
    if cut.keys:
      gather = functools.partial(jax.lax.all_gather, axis=1, tiled=True)
      keys = jax.tree.map(lambda x: gather(x, cut.axis), keys)
      meta = meta.at[FIRST_KEY].set(0)
    attend = jax.checkpoint(attend, static_argnums=0) if again else attend
    out = [_of_all(attend, kind, x, keys, bias, meta) for x in queries]
  return ring.collect(out, *on) if even else out[0]


def _of_all(attend, kind, queries, keys, bias, meta):
  """A part of the queries, with their segments and places, and all keys."""
  q, segments, places = queries
  k, v, of_keys, prefix = keys
  length = q.shape[1] + k.shape[1] - 1
  if bias is not None and bias.shape[1] > length:
    bias = jax.lax.dynamic_slice_in_dim(bias, places[0, 0], length, axis=1)
  meta = meta.at[FIRST_QUERY].set(places[0, 0])
  return attend(kind, q, k, v, bias, segments, of_keys, prefix, meta)
