"""Attention by blocks, on every device of a mesh."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from models.kernels import cudnn, triton
from models.kernels.flash import Kind, flash
from models.masks import Rules

INTERPRET = False  # tests set it: the kernel then runs on any machine


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
) -> jax.Array:
  """Weighted means of values, as `attention.attend`, for whole rows.

  Each device computes its own rows and heads. What a query gets that sees no
  key, each kernel says.

  Args:
    kernel: 'flash', 'triton', 'cudnn' or 'cudnn_unpacked': `choice.choose`.
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

  Returns:
    [B,T,N,H] in the dtype of `v`.
  """
  if kernel in ('flash', 'triton'):
    attend = functools.partial(_pallas, kernel, window, rate, fixed)
  else:

    def attend(q, k, v, bias, rules, banded, *_):
      packed = kernel == 'cudnn'
      return cudnn.attend(q, k, v, rules, bias, banded, window, fixed, packed)

  rows, heads = (jax.lax.iota('int32', q.shape[n]) for n in (0, 2))
  rows = row + rows
  mesh = jax.sharding.get_abstract_mesh()
  if not mesh.empty:
    # One call for each: a mesh axis is given out once in a call.
    queries, keys = (
      nn.logical_to_mesh_axes(('act_batch', 'act_length', name, 'act_head_dim'))
      for name in ('act_heads', 'act_kv_heads')
    )
    batch, _, by_head, _ = queries
    attend = jax.shard_map(
      attend,
      axis_names={*mesh.axis_names} - {*mesh.manual_axes},
      in_specs=(
        *(queries, keys, keys, PartitionSpec(by_head)),
        *(PartitionSpec(batch), PartitionSpec(), PartitionSpec(batch)),
        *(PartitionSpec(by_head), PartitionSpec()),
      ),
      out_specs=queries,
      check_vma=False,
    )
  return attend(q, k, v, bias, rules, banded, rows, heads, seed)


def _pallas(
  kernel, window, rate, fixed, q, k, v, bias, rules, banded, rows, heads, seed
):
  """A kernel written in Pallas, on one device's rows and heads."""
  kind = Kind(
    causal=rules.causal,
    window=window > 0,
    bias=bias is not None,
    learned=bias is not None and not fixed,
    rate=rate,
    block=triton.BLOCK if kernel == 'triton' else Kind.block,
    interpret=INTERPRET,
  )
  near = jnp.int32(window)
  if banded is not None:
    near = jnp.where(banded, near, q.shape[1])
  seed = jnp.int32(0) if seed is None else seed
  meta = jnp.stack([seed, near, rows[0], heads[0]])
  if kernel == 'triton':
    return triton.attend(kind, q, k, v, rules.queries, rules.keys, meta)
  seen = rules.queries, rules.keys, rules.prefix
  return flash(kind, q, k, v, bias, *seen, meta)
