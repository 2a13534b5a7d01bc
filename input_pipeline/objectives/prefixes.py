"""Prefixes: texts split so that both sides of an encoder-decoder's row fill.

A row has S places for prefixes and S for what follows them. Texts of S - 2
tokens that are split one by one cannot share a row, which stays half empty: two
fit only where one's prefix is as long as the other's rest. Here that is so.
"""

import numpy as np

from input_pipeline.objectives import corruption, packing


def mirrored(pieces, rng, room, eos):
  """Prefixes and what follows them, split in pairs that fill a row.

  pieces is a list of [N, L] arrays, L <= `room` - 2. They are packed into lanes
  of `room` tokens, and two lanes make a row. A row draws one u, uniform below
  1: a piece of its first lane keeps that share of its tokens as the prefix, one
  of its second lane what the first would leave to predict. So each split is as
  likely for each piece as in corruption.prefix_lm, but pieces of one row are
  not split independently.

    lanes  a b c d e f  and  g h i j k l   u = 0.3
    row    a b </s> g h i j </s>  ->  c d e f </s> k l </s>

  Returns a list of (inputs [N, I], targets [N, J]), and the number of the row
  that each piece shares, over all arrays.
  """
  if not pieces:
    return [], np.zeros(0, int)
  sizes = [len(tokens) for tokens in pieces]
  lengths = np.repeat([tokens.shape[1] for tokens in pieces], sizes)
  # A piece of n tokens takes below 2 + u (n - 1) of one side with its EOS, or
  # 2 + (1 - u) (n - 1); 2 more are for one that lies in the other lane.
  costs = np.stack([lengths + 3, np.zeros_like(lengths)], axis=1)
  lanes, *_ = packing.best_fit(costs, (room + 1, 0), rng)
  count = lanes.max() + 1
  # Lanes of as many pieces go together, full ones first.
  order = np.lexsort(
    [-np.bincount(lanes, lengths, count), -np.bincount(lanes, minlength=count)]
  )
  place = np.argsort(order)[lanes]
  row, second = place // 2, place % 2 == 1
  u = rng.random(-(-count // 2))[row]
  kept = 1 + np.floor(u * (lengths - 1)).astype(int)
  kept = np.where(second, lengths - kept, kept)
  kept[lengths == 1] = 0

  # Lanes with unlike numbers of pieces may need more room than there is: they
  # are parted.
  groups = 2 * row
  sides = np.stack([kept + 1, lengths - kept + 1])
  taken = [np.bincount(row, side, -(-count // 2)) for side in sides]
  groups += second & (np.max(taken, axis=0) > room)[row]
  groups = np.unique(groups, return_inverse=True)[1]
  kept = np.split(kept, np.cumsum(sizes)[:-1])
  examples = [
    corruption.prefix_lm(tokens, rng, eos, own)
    for tokens, own in zip(pieces, kept, strict=True)
  ]
  return examples, groups
