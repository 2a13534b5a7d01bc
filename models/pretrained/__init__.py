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

and a place in LAYOUTS. `save` takes the first of LAYOUTS whose `write`, read
back with `read`, is the same model.
"""

import dataclasses
import json
import os
import re
from types import ModuleType
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from models.config import TransformerConfig
from models.pretrained import (
  bert,
  bloom,
  electra,
  files,
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
from models.pretrained.arrays import born, build_leaf, leaf_shapes, put
from models.pretrained.fields import Fields
from models.pretrained.mapping import Piece, expand

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
  'remat',
  'scan',
)
_BODY = ('embed', 'encoder', 'decoder')
_VOCABULARY = ('embed/table', 'vocabulary/output', 'vocabulary/bias')


def read_config(folder: str, **overrides: Any) -> TransformerConfig:
  """The config of a checkpoint; see `load`."""
  fields = files.read_config(folder)
  with files.Tensors(folder) as tensors:
    return _configs(folder, fields, tensors, overrides)[1]


def load(
  folder: str, shardings: Any = None, seed: int = 0, **overrides: Any
) -> tuple[TransformerConfig, dict]:
  """Reads a checkpoint.

  Everything is checked by the files' headers before a weight is read. Weights
  are read one tensor at a time; beside the result, the host holds about one of
  them, and with shardings one layer of a stacked weight.

  Args:
    folder: config.json and safetensors, in one file or several.
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
  fields = files.read_config(folder)
  with files.Tensors(folder) as tensors:
    layout, config, published = _configs(folder, fields, tensors, overrides)
    shapes = leaf_shapes(config)
    pieces = expand(layout.weights(config), config, shapes)
    names = _names(layout, config, tensors, pieces)  # theirs -> in the file
    absent = [p for p in pieces if p.theirs not in names]
    other_head = config.head != published.head
    new = []
    if other_head:
      new = sorted(
        {p.leaf for p in absent if p.leaf.split('/')[0] not in _BODY}
      )
      absent = [p for p in absent if p.leaf not in new]
      pieces = [p for p in pieces if p.leaf not in new]
    _check_present(folder, layout, absent, pieces)
    _check_shapes(config, tensors, names, pieces)
    _check_spares(layout, config, published, tensors, names, pieces, other_head)
    _check_vocabulary(folder, config)

    flat_shardings = {}
    if shardings is not None:
      flat_shardings = flatten_dict(shardings, sep='/')
    params = {}
    if new:
      for leaf, x in born(config, new, seed).items():
        place = flat_shardings.get(leaf)
        params[leaf] = x if place is None else put(x, place)
    by_leaf = {}
    for piece in pieces:
      by_leaf.setdefault(piece.leaf, []).append(piece)
    for leaf, own in by_leaf.items():
      params[leaf] = build_leaf(
        own,
        shapes[leaf],
        lambda name: tensors.read(names[name]),
        flat_shardings.get(leaf),
      )
  return config, unflatten_dict(params, sep='/')


def save(
  config: TransformerConfig,
  params: dict,
  folder: str,
  *,
  layout: str = '',
  dtype: str = 'float32',
  shard_bytes: int = 5 * 10**9,
) -> None:
  """Writes a checkpoint that transformers loads, wholly or not at all.

  Args:
    config: of the model.
    params: its parameters.
    folder: a new or an empty directory.
    layout: a model_type, where several suit; '': the first that does.
    dtype: of the weights in the files.
    shard_bytes: of one file, at most.

  Raises:
    ValueError: the folder is not empty, no layout can express the config, or
      the parameters are not those of the config.
  """
  files.check_free(folder)
  kind = files.dtype_of(dtype)
  module, fields = _layout_for(config, layout)
  shapes = leaf_shapes(config)
  flat = flatten_dict(params, sep='/')
  _check_params(flat, shapes)
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
        filled += piece.copy_out(np.asarray(ours), out)
      if filled != out.size:
        raise ValueError(f'The layout fills {filled} of {out.size} in {name}.')
      yield name.removeprefix(prefix), out

  files.write(folder, fields | {'dtype': dtype}, tensors(), shard_bytes)


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
  return layout, dataclasses.replace(published, **overrides), published


def _layout(model_type: str) -> ModuleType:
  known = {name: layout for layout in LAYOUTS for name in layout.MODEL_TYPES}
  if model_type not in known:
    raise ValueError(
      f'model_type is {model_type!r}; there are layouts for '
      f'{", ".join(sorted(known))}.'
    )
  return known[model_type]


def _layout_for(config, model_type):
  """The first layout that expresses a config, and its config.json."""
  reasons = []
  for layout in (_layout(model_type),) if model_type else LAYOUTS:
    try:
      fields = layout.write(config)
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


