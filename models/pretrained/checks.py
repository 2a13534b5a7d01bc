"""Whether files and parameters hold what a model needs, and nothing else."""

import os
import re

import jax
import numpy as np

from models.pretrained import files
from models.pretrained.arrays import leaf_shapes
from models.pretrained.mapping import expand

_VOCABULARY = ('embed/table', 'vocabulary/output', 'vocabulary/bias')


def find_names(layout, config, tensors, pieces):
  """Our name of each tensor -> that in the file.

  Files of a body alone leave the prefix out, and BERT's first ones call a
  norm's weights gamma and beta.
  """
  bare = not any(name.startswith(layout.PREFIX) for name in tensors.shapes)
  known = {piece.theirs for piece in pieces}
  names = {}  # theirs -> as the file has it
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


def present(folder, layout, absent, pieces):
  """Raises ValueError if a place finds no weight."""
  missing = sorted({piece.theirs for piece in absent})
  if missing:
    count = len({piece.theirs for piece in pieces})
    raise ValueError(
      f'{folder} lacks {len(missing)} of {count} weights that a '
      f'{layout.MODEL_TYPES[0]} checkpoint with this {files.CONFIG} has: '
      f'{_some(missing)}.'
    )


def shapes(config, tensors, names, pieces):
  """Raises ValueError if a tensor has another shape, or is no float's."""
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


def spares(layout, config, published, tensors, names, pieces, other_head):
  """Every tensor of the files is used, known to be spare or left behind.

  Raises ValueError if a weight finds no place. Returns the copies of others:
  (name, that of its twin), which `copies` compares.
  """
  used = {piece.theirs for piece in pieces}
  if other_head:
    used |= _all_names(layout, published)
  known_spares = [
    (re.compile(re.escape(s.theirs).replace(r'\*', r'\d+')), s.equals)
    for s in layout.spares(config) + layout.spares(published)
  ]
  unknown, twins = [], []
  for ours, name in names.items():
    if ours in used:
      continue
    match = [equals for known, equals in known_spares if known.fullmatch(ours)]
    if not match:
      unknown.append(name)
    elif match[0] in names:  # else both are of a head that is left behind
      twins.append((name, names[match[0]]))
  if unknown:
    raise ValueError(
      f'{len(unknown)} weights find no place in a {layout.MODEL_TYPES[0]} '
      f'model with this {files.CONFIG}: {_some(unknown)}, in '
      f'{tensors.file(unknown[0])}.'
    )
  return twins


def copies(tensors, twins):
  """Raises ValueError if a copy of a tied weight is none; reads them."""
  for name, twin in twins:
    if not np.array_equal(tensors.read(name), tensors.read(twin)):
      raise ValueError(
        f'{name} in {tensors.file(name)} differs from {twin}, to which '
        f'{files.CONFIG} ties it: one of the two is wrong.'
      )


def _all_names(layout, config):
  pieces = expand(layout.weights(config), config, leaf_shapes(config))
  return {piece.theirs for piece in pieces}


def vocabulary(folder, config):
  """Raises ValueError if a vocabulary beside the weights exceeds the table."""
  size = 0
  path = os.path.join(folder, 'vocab.txt')
  if os.path.exists(path):
    with open(path, 'rb') as file:
      size = sum(1 for _ in file)
  else:
    path = os.path.join(folder, 'vocab.json')
    if os.path.exists(path):
      ids = files.read_json(path).values()
      if not all(isinstance(i, int) for i in ids):
        raise ValueError(f'{path} must hold a whole number for each token.')
      size = 1 + max(ids, default=-1)
  if size > config.vocab_size:
    raise ValueError(
      f'{path} has {size} tokens, but model.vocab_size is '
      f'{config.vocab_size}: the vocabulary does not match the weights.'
    )


def params(flat, shapes):
  """Raises ValueError if parameters, by path, are not those of a config."""
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
