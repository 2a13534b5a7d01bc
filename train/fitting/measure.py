"""All that is known of a step before it runs, as one dictionary."""

import math
import re
import tempfile
import time
from typing import Any

import jax

from train.fitting import buffers, collectives, hlo, memory, roofline, timeline
from train.fitting.chips import Chip
from train.learning.state import count_params
from train.learning.step import DoesNotFitError
from train.parallel.sharding import AXES
from train.reporting.flops import step_flops
from train.setup import Setup

LARGEST = 20  # buffers that are named


class NeedsMoreError(DoesNotFitError):
  """A step does not fit; `found` has what is known of it all the same."""

  def __init__(self, message: str, found: dict[str, Any]):
    super().__init__(message)
    self.found = found


def measure(
  setup: Setup, batch: dict[str, jax.ShapeDtypeStruct], chip: Chip | None
) -> dict[str, Any]:
  """Compiles the step and reads what it takes.

  Returns the keys of `described`, `_memory` and `_time`; bytes, seconds and
  FLOPs are a device's but for 'flops' and 'executed_flops', which are a step's.
  Without a chip, or where no number is known, there are no times.

  Raises:
    NeedsMoreError: the compiler says that the step needs more memory, or it
      needs more than the chip has.
  """
  found = described(setup, batch, chip)
  clock = time.perf_counter()
  compiled, reason = None, None
  with tempfile.TemporaryDirectory(prefix='treeline_fit_') as folder:
    options = {'xla_dump_to': folder, 'xla_dump_hlo_as_text': True}
    try:
      compiled = setup.compile_step(batch, options)
    except DoesNotFitError as error:
      reason = error
    found['compile_seconds'] = round(time.perf_counter() - clock, 1)
    written = buffers.read(folder)
  found |= _memory(written, compiled, reason, setup, found['state'], chip)
  if compiled:
    found |= _time(compiled.as_text(), setup, chip, found)
  if not found['fits']:
    said = reason or 'The step needs more memory than the chip has.'
    raise NeedsMoreError(str(said), found) from reason
  return found


def described(
  setup: Setup, batch: dict[str, jax.ShapeDtypeStruct], chip: Chip | None
) -> dict[str, Any]:
  """What the config alone says of a step."""
  c = setup.model.config
  devices = setup.mesh.size
  sizes = {axis: setup.mesh.shape[axis] for axis in AXES}
  return {
    'chip': chip.name if chip else setup.mesh.devices.flat[0].device_kind,
    'devices': devices,
    'mesh': {axis: n for axis, n in sizes.items() if n > 1},
    'rules': setup.config.sharding.rules,
    'attention': c.attention,
    'remat': c.remat,
    'accumulate': setup.config.train.accumulate,
    'batch': setup.data.batch,
    'length': setup.data.length,
    'parameters': count_params(setup.state.params),
    'trained': count_params(setup.tuning.trained(setup.state.params)),
    'kept': kept(setup),
    'flops': step_flops(c, batch),
    'state': arguments(setup, batch),
  }


def kept(setup: Setup) -> dict[str, dict[str, int]]:
  """Bytes a device of parameters, 'trained' and 'frozen', by their type."""
  found = {}
  parts = setup.tuning.split(setup.state.params)
  for name, tree in zip(('trained', 'frozen'), parts, strict=True):
    sizes = found[name] = {}
    for x in jax.tree.leaves(tree):
      own = sizes.get(str(x.dtype), 0)
      sizes[str(x.dtype)] = own + shard_bytes(x)
  return found


def arguments(
  setup: Setup, batch: dict[str, jax.ShapeDtypeStruct]
) -> dict[str, int]:
  """Bytes a device of the step's arguments, by category, without padding."""
  state = setup.state
  trees = {
    'parameters': state.params,
    'optimizer': state.opt_state,
    'average': getattr(state, 'average', ()),
    'batch': batch,
    'other': (state.step, state.cursor),
  }
  return {
    name: sum(map(shard_bytes, jax.tree.leaves(tree)))
    for name, tree in trees.items()
  }


def shard_bytes(x: jax.ShapeDtypeStruct) -> int:
  """Bytes of an array's part on one device."""
  return math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize


def _memory(written, compiled, reason, setup, own, chip):
  """'fits', 'peak', 'limit', 'margin', 'memory', 'largest' and more.

  'memory_from' says where the parts are from: 'buffer assignment', or 'totals'
  where the compiler wrote none; then only arguments and the rest are known.
  """
  found = {'fits': not reason, 'limit': int(chip.memory) if chip else 0}
  if compiled:
    totals = compiled.memory_analysis()
    found['arguments'] = totals.argument_size_in_bytes
    found['temporary'] = totals.temp_size_in_bytes
    found['peak'] = peak(totals, setup.mesh.devices.flat[0].platform)
  else:
    found['arguments'] = sum(own.values())
    # Such as: 338.22G of 95.74G; (16.69G) exceeds available HBM (15.75G)
    said = re.findall(r'([\d.]+)([KMGT])\b', str(reason))
    sizes = [
      int(float(x) * 2 ** (10 * ('KMGT'.index(unit) + 1))) for x, unit in said
    ]
    found['peak'] = sizes[0] if sizes else 0
    found['limit'] = sizes[1] if len(sizes) > 1 else found['limit']
    found['temporary'] = max(found['peak'] - found['arguments'], 0)
  if written:
    assignment, text = written
    held = memory.split(assignment, text)
    found['peak'] = assignment.total
    found['memory'] = memory.sizes(assignment, held)
    found['memory_from'] = 'buffer assignment'
    found['largest'] = [vars(x) for x in held[:LARGEST]]
  else:
    rest = max(found['peak'] - sum(own.values()), 0)
    found['memory'] = dict.fromkeys(memory.CATEGORIES, 0) | own
    found['memory']['temporaries'] = rest
    found['memory_from'], found['largest'] = 'totals', []
  if found['limit']:
    found['margin'] = found['limit'] - found['peak']
    found['fits'] = found['fits'] and found['margin'] >= 0
  return found


