"""Checks that files and parameters have what a model needs, and no more."""

import os
import re
from types import ModuleType

import jax
import numpy as np

from models.config import TransformerConfig
from models.pretrained import files
from models.pretrained.arrays import leaf_shapes
from models.pretrained.mapping import Piece, expand

_VOCABULARY = ('embed/table', 'vocabulary/output', 'vocabulary/bias')


def find_names(
  layout: ModuleType, tensors: files.Tensors, pieces: list[Piece]
) -> dict[str, str]:
  """The layout's name of each tensor -> its name in the file.

  Files of a body alone leave the prefix out, and BERT's first files call a
  norm's weights gamma and beta.

  Raises:
    ValueError: two tensors have the same name in the layout.
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
        f'{name} and {names[ours]} in {tensors.file(name)} are the same weight.'
      )
    names[ours] = name
  return names


def present(
  folder: str, layout: ModuleType, absent: list[Piece], pieces: list[Piece]
) -> None:
  """Raises ValueError if the files lack a weight."""
  missing = sorted({piece.theirs for piece in absent})
  if missing:
    count = len({piece.theirs for piece in pieces})
    raise ValueError(
      f'{folder} lacks {len(missing)} of {count} weights that a '
      f'{layout.MODEL_TYPES[0]} checkpoint with this {files.CONFIG} has: '
      f'{_some(missing)}.'
    )


def shapes(
  config: TransformerConfig,
  tensors: files.Tensors,
  names: dict[str, str],
  pieces: list[Piece],
) -> None:
  """Raises ValueError if a tensor has another shape or is not of floats."""
  for piece in pieces:
    name = names[piece.theirs]
    shape = tensors.shapes[name]
    if shape != piece.their_shape:
      message = (
        f'{name} in {tensors.file(name)} has shape {shape}; {piece.leaf} '
        f'needs {piece.their_shape}.'
      )
      if piece.leaf in _VOCABULARY:
        size = config.vocab_size
        message += (
          f' The vocabulary does not match: model.vocab_size is {size}.'
        )
      raise ValueError(message)
    if tensors.types[name] not in files.DTYPES:
      raise ValueError(
        f'{name} in {tensors.file(name)} is stored as {tensors.types[name]}; '
        f'only {", ".join(files.DTYPES)} can be read (quantised weights '
        'cannot).'
      )


def spares(
  layout: ModuleType,
  config: TransformerConfig,
  published: TransformerConfig,
  tensors: files.Tensors,
  names: dict[str, str],
  pieces: list[Piece],
) -> list[tuple[str, str]]:
  """Checks that every tensor of the files is used, spare or left behind.

  `published` is the config of the file, whose head may be left behind; `names`
  are those of `find_names`; `pieces` are what the model reads.

  Returns:
    Copies of tied weights: (name, name of the original) in the file. `copies`
    compares them.

  Raises:
    ValueError: the model has no place for a tensor.
  """
  used = {piece.theirs for piece in pieces}
  if config.head != published.head:
    every = expand(layout.weights(published), published, leaf_shapes(published))
    used |= {piece.theirs for piece in every}
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
    elif match[0] in names:  # otherwise both belong to the head left behind
      twins.append((name, names[match[0]]))
  if unknown:
    raise ValueError(
      f'{len(unknown)} weights have no place in a {layout.MODEL_TYPES[0]} '
      f'model with this {files.CONFIG}: {_some(unknown)}, in '
      f'{tensors.file(unknown[0])}.'
    )
  return twins


def copies(tensors: files.Tensors, twins: list[tuple[str, str]]) -> None:
  """Reads the copies of tied weights; raises ValueError if one differs."""
  for name, twin in twins:
    if not np.array_equal(tensors.read(name), tensors.read(twin)):
      raise ValueError(
        f'{name} in {tensors.file(name)} differs from {twin}, to which '
        f'{files.CONFIG} ties it: one of them is wrong.'
      )


def vocabulary(folder: str, rows: int, where: str) -> None:
  """Checks that a table has a row for every id of the tokenizer beside it.

  A table with more rows than ids is usual: it is padded. `folder` may hold a
  tokenizer's files; config.json in `where` says `rows`.

  Raises:
    ValueError: the tokenizer has more ids.
  """
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
  """How many rows a table needs for these ids, in any order."""
  if not all(type(i) is int for i in ids):
    raise ValueError(f'{path} must hold a whole number for each token.')
  return 1 + max(ids, default=-1)


def _pieces(path):
  """How many pieces a SentencePiece model has: fields 1 of a protocol buffer.

  0 for a file of another kind: LLaMA 3's tokenizer.model is tiktoken's.
  """
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


# A tokenizer's file -> how to count the rows that its ids need.
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


def params(
  flat: dict[str, np.ndarray | jax.Array], shapes: dict[str, tuple[int, ...]]
) -> None:
  """Checks that parameters, by path, have the shapes of a config.

  Raises:
    ValueError: names the parameter that is missing, unknown or of another
      shape, or is spread over several hosts.
  """
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
        f'The parameter {leaf} is spread over several hosts: restore the '
        'checkpoint in one process and save from there.'
      )


def _some(names, most=4):
  more = f' and {len(names) - most} more' if len(names) > most else ''
  return ', '.join(sorted(names)[:most]) + more
