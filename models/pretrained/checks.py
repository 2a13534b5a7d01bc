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


def vocabulary(folder, rows, where):
  """Raises ValueError if a tokenizer in `folder` has more ids than the table
  has rows, which the directory `where` says. Fewer are usual: tables are
  padded."""
  for name, read in _VOCABULARIES.items():
    path = os.path.join(folder, name)
    size = read(path) if os.path.exists(path) else 0
    if size > rows:
      raise ValueError(
        f'{path} has {size} tokens, but {os.path.join(where, files.CONFIG)} a '
        f'vocab_size of {rows}: the vocabulary does not match the weights.'
      )


def _lines(path):
  with open(path, 'rb') as file:
    return sum(1 for _ in file)


def _ids(path):
  return _size(path, files.read_json(path).values())


def _tokenizer_json(path):
  content = files.read_json(path)
  try:
    vocab = content['model']['vocab']
    # SentencePiece's unigrams are a list of pieces and scores.
    ids = [*vocab.values()] if isinstance(vocab, dict) else [len(vocab) - 1]
    ids += [token['id'] for token in content.get('added_tokens') or ()]
  except (KeyError, TypeError):
    ids = [None]
  return _size(path, ids)


def _size(path, ids):
  """The rows that ids, which need not be in order, ask for."""
  if not all(type(i) is int for i in ids):
    raise ValueError(f'{path} must hold a whole number for each token.')
  return 1 + max(ids, default=-1)


def _pieces(path):
  """The pieces of a SentencePiece model, the fields 1 of a protocol buffer; 0
  for another file: that of LLaMA 3 is tiktoken's."""
  with open(path, 'rb') as file:
    data = file.read()
  at, count = 0, 0
  while at < len(data):
    key, length = data[at], 0
    if key & 7 != 2:  # all its fields are strings of bytes
      return 0
    for shift in range(0, 64, 7):
      at += 1
      byte = data[at] if at < len(data) else 0
      length |= (byte & 127) << shift
      if byte < 128:
        break
    at += 1 + length
    count += key >> 3 == 1
  return count


# How many ids the files of a tokenizer ask for.
_VOCABULARIES = {
  'tokenizer.json': _tokenizer_json,
  'added_tokens.json': _ids,
  'vocab.json': _ids,
  'encoder.json': _ids,
  'vocab.txt': _lines,
  'spiece.model': _pieces,
  'tokenizer.model': _pieces,
  'sentencepiece.bpe.model': _pieces,
}


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
