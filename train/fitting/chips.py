"""What the chips can do, and the shapes in which they are rented."""

import dataclasses
import math
import re

from ml_collections import ConfigDict

from train.reporting.flops import PEAKS


@dataclasses.dataclass(frozen=True)
class Chip:
  """One device.

  Attributes:
    name: as the cloud or the vendor has it.
    kind: the start of JAX's `device_kind`.
    flops: bfloat16 FLOP/s.
    memory: bytes of the large memory that a program may use.
    bandwidth: of that memory, bytes/s.
    link: bytes/s that one link of the fast network carries one way.
    links: how many links; of a GPU 1, which reaches all of its node.
    slow: bytes/s of the network between slices or nodes, a device's share,
      one way.
    clock: cycles/s by which the compiler's estimates count; 0: it has none.
    cores: as the cloud counts a slice, in tensor cores a chip.
    wraps: a dimension of a slice is a ring if its size is a multiple of it.
    node: GPUs on the fast network; 0: of a TPU the whole slice.
  """

  name: str
  kind: str
  flops: float
  memory: float
  bandwidth: float
  link: float
  links: int
  slow: float
  clock: float = 0.0
  cores: int = 1
  wraps: int = 0
  node: int = 0


# FLOP/s are reporting/flops.py's PEAKS.
#
# TPU. Bandwidth, links and network: the specifications of
# cloud.google.com/tpu/docs/v4, v5e, v5p and v6e: 1,200, 819, 2,765 and 1,640
# GB/s; 1,600 Gb/s over 4 links (v5e), 4,800 over 6 (v5p), 3,200 over 4 (v6e); a
# v5e's host has 2 x 100 Gb/s for 8 chips, a v6e's 4 x 200. A v4's link (50
# GB/s, 6 links) and the slow network of v4 and v5p (6.25 GB/s a chip) are from
# jax-ml.github.io/scaling-book, as remembered. Rings: v4 and v5p where a
# dimension is a multiple of 4, v5e and v6e at 16 (the same book). Memory is
# what the compiler lets a program use, by its own message. Cycles: PEAKS over
# the matrix units' operations in a cycle, 2 x 128 x 128 each, of which a v5e
# has 4 and a v4 and a v5p 8. A v6e's are 256 x 256; its page has said 2 and 4
# of them, and 4 is what the compiler's cycles allow: by them a product of 8,192
# x 8,192 reaches 70% of the peak, and 88 to 93% on the other chips.
#
# GPU, as remembered: NVIDIA's data sheets of A100 80GB SXM, H100 SXM and H200
# SXM: memory, bandwidth, NVLink 600 and 900 GB/s both ways together. H100 PCIe
# and NVL talk to their node by PCIe 5, 64 GB/s each way (bridges join pairs, or
# fours, alone); the first entry that `device_kind` starts with counts. The slow
# network is a 400 Gb/s port a GPU (200 of an A100), as in NVIDIA's DGX. Of the
# memory JAX preallocates three quarters by default; here 0.9, which
# XLA_PYTHON_CLIENT_MEM_FRACTION=.9 gives.
_GIB = 2**30
CHIPS = (
  Chip('v4', 'TPU v4', PEAKS['TPU v4'], 30.75 * _GIB, 1200e9, 50e9, 6, 6.25e9,
       clock=1.049e9, cores=2, wraps=4),
  Chip('v5e', 'TPU v5 lite', PEAKS['TPU v5 lite'], 15.75 * _GIB, 819e9, 50e9,
       4, 3.125e9, clock=1.503e9, wraps=16),
  Chip('v5p', 'TPU v5', PEAKS['TPU v5'], 95.74 * _GIB, 2765e9, 100e9, 6,
       6.25e9, clock=1.751e9, cores=2, wraps=4),
  Chip('v6e', 'TPU v6', PEAKS['TPU v6'], 31.25 * _GIB, 1640e9, 100e9, 4,
       12.5e9, clock=1.751e9, wraps=16),
  Chip('a100', 'NVIDIA A100', PEAKS['NVIDIA A100'], 0.9 * 80e9, 2039e9, 300e9,
       1, 25e9, node=8),
  Chip('h100-pcie', 'NVIDIA H100 PCIe', PEAKS['NVIDIA H100 PCIe'], 0.9 * 80e9,
       2000e9, 64e9, 1, 25e9, node=8),
  Chip('h100-nvl', 'NVIDIA H100 NVL', PEAKS['NVIDIA H100 NVL'], 0.9 * 94e9,
       3900e9, 64e9, 1, 25e9, node=8),
  Chip('h100', 'NVIDIA H100', PEAKS['NVIDIA H100'], 0.9 * 80e9, 3350e9, 450e9,
       1, 50e9, node=8),
  Chip('h200', 'NVIDIA H200', PEAKS['NVIDIA H200'], 0.9 * 141e9, 4800e9, 450e9,
       1, 50e9, node=8),
)  # fmt: skip


def chip_of(kind: str) -> Chip | None:
  """The chip of a `device_kind`; None if it is not known, as of a CPU."""
  return next((x for x in CHIPS if kind.startswith(x.kind)), None)


