"""Logical axis names, of weights as they are created and of activations.

The rules of a mesh say which of its axes cuts a dimension of a name
(train/parallel/sharding.py). Without rules nothing is cut.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

Initializer = Callable[..., jax.Array]
Axes = str | tuple[str, ...] | None  # of a mesh, as a rule has them


def named(init: Initializer, *names: str) -> Initializer:
  """An initializer whose weight has one logical axis name per dimension.

  Raises:
    ValueError: the number of names differs from the number of dimensions.
      Nothing else would report it, and the weight would never be sharded.
  """

  def checked(key, shape, dtype):
    if len(names) != len(shape):
      raise ValueError(
        f'A weight of shape {shape} needs {len(shape)} axis names, not {names}.'
      )
    return init(key, shape, dtype)

  return nn.with_logical_partitioning(checked, names)


def shard(x: jax.Array, *names: str | None) -> jax.Array:
  """Shards an activation by logical axis names; without rules, does nothing.

  A dimension that is shorter than its axes stays whole: the one token of a step
  of decoding. One that they do not divide is cut along the first ones that do;
  if none does (a vocabulary, a length), it is padded on the devices, which
  nothing sees.

  Raises:
    ValueError: the active rules do not know a name.
  """
  mesh = jax.sharding.get_abstract_mesh()
  rules = dict(nn.get_logical_axis_rules())
  if not rules or mesh.empty:
    return x
  if unknown := {*names} - {*rules, None}:
    raise ValueError(f'The rules of sharding do not know {sorted(unknown)}.')
  spec = []
  for size, axes in zip(x.shape, nn.logical_to_mesh_axes(names), strict=True):
    # A pipeline's program cuts along manual axes itself (stages.py).
    axes = tuple(x for x in axes_in(axes) if x not in mesh.manual_axes)
    pads = axes if size >= parts_of(mesh, axes) else ()
    spec.append(fitting(mesh, axes, size) or pads or None)
  return jax.lax.with_sharding_constraint(x, PartitionSpec(*spec))


def shard_residual(x: jax.Array) -> jax.Array:
  """Shards what is between the blocks, [B,T,D].

  The mesh axes of 'act_residual' cut its length; those that do not divide the
  length cut its width.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or not nn.get_logical_axis_rules():
    return x
  (axes,) = nn.logical_to_mesh_axes(('act_residual',))
  axes, (B, T, D) = axes_in(axes), x.shape
  length = fitting(mesh, axes, T)
  width = axes[len(length) :]
  if mesh.manual_axes or T == 1 or not width or D % parts_of(mesh, width):
    return shard(x, 'act_batch', 'act_residual', 'act_embed')
  (batch,) = nn.logical_to_mesh_axes(('act_batch',))
  spec = PartitionSpec(fitting(mesh, batch, B) or None, length or None, width)
  return jax.lax.with_sharding_constraint(x, spec)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def gathered(weight: jax.Array, names: tuple[str, ...]) -> jax.Array:
  """A weight as its product reads it: whole along `embed` on each device.

  So the parts are gathered, not the results of the product added up. The
  gradient gets the weight's own layout, each device its part of the sum over
  all rows: autodiff would give every device the whole sum.
  """
  whole = _whole(names)
  more = _padding(weight, names)
  if more:  # else the compiler makes all of the table on each device
    padded = as_stored(jnp.pad(weight, more), weight.shape, names)
    padded = shard(shard(padded, *names), *whole)
    weight = jax.lax.slice(padded, (0,) * weight.ndim, weight.shape)
  return shard(weight, *whole)


def _gathered_backward(names, _, d_weight):
  more = _padding(d_weight, names)
  if not more:
    if _axes_of_embed() > 1:
      # Else activations are gathered, not sums scattered, beside `tensor`.
      d_weight = shard(d_weight, *_whole(names))
    return (shard(d_weight, *names),)
  padded = shard(jnp.pad(d_weight, more), *names)
  padded = as_stored(padded, d_weight.shape, names)
  return (jax.lax.slice(padded, (0,) * d_weight.ndim, d_weight.shape),)


