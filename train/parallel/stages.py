"""What a pipeline asks of a config: see models/pipelining.py."""

import math
from typing import Any

from models.config import TransformerConfig


def check_stages(config: Any, sizes: dict[str, int]) -> None:
  """Checks the mesh axis `stage`, and the keys that it alone reads.

  `sizes` are those of the mesh's axes.

  Raises ValueError for layers or rows that cannot be cut into so many parts.
  """
  stages, repeats = sizes['stage'], config.sharding.repeats
  wanted = config.sharding.microbatches
  if stages == 1:
    for key, value, off in (
      ('microbatches', wanted, 0),
      ('repeats', repeats, 1),
    ):
      if value != off:
        raise ValueError(
          f'sharding.{key} is {value}, but sharding.mesh.stage is 1: there is '
          f'no pipeline. Set it to {off}, or sharding.mesh.stage above 1.'
        )
    return
  if not config.model.scan:
    raise ValueError(
      f'sharding.mesh.stage is {stages}, but model.scan=False: stages share '
      'out stacked layers. Set model.scan to True.'
    )
  if config.model.features:
    raise ValueError(
      f'sharding.mesh.stage is {stages}, but model.features='
      f'{config.model.features!r} reads layers of all stages: set '
      'sharding.mesh.stage to 1.'
    )
  for key, layers in _stacks(config.model):
    if layers % (stages * repeats):
      devices = math.prod(sizes.values())
      fit = [n for n in range(1, layers + 1) if layers % (n * repeats) == 0]
      fit = [n for n in fit if devices % n == 0]
      groups = ''
      if repeats > 1:
        groups = f' with {repeats} groups each (sharding.repeats)'
      advice = f'sharding.repeats must divide {layers}.'
      if fit:
        advice = f'sharding.mesh.stage could be {", ".join(map(str, fit))}.'
      raise ValueError(
        f'{key} is {layers}: {stages} stages (sharding.mesh.stage){groups} '
        f'cannot have equally many. {advice}'
      )
  _check_microbatches(config, sizes, wanted or stages)


def _stacks(model):
  """The key and the number of layers of each stack."""
  found = [
    (f'model.{key}', model[key])
    for key in ('encoder_layers', 'decoder_layers')
    if model[key]
  ]
  if model.family == 'electra' and model.generator != 'unigram':
    own = TransformerConfig(**model).generator_sizes['encoder_layers']
    found.append(('model.generator_layers', own))
  return found


def _check_microbatches(config, sizes, count):
  """Each stage must get equally many rows of each microbatch."""
  stages, repeats = sizes['stage'], config.sharding.repeats
  parts = sizes['data'] * sizes['fsdp'] * config.train.accumulate
  rows = config.data.batch // parts  # `checks` has seen that they divide it
  if rows % count:
    fit = [n for n in range(1, rows + 1) if rows % n == 0]
    raise ValueError(
      f'data.batch={config.data.batch} gives each device {rows} rows at a time '
      f'(over data x fsdp = {sizes["data"]} x {sizes["fsdp"]} and '
      f'train.accumulate={config.train.accumulate}), which '
      f'sharding.microbatches={count} does not divide'
      + ('' if config.sharding.microbatches else ' (0 is as many as stages)')
      + '. Set it to one of '
      f'{", ".join(map(str, fit))}; {stages} stages idle less with more.'
    )
  if repeats > 1 and count % stages:
    raise ValueError(
      f'sharding.microbatches is {count}; with sharding.repeats={repeats} it '
      f'must be a multiple of sharding.mesh.stage, which is {stages}: as many '
      'go round together.'
    )
