"""Attention by blocks, on every device of a mesh."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from models.kernels.flash import Kind, flash
from models.masks import Rules

INTERPRET = False  # tests set it: the kernel then runs on any machine


def attend_in_blocks(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  rules: Rules,
  bias: jax.Array | None = None,
  window: jax.Array | None = None,
  seed: jax.Array | None = None,
  rate: float = 0.0,
  fixed: bool = False,
) -> jax.Array:
  """Weighted means of values, as `attention.attend`, for whole rows.

  Each device computes its own rows and heads. A query that sees no key gets 0.

  Args:
    q: [B,T,N,H] queries, already scaled.
    k, v: [B,S,K,H] keys and values; v is divided by the share that is kept.
    rules: which keys a query sees.
    bias: float32 [N,T+S-1], by query - key = 1 - S .. T - 1.
    window: int32 [], how many keys a query sees at most, with its own.
    seed: int32 [], of dropout.
    rate: the share of the weights that dropout drops.
    fixed: the bias is not learned, and gets no gradient.

  Returns:
    [B,T,N,H] in the dtype of `v`.
  """
  kind = Kind(
    causal=rules.causal,
    window=window is not None,
    bias=bias is not None,
    learned=bias is not None and not fixed,
    rate=rate,
    interpret=INTERPRET,
  )
  rows, heads = (jax.lax.iota('int32', q.shape[n]) for n in (0, 2))
  zero = jnp.int32(0)
  numbers = jnp.stack([x if x is not None else zero for x in (seed, window)])

  def attend(q, k, v, bias, rules, rows, heads, numbers):
    meta = jnp.concatenate([numbers, rows[:1], heads[:1]])
    q, k, v = (x.transpose(0, 2, 1, 3) for x in (q, k, v))
    out = flash(
      kind, q, k, v, bias, rules.queries, rules.keys, rules.prefix, meta
    )
    return out.transpose(0, 2, 1, 3)

  if not jax.sharding.get_abstract_mesh().empty:
    # One call for each: a mesh axis is given out once in a call.
    queries, keys = (
      nn.logical_to_mesh_axes(('act_batch', 'act_length', name, 'act_head_dim'))
      for name in ('act_heads', 'act_kv_heads')
    )
    batch, _, by_head, _ = queries
    attend = jax.shard_map(
      attend,
      in_specs=(
        *(queries, keys, keys, PartitionSpec(by_head)),
        *(PartitionSpec(batch), PartitionSpec(batch)),
        *(PartitionSpec(by_head), PartitionSpec()),
      ),
      out_specs=queries,
      check_vma=False,
    )
  return attend(q, k, v, bias, rules, rows, heads, numbers)
