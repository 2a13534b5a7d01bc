"""Masking: the tokens to predict, and what is read instead."""

import numpy as np
import pytest

from input_pipeline.objectives import masking
from tests.helpers.objectives import rng

CLS, SEP, MASK = 61, 62, 63


# ---- Which tokens are predicted ---------------------------------------------


@pytest.mark.parametrize(
  ('length', 'rate', 'limit', 'count'),
  [
    (128, 0.15, 20, 19),
    (128, 0.15, 10, 10),  # the limit
    (3, 0.15, 20, 1),  # at least one
    (10, 0.25, 20, 2),  # 2.5 to even, as Python rounds
    (14, 0.25, 20, 4),
    (4, 0.9, 20, 2),  # at most the tokens that may be masked
    (2, 0.15, 20, 0),
  ],
)
@pytest.mark.parametrize('rule', ['bert', 'electra'])
def test_masked_counts(rule, length, rate, limit, count):
  lengths = np.array([length, 0])
  counts = masking.masked_counts(rule, lengths, lengths - 2, rate, limit, None)
  assert counts[0] == count
  assert counts[1] <= 0


def test_roberta_rounds_at_random():
  lengths = np.full(20_000, 23)  # 15% are 3.45
  # A share of all tokens, though fewer may be masked.
  counts = masking.masked_counts(
    'roberta', lengths, lengths - 9, 0.15, 9, rng()
  )
  assert set(counts) == {3, 4}
  spread = 4 * (0.45 * 0.55 / 20_000) ** 0.5
  assert counts.mean() == pytest.approx(3.45, abs=spread)
  counts = masking.masked_counts('roberta', lengths, lengths, 0.5, 9, rng())
  assert set(counts) == {9}


def test_chosen_positions_rise_and_may_be_masked():
  maskable = rng(1).random((200, 30)) < 0.5
  counts = np.minimum(rng(2).integers(0, 12, 200), maskable.sum(1))
  at, chosen = masking.choose(rng(), maskable, counts, 12)
  assert at.shape == chosen.shape == (200, 12)
  np.testing.assert_array_equal(chosen.sum(1), counts)
  for row, (places, here) in enumerate(zip(at, chosen, strict=True)):
    assert maskable[row, places[here]].all()
    assert (np.diff(places[here]) > 0).all()  # rising, none twice
    assert here[: counts[row]].all()
    assert not places[~here].any()


@pytest.mark.parametrize('again', [False, True])
def test_all_positions_are_equally_likely(again):
  N = 20_000
  maskable = np.tile([False, True, True, False, True, True, True], (N, 1))
  at, chosen = masking.choose(rng(), maskable, np.full(N, 3), 4, again)
  counts = np.bincount(at[chosen], minlength=7)
  assert not counts[[0, 3]].any()
  p = 0.2 if again else 0.6
  draws = 3 * N if again else N
  spread = 4 * (draws * p * (1 - p)) ** 0.5
  np.testing.assert_allclose(counts[[1, 2, 4, 5, 6]], draws * p, atol=spread)
  twice = (np.diff(at[:, :3]) == 0).any(1).mean()
  # Three draws of five: 1 - 4/5 3/5 hold a repetition.
  assert twice == pytest.approx(0.52 if again else 0, abs=0.02)
  assert (np.diff(at[:, :3]) >= 0).all()


def test_positions_of_a_long_row_are_equally_likely():
  """Too few bits of a 32-bit key are random: ties would favour the first."""
  rows, length = 64, 1 << 16
  maskable = np.ones((rows, length), bool)
  at, chosen = masking.choose(rng(), maskable, np.ones(rows, int), 1)
  assert chosen.all()
  error = (length**2 / 12 / rows) ** 0.5
  assert at.mean() == pytest.approx(length / 2, abs=4 * error)


# ---- What is read -----------------------------------------------------------


