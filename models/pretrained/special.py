"""Ids of special tokens, in config.json and generation_config.json."""

import dataclasses
import json
import os
from types import ModuleType

import numpy as np

from models import decoding
from models.config import TransformerConfig
from models.pretrained import files

GENERATION = 'generation_config.json'  # what transformers reads to generate
IDS = ('bos_token_id', 'eos_token_id', 'pad_token_id', 'decoder_start_token_id')


def published(folder: str, name: str) -> int | None:
  """The id of a special token, one of IDS, that transformers generates with.

  None where no file has one.

  Raises:
    ValueError: it is neither an id nor a list of ids.
  """
  path = os.path.join(folder, GENERATION)
  places = [path] if os.path.exists(path) else []
  for place in (*places, os.path.join(folder, files.CONFIG)):
    value = files.read_json(place).get(name)
    first = value[0] if isinstance(value, list) and value else value
    if first is not None and type(first) is not int:
      raise ValueError(f'{place}: {name} is {value!r}: it must be an id.')
    if first is not None and first >= 0:
      return first
  return None


def start(folder: str, layout: ModuleType) -> int | None:
  """The id that a text begins with; None if nothing says it."""
  names = getattr(layout, 'START', ('bos_token_id',))
  found = (published(folder, name) for name in names)
  default = getattr(layout, 'BOS', None)
  return next((i for i in found if i is not None), default)


def generation(config: TransformerConfig, fields: dict) -> dict[str, bytes]:
  """GENERATION -> its content, from the fields of config.json.

  Empty for a model that generates nothing or has no special tokens.
  """
  ids = {name: fields[name] for name in IDS if fields.get(name) is not None}
  if config.family not in decoding.GENERATIVE or config.head != 'lm' or not ids:
    return {}
  text = json.dumps(ids, indent=2, sort_keys=True) + '\n'
  return {GENERATION: text.encode()}


def aligned(
  config: TransformerConfig, pad: int | None, flat: dict | None = None
) -> TransformerConfig:
  """The same model with positions that begin where transformers' RoBERTa's do.

  Those begin with the row after the `pad` id. The table gets or loses unread
  rows before it, also in `flat`, path -> weight. Without a `pad` id, and for
  all but RoBERTa's, nothing changes.
  """
  if config.family != 'encoder' or not config.position_offset or pad is None:
    return config
  more = pad + 1 - config.position_offset
  if flat is not None and more:
    table = np.asarray(flat['embed/position'])
    unread = np.zeros((max(more, 0), table.shape[1]), table.dtype)
    flat['embed/position'] = np.concatenate([unread, table[max(-more, 0) :]])
  return dataclasses.replace(
    config, position_offset=pad + 1, max_length=config.max_length + more
  )
