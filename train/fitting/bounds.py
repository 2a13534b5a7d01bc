"""What can be said of a step without compiling it: bounds, from shapes alone."""

from typing import Any

import jax

from train.fitting import measure, memory
from train.fitting.chips import Chip
from train.setup import Setup


def bounds(
  setup: Setup, batch: dict[str, jax.ShapeDtypeStruct], chip: Chip
) -> dict[str, Any]:
  """The state and the least time of a step, for a chip without its compiler.

  As `measure.measure`, with 'memory_from' = 'shapes': of the memory the
  arguments and the gradients are known, and nothing of what is computed. 'fits'
  is False where these alone are too much, else None: not known.
  'least_seconds' is the time of the model's products at the chip's peak, or of
  the state's traffic, whichever is longer.
  """
  found = measure.described(setup, batch, chip)
  own = measure.arguments(setup, batch)
  trained = setup.tuning.trained(setup.state.params)
  own['gradients'] = sum(map(measure.shard_bytes, jax.tree.leaves(trained)))
  known = sum(own.values())
  products = found['flops'] / setup.mesh.size / chip.flops
  # The update reads the state and the gradients, and writes the state.
  moved = 2 * (own['parameters'] + own['optimizer']) + own['gradients']
  least = max(products, moved / chip.bandwidth)
  limit = int(chip.memory)
  return found | {
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