def peak(totals: Any, platform: str) -> int:
  """The most bytes in use at once on a device, by the compiler's analysis."""
  if platform == 'tpu':  # its temporary sum counts all its memories
    return totals.peak_memory_in_bytes
  # The state is donated: the new one replaces the old one in place.
  made = totals.output_size_in_bytes - totals.alias_size_in_bytes
  return totals.argument_size_in_bytes + made + totals.temp_size_in_bytes


def _time(text, setup, chip, found):
  """FLOPs, collectives, and with a chip the seconds of the parts."""
  program = hlo.parse(text)
  network = collectives.Network(setup.mesh, chip)
  line = timeline.simulate(program, network, chip)
  devices = setup.mesh.size
  executed = sum(x.times * x.flops for x in line.operations) * devices
  new = {
    'executed_flops': executed,
    'executed_over_model': executed / found['flops'],
    'unknown_loops': line.unknown,
    'collectives': exchanged(line),
  }
  if not chip:
    return new
  parts = roofline.groups(line.operations, chip)
  compute = sum(x.seconds for x in parts)
  step = compute + line.exposed
  return new | {
    'groups': [vars(x) | {'bound': x.bound} for x in parts],
    'estimated_by_compiler': roofline.estimated(line.operations, chip),
    'compute_seconds': compute,
    'exposed_seconds': line.exposed,
    'step_seconds': step,
    'mfu': found['flops'] / devices / chip.flops / step,
    'tokens_per_second': setup.data.batch * setup.data.length / step,
  }


def exchanged(line: timeline.Timeline) -> list[dict[str, Any]]:
  """Collectives by kind, axes, network and whether they hide; sums."""
  rows = {}
  for x in line.exchanges.values():
    one = x.collective
    key = one.kind, one.axes, one.slow, x.overlapped
    row = rows.setdefault(
      key,
      {
        'kind': one.kind,
        'axes': one.axes,
        'devices': one.devices,
        'network': 'slow' if one.slow else 'fast',
        'overlapped': x.overlapped,
        'count': 0,
        'bytes': 0,
        'sent': 0.0,
        'seconds': 0.0,
        'exposed': 0.0,
        'largest': ('', 0),
      },
    )
    row['count'] += x.times
    row['bytes'] += x.times * one.payload
    row['sent'] += x.times * one.sent
    row['seconds'] += x.times * one.seconds
    row['exposed'] += x.exposed
    share = x.times * one.payload
    if share > row['largest'][1]:
      name = memory.named(one.path) or 'without a name'
      row['largest'] = f'{name} {one.source}'.strip(), share
  for row in rows.values():
    row['largest'] = row['largest'][0]
  return sorted(rows.values(), key=lambda x: -x['bytes'])


def bounds(
  setup: Setup, batch: dict[str, jax.ShapeDtypeStruct], chip: Chip
) -> dict[str, Any]:
  """The state and the least time of a step, for a chip without its compiler.

  As `measure`, with 'memory_from' = 'shapes': of the memory the
  arguments and the gradients are known, and nothing of what is computed. 'fits'
  is False where these alone are too much, else None: not known.
  'least_seconds' is the time of the model's products at the chip's peak, or of
  the state's traffic, whichever is longer.
  """
  found = described(setup, batch, chip)
  trained = setup.tuning.trained(setup.state.params)
  gradients = sum(map(shard_bytes, jax.tree.leaves(trained)))
  own = found['state'] | {'gradients': gradients}
  known = sum(own.values())
  products = found['flops'] / setup.mesh.size / chip.flops
  # The update reads the state and the gradients, and writes the state.
  moved = 2 * (own['parameters'] + own['optimizer']) + own['gradients']
  least = max(products, moved / chip.bandwidth)
  limit = int(chip.memory)
  c = setup.config.model  # what computes attention there is not known here
  return found | {
    'attention': c.attention,
    'remat': c.remat,
    'fits': None if known <= limit else False,
    'limit': limit,
    'margin': limit - known,
    'peak': known,
    'memory': dict.fromkeys(memory.CATEGORIES, 0) | own,
    'memory_from': 'shapes',
    'largest': [],
    'least_seconds': least,
    'mfu_at_most': products / least,
  }
