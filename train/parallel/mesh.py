"""The mesh: devices in a grid, each axis on the network that suits it."""

import math
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from train.parallel.sharding import AXES, NONE, make_rules, words_of

# The axes that may lie on the slow network between slices: gradients cross it
# once a step, or the activations of a few rows.
SLOW = 'data', 'stage'
# All axes, that which exchanges most first.
BUSIEST = 'tensor', 'sequence', 'fsdp', 'expert', 'stage', 'data'


def mesh_shape(sizes: dict[str, int], devices: int) -> tuple[int, ...]:
  """Sizes of the mesh axes in the order of AXES, with the -1 filled in.

  Raises ValueError if they do not multiply to the number of devices.
  """
  shape = [sizes[axis] for axis in AXES]
  text = ', '.join(f'{axis}={n}' for axis, n in sizes.items() if n != 1)
  if any(n == 0 or n < -1 for n in shape) or shape.count(-1) > 1:
    raise ValueError(
      f'sharding.mesh ({text}): sizes must be positive, and one may be -1.'
    )
  known = math.prod(n for n in shape if n != -1)
  if devices % known or (-1 not in shape and known != devices):
    raise ValueError(
      f'sharding.mesh ({text or "all 1"}) takes {known} devices, or a multiple '
      f'if an axis is -1; there are {devices}. '
      + _instead(dict(zip(AXES, shape, strict=True)), devices)
    )
  return tuple(devices // known if n == -1 else n for n in shape)


def _instead(sizes, devices):
  """Which size of one axis would make the product right, or advice."""
  sizes = {axis: 1 if n == -1 else n for axis, n in sizes.items()}
  product = math.prod(sizes.values())
  would = [
    f'--config.sharding.mesh.{axis}={devices // (product // n)}'
    for axis, n in sizes.items()
    if devices % (product // n) == 0 and (n > 1 or axis in ('data', 'fsdp'))
  ]
  if would:
    return f'With the other axes as they are, {" or ".join(would)} would do.'
  divisors = [n for n in range(1, devices + 1) if devices % n == 0]
  return f'Set sizes that divide {devices}: {", ".join(map(str, divisors))}.'


def make_mesh(
  sizes: dict[str, int],
  preset: str,
  devices: Sequence[jax.Device] | None = None,
  slices: int = 0,
) -> Mesh:
  """The mesh of `sharding.mesh`, by default of all devices of all hosts.

  Args:
    sizes: of each axis; one may be -1: the rest of the devices.
    preset: `sharding.rules`.
    devices: of the mesh; None: all.
    slices: `sharding.slices`, see `slices_of`.

  Raises:
    ValueError: sizes that do not fit the devices or slices; an axis that the
      preset cuts along has size 1, or an axis that it does not cut along has
      more.
  """
  devices = jax.devices() if devices is None else devices
  shape = mesh_shape(sizes, len(devices))
  words = words_of(preset, dict(zip(AXES, shape, strict=True)))
  used = jax.tree.leaves(dict(make_rules('_'.join(words) or NONE)))
  for axis, n in zip(AXES, shape, strict=True):
    if n > 1 and axis not in used:
      raise ValueError(
        f'sharding.mesh.{axis} is {n}, but sharding.rules={preset!r} cuts '
        f'nothing along it: {n} devices would do the same work. '
        + (
          'No model here has experts: set it to 1.'
          if axis == 'expert'
          else f'Set sharding.rules to auto, or to words with {axis}.'
        )
      )
    if n == 1 and axis in words and len(devices) > 1:
      raise ValueError(
        f'sharding.rules={preset!r} cuts along the mesh axis {axis!r}, whose '
        f'size is 1: nothing would be cut. Set --config.sharding.mesh.{axis}='
        '-1 (and --config.sharding.mesh.data=1).'
      )
  groups = slices_of(devices, slices)
  slow = slow_axes(shape, len(groups))
  inner = [n // m for n, m in zip(shape, slow, strict=True)]
  grids = np.stack([_grid(inner, group) for group in groups])
  # [slices, ...] -> each axis: its part between slices, then that within one.
  grids = grids.reshape(*slow, *inner)
  order = np.arange(2 * len(AXES)).reshape(2, -1).T.ravel()
  grid = grids.transpose(order).reshape(shape)
  return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def slices_of(
  devices: Sequence[jax.Device], slices: int = 0
) -> list[list[jax.Device]]:
  """The devices of each slice; a fast network joins those of one.

  TPUs know their slice. Of other devices `slices` (`sharding.slices`) says how
  many groups, such as nodes of GPUs, there are; 0: one.

  Raises ValueError if there are not as many, or they are not equally large.
  """
  known = {}  # number of a slice -> its devices
  for device in devices:
    number = getattr(device, 'slice_index', 0) or 0
    known.setdefault(number, []).append(device)
  tpus = devices[0].platform == 'tpu'
  count = len(known) if tpus else slices or 1
  if slices and slices != count:
    raise ValueError(
      f'sharding.slices is {slices}, but the devices are of {count}: leave it '
      'at 0, which takes what they say.'
    )
  if tpus:
    found = [known[number] for number in sorted(known)]
    if len({len(x) for x in found}) > 1:
      raise ValueError(
        f'The slices have {", ".join(str(len(x)) for x in found)} devices: all '
        'must be equally large.'
      )
    return found
  if len(devices) % count:
    raise ValueError(
      f'sharding.slices is {count}, which does not divide {len(devices)} '
      'devices: all slices must be equally large.'
    )
  devices = sorted(devices, key=lambda x: (x.process_index, x.id))
  size = len(devices) // count
  return [devices[n * size : (n + 1) * size] for n in range(count)]


def slow_axes(shape: Sequence[int], slices: int) -> tuple[int, ...]:
  """How many parts of each axis lie in different slices.

  The first of SLOW takes as many as divide it, the next one the rest.

  Raises ValueError if they cannot take all.

  >>> slow_axes((4, 8, 1, 1, 1, 3), 6)
  (2, 1, 1, 1, 1, 3)
  """
  left, parts = slices, []
  for axis, size in zip(AXES, shape, strict=True):
    part = math.gcd(size, left) if axis in SLOW else 1
    parts.append(part)
    left //= part
  if left > 1:
    sizes = dict(zip(AXES, shape, strict=True))
    raise ValueError(
      f'Between the {slices} slices is a slow network, along which only the '
      f'mesh axes {" and ".join(SLOW)} may lie: sharding.mesh.data='
      f'{sizes["data"]} x stage={sizes["stage"]} must be a multiple of '
      f'{slices}. Set --config.sharding.mesh.data={slices}.'
    )
  return tuple(parts)


def _grid(shape, devices):
  """The devices of one slice as an array of this shape."""
  try:
    return mesh_utils.create_device_mesh(shape, devices)
  except NotImplementedError:  # an axis is no product of the torus' axes
    return _split(shape, devices)


def _split(shape, devices):
  """The devices of a torus whose axes are split among those of the mesh.

  The axes of the mesh that exchange most choose first. Each takes its prime
  factors from as few axes of the torus as it can, and there neighbours.
  """
  place = {x: (*x.coords, getattr(x, 'core_on_chip', 0)) for x in devices}
  sizes = [len({*numbers}) for numbers in zip(*place.values(), strict=True)]
  torus = np.empty(len(devices), object)
  torus[:] = sorted(devices, key=place.get)
  torus = torus.reshape(sizes)
  left = [[*_primes(n)] for n in torus.shape]
  taken = [[] for _ in torus.shape]  # (axis of the mesh, prime), nearest first
  for name in BUSIEST:
    number = AXES.index(name)
    for prime in _primes(shape[number]):
      has = [d for d, primes in enumerate(left) if prime in primes]
      mine = [d for d in has if any(n == number for n, _ in taken[d])]
      d = min(mine or has, key=lambda d: math.prod(left[d]))
      left[d].remove(prime)
      taken[d].append((number, prime))
  parts = [part for d in taken for part in reversed(d)]
  grid = torus.reshape([prime for _, prime in parts])
  order = sorted(range(len(parts)), key=lambda i: parts[i][0])
  return grid.transpose(order).reshape(shape)


def _primes(n):
  """The prime factors of n, the largest first."""
  found, prime = [], 2
  while n > 1:
    while n % prime == 0:
      found.append(prime)
      n //= prime
    prime += 1
  return found[::-1]


def describe(mesh: Mesh, slices: int = 0) -> str:
  """The mesh in one line: which axis lies on which network."""
  count = len(slices_of(list(mesh.devices.flat), slices))
  slow = dict(zip(AXES, slow_axes(mesh.devices.shape, count), strict=True))
  between = [f'{axis} {n}' for axis, n in slow.items() if n > 1]
  within = [
    f'{axis} {n // slow[axis]}'
    for axis, n in mesh.shape.items()
    if n > slow[axis]
  ]
  kind = mesh.devices.flat[0].device_kind
  text = f'{" x ".join(within) or "1 device"} ({mesh.size // count} x {kind})'
  if count == 1:
    return f'mesh: {text}'
  return (
    f'mesh: {" x ".join(between)} between {count} slices, over the slow '
    f'network; {text} within each'
  )
