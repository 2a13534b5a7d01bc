"""Logical axis names, of weights as they are created and of activations.

The rules of a mesh say which of its axes cuts a dimension of a name
(train/parallel/sharding.py). Without rules nothing is cut.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
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


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def gathered(weight: jax.Array, names: tuple[str, ...]) -> jax.Array:
  """A weight as its product reads it: whole along `embed` on each device.

  So the parts are gathered, not the results of the product added up. The
  gradient gets the weight's own layout, each device its part of the sum over
  all rows: autodiff would give every device the whole sum.
  """
  return shard(weight, *(None if name == 'embed' else name for name in names))


gathered.defvjp(
  lambda weight, names: (gathered(weight, names), None),
  lambda names, _, d_weight: (shard(d_weight, *names),),
)


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


def parts_of(mesh: Any, axes: Axes) -> int:
  """Into how many parts these axes of a mesh cut a dimension."""
  return math.prod(mesh.shape[axis] for axis in axes_in(axes))


def fitting(mesh: Any, axes: Axes, size: int) -> tuple[str, ...]:
  """The most of these axes, from the first one on, that divide a size."""
  axes = axes_in(axes)
  while size % parts_of(mesh, axes):
    axes = axes[:-1]
  return axes
