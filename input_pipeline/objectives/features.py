"""Features: examples -> the arrays that a family of models reads.

As seqio's feature converters. Examples are [N, L] arrays; pieces.NOTHING fills
rows that are shorter.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from input_pipeline.objectives import packing
from input_pipeline.objectives.pieces import NOTHING, lengths_of, line_up

Shapes = dict[str, tuple[tuple[int, ...], Any]]  # name -> (row's shape, dtype)


# Name -> (shape without the batch, dtype) of each kind of batch.


def encoder_decoder_shapes(length: int, target_length: int) -> Shapes:
  """The arrays of an encoder-decoder's batch."""
  return {
    **_ids(length, 'encoder_inputs', 'encoder_positions', 'encoder_segments'),
    **_ids(target_length, 'inputs', 'targets', 'positions', 'segments'),
    'weights': ((target_length,), np.float32),
    **_ids(4, 'cursor'),
  }


def decoder_shapes(length: int, pairs: bool = False) -> Shapes:
  """The arrays of a decoder's batch, of inputs and targets with `pairs`."""
  return {
    **_ids(length, 'inputs', 'targets', 'positions', 'segments'),
    **(_ids(length, 'prefix') if pairs else {}),
    'weights': ((length,), np.float32),
    **_ids(4, 'cursor'),
  }


def encoder_shapes(length: int, predictions: int, pairs: bool) -> Shapes:
  """The arrays of an encoder's batch, of pairs of texts with `pairs`."""
  return {
    **_ids(length, 'inputs', 'positions', 'segments', 'types'),
    **_ids(predictions, 'predict_at', 'targets'),
    'weights': ((predictions,), np.float32),
    **({'is_next': ((), np.int32)} if pairs else {}),
    **_ids(4, 'cursor'),
  }


def _ids(length, *names):
  return dict.fromkeys(names, ((length,), np.int32))


def padding(shapes: Shapes, rows: int) -> np.ndarray:
  """`rows` rows of padding: zeros, and therefore segment 0 and weight 0.

  Rows are one int32 array [rows, W] with all arrays of a row side by side, so
  that only one array is moved; split() separates them.
  """
  return np.zeros((rows, sum(_widths(shapes))), np.int32)


def split(rows: np.ndarray, shapes: Shapes) -> dict[str, np.ndarray]:
  """Rows [rows, W] -> name -> view [rows, ...]; every dtype has 4 bytes."""
  parts = np.split(rows, np.cumsum(_widths(shapes))[:-1], axis=1)
  return {
    name: part.view(dtype).reshape(len(rows), *tail)
    for part, (name, (tail, dtype)) in zip(parts, shapes.items(), strict=True)
  }


def _widths(shapes):
  return [math.prod(tail) for tail, _ in shapes.values()]


def join(shapes: Shapes, **arrays: np.ndarray) -> np.ndarray:
  """Arrays [rows, ...] side by side, [rows, W]; arrays left out are 0."""
  rows = padding(shapes, len(arrays['inputs']))
  parts = split(rows, shapes)
  for name, values in arrays.items():
    np.copyto(parts[name], values, casting='unsafe')
  return rows


def encoder_decoder(
  examples: Sequence[tuple[np.ndarray, np.ndarray]],
  shapes: Shapes,
  rng: np.random.Generator,
  pack: bool,
  start: int = 0,
  groups: np.ndarray | None = None,
) -> np.ndarray:
  """Examples -> rows [rows, W] of an encoder-decoder's batch, in random order.

  examples is a list of (inputs [N, I], targets [N, J]) with I <= S and J <= T.
  Decoder inputs are the targets shifted right inside each segment, after the
  `start` id (T5's pad). Weights are 1 on targets. Examples with the same number
  in `groups` share a row (see packing).

    encoder_inputs  a b </s> e </s> 0   segments  1 1 1 2 2 0
    inputs          0 c d 0 f           segments  1 1 1 2 2
    targets         c d </s> f </s>     weights   1 1 1 1 1
  """
  room = shapes['encoder_inputs'][0][0], shapes['inputs'][0][0]
  sides = [[example[side] for example in examples] for side in (0, 1)]
  sizes = np.stack([lengths_of(side) for side in sides], axis=1)
  places = _places(sizes, room, rng, pack, groups)
  read, read_positions, read_segments = _put(sides[0], room[0], places)
  targets, positions, segments, starts = _put(
    sides[1], room[1], places, start, side=1
  )
  return join(
    shapes,
    encoder_inputs=read,
    encoder_positions=read_positions,
    encoder_segments=read_segments,
    inputs=_shifted(targets, positions, starts),
    targets=targets,
    positions=positions,
    segments=segments,
    weights=segments > 0,
  )


