"""Meshes as words: --mesh=fsdp=8,tensor=4."""

import math
from collections.abc import Iterator

from ml_collections import ConfigDict

from configs.differences import differences
from train.parallel import sharding
from train.parallel.checks import CONTEXTS

AXES = sharding.AXES


def parse(text: str, devices: int, where: str) -> dict[str, int]:
  """'fsdp=8,tensor=4' -> sizes of all axes; those not named are 1.

  One may be -1: the rest of the devices. Raises ValueError, with meshes that
  would do, if it names no axis or does not multiply to the number of devices.

  Args:
    text: the mesh.
    devices: how many there are.
    where: they are, for messages: 'v5e:16x16'.
  """
  sizes = dict.fromkeys(AXES, 1)
  for part in filter(None, text.replace(' ', '').split(',')):
    axis, equals, size = part.partition('=')
    if axis not in AXES or not equals:
      raise ValueError(
        f'--mesh={text}: {part!r} is not AXIS=SIZE; the axes are '
        f'{", ".join(AXES)}, as in --mesh=fsdp=8,tensor=4.'
      )
    if not size.removeprefix('-').isdigit() or int(size) < -1 or size == '0':
      raise ValueError(
        f'--mesh={text}: {part!r}: a size is a number from 1, or -1 for the '
        'rest of the devices.'
      )
    sizes[axis] = int(size)
  rest = [axis for axis in AXES if sizes[axis] == -1]
  known = math.prod(n for n in sizes.values() if n > 0)
  if len(rest) > 1:
    raise ValueError(f'--mesh={text}: only one size may be -1.')
  if rest and not devices % known:
    sizes[rest[0]] = devices // known
  elif rest or known != devices:
    near = ' or '.join(f'--mesh={x}' for x in _near(sizes, devices))
    raise ValueError(
      f'--mesh={text} takes {"a multiple of " if rest else ""}{known} '
      f'devices; {where} has {devices}. {near} would do.'
    )
  return sizes


def _near(sizes, devices) -> Iterator[str]:
  """Meshes of so many devices that are like a wrong one: two, or one."""
  named = {axis: n for axis, n in sizes.items() if n not in (1, -1)}
  fixed = {axis: n for axis, n in named.items() if axis not in ('data', 'fsdp')}
  product = math.prod(fixed.values())
  if devices % product:
    for axis in fixed:  # its size alone may be wrong
      others = math.prod(named.values()) // named[axis]
      if devices % others == 0:
        yield words(named | {axis: devices // others})
        return
    product, fixed = 1, {}
  yield words({'fsdp': devices // product} | fixed)
  if devices // product > 1:
    whole = named.get('fsdp', 0)
    if 1 < whole < devices // product and devices // product % whole == 0:
      yield words({'data': devices // product // whole, 'fsdp': whole} | fixed)
    else:
      yield words({'data': devices // product} | fixed)


def words(sizes: dict[str, int]) -> str:
  """Sizes -> 'fsdp=8,tensor=4', without axes of size 1.

  >>> words({'data': 1, 'fsdp': 8, 'tensor': 4})
  'fsdp=8,tensor=4'
  """
  kept = [f'{axis}={sizes[axis]}' for axis in AXES if sizes.get(axis, 1) != 1]
  return ','.join(kept) or 'data=1'


def apply(config: ConfigDict, sizes: dict[str, int]) -> None:
  """Sets sharding.mesh, and sharding.rules to cut along the axes above 1.

  Rules that read the mesh themselves ('auto') stay.
  """
  for axis in AXES:
    config.sharding.mesh[axis] = sizes.get(axis, 1)
  if config.sharding.rules != 'auto':
    config.sharding.rules = rules(sizes, config.sharding.rules)


def rules(sizes: dict[str, int], present: str) -> str:
  """The preset that cuts along the axes above 1.

  What the present one says of the optimizer's state (zero1) is kept where no
  axis of its own cuts the weights.
  """
  cut = [x for x in ('sequence', 'tensor', 'stage') if sizes.get(x, 1) > 1]
  first = 'fsdp' if sizes.get('fsdp', 1) > 1 else ''
  if not first and 'zero1' in present.split('_'):
    first = 'zero1'
  return '_'.join(filter(None, [first, *cut])) or 'replicated'


def changed(config: ConfigDict, sizes: dict[str, int]) -> ConfigDict:
  """A copy with another mesh, and without what is of axes that it lacks."""
  found = config.copy_and_resolve_references()
  apply(found, sizes)
  own = found.sharding
  if sizes.get('stage', 1) == 1:
    own.microbatches, own.repeats = 0, 1
  if sizes.get('sequence', 1) == 1:
    own.context = CONTEXTS[0]
  return found


def flags(before: ConfigDict, after: ConfigDict) -> str:
  """What differs, as flags of `python -m train`."""
  found = differences(before.to_dict(), after.to_dict())
  return ' '.join(f'--config.{key}={value}' for key, _, value in found)


def usual(devices: int, heads: int, slices: int = 1) -> list[dict[str, int]]:
  """Meshes worth a try: fsdp with tensor and sequence up to 8 and 4, and data.

  `data` is the number of slices, which the slow network joins, or all devices.
  An axis that no preset of this version cuts along is left out.
  """
  found = []
  for tensor in (1, 2, 4, 8):
    for sequence in (1, 2, 4):
      inner = slices * tensor * sequence
      if devices % inner or (heads and heads % tensor) or inner >= devices:
        continue
      sizes = {'data': slices, 'fsdp': devices // inner}
      sizes |= {'sequence': sequence, 'tensor': tensor}
      if _has_preset(sizes):
        found.append(sizes)
  return [*found, {'data': devices}]


def _has_preset(sizes):
  try:
    sharding.make_rules(rules(sizes, ''))
  except ValueError:
    return False
  return True
