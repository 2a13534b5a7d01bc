"""The mesh of devices, and which dimension is cut along which of its axes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXES = ('data', 'fsdp', 'sequence', 'tensor', 'expert', 'stage')
BATCH = PartitionSpec(('data', 'fsdp'))

Rules = tuple[tuple[str, str | tuple[str, ...] | None], ...]

# Every logical name of a dimension, of weights and of activations. A name that
# is missing here is an error.
_NAMES = (
  *('layers', 'vocab', 'embed', 'mlp', 'heads', 'kv_heads', 'head_dim'),
  *('channels', 'buckets', 'positions', 'types', 'table', 'hidden'),
  *('rank', 'adapter'),  # of LoRA's factors and of adapters
  *('classes', 'norm', 'act_length', 'act_keys', 'act_embed', 'act_mlp'),
  *('act_heads', 'act_kv_heads', 'act_head_dim', 'act_channels', 'act_vocab'),
  'act_residual',  # the length of what is between the blocks
)
_WIDTHS = 'vocab', 'mlp', 'heads', 'kv_heads', 'channels'
# A preset is a word of these or several, joined by '_'. Each word cuts along
# mesh axes: dimension -> axis.
WORDS = {
  # Rajbhandari et al. 2020 (ZeRO), stage 3: weights, gradients, optimizer.
  'fsdp': {'embed': 'fsdp'},
  # The same, stage 1: the optimizer's state alone, see `optimizer_rules`.
  'zero1': {},
  # Context parallelism: the length of the activations.
  'sequence': {'act_length': 'sequence', 'act_residual': 'sequence'},
  # Shoeybi et al. 2019 (Megatron-LM), 3; Korthikanti et al. 2022, 4.2.2: the
  # length of what is between the blocks.
  'tensor': dict.fromkeys(
    (*_WIDTHS, *(f'act_{name}' for name in _WIDTHS), 'act_residual'), 'tensor'
  ),
  # Huang et al. 2019 (GPipe): each device has some of the layers.
  'stage': {'layers': 'stage'},
}
AUTO, NONE = 'auto', 'replicated'


def words_of(preset: str, sizes: Mapping[str, int]) -> tuple[str, ...]:
  """The words of a preset; of 'auto' those of the axes larger than 1.

  Raises ValueError for an unknown or repeated word.
  """
  if preset == AUTO:
    return tuple(x for x in WORDS if x in sizes and sizes[x] != 1)
  words = () if preset == NONE else tuple(preset.split('_'))
  unknown = [x for x in words if x not in WORDS]
  if unknown or len({*words}) < len(words) or {'fsdp', 'zero1'} <= {*words}:
    raise ValueError(
      f'sharding.rules is {preset!r}; it must be {AUTO}, {NONE}, or some of '
      f"{', '.join(WORDS)}, joined by '_', such as fsdp_tensor; fsdp and zero1 "
      'exclude each other.'
    )
  return words


def make_rules(preset: str, sizes: Mapping[str, int] | None = None) -> Rules:
  """The rules of a preset, in Flax's form; 'auto' needs the mesh's sizes.

  Raises ValueError for an unknown or repeated word.
  """
  words = words_of(preset, sizes or {})
  cuts = {name: [] for name in _NAMES}
  for word in WORDS:
    if word in words:
      for name, axis in WORDS[word].items():
        cuts[name].append(axis)
  if 'fsdp' in words and 'sequence' in words:
    cuts['embed'].append('sequence')  # whose devices have the same weights
  rules = {
    name: tuple(axes) if len(axes) > 1 else axes[0] if axes else None
    for name, axes in cuts.items()
  }
  # Outside of its pipeline the rows are the stages' too.
  batch = (*BATCH[0], *(('stage',) if 'stage' in words else ()))
  return tuple((rules | {'act_batch': batch}).items())


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
      f'if an axis is -1; there are {devices}. Set '
      '--config.sharding.mesh.AXIS so that the product is that number.'
    )
  return tuple(devices // known if n == -1 else n for n in shape)


def make_mesh(
  sizes: dict[str, int],
  preset: str,
  devices: Sequence[jax.Device] | None = None,
) -> Mesh:
  """The mesh of `sharding.mesh`, by default of all devices of all hosts.

  One of the sizes may be -1: the rest of the devices.

  Raises:
    ValueError: sizes that do not fit the devices; an axis that the preset cuts
      along has size 1, or an axis that it does not cut along has more.
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
  return jax.make_mesh(
    shape, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices
  )