def lay_out(
  pieces: Sequence[np.ndarray],
  length: int,
  rng: np.random.Generator,
  pack: bool,
  *others: int | np.ndarray,
) -> np.ndarray:
  """Pieces of one stack -> tokens, positions, segments [rows, length].

  pieces is a list of [N, L] arrays with L <= `length`; rows are in random
  order. Segments count from 1, positions from 0 in each segment. Each of the
  `others` is a number for every piece, or one for all, and gives one more
  [rows, length] with that number at all places of the piece.
  """
  lengths = lengths_of(pieces)
  sizes = np.stack([lengths, np.zeros_like(lengths)], axis=1)
  places = _places(sizes, (length, 0), rng, pack)
  return _put(pieces, length, places, *others)


def _places(sizes, room, rng, pack, groups=None):
  """As packing.best_fit, or a row each without `pack`; rows in random order."""
  rows, offsets, segments = (
    packing.best_fit(sizes, room, rng, groups)
    if pack
    else packing.one_each(len(sizes))
  )
  return rng.permutation(rows.max(initial=-1) + 1)[rows], offsets, segments


def _put(pieces, length, places, *others, side=0):
  """Pieces at their places: arrays [3 + others, rows, length]; see lay_out.

  `places` come from _places; `side` is 0 for inputs, 1 for targets.
  """
  rows, offsets, segments = places
  numbers = [np.broadcast_to(own, rows.shape) for own in (segments, *others)]
  count = rows.max(initial=-1) + 1
  arrays = np.zeros([2 + len(numbers), count, length], np.int32)
  first = 0
  for tokens in pieces:
    group = slice(first, first + len(tokens))
    first = group.stop
    row, offset = rows[group], offsets[group, side]
    positions = np.arange(tokens.shape[1])
    values = [tokens, positions, *(own[group, None] for own in numbers)]
    real = tokens != NOTHING
    if not real.all():
      at = np.broadcast_to(row[:, None], real.shape)[real]
      at = at, (offset[:, None] + positions)[real]
      values = [np.broadcast_to(value, real.shape)[real] for value in values]
    elif not offset.any():  # as of full examples: slices are fastest
      at = row, slice(len(positions))
    else:
      at = row[:, None], offset[:, None] + positions
    for array, value in zip(arrays, values, strict=True):
      array[at] = value
  return arrays


def decoder(
  pieces: Sequence[np.ndarray],
  shapes: Shapes,
  rng: np.random.Generator,
  pack: bool,
  start: int | np.ndarray = 0,
) -> np.ndarray:
  """Pieces -> rows [rows, W] of a decoder's batch, in random order.

  The pieces are the targets; inputs are the targets shifted right inside each
  segment, after the `start` id. An array has one start id for each piece.
  Weights are 1 on targets.

    inputs   0 a b 0 c    segments 1 1 1 2 2
    targets  a b e c f    weights  1 1 1 1 1
  """
  targets, positions, segments, starts = lay_out(
    pieces, shapes['inputs'][0][0], rng, pack, start
  )
  return join(
    shapes,
    inputs=_shifted(targets, positions, starts),
    targets=targets,
    positions=positions,
    segments=segments,
    weights=segments > 0,
  )


