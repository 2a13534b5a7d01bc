"""Masked language modelling: the tokens to predict, and what is read instead.

Rows are [N, T] arrays; at most P tokens of a row are predicted. As in the
published code, of n tokens:

           predicted                      random tokens
  BERT     round(rate n), at least one    any id
  RoBERTa  floor(rate n + u), 0 <= u < 1  any id that is not special
  ELECTRA  as BERT, with replacement      none
"""

import functools

import numpy as np


def frame(tokens: np.ndarray, cls: int, sep: int) -> np.ndarray:
  """[N, L] -> [N, L + 2]: [CLS] tokens [SEP] (Devlin et al. 2019, 3)."""
  return np.pad(tokens, [(0, 0), (1, 1)], constant_values=[(0, 0), (cls, sep)])


def masked_counts(
  rule: str,
  lengths: np.ndarray,
  candidates: np.ndarray,
  rate: float,
  limit: int,
  rng: np.random.Generator | None,
) -> np.ndarray:
  """How many tokens of each row are predicted, [N].

  `lengths` [N] count [CLS] and [SEP]. RoBERTa rounds up or down at random, so
  that the mean is exact. At most `limit` and the row's `candidates` [N].

  >>> lengths = np.array([128, 64, 3])
  >>> masked_counts('bert', lengths, lengths - 2, 0.15, 20, None)
  array([19, 10,  1])
  """
  if rule == 'roberta':
    counts = np.floor(lengths * rate + rng.random(len(lengths))).astype(int)
  else:
    counts = np.maximum(np.rint(lengths * rate).astype(int), 1)
  return np.minimum(np.minimum(counts, limit), candidates)


def choose(
  rng: np.random.Generator,
  maskable: np.ndarray,
  counts: np.ndarray,
  limit: int,
  again: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
  """Positions to predict: counts [N] of each row's `maskable` bool [N, T].

  All are equally likely; with `again` one may be drawn several times (ELECTRA).
  Returns positions [N, limit] in rising order, filled up with 0, and which of
  them were chosen, bool [N, limit].

    maskable 0 1 1 1 1 0   count 2   limit 3   ->   at 2 4 0   chosen 1 1 0
  """
  rows, length = maskable.shape
  if again:
    places = np.argsort(~maskable, axis=1, kind='stable')
    ranks = rng.random([rows, limit]) * maskable.sum(axis=1)[:, None]
    order = np.take_along_axis(places, ranks.astype(int), axis=1)
  else:
    # The low bits of a random number are its place: one sort gives the places
    # in random order.
    kind, bits = (np.uint32, 32) if length < 4096 else (np.uint64, 64)
    low = kind((1 << length.bit_length()) - 1)
    keys = rng.integers(1 << bits, size=[rows, length], dtype=kind) >> kind(1)
    keys = keys & ~low | np.arange(length, dtype=kind)
    keys |= kind(1 << bits - 1) * ~maskable
    order = np.sort(keys, axis=1)[:, :limit] & low
  chosen = np.arange(limit) < counts[:, None]
  at = np.sort(np.where(chosen, order, length), axis=1)
  return np.where(chosen, at, 0).astype(np.int32), chosen


def choose_words(
  rng: np.random.Generator,
  maskable: np.ndarray,
  starts: np.ndarray,
  counts: np.ndarray,
  limit: int,
) -> tuple[np.ndarray, np.ndarray]:
  """Whole words to predict, with at most `counts` [N] tokens (BERT's release).

  A word begins at each of `starts` bool [N, T], and after each token that is
  not maskable. In random order each word is taken if it still fits, as in the
  release. Returns what `choose` returns.

    maskable 0 1 1 1 1 0   starts 0 1 0 0 1 0   count 3: {1 2 3} or {4}

  In the release a word with more tokens than the row's count is never
  predicted: a short row, or one in a script without spaces, would predict
  little or nothing. Here, if words leave part of the count unused, single
  tokens are drawn from such words.
  """
  rows, length = maskable.shape
  starts = starts.copy()
  starts[:, 0] = True
  starts[:, 1:] |= ~maskable[:, :-1]
  starts &= maskable
  number = np.cumsum(starts, axis=1) - 1  # of the word in its row
  words = number.max(initial=-1) + 1
  flat = np.arange(rows)[:, None] * words + number
  sizes = np.bincount(flat[maskable], minlength=rows * words)
  sizes = sizes.reshape(rows, words)
  large = sizes > counts[:, None]
  order = np.argsort(np.where(sizes, rng.random(sizes.shape), 2), axis=1)
  sizes = np.take_along_axis(sizes, order, axis=1)
  taken = np.zeros([rows, words], bool)
  left = counts.copy()
  for rank in range(words):
    if not left.any():
      break
    fits = sizes[:, rank] <= left
    taken[fits, order[fits, rank]] = True
    left -= sizes[:, rank] * fits
  places = np.zeros_like(maskable)
  places[maskable] = taken.ravel()[flat[maskable]]
  short = np.flatnonzero(large.any(axis=1) & (left > 0))
  if len(short):
    parts = np.take_along_axis(large[short], number[short], axis=1)
    parts &= maskable[short]
    # What is drawn after this is the same without such rows.
    (own,) = rng.spawn(1)
    keys = np.where(parts, own.random(parts.shape), 2)
    ranks = np.argsort(np.argsort(keys, axis=1), axis=1)
    places[short] |= parts & (ranks < left[short, None])
  chosen = np.arange(limit) < places.sum(axis=1)[:, None]
  at = np.zeros([rows, limit], np.int32)
  at[chosen] = np.nonzero(places)[1]
  return at, chosen


@functools.lru_cache(8)
def ordinary(size: int, specials: tuple[int, ...]) -> np.ndarray:
  """The ids below `size` that are not among `specials`, int32 [n]."""
  return np.setdiff1d(np.arange(size, dtype=np.int32), specials)


def mask_tokens(
  tokens: np.ndarray,
  at: np.ndarray,
  chosen: np.ndarray,
  rng: np.random.Generator,
  mask: int,
  ids: np.ndarray,
  masked_share: float,
  random_share: float,
) -> np.ndarray:
  """What is read in place of the tokens to predict: [N, T] -> [N, T].

  At the `chosen` positions `at` [N, P] a share reads [MASK], a share reads any
  of the `ids` (Devlin et al. 2019, 3.1), and the rest stays. A position that
  was chosen twice is masked if either draw says so (ELECTRA).

    tokens   my dog is hairy    chosen: hairy
    inputs   my dog is [MASK]   8 of 10 times
             my dog is apple    1 of 10 times
             my dog is hairy    1 of 10 times
  """
  rows = np.broadcast_to(np.arange(len(at))[:, None], at.shape)
  draw = rng.random(at.shape)
  other = ids[rng.integers(len(ids), size=at.shape)]
  inputs = tokens.copy()
  here = chosen & (masked_share <= draw) & (draw < masked_share + random_share)
  inputs[rows[here], at[here]] = other[here]
  here = chosen & (draw < masked_share)
  inputs[rows[here], at[here]] = mask
  return inputs
