"""Our parameters -> a checkpoint that transformers loads."""

import dataclasses
import os
from collections.abc import Iterator

import numpy as np
from flax.traverse_util import flatten_dict

from models import mup
from models.config import TransformerConfig
from models.pretrained import checks, files, pair, special
from models.pretrained.arrays import leaf_shapes
from models.pretrained.layout import suiting
from models.pretrained.mapping import expand


def save(
  config: TransformerConfig,
  params: dict,
  folder: str,
  *,
  layout: str = '',
  dtype: str = 'float32',
  shard_bytes: int = 5 * 10**9,
  beside: dict[str, bytes] | None = None,
  kept: dict | None = None,
  length: int = 0,
) -> None:
  """Writes a checkpoint that transformers loads: all of it, or nothing.

  All of their encoders have token types: a model without them gets one type
  that is 0, which gives the same outputs (as RoBERTa was published). Shared
  stacks are written as two with the same weights.

  Args:
    config: of the model.
    params: its parameters.
    folder: a new or an empty folder. ELECTRA's pair makes two in it.
    layout: a model_type, where several suit; '': the first that does.
    dtype: of the weights in the files.
    shard_bytes: of one file, at most.
    beside: name -> content of other files to write: a tokenizer's.
    kept: fields of config.json: those of `kept_fields`, or the ids of special
      tokens. RoBERTa's positions begin after the row of `pad_token_id`.
    length: of the rows that the model was trained on, for a layout's LENGTH
      where config and `kept` do not say; 0: transformers' default.

  Raises:
    ValueError: the folder is not empty, no layout can express the config, the
      parameters are not those of the config, or too large for the dtype.
    OSError: the folder cannot be written.
  """
  kept = kept or {}
  check_save(config, folder, layout=layout, dtype=dtype, kept=kept)
  flat = flatten_dict(params, sep='/')
  checks.params(flat, leaf_shapes(config))
  if config.family == 'electra':
    with files.new_folder(folder) as partial:
      for name, half, weights in zip(
        pair.NAMES, pair.split_config(config), pair.split(params), strict=True
      ):
        save(
          half,
          weights,
          os.path.join(partial, name),
          layout='electra',
          dtype=dtype,
          shard_bytes=shard_bytes,
          beside=beside,
          kept=kept,
        )
    return
  if config.shared_stacks:
    for path, x in [*flat.items()]:
      stack, *rest = path.split('/')
      if stack == 'decoder' and 'cross_attention' not in path:
        flat['/'.join(['encoder', *rest])] = x
  elif config != _theirs(config):
    flat['embed/type'] = np.zeros((1, config.table_width), 'float32')
  config = _theirs(config)
  config = special.aligned(config, kept.get('pad_token_id'), flat)
  module, fields = suiting(config, layout, kept)
  if length and hasattr(module, 'LENGTH'):
    fields = {module.LENGTH: length} | fields
  fields = fields | {'dtype': dtype}
  beside = special.generation(config, fields) | (beside or {})
  tensors = _tensors(module, config, flat, dtype)
  files.write(folder, fields, tensors, shard_bytes, beside)


def check_save(
  config: TransformerConfig,
  folder: str,
  *,
  layout: str = '',
  dtype: str = 'float32',
  kept: dict | None = None,
) -> None:
  """All that `save` checks before it reads a parameter.

  Raises:
    ValueError: as `save`.
  """
  files.check_free(folder)
  files.dtype_of(dtype)
  if config.adapter_dim:
    raise ValueError(
      f'model.adapter_dim={config.adapter_dim}: models of transformers have no '
      'adapters, and adapters cannot be merged into other weights. The workdir '
      'has the whole model: train.evaluate and train.generate read it.'
    )
  if config.base_dim and mup.differs(config):
    raise ValueError(
      f'model.base_dim={config.base_dim}: models of transformers do not have '
      "muP's multipliers. The workdir has the whole model: train.evaluate and "
      'train.generate read it.'
    )
  halves = (config,)
  if config.family == 'electra':
    halves, layout = pair.split_config(config), 'electra'
  kept = kept or {}
  unpadded = 'pad_token_id' in kept and kept['pad_token_id'] is None
  if config.family == 'encoder' and config.position_offset and unpadded:
    raise ValueError(
      "The vocabulary has no padding token, but positions of transformers' "
      'RoBERTa begin after the row of its id (model.position_offset='
      f'{config.position_offset}): this model cannot be written.'
    )
  for half in halves:
    half = special.aligned(_theirs(half), kept.get('pad_token_id'))
    suiting(half, layout, kept)


def _theirs(config):
  """The config as transformers has it.

  Encoders have one token type at least, and each stack weights of its own.
  """
  if config.shared_stacks:
    return dataclasses.replace(config, shared_stacks=False)
  if config.family != 'encoder' or config.token_types:
    return config
  return dataclasses.replace(config, token_types=1)


def _tensors(layout, config, flat, dtype) -> Iterator[tuple[str, np.ndarray]]:
  """The tensors of a checkpoint by name, one after the other."""
  by_name = {}
  for piece in expand(layout.weights(config), config, leaf_shapes(config)):
    by_name.setdefault(piece.theirs, []).append(piece)
  body_alone = config.head in ('none', 'pooler')
  for name, pieces in by_name.items():
    out = np.empty(pieces[0].their_shape, files.dtype_of(dtype))
    filled = 0
    for piece in pieces:
      ours = flat[piece.leaf]
      ours = ours if piece.layer is None else ours[piece.layer]
      try:
        with np.errstate(over='raise'):
          filled += piece.copy_out(np.asarray(ours), out)
      except FloatingPointError:
        raise ValueError(
          f'{piece.leaf} has a number too large for dtype={dtype!r}: write '
          'bfloat16 or float32.'
        ) from None
    if filled != out.size:
      raise ValueError(f'The layout fills {filled} of {out.size} in {name}.')
    yield name.removeprefix(layout.PREFIX if body_alone else ''), out