gathered.defvjp(
  lambda weight, names: (gathered(weight, names), None), _gathered_backward
)


def _whole(names):
  return [None if name == 'embed' else name for name in names]


def _axes_of_embed():
  """How many axes of the mesh cut the width of weights."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or not nn.get_logical_axis_rules():
    return 0
  (axes,) = nn.logical_to_mesh_axes(('embed',))
  return len(larger(mesh, axes))


def _padding(weight, names):
  """Zeros to add to a vocabulary, for jnp.pad; () if its axes divide it."""
  mesh = jax.sharding.get_abstract_mesh()
  if 'vocab' not in names or mesh.empty or not nn.get_logical_axis_rules():
    return ()
  (axes,) = nn.logical_to_mesh_axes(('vocab',))
  missing = [
    -size % parts_of(mesh, axes) if name == 'vocab' else 0
    for size, name in zip(weight.shape, names, strict=True)
  ]
  return [(0, n) for n in missing] if any(missing) else ()


def as_stored(
  x: jax.Array, shape: Sequence[int], names: Sequence[str]
) -> jax.Array:
  """Shards an array as a weight of this shape and these names is stored."""
  mesh = jax.sharding.get_abstract_mesh()
  axes = layout(mesh, dict(nn.get_logical_axis_rules()), shape, names)
  spec = PartitionSpec(*(x or None for x in axes))
  return jax.lax.with_sharding_constraint(x, spec)


def layout(
  mesh: Any,
  rules: Mapping[str, Axes],
  shape: Sequence[int],
  names: Sequence[str],
) -> list[tuple[str, ...]]:
  """The mesh axes, larger than 1, that cut each dimension of a stored weight.

  Where they do not divide a vocabulary, they cut the weight's other dimension,
  so that no checkpoint or loss sees padding. The model still cuts the
  vocabulary, which is padded on the devices while it computes.
  """
  found = {name: larger(mesh, rules[name]) for name in names}
  sizes = dict(zip(names, shape, strict=True))
  if sizes.get('vocab', 0) % parts_of(mesh, found.get('vocab', ())):
    moved = found['vocab']
    found = {
      name: () if name == 'vocab' else (*axes, *moved)
      for name, axes in found.items()
    }
  return [found[name] for name in names]


def devices_of(name: str, size: int = 0) -> int:
  """Into how many parts the mesh cuts a dimension of this logical name.

  `size` is that of the dimension; 0: one that all its mesh axes divide.
  """
  (axes,) = nn.logical_to_mesh_axes((name,)) or (None,)
  mesh = jax.sharding.get_abstract_mesh()
  return 1 if mesh.empty else parts_of(mesh, fitting(mesh, axes, size))


def equal_parts(name: str, size: int) -> int:
  """`devices_of` if this size is a multiple of it, else 1."""
  devices = devices_of(name)
  return devices if size % devices == 0 else 1


def axes_in(axes: Axes) -> tuple[str, ...]:
  """The mesh axes that a rule gives a name: one, several or none."""
  return (axes,) if isinstance(axes, str) else tuple(axes or ())


def larger(mesh: Any, axes: Axes) -> tuple[str, ...]:
  """Those of these axes of a mesh that have more than one device."""
  return tuple(axis for axis in axes_in(axes) if mesh.shape[axis] > 1)


def parts_of(mesh: Any, axes: Axes) -> int:
  """Into how many parts these axes of a mesh cut a dimension."""
  return math.prod(mesh.shape[axis] for axis in axes_in(axes))


def fitting(mesh: Any, axes: Axes, size: int) -> tuple[str, ...]:
  """The most of these axes, from the first one on, that divide a size."""
  axes = axes_in(axes)
  while size % parts_of(mesh, axes):
    axes = axes[:-1]
  return axes
