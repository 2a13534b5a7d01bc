"""LoRA's factors of a run <-> peft's files."""

from typing import Any

import jax
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from models import pretrained
from models.config import TransformerConfig
from models.pretrained.arrays import put
from models.pretrained.peft import reading, writing
from train.learning import lora
from train.learning.layers import in_layer
from train.learning.tuning import Tuning
from train.setup import Setup

FORMATS = 'merged', 'peft'


def read(folder: str, source: str, **own: Any) -> reading.Adapter:
  """Reads peft's files for a published checkpoint, and says what was read.

  Args:
    folder: of the files.
    source: of the checkpoint.
    **own: fields of the model to set, as for `models.pretrained.load`.

  Raises:
    ValueError: see `reading.read`.
  """
  config = pretrained.read_config(source, **own)
  found = reading.read(folder, config, pretrained.kept_fields(source)[0])
  print('\n'.join([f'LoRA from {folder}.', *found.terms.notes]))
  return found


def adopt(found: reading.Adapter, config: ConfigDict) -> ConfigDict:
  """The config that trains on from an adapter: its group `tuning`."""
  names = set()
  for name in found.factors:
    path = tuple(name.split('/')[:-1])
    names.add('/'.join(in_layer(path) or path))
  config = config.copy_and_resolve_references()
  for key, theirs in {
    'train': 'lora',
    'rank': found.terms.rank,
    'alpha': found.terms.alpha,
    'matrices': tuple(sorted(names)),
  }.items():
    if config.tuning[key] != theirs:
      print(f'tuning.{key}: {theirs!r} (the config had {config.tuning[key]!r})')
      config.tuning[key] = theirs
  return config


def place(
  folder: str, found: reading.Adapter, setup: Setup, params: dict
) -> dict:
  """The state's parameters: a checkpoint's, with an adapter's beside them.

  Args:
    folder: of peft's files, for messages.
    found: what was read from there.
    setup: of the run.
    params: of the model.

  Raises:
    ValueError: the adapter is of another base, or changes a matrix in a part of
      the model alone.
  """
  flat = flatten_dict(params, sep='/')
  reading.check_base(folder, found, flat)
  places = flatten_dict(setup.places.params, sep='/')
  start = f'{lora.KEY}/'
  wanted = {x.removeprefix(start) for x in places if x.startswith(start)}
  if missing := sorted(wanted - found.factors.keys()):
    raise ValueError(
      f'{folder} has no {missing[0]}: it changes a matrix in one stack alone, '
      'and LoRA here in all.'
    )
  new = found.heads | {f'{start}{x}': y for x, y in found.factors.items()}
  for name, x in new.items():
    flat[name] = put(x, places[name])
  return unflatten_dict(flat, sep='/')


def merged(folder: str, found: reading.Adapter, params: dict) -> dict:
  """A checkpoint's parameters on this host, with an adapter merged into them.

  Raises ValueError if it is of another base.
  """
  flat = flatten_dict(params, sep='/')
  reading.check_base(folder, found, flat)
  return unflatten_dict(reading.merged(found, flat), sep='/')


def check_export(
  config: TransformerConfig, tuning: Tuning, state: dict, target: str, ids: dict
) -> None:
  """All that `export` checks before it needs an array.

  `state` has arrays or shapes of the state's tree. Raises ValueError.
  """
  if tuning.train != 'lora':
    raise ValueError(
      f'--format=peft writes the factors of LoRA, but the run has tuning.train='
      f'{tuning.train!r}: leave --format out.'
    )
  factors = flatten_dict(state[lora.KEY], sep='/')
  writing.check_save(config, target, [*factors], ids)


def export(
  config: TransformerConfig, tuning: Tuning, state: dict, target: str, ids: dict
) -> str:
  """Writes a run's factors, and its task's head, as peft's files.

  Args:
    config: of the model.
    tuning: of the run.
    state: arrays of the state's tree.
    target: a new folder.
    ids: of special tokens, as for `models.pretrained.save`.

  Returns:
    What to say of it.

  Raises:
    ValueError: see `writing.save`.
  """
  trained = {*tuning.trained(state)} - {lora.KEY}
  base = {name: x for name, x in state.items() if name != lora.KEY}
  params, factors = (
    flatten_dict(jax.device_get(x), sep='/') for x in (base, state[lora.KEY])
  )
  writing.save(
    config, params, factors, target, rank=tuning.rank, alpha=tuning.alpha,
    heads=tuple(sorted(trained)), kept=ids,
  )  # fmt: skip
  return (
    "Its factors are in peft's files, for the base that the run began with: "
    f'PeftModel.from_pretrained(BASE, {target!r}).'
  )
