"""Rows of labelled examples (labelled.py) -> the arrays of a batch."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from input_pipeline.config import DataConfig
from input_pipeline.objectives import features
from input_pipeline.objectives.pieces import NOTHING


def shapes(config: DataConfig, family: str) -> features.Shapes:
  """Name -> (shape without the batch, dtype) of a batch for a head.

  `inputs`, `positions`, `segments`, and an encoder's `types`: int [B,T], T is
  data.length; of a 'choice' [B,C,T], C is data.choices, and with data.orders
  'both' [B,2,T]. `labels` are int [B] (float32 of a 'regression'; [B,T] of
  'tagging'), or `start`, `end` and `no_answer` int [B] of a 'span'. `weights`
  are float32, in the shape of the labels.

  Raises:
    ValueError: the family cannot read both orders of a pair.
  """
  row = ((config.length,), np.int32)
  one = ((), np.int32)
  if config.objective == 'choice':
    row = ((config.choices, config.length), np.int32)
  if config.orders == 'both':
    if family != 'decoder':
      raise ValueError(
        "data.orders='both' adds what a decoder makes of two texts (GPT-1): "
        f"model.family={family!r} has '' or 'each'."
      )
    row = ((2, config.length), np.int32)
  found = dict.fromkeys(('inputs', 'positions', 'segments'), row)
  if family == 'encoder':
    found['types'] = row
  match config.objective:
    case 'span':
      found |= {'start': one, 'end': one, 'no_answer': one}
    case 'regression':
      found['labels'] = ((), np.float32)
    case 'tagging':
      found['labels'] = row
    case _:
      found['labels'] = one
  weights = row[0] if config.objective == 'tagging' else ()
  return found | {'weights': (weights, np.float32), 'cursor': ((4,), np.int32)}


def make_rows(
  documents: Sequence[Sequence[dict[str, Any]]],
  shapes: features.Shapes,
  rng: np.random.Generator,
) -> np.ndarray:
  """`Encoded.rows` -> rows for a head in random order, [rows, W]."""
  found = [row for own in documents for row in own]
  return lay_out([found[n] for n in rng.permutation(len(found))], shapes)


def lay_out(
  rows: Sequence[dict[str, Any]], shapes: features.Shapes
) -> np.ndarray:
  """Rows for a head in their order, [rows, W]; see features.padding.

  inputs     [CLS] a b [SEP] c [SEP] 0     types     0 0 0 0 1 1 0
  positions      0 1 2     3 4     5 0     segments  1 1 1 1 1 1 0
  """
  whole = features.padding(shapes, len(rows))
  batch = features.split(whole, shapes)
  for n, row in enumerate(rows):
    several = isinstance(row['inputs'], list)
    for c, line in enumerate(row['inputs'] if several else [row['inputs']]):
      at = (n, c, slice(len(line))) if several else (n, slice(len(line)))
      batch['inputs'][at] = line
      batch['positions'][at] = np.arange(len(line))
      batch['segments'][at] = 1
      if 'types' in batch:
        batch['types'][at] = row['types'][c] if several else row['types']
    for name in ('labels', 'start', 'end', 'no_answer'):
      if name in row:
        value = np.asarray(row[name])
        batch[name][(n, *map(slice, value.shape))] = value
    weights = np.asarray(row.get('weights', 1))
    batch['weights'][(n, *map(slice, weights.shape))] = weights
  return whole


def examples(
  documents: Sequence[Sequence[dict[str, np.ndarray]]],
) -> list[tuple[np.ndarray, np.ndarray]]:
  """`Encoded.rows` of a text-to-text model -> (inputs, targets) arrays.

  The list has one pair, [N,I] and [N,J], padded with pieces.NOTHING. If a row
  has several answers, there is a third array, [N,I+J]: which tokens are parts
  of one.
  """
  found = [row for own in documents for row in own]
  if not found:
    return []
  names = ['inputs', 'targets'] + ['answers'] * any(
    'answers' in x for x in found
  )
  return [tuple(_stack([_part(x, n) for x in found]) for n in names)]


def _part(row, name):
  """An array of a row; all targets of a row without `answers` are answers."""
  if name in row:
    return row[name]
  return np.repeat([0, 1], [len(row['inputs']), len(row['targets'])])


def _stack(lines):
  stacked = np.full([len(lines), max(map(len, lines))], NOTHING, np.int32)
  for n, line in enumerate(lines):
    stacked[n, : len(line)] = line
  return stacked
