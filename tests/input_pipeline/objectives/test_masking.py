"""Masking: the tokens to predict, and what is read instead."""

import copy

import numpy as np
import pytest

from input_pipeline.choices import MASKING
from input_pipeline.objectives import features, masking
from input_pipeline.objectives.rows import _masked_rows, batch_shapes
from input_pipeline.tokenizers.numbers import Numbers
from tests.helpers.corpora import data_config

CLS, SEP, MASK = 61, 62, 63


def rng(seed=0):
  return np.random.default_rng(seed)


def make_config(objective, **changes):
  values = {'sentinels': 0, 'mean_span_length': 0.0, 'document_tokens': 0}
  values |= {'objective': objective, 'noise_density': 0.0}
  if objective != 'causal':
    values |= {'noise_density': 0.15, 'predictions': 9, 'masking': 'bert'}
    values |= {'masked_share': 0.8, 'random_share': 0.1}
  if objective == 'sentence_pairs':
    values |= {'short_share': 0.1, 'pack': False}
  return data_config(**values | changes)


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


# ---- The papers' masking, token by token ------------------------------------


def papers_masking(rule, text, segments, tokenizer, config, rng):
  """A row's list of (position, token) to predict, and what is read.

  Slow and plain, with the same random numbers in the same order.

  BERT (Devlin et al. 2019, 3.1, A.1 and its published code): 15% of the tokens
  at random, at least one, at most max_predictions_per_seq; each reads [MASK]
  with 80%, any token of the vocabulary with 10%, itself with 10%. RoBERTa (Liu
  et al. 2019, 4.1, and fairseq's code): the number is rounded up or down at
  random, no special token is drawn, and [CLS] and [SEP] may be masked as well
  (fairseq's mask_tokens_dataset.py excludes nothing). ELECTRA (Clark et al.
  2020, 3.1, and its published code): positions are drawn one by one, and again;
  with 85% they read [MASK].
  """
  (N, T), P = text.shape, config.predictions
  masked, drawn = config.masked_share, config.masked_share + config.random_share
  wanted = []
  luck = rng.random(N) if rule == 'roberta' else None
  for row in range(N):
    exact = sum(1 for s in segments[row] if s) * config.noise_density
    if rule == 'roberta':
      wanted.append(int(exact + luck[row]))
    else:
      wanted.append(max(1, round(exact)))
  candidates = [
    [
      t
      for t in range(T)
      if segments[row][t]
      and (
        rule == 'roberta' or text[row][t] not in (tokenizer.cls, tokenizer.sep)
      )
    ]
    for row in range(N)
  ]
  wanted = [min(n, P, len(c)) for n, c in zip(wanted, candidates, strict=True)]
  picked = []
  if rule == 'electra':
    numbers = rng.random([N, P])
    for row in range(N):
      some = candidates[row]
      found = [some[int(u * len(some))] for u in numbers[row][: wanted[row]]]
      picked.append(sorted(found))
  else:  # in random order; the number's last bits are the position
    numbers = rng.integers(2**32, size=[N, T], dtype=np.uint32)
    least = 2 ** (T.bit_length() + 1)
    for row in range(N):
      order = sorted(
        (int(numbers[row][t]) // least, t) for t in candidates[row]
      )
      picked.append(sorted(t for _, t in order[: wanted[row]]))
  vocabulary = list(range(tokenizer.size))
  if rule == 'roberta':
    vocabulary = [i for i in vocabulary if i not in tokenizer.specials]
  luck = rng.random([N, P])
  others = rng.integers(len(vocabulary), size=[N, P])
  predicted, read = [], text.tolist()
  for row in range(N):
    predicted.append([(t, text[row][t]) for t in picked[row]])
    for slot, t in enumerate(picked[row]):
      if masked <= luck[row][slot] < drawn:
        read[row][t] = vocabulary[others[row][slot]]
    for slot, t in enumerate(picked[row]):
      if luck[row][slot] < masked:
        read[row][t] = tokenizer.mask
  return predicted, read


@pytest.fixture
def masked(monkeypatch):
  """Documents, tokenizer, config -> tokens, inputs, positions, which of them
  count, other arrays; and the rows of the batch."""

  def make(documents, tokenizer, config):
    seen = []

    def encoder(*args, own=features.encoder):
      seen.extend(args[1:])
      return own(*args)

    shapes = batch_shapes(config, 'encoder')
    with monkeypatch.context() as patched:
      patched.setattr(features, 'encoder', encoder)
      rows = _masked_rows(documents, tokenizer, config, shapes, rng())
    return *seen, features.split(rows, shapes)

  return make


@pytest.mark.parametrize('pack', [True, False])
@pytest.mark.parametrize('rule', MASKING)
def test_rows_are_masked_as_the_papers_say(rule, pack, masked, monkeypatch):
  """Rows of one document and of several equal the papers' token by token."""
  shares = (0.85, 0.0) if rule == 'electra' else (0.8, 0.1)
  config = make_config(
    'mlm', masking=rule, masked_share=shares[0], random_share=shares[1],
    length=24, predictions=3, concatenate=False, pack=pack,
  )  # fmt: skip
  tokenizer = Numbers(40, 0, specials=True)
  lengths = rng().integers(1, 60, 200)
  documents = [rng(n).integers(3, 37, n).astype(np.int32) for n in lengths]
  before = []

  def counts(*args, own=masking.masked_counts):
    before.append(copy.deepcopy(args[-1]))  # the generator, as masking begins
    return own(*args)

  monkeypatch.setattr(masking, 'masked_counts', counts)
  text, inputs, _, _, others, batch = masked(documents, tokenizer, config)
  predicted, read = papers_masking(
    rule, text, others['segments'], tokenizer, config, before[0]
  )
  assert (others['segments'].max() > 1) == pack
  ends = {tokenizer.cls, tokenizer.sep}
  asked = {token for pairs in predicted for _, token in pairs}
  assert (asked & ends == ends) if rule == 'roberta' else not asked & ends
  if not pack:  # the least, and the most
    assert {len(pairs) for pairs in predicted} >= {1, 2, 3}
  np.testing.assert_array_equal(inputs, read)
  # The batch that a model reads.
  np.testing.assert_array_equal(batch['inputs'], read)
  for row, pairs in enumerate(predicted):
    here = batch['weights'][row] > 0
    places, targets = (batch[x][row][here] for x in ('predict_at', 'targets'))
    assert list(zip(places, targets, strict=True)) == pairs


def test_roberta_masks_its_ends_as_words_of_their_own(masked, monkeypatch):
  """<s> is apart from the next token, even if that does not begin a word."""
  config = make_config(
    'mlm', masking='roberta', whole_words=True, noise_density=0.4,
    length=8, predictions=4, concatenate=False, pack=False,
  )  # fmt: skip
  tokenizer = Numbers(40, 0, specials=True)
  starts = np.zeros(40, bool)  # no token begins a word
  monkeypatch.setattr(type(tokenizer), 'word_starts', starts)
  documents = [np.array([7, 8], np.int32)] * 300
  text, _, at, chosen, *_ = masked(documents, tokenizer, config)
  assert text[0].tolist() == [tokenizer.cls, 7, 8, tokenizer.sep, 0, 0, 0, 0]
  found = {tuple(a[c].tolist()) for a, c in zip(at, chosen, strict=True)}
  assert {(0,), (3,), (1, 2), (0, 3)} <= found
  assert all((1 in places) == (2 in places) for places in found)