def chip_named(name: str) -> Chip | None:
  """The chip of a name such as 'v5e'."""
  return next((x for x in CHIPS if x.name == name), None)


# The shapes that the cloud documents for each number of chips (the same pages).
# A v4 or v5p may have any AxBxC in multiples of 4; these are the usual ones.
_FLAT = {
  1: '1x1', 4: '2x2', 8: '2x4', 16: '4x4', 32: '4x8', 64: '8x8', 128: '8x16',
  256: '16x16',
}  # fmt: skip
_CUBES = {
  4: '2x2x1', 8: '2x2x2', 16: '2x2x4', 32: '2x4x4', 64: '4x4x4', 128: '4x4x8',
  256: '4x8x8', 512: '8x8x8', 1024: '8x8x16', 2048: '8x16x16',
}  # fmt: skip
SHAPES = {
  'v4': _CUBES,
  'v5e': _FLAT,
  'v5p': _CUBES | {4096: '16x16x16', 6144: '16x16x24'},
  'v6e': _FLAT,
}
HERE = 'here'  # --topology: the devices of this machine
# Chips of the largest network, from the same pages.
_LARGEST = {'v4': 4096, 'v5e': 256, 'v5p': 8960, 'v6e': 256}
_CLOUD = re.compile(r'(v4|v5p|v5e|v5litepod|v6e)-(\d+)')
_SHAPE = re.compile(r'(v4|v5p|v5e|v6e):(\d+(?:x\d+)*)')
_GPUS = re.compile(r'(a100|h100(?:-pcie|-nvl)?|h200):(?:(\d+)x)?(\d+)')


def resolve(name: str, key: str = '--topology') -> tuple[Chip, str, int]:
  """A slice's name -> its chip, its shape such as '4x4', how many chips.

  'v5e:4x4' names a shape; 'v4-256' is the cloud's accelerator type, which
  counts the tensor cores of v4 and v5p and the chips of v5e and v6e. 'h100:8'
  and 'h100:4x8' are GPUs, of 1 and 4 nodes. Raises ValueError for another name;
  `key` is what gave it.
  """
  if found := _CLOUD.fullmatch(name):
    chip = chip_named(found[1].replace('litepod', 'e'))
    count, odd = divmod(int(found[2]), chip.cores)
    if odd or count not in SHAPES[chip.name]:
      raise ValueError(
        f'{key}={name} does not exist: there are {listed(chip.name)}.'
      )
    return chip, SHAPES[chip.name][count], count
  if found := _SHAPE.fullmatch(name):
    chip, shape = chip_named(found[1]), found[2]
    sizes = [int(n) for n in shape.split('x')]
    dimensions = 2 if chip.name in ('v5e', 'v6e') else 3
    if len(sizes) != dimensions:
      raise ValueError(
        f'{key}={name} does not exist: {chip.name} has {dimensions} '
        f'dimensions. There are {listed(chip.name)}.'
      )
    count = math.prod(sizes)
    most = _LARGEST[chip.name]
    if not 0 < count <= most:
      raise ValueError(
        f'{key}={name} does not exist: there are {listed(chip.name)}'
        + (f'; no slice has more than {most:,} chips.' if count else '.')
      )
    return chip, shape, count
  if found := _GPUS.fullmatch(name):
    count = int(found[2] or 1) * int(found[3])
    if not count:
      raise ValueError(f'{key}={name} has no GPUs: give 1 or more.')
    return chip_named(found[1]), found[3], count
  raise ValueError(
    f'{key}={name} names no slice. Give a chip and a shape, such as '
    'v5p:4x4x4, or the type of the cloud, such as v5p-128. Chips: '
    f'{", ".join(x.name for x in CHIPS)}; GPUs as h100:8 or, of 4 nodes, '
    'h100:4x8.'
  )


def slice_of(
  config: ConfigDict, name: str = '', slices: int = 0
) -> tuple[str, int]:
  """Which slice is meant, '' for the devices here, and how many.

  Args:
    config: with its own slice, `sharding.topology`. Where that is not meant,
      neither is its number: `sharding.slices` is set to the number that is.
    name: what the user asked for; '': the config's slice if there is one, else
      the devices here; 'here': these anyway.
    slices: how many the user asked for; 0: as many as the config has of its
      slice, 1 of another.

  Raises ValueError if a name is of no slice.
  """
  own = config.sharding
  if own.topology:
    meant = resolve(own.topology, 'sharding.topology')
    name = name or own.topology
    if name != HERE and resolve(name) == meant:  # perhaps by its other name
      slices = slices or own.slices
    own.slices = slices if slices > 1 else 0
  return '' if name == HERE else name, slices or 1


def listed(chip: str) -> str:
  """The usual slices of a chip, by both names."""
  cores = chip_named(chip).cores
  kind = 'v5litepod' if chip == 'v5e' else chip
  return ', '.join(
    f'{chip}:{shape} ({kind}-{n * cores})' for n, shape in SHAPES[chip].items()
  )
