"""Published checkpoints in Hugging Face layout <-> our parameters.

  config, params = models.pretrained.load(folder)
  models.pretrained.save(config, params, folder)

A family is one file here, with

  MODEL_TYPES   what `model_type` in its config.json may be
  PREFIX        of the names of the body's tensors, where a head stands beside
                it: 'bert.'; files of a body alone leave it out
  read(fields: Fields, tensors: set of names) -> TransformerConfig
                every field of config.json is read, harmless or refused; the
                names of the file's tensors may help to tell the head
  write(config) -> dict   config.json, `model_type` and `architectures` too
  weights(config) -> list of Weight   which number of ours is which of theirs
  spares(config) -> list of Spare     tensors that may stand in a file besides
  LENGTH        the field of config.json for the length of rows, if the model's
                positions end nowhere: the weights do not tell
  BOS           bos_token_id where config.json leaves it out; START names the
                fields for what a text begins with, if that is another one
  typed(fields, model_type) -> dict   config.json with another of MODEL_TYPES
                than the first, if there are several

and a place in LAYOUTS. `save` takes the first of LAYOUTS whose `write`, read
back with `read`, is the same model.
"""

import contextlib
import dataclasses
import json
import os
from types import ModuleType
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from models.choices import HEADS_OF
from models.config import TransformerConfig
from models.pretrained import checks, files, pair, reading, special
from models.pretrained.arrays import leaf_shapes
from models.pretrained.fields import KEPT, Fields
from models.pretrained.layouts import (
  bert,
  bloom,
  electra,
  gpt1,
  gpt2,
  gpt_neox,
  gptj,
  llama,
  opt,
  roberta,
  rwkv,
  t5,
)
from models.pretrained.mapping import expand

LAYOUTS = (
  bert,
  roberta,
  electra,
  t5,
  gpt1,
  gpt2,
  llama,
  bloom,
  gptj,
  gpt_neox,
  opt,
  rwkv,
)
# What does not decide the outputs: how weights are born, regularised, run.
_FREE = (
  'attention_dropout',
  'dropout',
  'dropout_kind',
  'dtype',
  'init',
  'init_std',
  'pooler_dropout',
  'remat',
  'scan',
)


def read_config(folder: str, **overrides: Any) -> TransformerConfig:
  """The config of a checkpoint; see `load`."""
  if pair.is_pair(folder):
    own = pair.check_overrides(folder, overrides)
    config = pair.join_config(
      *(read_config(os.path.join(folder, name), **own) for name in pair.NAMES)
    )
    pair.check_size(folder, config)
    return config
  fields = files.read_config(folder)
  with files.Tensors(folder) as tensors:
    return _configs(folder, fields, tensors, overrides)[1]


def check(folder: str, **overrides: Any) -> TransformerConfig:
  """All that `load` checks before it reads a tensor; returns the config.

  Raises:
    ValueError: names the file, field or tensor, and what is wrong with it.
  """
  with contextlib.ExitStack() as stack:
    return _open(stack, folder, overrides)[0]


def load(
  folder: str, shardings: Any = None, seed: int = 0, **overrides: Any
) -> tuple[TransformerConfig, dict]:
  """Reads a checkpoint.

  Everything is checked before a weight is read: by the files' headers (see
  `check`), but for copies of tied weights, which must be equal. Weights are
  read one tensor at a time; beside the result, the host holds about one of
  them, and with shardings one layer of a stacked weight.

  Args:
    folder: config.json and safetensors, in one file or several; or 'generator'
      and 'discriminator', such a directory each: ELECTRA's pair.
    shardings: tree of Sharding like the parameters (of `read_config`); None:
      NumPy arrays on this host.
    seed: of the weights of a new head.
    **overrides: fields of TransformerConfig to set, such as dtype and scan.
      Another `head` than the file's keeps the body, leaves the file's head
      behind and adds what the new one needs and the file lacks, newly born.

  Returns:
    The config and the parameters, float32.

  Raises:
    ValueError: names the file, field or tensor, and what is wrong with it.
  """
  with contextlib.ExitStack() as stack:
    config, readings = _open(stack, folder, overrides)
    for one in readings:
      one.check_copies()
    if len(readings) == 1:
      return config, readings[0].read(shardings, seed)
    places = (None, None) if shardings is None else pair.split(shardings)
    halves = [
      half.read(place, seed)
      for half, place in zip(readings, places, strict=True)
    ]
    return config, pair.join(*halves)