def _names(layout, config, tensors, pieces):
  """Our name of each tensor -> that in the file.

  Files of a body alone leave the prefix out, and BERT's first ones call a
  norm's weights gamma and beta.
  """
  bare = not any(name.startswith(layout.PREFIX) for name in tensors.shapes)
  known = {piece.theirs for piece in pieces}
  names = {}
  for name in tensors.shapes:
    ours = re.sub(r'LayerNorm\.gamma$', 'LayerNorm.weight', name)
    ours = re.sub(r'LayerNorm\.beta$', 'LayerNorm.bias', ours)
    if bare and ours not in known:
      ours = layout.PREFIX + ours
    if ours in names:
      raise ValueError(
        f'{name} and {names[ours]} in {tensors.file(name)} are one weight.'
      )
    names[ours] = name
  return names


def _check_present(folder, layout, absent, pieces):
  missing = sorted({piece.theirs for piece in absent})
  if missing:
    count = len({piece.theirs for piece in pieces})
    raise ValueError(
      f'{folder} lacks {len(missing)} of {count} weights that a '
      f'{layout.MODEL_TYPES[0]} checkpoint with this {files.CONFIG} has: '
      f'{_some(missing)}.'
    )


def _check_shapes(config, tensors, names, pieces):
  for piece in pieces:
    name = names[piece.theirs]
    shape = tensors.shapes[name]
    if shape != piece.their_shape:
      hint = ''
      if piece.leaf in _VOCABULARY:
        hint = (
          f' The vocabulary does not match: model.vocab_size is '
          f'{config.vocab_size}.'
        )
      raise ValueError(
        f'{name} in {tensors.file(name)} has shape {shape}; {piece.leaf} '
        f'needs {piece.their_shape}.{hint}'
      )
    if tensors.types[name] not in files.DTYPES:
      raise ValueError(
        f'{name} in {tensors.file(name)} is stored as {tensors.types[name]}; '
        f'only {", ".join(files.DTYPES)} can be read (quantised weights '
        'cannot).'
      )


def _check_spares(
  layout, config, published, tensors, names, pieces, other_head
):
  """Every tensor of the files is used, known to be spare or left behind."""
  used = {piece.theirs for piece in pieces}
  if other_head:
    used |= _all_names(layout, published)
  spares = [
    (re.compile(re.escape(s.theirs).replace(r'\*', r'\d+')), s.equals)
    for s in layout.spares(config) + layout.spares(published)
  ]
  unknown = []
  for ours, name in names.items():
    if ours in used:
      continue
    match = [equals for known, equals in spares if known.fullmatch(ours)]
    if not match:
      unknown.append(name)
    elif match[0]:
      twin = names[match[0]]
      if not np.array_equal(tensors.read(name), tensors.read(twin)):
        raise ValueError(
          f'{name} in {tensors.file(name)} differs from {twin}, to which '
          f'{files.CONFIG} ties it: one of the two is wrong.'
        )
  if unknown:
    raise ValueError(
      f'{len(unknown)} weights find no place in a {layout.MODEL_TYPES[0]} '
      f'model with this {files.CONFIG}: {_some(unknown)}, in '
      f'{tensors.file(unknown[0])}.'
    )


def _all_names(layout, config):
  pieces: list[Piece] = expand(
    layout.weights(config), config, leaf_shapes(config)
  )
  return {piece.theirs for piece in pieces}


def _check_vocabulary(folder, config):
  """A vocabulary beside the weights has no token beyond the table."""
  size = 0
  path = os.path.join(folder, 'vocab.txt')
  if os.path.exists(path):
    with open(path, encoding='utf-8') as file:
      size = sum(1 for _ in file)
  else:
    path = os.path.join(folder, 'vocab.json')
    if os.path.exists(path):
      size = 1 + max(files.read_json(path).values(), default=-1)
  if size > config.vocab_size:
    raise ValueError(
      f'{path} has {size} tokens, but model.vocab_size is '
      f'{config.vocab_size}: the vocabulary does not match the weights.'
    )


def _check_params(flat, shapes):
  for leaf in sorted(shapes.keys() | flat.keys()):
    if leaf not in flat or leaf not in shapes:
      what = 'lack' if leaf in shapes else 'have'
      raise ValueError(f'The parameters {what} {leaf}, unlike the config.')
    x = flat[leaf]
    if tuple(x.shape) != tuple(shapes[leaf]):
      raise ValueError(
        f'The parameter {leaf} has shape {tuple(x.shape)}; the config needs '
        f'{shapes[leaf]}.'
      )
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
      raise ValueError(
        f'The parameter {leaf} lies on several hosts: restore the checkpoint '
        'in one process and save from there.'
      )


def _some(names, most=4):
  more = f' and {len(names) - most} more' if len(names) > most else ''
  return ', '.join(sorted(names)[:most]) + more