@pytest.mark.parametrize(('masked', 'drawn'), [(0.8, 0.1), (0.85, 0.0)])
def test_shares_of_masks_and_random_tokens(masked, drawn):
  N, T, P = 2000, 40, 10
  tokens = np.full((N, T), 5, np.int32)
  maskable = np.ones((N, T), bool)
  at, chosen = masking.choose(rng(), maskable, np.full(N, 8), P)
  inputs = masking.mask_tokens(
    tokens, at, chosen, rng(3), MASK, np.arange(64), masked, drawn
  )
  assert (tokens == 5).all()
  changed = np.zeros((N, T), bool)
  changed[np.arange(N)[:, None], np.where(chosen, at, at[:, :1])] = True
  assert (inputs[~changed] == 5).all()
  values = inputs[changed]
  total = 8 * N
  assert len(values) == total
  # By chance a random token is the mask or the old token: 1 of 64 each.
  for value, share in (
    (MASK, masked + drawn / 64),
    (5, 1 - masked - drawn + drawn / 64),
    (9, drawn / 64),
  ):
    expected = share * total
    spread = 4 * (expected * (1 - share)) ** 0.5
    assert (values == value).sum() == pytest.approx(expected, abs=spread)
  others = values[(values != MASK) & (values != 5)]
  if drawn:
    assert set(others) == set(range(63)) - {5}  # all there are
  else:
    assert not len(others)


def test_a_position_chosen_twice_is_masked_if_either_says_so():
  tokens = np.full((4000, 2), 5, np.int32)
  at = np.ones((4000, 2), np.int32)
  chosen = np.ones((4000, 2), bool)
  inputs = masking.mask_tokens(
    tokens, at, chosen, rng(), MASK, np.arange(64), 0.5, 0.0
  )
  assert (inputs[:, 0] == 5).all()
  assert (inputs[:, 1] == MASK).mean() == pytest.approx(0.75, abs=0.03)


def test_random_tokens_of_roberta_are_not_special():
  ids = masking.ordinary(10, (0, 3, 9))
  assert ids.tolist() == [1, 2, 4, 5, 6, 7, 8]
  assert masking.ordinary(10, ()).tolist() == list(range(10))


# ---- Whole words ------------------------------------------------------------


def slow_words(maskable, starts):
  words, last = [], None
  for place in np.flatnonzero(maskable).tolist():
    if starts[place] or last != place - 1:
      words.append([])
    words[-1].append(place)
    last = place
  return words


def test_whole_words():
  """Words are masked whole, may fill the count, and are equally likely."""
  N, T, P = 4000, 24, 9
  row = rng(5)
  maskable, starts = row.random(T) < 0.85, row.random(T) < 0.6
  words = slow_words(maskable, starts)
  assert max(map(len, words)) > 2
  both = np.tile(maskable, (N, 1)), np.tile(starts, (N, 1))
  counts = rng(6).integers(0, P + 1, N)
  at, chosen = masking.choose_words(rng(), *both, counts, P)
  found = np.zeros(len(words))
  for places, here, count in zip(at, chosen, counts, strict=True):
    taken = places[here].tolist()
    assert not places[~here].any()
    whole = [w for w in words if set(w) <= set(taken)]
    assert sum(whole, []) == taken
    left = count - len(taken)
    assert left >= 0
    assert all(len(w) > left for w in words if w not in whole)
    found += [w in whole for w in words]
  single = np.array([len(w) == 1 for w in words])
  p = found[single].mean() / N
  spread = 4 * (p * (1 - p) / N) ** 0.5
  np.testing.assert_allclose(found[single] / N, p, atol=spread)


def test_whole_words_equal_the_algorithm():
  """BERT's algorithm goes word by word; the random order is the same."""
  N, T, P = 50, 30, 8
  maskable, starts = rng(1).random((N, T)) < 0.8, rng(2).random((N, T)) < 0.5
  counts = rng(3).integers(1, P + 1, N)
  at, chosen = masking.choose_words(rng(4), maskable, starts, counts, P)
  words = [slow_words(m, s) for m, s in zip(maskable, starts, strict=True)]
  keys = rng(4).random((N, max(map(len, words))))
  for row in range(N):
    picked = []
    for word in np.argsort(keys[row, : len(words[row])]):
      if len(picked) >= counts[row]:
        break
      if len(picked) + len(words[row][word]) > counts[row]:
        continue
      picked += words[row][word]
    assert at[row][chosen[row]].tolist() == sorted(picked)