def decoder_pairs(
  examples: Sequence[tuple[np.ndarray, np.ndarray]],
  shapes: Shapes,
  rng: np.random.Generator,
  pack: bool,
  start: int = 0,
  loss_on_inputs: bool = False,
) -> np.ndarray:
  """Examples -> rows [rows, W] of a decoder's batch, in random order.

  examples is a list of (inputs [N, I], targets [N, J]). An example is one line
  of tokens, inputs and then targets, predicted as in decoder(). Weights are 1
  where a target is predicted; `prefix` is 1 where the token that is read
  belongs to the inputs or is the start id.

    inputs a b </s>   targets c d </s>

    inputs   0 a b    </s> c d
    targets  a b </s> c    d </s>
    prefix   1 1 1    1    0 0
    weights  0 0 0    1    1 1

  A third array of an example, [N, I + J], says which tokens of its line are
  predicted instead: those of several answers.

  With `loss_on_inputs` weights are 1 on the inputs too: T5's language models
  (Raffel et al. 2020, table 2, and its published code).
  """
  lines = [np.hstack(example[:2]) for example in examples]
  lines = [
    line if (real := line != NOTHING).all() else line_up(line, real, [], [])
    for line in lines
  ]
  kept = lengths_of(example[0] for example in examples)
  length = shapes['inputs'][0][0]
  lengths = lengths_of(lines)
  sizes = np.stack([lengths, np.zeros_like(lengths)], axis=1)
  places = _places(sizes, (length, 0), rng, pack)
  targets, positions, segments, kept, starts = _put(
    lines, length, places, kept, start
  )
  weights = positions >= kept
  if any(len(example) == 3 for example in examples):
    weights = _put([example[2] for example in examples], length, places)[0]
  return join(
    shapes,
    inputs=_shifted(targets, positions, starts),
    targets=targets,
    positions=positions,
    segments=segments,
    prefix=(segments > 0) & (positions <= kept),
    weights=(segments > 0) & ((weights > 0) | loss_on_inputs),
  )


def _shifted(targets, positions, starts):
  """[rows, T]: each segment shifted right by one place, after its start id."""
  inputs = starts.copy()
  np.copyto(inputs[:, 1:], targets[:, :-1], where=positions[:, 1:] > 0)
  return inputs


def pairs_rows(
  pairs: Sequence[tuple[np.ndarray, np.ndarray, int]],
  length: int,
  cls: int,
  sep: int,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """Pairs -> [CLS] first [SEP] second [SEP], each in a row of its own.

  Returns tokens [rows, length], and a dict of positions, segments, types (0 up
  to the first [SEP], then 1) [rows, length] and is_next [rows].
  """
  lines = [np.hstack([cls, a, sep, b, sep])[None] for a, b, _ in pairs]
  middles = np.array([len(first) + 2 for first, *_ in pairs], int)
  tokens, positions, segments, middle = _put(
    lines, length, packing.one_each(len(pairs)), middles
  )
  types = (segments > 0) & (positions >= middle)
  labels = np.array([label for *_, label in pairs], np.int32)
  arrays = {'positions': positions, 'segments': segments, 'types': types}
  return tokens, arrays | {'is_next': labels}


def encoder(
  shapes: Shapes,
  tokens: np.ndarray,
  inputs: np.ndarray,
  at: np.ndarray,
  chosen: np.ndarray,
  others: dict[str, np.ndarray],
) -> np.ndarray:
  """Masked rows -> an encoder's batch [rows, W].

  tokens, inputs are [rows, T]; `at` [rows, P] are positions to predict and
  `chosen` bool [rows, P] which of them count. Targets are the tokens there,
  weights 1. `others` are further arrays of the batch.

    tokens   [CLS] my dog is hairy [SEP]     predict_at  4 0
    inputs   [CLS] my dog is [MASK] [SEP]    targets     hairy 0
                                             weights     1 0
  """
  targets = np.where(chosen, np.take_along_axis(tokens, at, axis=1), 0)
  return join(
    shapes, inputs=inputs, predict_at=at, targets=targets, weights=chosen,
    **others,
  )  # fmt: skip
