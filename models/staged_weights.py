"""The weights of a stage, and where their gradients are summed.

A stage reads its weights in every turn. They are brought to it once in a pass.
Low precision would lose what each turn adds to their gradients: these are
summed in float32 in a place of their own, and once over devices.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from models.sharding import shard
from models.stages import Plan

Tree = Any

_PRODUCTS = jax.checkpoint_policies.dots_with_no_batch_dims_saveable


def with_sums(params: Tree) -> tuple[Tree, Tree]:
  """Two trees: the weights; and zeros in float32, which get the gradients.

  The second tree has None for a float32 weight, which gets its own gradient.
  """
  pairs = jax.tree.map(
    lambda x: (x, None) if x.dtype == 'float32' else _with_sums(x), params
  )
  first, second = (
    jax.tree.map(lambda _, pair, i=i: pair[i], params, pairs) for i in (0, 1)
  )
  return first, second


@jax.custom_vjp
def _with_sums(x):
  return x, jnp.zeros(x.shape, 'float32')


_with_sums.defvjp(
  lambda x: (_with_sums(x), jnp.zeros([], x.dtype)),
  lambda kind, gradients: (gradients[1].astype(kind.dtype),),
)


def brought(
  plan: Plan, stage: jax.Array, params: Tree, sums: Tree, names: Tree
) -> Tree:
  """What a device has of weights -> what its stage reads, [R,L/(S R),...].

  Args:
    plan, stage: the pipeline, and which stage this is.
    params, sums: the device's part of what `with_sums` returns.
    names: of the dimensions of each weight, but for the first one.

  Returns:
    A tree like `params`, of pairs for `read`.
  """

  def pair(x, sums, names):
    bring = functools.partial(_brought, plan, plan.gathered(names))
    # Other axes that cut the model's width would be gathered in every turn.
    whole = (None if name == 'embed' else name for name in names)
    x = shard(bring(x, stage), None, None, *whole)
    if sums is None:
      return x, None
    return jax.lax.stop_gradient(x), _zeros(bring, sums, stage)

  return jax.tree.map(pair, params, sums, names)


def _brought(plan, axes, x, stage):
  x = regrouped(plan, stage, x)
  for dim, cuts in enumerate(axes, x.ndim - len(axes)):
    if cuts:
      x = jax.lax.all_gather(x, cuts, axis=dim, tiled=True)
  return x


def regrouped(plan: Plan, stage: jax.Array, x: jax.Array) -> jax.Array:
  """What a device has of [L,...] -> the layers of its stage, [R,L/(S R),...].

  Arrays are cut layer after layer. So with repeats a device has other layers
  than those that its stage computes.
  """
  S, R = plan.stages, plan.repeats
  x = x.reshape(R, -1, *x.shape[1:])
  if R == 1:
    return x
  # Group s R + i, place i of stage s, goes to place (s R + i) // S of stage
  # (s R + i) % S. Each exchange takes one place of every stage, such that every
  # stage gets one.
  common = math.gcd(S, R)
  found = jnp.zeros_like(x)
  for exchange in range(R):
    places = [(exchange + s // (S // common)) % R for s in range(S)]
    groups = [s * R + place for s, place in enumerate(places)]
    at = {q % S: q // S for q in groups}
    sent = jax.lax.dynamic_index_in_dim(
      x, jnp.array(places)[stage], keepdims=False
    )
    way = [(s, q % S) for s, q in enumerate(groups)]
    found = jax.lax.dynamic_update_index_in_dim(
      found,
      jax.lax.ppermute(sent, plan.axis, way),
      jnp.array([at[s] for s in range(S)])[stage],
      axis=0,
    )
  return found


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _zeros(bring, zeros, stage):
  """What `bring` makes of zeros; only its transpose runs, for the gradient."""
  return jnp.zeros_like(jax.eval_shape(bring, zeros, stage))


def _zeros_backward(bring, saved, gradient):
  shape, stage = saved
  back = jax.linear_transpose(lambda x: bring(x, stage), shape)
  return *back(gradient), None


_zeros.defvjp(
  lambda bring, zeros, stage: (_zeros(bring, zeros, stage), (zeros, stage)),
  _zeros_backward,
)


def looped(
  layer: Callable,
  x: jax.Array,
  layers: Tree,
  repeat: jax.Array,
  policy: Callable[..., bool] | None,
  unroll: int,
) -> jax.Array:
  """The layers of a group, one after the other.

  Args:
    layer: x and a tree without the first two dimensions of `layers` -> x, None.
    x: what the first one reads.
    layers: a tree of [R,G,...].
    repeat: int [], the group.
    policy: what a layer keeps for the backward pass; None: all, or with repeats
      the products with weights.
    unroll: layers in a turn of the loop.
  """
  R, G = jax.tree.leaves(layers)[0].shape[:2]
  if R == 1:
    if policy:
      layer = jax.checkpoint(layer, policy=policy, prevent_cse=False)
    layers = jax.tree.map(lambda x: x[0], layers)
    return jax.lax.scan(layer, x, layers, unroll=unroll)[0]

  flat = jax.tree.map(lambda x: x.reshape(R * G, *x.shape[2:]), layers)

  # Weights are chosen inside, and again in the backward pass: each turn would
  # keep those that it read. So a layer cannot keep all.
  def chosen(x, place):
    take = functools.partial(
      jax.lax.dynamic_index_in_dim, index=place, keepdims=False
    )
    return layer(x, jax.tree.map(take, flat))

  chosen = jax.checkpoint(chosen, policy=policy or _PRODUCTS, prevent_cse=False)
  places = repeat * G + jnp.arange(G)
  return jax.lax.scan(chosen, x, places, unroll=unroll)[0]


def read(pairs: Tree) -> Tree:
  """The weights of pairs from `brought`, when a layer reads them."""
  return jax.tree.map(
    lambda pair: pair[0] if pair[1] is None else _read(*pair),
    pairs,
    is_leaf=lambda x: isinstance(x, tuple),
  )


@jax.custom_vjp
def _read(x, sums):
  """x, whose gradient `sums` gets."""
  del sums
  return x


_read.defvjp(
  lambda x, sums: (x, None),
  lambda _, gradient: (None, gradient.astype('float32')),
)
