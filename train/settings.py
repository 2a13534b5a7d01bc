"""What is wrong with a config, said before anything is built."""

import math
from collections.abc import Mapping
from typing import Any

from input_pipeline.config import PAIRS, DataConfig
from input_pipeline.objectives.rows import batch_shapes
from train.parallel.sharding import AXES, mesh_shape


def check_group(
  name: str, group: Any, uses: Mapping[str, tuple[str, ...]]
) -> None:
  """Checks that the keys a choice uses are set, and no others.

  None is not set; 0 and False may be set in vain, since they turn things off.

  Args:
    name: of the group, for messages: 'optimizer'.
    group: ConfigDict; its key `name` makes the choice.
    uses: the keys that each choice uses.

  Raises:
    ValueError: an unknown choice, a missing key or an ignored one.
  """
  choice = group.name
  if choice not in uses:
    raise ValueError(
      f'{name}.name is {choice!r}; it must be one of {", ".join(uses)}.'
    )
  for key in uses[choice]:
    if group[key] is None:
      raise ValueError(
        f'{name}.{key} is not set; {name}.name={choice} uses it.'
      )
  for key in group:
    if group[key] and key != 'name' and key not in uses[choice]:
      raise ValueError(
        f'{name}.{key} is {group[key]}, but {name}.name={choice} does not use '
        'it; leave it unset.'
      )


def check_settings(config: Any, devices: int) -> None:
  """Checks what can be known of a config before anything is built.

  DataConfig checks its group first, types too; the other groups' classes
  check theirs where they are made: TransformerConfig, make_optimizer,
  make_schedule and make_mesh.

  Args:
    config: the whole config.
    devices: how many there are, on all hosts.

  Raises:
    ValueError: a key without a value, or one that others rule out.
  """
  for group in ('model', 'data', 'train', 'eval', 'checkpoint', 'sharding'):
    for key, value in config[group].items():
      if value is None:
        raise ValueError(
          f'{group}.{key} is not set. Set it in the config file or with '
          f'--config.{group}.{key}=VALUE.'
        )
  for group in ('model', 'data', 'optimizer', 'schedule', 'train'):
    for key, value in config[group].items():
      if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f'{group}.{key} is {value}; it must be finite.')
  for group, key, least in (
    ('train', 'steps', 1),
    ('train', 'accumulate', 1),
    ('train', 'log_every', 1),
    ('train', 'z_loss', 0),
    ('train', 'max_logit_loss', 0),
    ('eval', 'every', 1),
    ('eval', 'batches', 0),
    ('eval', 'samples', 0),
    ('checkpoint', 'every', 1),
    ('checkpoint', 'keep', 1),
    ('checkpoint', 'keep_every', 0),
  ):
    if key not in config[group]:
      raise ValueError(f'{group}.{key} is missing in the config.')
    if config[group][key] < least:
      raise ValueError(
        f'{group}.{key} is {config[group][key]}; it must be at least {least}.'
      )
  if not 0 <= config.seed < 2**32:  # jax.random.key takes so many bits
    raise ValueError(f'seed is {config.seed}; it must lie in [0, 2^32).')
  data = DataConfig(**config.data)
  if config.model.position == 'learned':
    _check_places(config, data)
  if not 0 <= config.train.label_smoothing < 1:
    raise ValueError(
      f'train.label_smoothing is {config.train.label_smoothing}; it must be at '
      'least 0 and below 1.'
    )
  if (
    config.model.head == 'mlm_nsp' and config.data.objective != 'sentence_pairs'
  ):
    raise ValueError(
      "model.head='mlm_nsp' learns which sentence comes next: it needs "
      f"data.objective='sentence_pairs', not {config.data.objective!r}."
    )
  if (
    config.data.objective == 'sentence_pairs'
    and config.model.family == 'encoder'
    and config.model.head != 'mlm_nsp'
  ):
    raise ValueError(
      "data.objective='sentence_pairs' tells which sentence comes next: it "
      f"needs model.head='mlm_nsp', not {config.model.head!r}; without that "
      "there are data.objective='mlm', full_sentences and doc_sentences."
    )
  if config.model.prefix and config.data.objective not in PAIRS:
    raise ValueError(
      'model.prefix=True lets inputs see one another, but data.objective='
      f'{config.data.objective!r} has none: it needs one of '
      f'{", ".join(PAIRS)}.'
    )
  if config.eval.samples and config.model.family in ('encoder', 'electra'):
    raise ValueError(
      f'eval.samples is {config.eval.samples}, but model.family='
      f'{config.model.family!r} writes no text: set it to 0.'
    )
  batch, accumulate = config.data.batch, config.train.accumulate
  mesh = mesh_shape(config.sharding.mesh, devices)
  parts = mesh[AXES.index('data')] * mesh[AXES.index('fsdp')]
  if batch % (parts * accumulate):
    raise ValueError(
      f'data.batch is {batch}; it must be a multiple of the mesh axes data x '
      f'fsdp times train.accumulate = {parts} x {accumulate}.'
    )


def _check_places(config, data):
  """Raises ValueError unless every row ends before learned positions do."""
  places = config.model.max_length - config.model.position_offset
  for _, phase in data.phases(config.train.steps):
    shapes = batch_shapes(phase, config.model.family)
    key = 'data.length' if phase.length == data.length else 'data.curriculum'
    for name in ('encoder_inputs', 'inputs'):
      length = shapes[name][0][0] if name in shapes else 0
      if length > places:
        raise ValueError(
          f'{key} has rows of {length} tokens ({name}), but model.max_length='
          f'{config.model.max_length} has positions for {places}: lower one or '
          'raise the other.'
        )
