"""What a mesh must divide, reported before anything is built."""

import math
from typing import Any

from input_pipeline.config import DataConfig
from input_pipeline.objectives.rows import batch_shapes
from models.config import TransformerConfig
from models.families.electra import generator_config
from train.parallel.mesh import mesh_shape
from train.parallel.sharding import AXES
from train.parallel.stages import check_stages

CONTEXTS = 'gather', 'ring'  # sharding.context


def check_mesh(config: Any, data: DataConfig, devices: int) -> None:
  """Checks that `sharding.mesh` can cut rows, heads and the rest.

  Raises ValueError for what it cannot, with the sizes that could.
  """
  sizes = axis_sizes(config, devices)
  _check_heads(config, sizes)
  _check_rows(config, data, sizes)
  _check_batch(config, devices)
  check_stages(config, sizes)


def axis_sizes(config: Any, devices: int) -> dict[str, int]:
  """The size of each axis of the mesh of so many devices."""
  return dict(zip(AXES, mesh_shape(config.sharding.mesh, devices), strict=True))


def could(key: str, sizes: dict[str, int], n: int, *others: int) -> str:
  """Advice: the sizes of an axis that divide n and the number of devices.

  They divide `others` too, or are multiples. `sizes` are those of all axes.
  """
  devices = math.prod(sizes.values())
  fits = [k for k in range(1, n + 1) if n % k == 0 == devices % k]
  fits = [k for k in fits if all(x % k == 0 or k % x == 0 for x in others)]
  return f'{key} could be {", ".join(map(str, fits))}'


def _check_heads(config, sizes):
  """Whole heads, and of keys and values whole ones or copies."""
  tensor = sizes['tensor']
  if tensor == 1 or config.model.family == 'rwkv':
    return
  model = TransformerConfig(**config.model)
  parts = {'model': model}
  if model.family == 'electra' and model.generator != 'unigram':
    parts["ELECTRA's generator"] = generator_config(model)
  for name, part in parts.items():
    N, K = part.heads, part.kv_heads
    if N % tensor or (K % tensor and tensor % K):
      kept = f' with {K} of keys and values' if K != N else ''
      raise ValueError(
        f'sharding.mesh.tensor is {tensor}, but the {name} has {N} heads{kept}:'
        f' a head cannot be cut. {could("sharding.mesh.tensor", sizes, N, K)}.'
      )


def _check_rows(config, data, sizes):
  """Devices that share rows must be able to, and have equal parts of them."""
  sequence = sizes['sequence']
  context, c = config.sharding.context, config.model
  if context not in CONTEXTS:
    raise ValueError(
      f'sharding.context is {context!r}; it must be {" or ".join(CONTEXTS)}.'
    )
  if sequence == 1:
    if context != CONTEXTS[0]:
      raise ValueError(
        f'sharding.context is {context!r}, but sharding.mesh.sequence is 1: no '
        f'row is cut. Leave it at {CONTEXTS[0]!r}.'
      )
    return
  whole = ''
  if c.family == 'rwkv':
    whole = "model.family='rwkv' reads a row token by token"
  elif c.position == 'transformer_xl':
    whole = "model.position='transformer_xl' has a bias for each query and key"
  elif c.features:
    whole = f'model.features={c.features!r} has an LSTM, which reads whole rows'
  if whole:
    raise ValueError(
      f'sharding.mesh.sequence is {sequence}, but {whole}: rows cannot be cut. '
      'Set it to 1 and give the devices to sharding.mesh.fsdp, data or tensor.'
    )
  found = {}  # length -> the key that decides it, and the array
  for rows in data.kinds:
    key = 'data.length' if rows.length == data.length else 'train.phases'
    shapes = batch_shapes(rows, c.family)
    for name in ('encoder_inputs', 'inputs'):
      if name in shapes:
        found.setdefault(shapes[name][0][-1], (key, name))
  for length, (key, name) in found.items():
    if length % sequence:
      below = length // sequence * sequence
      longer = f'{below} or {below + sequence}' if below else sequence
      raise ValueError(
        f'{key} has rows of {length} tokens ({name}), which '
        f'sharding.mesh.sequence={sequence} cannot cut into equal parts: '
        f'{longer} tokens would do (targets: data.target_length). '
        f'{could("sharding.mesh.sequence", sizes, math.gcd(*found))}.'
      )


def _check_batch(config, devices):
  """Each device must get equally many rows of each accumulated part.

  A batch of an earlier phase gets rows of padding; a device may have no other.
  """
  batch = config.data.batch
  parts = least_rows(config, devices)
  accumulate = config.train.accumulate
  if batch % parts:
    raise ValueError(
      f'data.batch is {batch}; it must be a multiple of the mesh axes data x '
      f'fsdp times train.accumulate = {parts // accumulate} x {accumulate}. '
      + _fewer_rows(batch, parts // accumulate, accumulate)
    )


def _fewer_rows(batch, devices, accumulate):
  """Advice for devices that cannot share the rows of a batch."""
  if batch % devices == 0:
    counts = [k for k in range(1, batch // devices + 1) if batch % k == 0]
    counts = [k for k in counts if batch // k % devices == 0]
    return f'train.accumulate could be {", ".join(map(str, counts))}.'
  most = max(
    (
      k
      for k in range(1, devices)
      if devices % k == 0 and batch % (k * accumulate) == 0
    ),
    default=0,
  )
  if not most:
    return f'Batches of {devices * accumulate} rows would do.'
  left = devices // most
  return (
    f'data x fsdp = {most} would do, with a factor of {left} on '
    'sharding.mesh.tensor, stage or sequence.'
  )


def least_rows(config: Any, devices: int) -> int:
  """The number of rows whose multiples a mesh can share out.

  It is the mesh axes data x fsdp times train.accumulate.
  """
  sizes = axis_sizes(config, devices)
  return sizes['data'] * sizes['fsdp'] * config.train.accumulate
