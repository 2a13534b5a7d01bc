"""Prefix language modelling: the first part of a text, and the rest to predict.

An encoder-decoder's row has S places for prefixes and S for what follows them.
Texts of S - 2 tokens that are split one by one cannot share a row, so it stays
half empty: two fit only if one's prefix is as long as the other's rest.
mirrored() splits them so.
"""

from collections.abc import Sequence

import numpy as np

from input_pipeline.objectives import packing
from input_pipeline.objectives.pieces import line_up


def prefix_lm(
  tokens: np.ndarray,
  rng: np.random.Generator,
  eos: int,
  kept: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """T5's prefix language modelling (Raffel et al. 2020, 3.3.1).

  tokens [N, L]. The prefix has `kept` [N] tokens, or 1 to L - 1, each number
  equally likely. A piece of one token is all target.

    tokens   Thank you for inviting me
    inputs   Thank you </s>
    targets  for inviting me </s>
  """
  rows, length = tokens.shape
  if kept is None:
    kept = rng.integers(1, length, size=rows) if length > 1 else np.zeros(rows)
  first = np.arange(length) < kept[:, None]
  return line_up(tokens, first, [], [eos]), line_up(tokens, ~first, [], [eos])


def mirrored(
  pieces: Sequence[np.ndarray], rng: np.random.Generator, room: int, eos: int
) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
  """Prefixes and what follows them, split in pairs that fill a row.

  pieces is a list of [N, L] arrays, L <= `room` - 2. They are packed into lanes
  of `room` tokens, and two lanes make a row. A row draws one u, uniform below
  1: a piece in its first lane keeps that share of its tokens as the prefix; a
  piece in its second lane keeps the share that the first leaves to predict. So
  each split of a piece is as likely as in prefix_lm, but the pieces of a row
  are not split independently.

    lanes  a b c d e f  and  g h i j k l   u = 0.3
    row    a b </s> g h i j </s>  ->  c d e f </s> k l </s>

  Returns a list of (inputs [N, I], targets [N, J]), and for each piece of all
  arrays the number of its group; a group shares a row.
  """
  if not pieces:
    return [], np.zeros(0, int)
  sizes = [len(tokens) for tokens in pieces]
  lengths = np.repeat([tokens.shape[1] for tokens in pieces], sizes)
  # On one side a piece of n tokens and its EOS take less than 2 + u (n - 1)
  # places, or 2 + (1 - u) (n - 1) in the second lane. A piece costs n - 1, its
  # own 2, and 2 for a piece of the other lane.
  costs = np.stack([lengths + 3, np.zeros_like(lengths)], axis=1)
  lanes, *_ = packing.best_fit(costs, (room + 1, 0), rng)
  count = lanes.max() + 1
  # Pair lanes with the same number of pieces, full ones first.
  order = np.lexsort(
    [-np.bincount(lanes, lengths, count), -np.bincount(lanes, minlength=count)]
  )
  place = np.argsort(order)[lanes]
  row, second = place // 2, place % 2 == 1
  u = rng.random(-(-count // 2))[row]
  kept = 1 + np.floor(u * (lengths - 1)).astype(int)
  kept = np.where(second, lengths - kept, kept)
  kept[lengths == 1] = 0

  # Two lanes with different numbers of pieces may need more room than a row
  # has: give each a row of its own then.
  groups = 2 * row
  sides = np.stack([kept + 1, lengths - kept + 1])
  taken = [np.bincount(row, side, -(-count // 2)) for side in sides]
  groups += second & (np.max(taken, axis=0) > room)[row]
  groups = np.unique(groups, return_inverse=True)[1]
  kept = np.split(kept, np.cumsum(sizes)[:-1])
  examples = [
    prefix_lm(tokens, rng, eos, own)
    for tokens, own in zip(pieces, kept, strict=True)
  ]
  return examples, groups