def _open(stack, folder, overrides):
  """The config and what is to be read: of a pair both halves, all checked."""
  if pair.is_pair(folder):
    config = read_config(folder, **overrides)  # they must be a pair
    own = pair.check_overrides(folder, overrides)
    first = os.path.join(folder, pair.NAMES[0])
    checks.vocabulary(folder, config.vocab_size, first)
    halves = [
      _open(stack, os.path.join(folder, name), own) for name in pair.NAMES
    ]
    return config, [half for _, (half,) in halves]
  fields = files.read_config(folder)
  tensors = stack.enter_context(files.Tensors(folder))
  layout, config, published = _configs(folder, fields, tensors, overrides)
  return config, [reading.check(folder, layout, config, published, tensors)]


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
  """Writes a checkpoint that transformers loads, wholly or not at all.

  Their encoders all have token types: one without gets a type that is 0, which
  gives the same outputs (as RoBERTa was published).

  Args:
    config: of the model.
    params: its parameters.
    folder: a new or an empty directory. ELECTRA's pair makes two in it.
    layout: a model_type, where several suit; '': the first that does.
    dtype: of the weights in the files.
    shard_bytes: of one file, at most.
    beside: name -> content of other files to write: a tokenizer's.
    kept: fields of config.json: those of `kept_fields`, or the ids of special
      tokens. RoBERTa's positions begin after the row of `pad_token_id`.
    length: of the rows that the model was trained on, for a layout's LENGTH
      where config and `kept` do not tell; 0: transformers' default stands.

  Raises:
    ValueError: the folder is not empty, no layout can express the config, the
      parameters are not those of the config, or too large for the dtype.
    OSError: the folder cannot be written.
  """
  kept = kept or {}
  check_save(config, folder, layout=layout, dtype=dtype, kept=kept)
  if config.family == 'electra':
    checks.params(flatten_dict(params, sep='/'), leaf_shapes(config))
    with files.new_directory(folder) as partial:
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
  kind = files.dtype_of(dtype)
  flat = flatten_dict(params, sep='/')
  checks.params(flat, leaf_shapes(config))
  if config != _with_types(config):
    config = _with_types(config)
    flat['embed/type'] = np.zeros((1, config.table_width), 'float32')
  config = special.aligned(config, kept.get('pad_token_id'), flat)
  module, fields = _layout_for(config, layout, kept)
  shapes = leaf_shapes(config)
  by_name = {}
  for piece in expand(module.weights(config), config, shapes):
    by_name.setdefault(piece.theirs, []).append(piece)
  prefix = '' if _has_head(config) else module.PREFIX

  def tensors():
    for name, pieces in by_name.items():
      out = np.empty(pieces[0].their_shape, kind)
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
      yield name.removeprefix(prefix), out

  if length and hasattr(module, 'LENGTH'):
    fields = {module.LENGTH: length} | fields
  fields = fields | {'dtype': dtype}
  beside = special.generation(config, fields) | (beside or {})
  files.write(folder, fields, tensors(), shard_bytes, beside)


def kept_fields(folder: str) -> tuple[str, dict]:
  """A checkpoint's model_type, and of its config.json what it means to others:
  names of classes, ids of special tokens. '' and nothing for ELECTRA's pair."""
  if pair.is_pair(folder):
    return '', {}
  fields = files.read_config(folder)
  found = {name: fields[name] for name in KEPT if fields.get(name) is not None}
  return fields['model_type'], found


def start_token(folder: str) -> int | None:
  """The id that a checkpoint's texts begin with: where transformers' generation
  starts, or the decoder beside an encoder. None where no file tells it.

  Raises:
    ValueError: the field is no id.
  """
  if pair.is_pair(folder):
    return None
  return special.start(folder, _layout(files.read_config(folder)['model_type']))


def check_save(
  config: TransformerConfig,
  folder: str,
  *,
  layout: str = '',
  dtype: str = 'float32',
  kept: dict | None = None,
) -> None:
  """All that `save` checks before it looks at a parameter.

  Raises:
    ValueError: as `save`.
  """
  files.check_free(folder)
  files.dtype_of(dtype)
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
    half = special.aligned(_with_types(half), kept.get('pad_token_id'))
    _layout_for(half, layout, kept)


def _with_types(config):
  """The config as transformers' encoders have it, with a type at least."""
  if config.family != 'encoder' or config.token_types:
    return config
  return dataclasses.replace(config, token_types=1)


def _configs(folder, fields, tensors, overrides):
  """The layout, the config with and the one without the overrides."""
  layout = _layout(fields['model_type'])
  where = os.path.join(folder, files.CONFIG)
  published = layout.read(Fields(fields, where), set(tensors.shapes))
  unknown = overrides.keys() - {
    field.name for field in dataclasses.fields(TransformerConfig)
  }
  if unknown:
    raise ValueError(f'model.{min(unknown)} is no field of a config.')
  # Any of the family, where a layout says nothing of its own.
  heads = getattr(layout, 'HEADS', HEADS_OF[published.family])
  head = overrides.get('head', published.head)
  if head not in heads:
    raise ValueError(
      f'model.head is {head!r}; {folder} is a {layout.MODEL_TYPES[0]} '
      f'checkpoint, which has no place for it: set model.head to one of '
      f'{", ".join(heads)}.'
    )
  return layout, dataclasses.replace(published, **overrides), published


def _layout(model_type: str) -> ModuleType:
  known = {name: layout for layout in LAYOUTS for name in layout.MODEL_TYPES}
  if model_type not in known:
    raise ValueError(
      f'model_type is {model_type!r}; there are layouts for '
      f'{", ".join(sorted(known))}.'
    )
  return known[model_type]


def _layout_for(config, model_type, kept=None):
  """The first layout that expresses a config, and its config.json, in which
  the fields `kept` are."""
  reasons = []
  for layout in (_layout(model_type),) if model_type else LAYOUTS:
    try:
      fields = layout.write(config)
      if model_type and model_type != layout.MODEL_TYPES[0]:
        fields = layout.typed(fields, model_type)
      fields |= kept or {}
      names = {weight.theirs for weight in layout.weights(config)}
      back = layout.read(Fields(json.loads(json.dumps(fields))), names)
    except ValueError as error:
      reasons.append(f'{layout.MODEL_TYPES[0]}: {error}')
      continue
    differing = [
      f'model.{field.name}={getattr(config, field.name)!r}'
      for field in dataclasses.fields(config)
      if field.name not in _FREE
      and getattr(config, field.name) != getattr(back, field.name)
    ]
    if not differing:
      return layout, fields
    reasons.append(f'{layout.MODEL_TYPES[0]} has no {", ".join(differing)}')
  raise ValueError(
    'No layout of transformers expresses this model:\n  ' + '\n  '.join(reasons)
  )


def _has_head(config):
  return config.head not in ('none', 'pooler')
