"""Which dimension is cut along which axis of the mesh; rows of a batch."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from models.sharding import layout, parts_of

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
  # The same, stage 1: the optimizer's state alone.
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


def make_rules(
  preset: str,
  sizes: Mapping[str, int] | None = None,
  kv_heads: int = 0,
  optimizer: bool = False,
) -> Rules:
  """The rules of a preset, in Flax's form.

  Args:
    preset: `sharding.rules`.
    sizes: of the mesh's axes; 'auto' needs them.
    kv_heads: K; where `tensor` has more devices, each has the weights of all
      keys and values, and computes those of its queries (`attention.py`).
    optimizer: the rules of the optimizer's state, which 'zero1' cuts further.

  Raises ValueError for an unknown or repeated word.
  """
  sizes = sizes or {}
  words = words_of(preset, sizes)
  cuts = {name: [] for name in _NAMES}
  for word in WORDS:
    if word in words:
      for name, axis in WORDS[word].items():
        cuts[name].append(axis)
  if 'fsdp' in words and 'sequence' in words:
    cuts['embed'].append('sequence')  # whose devices have the same weights
  if 'zero1' in words and optimizer:
    cuts['embed'].append('data')
  if kv_heads and kv_heads < sizes.get('tensor', 1):
    cuts['kv_heads'].clear()
  rules = {
    name: tuple(axes) if len(axes) > 1 else axes[0] if axes else None
    for name, axes in cuts.items()
  }
  # Outside of its pipeline the rows are the stages' too.
  batch = (*BATCH[0], *(('stage',) if 'stage' in words else ()))
  return tuple((rules | {'act_batch': batch}).items())


def shardings(mesh: Mesh, rules: Rules, axes: Any, shapes: Any) -> Any:
  """How each weight is laid out: a tree of NamedSharding like `shapes`.

  `axes` is a tree of tuples, with a logical name per dimension. A vocabulary
  may have any size: `models.sharding.layout`.

  Raises ValueError for a name without a rule, more or fewer names than
  dimensions, or another dimension that its mesh axis does not divide.
  """
  table = dict(rules)

  def place(path, leaf, names):
    where = jax.tree_util.keystr(path, simple=True, separator='/')
    if len(names) != leaf.ndim:
      raise ValueError(f'{where}: axis names {names} for shape {leaf.shape}.')
    if unknown := [name for name in names if name not in table]:
      raise ValueError(
        f'{where}: the axis name {unknown[0]!r} is in no rule of '
        'train/parallel/sharding.py.'
      )
    spec = []
    cuts = layout(mesh, table, leaf.shape, names)
    for name, size, axes in zip(names, leaf.shape, cuts, strict=True):
      parts = parts_of(mesh, axes)
      if size % parts:
        raise ValueError(
          f'{where} has shape {leaf.shape}: dimension {name!r} of {size} '
          f'cannot be cut into {parts} along the mesh axis '
          f'{" x ".join(axes)}, only into {_divisors(size, mesh.size)}. '
          'Change sharding.mesh or sharding.rules.'
        )
      spec.append(axes if len(axes) > 1 else axes[0] if axes else None)
    return NamedSharding(mesh, PartitionSpec(*spec))

  return jax.tree_util.tree_map_with_path(place, shapes, axes)


def _divisors(size, most):
  return ', '.join(str(n) for n in range(1, most + 1) if size % n == 0)


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


def ring(rules: Rules) -> Rules:
  """Rules that cut the length of what attention reads as its queries are.

  Its keys and values are then passed around, where else each device gathers
  them: `models/kernels/sharded.py`.
  """
  return tuple((dict(rules) | {'act_keys': dict(rules)['act_length']}).items())


def whole_lengths(rules: Rules) -> Rules:
  """Rules that cut no length: a step of decoding reads a token of each row."""
  none = dict.fromkeys(('act_length', 'act_residual', 'act_keys'))
  return tuple((dict(rules) | none).items())