def shardings(mesh: Mesh, rules: Rules, axes: Any, shapes: Any) -> Any:
  """How each weight is laid out: a tree of NamedSharding like `shapes`.

  `axes` is a tree of tuples, with a logical name per dimension. Raises
  ValueError for a name without a rule, more or fewer names than dimensions, or
  a dimension that its mesh axis does not divide.
  """
  table = dict(rules)

  def place(path, leaf, names):
    where = jax.tree_util.keystr(path, simple=True, separator='/')
    if len(names) != leaf.ndim:
      raise ValueError(f'{where}: axis names {names} for shape {leaf.shape}.')
    spec = []
    for name, size in zip(names, leaf.shape, strict=True):
      if name not in table:
        raise ValueError(
          f'{where}: the axis name {name!r} is in no rule of '
          'train/parallel/sharding.py.'
        )
      axes = _larger(mesh, table[name])
      parts = math.prod(mesh.shape[axis] for axis in axes)
      if size % parts:
        raise ValueError(
          f'{where} has shape {leaf.shape}: dimension {name!r} of {size} '
          f'cannot be cut into {parts} along the mesh axis '
          f'{" x ".join(axes)}. Change sharding.mesh or sharding.rules.'
        )
      spec.append(axes if len(axes) > 1 else axes[0] if axes else None)
    return NamedSharding(mesh, PartitionSpec(*spec))

  return jax.tree_util.tree_map_with_path(place, shapes, axes)


def _larger(mesh, axes):
  """The mesh axes of a rule that are larger than 1."""
  axes = (axes,) if isinstance(axes, str) else axes or ()
  return tuple(axis for axis in axes if mesh.shape[axis] > 1)


def batch_rows(mesh: Mesh, batch: int) -> np.ndarray:
  """The rows of the global batch that this host's devices hold: int [n].

  Sorted; a row that several devices hold is there once.
  """
  where = NamedSharding(mesh, BATCH).addressable_devices_indices_map((batch,))
  rows = [np.arange(batch)[index] for index in where.values()]
  return np.unique(np.concatenate(rows))


def padded(batches: Sequence[int], parts: int) -> list[int]:
  """Rows of each batch with padding: multiples of `parts`, few of them.

  Batches share a size, and so a compiled step, if at most a quarter of it is
  padding. (Of a small batch more may be, to reach a multiple.)

  >>> padded([10, 40, 70, 80, 96, 256], 8)
  [16, 40, 96, 96, 96, 256]
  """
  sizes = []
  for batch in sorted(batches, reverse=True):
    least = -(-batch // parts) * parts
    if not sizes or least < 0.75 * sizes[-1]:
      sizes.append(least)
  return [min(size for size in sizes if size >= batch) for batch in batches]


def global_batch(
  host_batch: dict[str, np.ndarray], rows: np.ndarray, mesh: Mesh, batch: int
) -> dict[str, jax.Array]:
  """This host's `rows` -> global arrays of `batch` rows, over the mesh.

  The host's arrays are [len(rows), ...], and `rows` is from `batch_rows`.
  """
  layout = NamedSharding(mesh, BATCH)

  def place(values):
    def part(index):
      places = np.arange(batch)[index[0]]
      return values[(np.searchsorted(rows, places), *index[1:])]

    shape = (batch, *values.shape[1:])
    return jax.make_array_from_callback(shape, layout, part)

  return {name: place(values) for name, values in host_batch.items()}
