"""Masking: which tokens an encoder predicts, and what it reads instead.

Rows are [N, T] arrays; a row predicts at most P of its tokens. Of n tokens BERT
predicts round(rate n), at least one, RoBERTa floor(rate n + u) with u uniform
below 1, ELECTRA as BERT but drawn with replacement. A random token is any for
BERT and no special one for RoBERTa; ELECTRA has none (their published code).
"""

import functools

import numpy as np

LONGEST = 16  # tokens in a word of a script with spaces, about


def frame(tokens, cls, sep):
  """[N, L] -> [N, L + 2]: [CLS] tokens [SEP] (Devlin et al. 2019, 3)."""
  framed = np.empty([tokens.shape[0], tokens.shape[1] + 2], np.int32)
  framed[:, 0], framed[:, 1:-1], framed[:, -1] = cls, tokens, sep
  return framed


def masked_counts(rule, lengths, candidates, rate, limit, rng):
  """How many tokens of a row are predicted.

  `lengths` [N] count [CLS] and [SEP]. BERT and ELECTRA: length * rate, rounded,
  at least 1. RoBERTa: rounded up or down at random, so that the mean is exact.
  No more than `limit`, nor than there are `candidates` [N].

  >>> lengths = np.array([128, 64, 3])
  >>> masked_counts('bert', lengths, lengths - 2, 0.15, 20, None)
  array([19, 10,  1])
  """
  if rule == 'roberta':
    counts = np.floor(lengths * rate + rng.random(len(lengths))).astype(int)
  else:
    counts = np.maximum(np.rint(lengths * rate).astype(int), 1)
  return np.minimum(np.minimum(counts, limit), candidates)


def choose(rng, maskable, counts, limit, again=False):
  """Positions to predict: counts [N] of each row's `maskable` bool [N, T].

  All are equally likely; with `again` one may be drawn several times (ELECTRA).
  Returns positions [N, limit], rising, 0 where there are no more, and which of
  them were chosen, bool [N, limit].
  """
  rows, length = maskable.shape
  if again:
    places = np.argsort(~maskable, axis=1, kind='stable')
    ranks = rng.random([rows, limit]) * maskable.sum(axis=1)[:, None]
    order = np.take_along_axis(places, ranks.astype(int), axis=1)
  else:
    # One sort orders random numbers and tells their places, their low bits.
    kind, bits = (np.uint32, 32) if length < 4096 else (np.uint64, 64)
    low = kind((1 << length.bit_length()) - 1)
    keys = rng.integers(1 << bits, size=[rows, length], dtype=kind) >> kind(1)
    keys = keys & ~low | np.arange(length, dtype=kind)
    keys |= kind(1 << bits - 1) * ~maskable
    order = np.sort(keys, axis=1)[:, :limit] & low
  chosen = np.arange(limit) < counts[:, None]
  at = np.sort(np.where(chosen, order, length), axis=1)
  return np.where(chosen, at, 0).astype(np.int32), chosen


def choose_words(rng, maskable, starts, counts, limit):
  """Whole words to predict, of `counts` [N] tokens at most (BERT's release).

  A word begins at each of `starts` bool [N, T], and where the token before is
  not maskable. In random order each word is taken if it still fits: one that
  would exceed the number is left out, as in the release. Returns what `choose`
  returns.

    maskable 0 1 1 1 1 0   starts 0 1 0 0 1 0   count 3: {1 2 3} or {4}

  The release so never predicts a word of more tokens than the row's count, and
  a row of such words would have none. Of words that have more than LONGEST
  tokens too, which those of English never have, tokens are drawn one by one for
  what is missing from the count. A row that words fill is as in the release.
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
  sizes = whole = sizes.reshape(rows, words)
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
  large = whole > np.maximum(counts, LONGEST)[:, None]
  short = np.flatnonzero(large.any(axis=1) & (left > 0))
  if len(short):
    parts = np.take_along_axis(large[short], number[short], axis=1)
    parts &= maskable[short]
    keys = np.where(parts, rng.random(parts.shape), 2)
    ranks = np.argsort(np.argsort(keys, axis=1), axis=1)
    places[short] |= parts & (ranks < left[short, None])
  chosen = np.arange(limit) < places.sum(axis=1)[:, None]
  at = np.zeros([rows, limit], np.int32)
  at[chosen] = np.nonzero(places)[1]
  return at, chosen


@functools.lru_cache(8)
def ordinary(size, specials):
  """The ids below `size` that are no `specials`, int32."""
  return np.setdiff1d(np.arange(size, dtype=np.int32), specials)


def mask_tokens(tokens, at, chosen, rng, mask, ids, masked_share, random_share):
  """Masks, random tokens or nothing new: tokens [N, T] -> inputs [N, T].

  Of the `chosen` positions `at` [N, P] a share reads [MASK], a share any of the
  `ids` (Devlin et al. 2019, 3.1), the rest stays. A position that was chosen
  twice is masked if either says so (ELECTRA).

    tokens   my dog is hairy    chosen hairy
    inputs   my dog is [MASK]   of 10 times 8
             my dog is apple    once
             my dog is hairy    once
  """
  rows = np.broadcast_to(np.arange(len(at))[:, None], at.shape)
  draw = rng.random(at.shape)
  other = ids[rng.integers(len(ids), size=at.shape)]
  inputs = tokens.copy()
  drawn = (masked_share <= draw) & (draw < masked_share + random_share)
  for here, values in (
    (chosen & drawn, other),
    (chosen & (draw < masked_share), np.full(at.shape, mask)),
  ):
    inputs[rows[here], at[here]] = values[here]
  return inputs
