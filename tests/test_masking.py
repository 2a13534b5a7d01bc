"""Rows of decoders and encoders: laid out and masked."""

import copy

import numpy as np
import pytest

from input_pipeline import (
  blocks,
  features,
  masking,
  pipeline,
  sources,
  tokenizers,
)
from tests.test_pipeline import data_config

CLS, SEP, MASK = 61, 62, 63


def rng(seed=0):
  return np.random.default_rng(seed)


# ---- Which tokens are predicted ---------------------------------------------


@pytest.mark.parametrize(
  ('length', 'rate', 'limit', 'count'),
  [
    (128, 0.15, 20, 19),
    (128, 0.15, 10, 10),  # the limit
    (3, 0.15, 20, 1),  # at least one
    (10, 0.25, 20, 2),  # 2.5 to even, as Python rounds
    (14, 0.25, 20, 4),
    (4, 0.9, 20, 2),  # no more than may be masked
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
  lengths = np.full(20_000, 23)  # 3.45 of them
  counts = masking.masked_counts('roberta', lengths, lengths, 0.15, 9, rng())
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
def test_every_position_is_as_likely(again):
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


# ---- What they become -------------------------------------------------------


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
  # A random token is the mask or the old one by chance: 1 of 64 each.
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


def test_random_tokens_of_roberta_are_no_specials():
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
  """Words whole; none that still fits is left out; all are as likely."""
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
  """BERT's, word for word, at the same order of words."""
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
  """A row's list of (position, token) to predict, and what is read; as slow
  as it is plain, of the same random numbers in the same order.

  BERT (Devlin et al. 2019, 3.1, A.1 and its published code): 15% of the tokens
  at random, at least one, at most max_predictions_per_seq; each reads [MASK]
  with 80%, any token of the vocabulary with 10%, itself with 10%. RoBERTa (Liu
  et al. 2019, 4.1, and fairseq's code): the number is rounded up or down at
  random, and no special token is drawn. ELECTRA (Clark et al. 2020, 3.1, and
  its published code): positions are drawn one by one, and again; with 85% they
  read [MASK].
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
      if segments[row][t] and text[row][t] not in (tokenizer.cls, tokenizer.sep)
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
  else:  # in random order; the number's last bits tell the position apart
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


@pytest.mark.parametrize('pack', [True, False])
@pytest.mark.parametrize('rule', masking.RULES)
def test_rows_are_masked_as_the_papers_say(rule, pack, monkeypatch):
  """Token for token, rows of one document and of several."""
  shares = (0.85, 0.0) if rule == 'electra' else (0.8, 0.1)
  config = make_config(
    'mlm', masking=rule, masked_share=shares[0], random_share=shares[1],
    length=24, predictions=3, concatenate=False, pack=pack,
  )  # fmt: skip
  tokenizer = tokenizers.Numbers(40, 0, specials=True)
  lengths = rng().integers(1, 60, 200)
  documents = [rng(n).integers(3, 37, n).astype(np.int32) for n in lengths]
  before = []

  def counts(*args, own=masking.masked_counts):
    before.append(copy.deepcopy(args[-1]))  # the generator, as masking begins
    return own(*args)

  monkeypatch.setattr(masking, 'masked_counts', counts)
  text, inputs, at, chosen, others = blocks._masked_rows(
    documents, tokenizer, config, rng()
  )
  predicted, read = papers_masking(
    rule, text, others['segments'], tokenizer, config, before[0]
  )
  assert (others['segments'].max() > 1) == pack
  if not pack:  # the least, and the most
    assert {len(pairs) for pairs in predicted} >= {1, 2, 3}
  np.testing.assert_array_equal(inputs, read)
  # And what a model is given of it.
  shapes = blocks.batch_shapes(config, 'encoder')
  batch = features.split(
    features.encoder(shapes, text, inputs, at, chosen, others), shapes
  )
  np.testing.assert_array_equal(batch['inputs'], read)
  for row, pairs in enumerate(predicted):
    here = batch['weights'][row] > 0
    places, targets = (batch[x][row][here] for x in ('predict_at', 'targets'))
    assert list(zip(places, targets, strict=True)) == pairs


# ---- Layout -----------------------------------------------------------------


def test_pieces_are_framed():
  framed = masking.frame(np.array([[7, 8], [9, 10]]), CLS, SEP)
  np.testing.assert_array_equal(framed, [[CLS, 7, 8, SEP], [CLS, 9, 10, SEP]])


def test_rows_of_a_decoder():
  shapes = features.decoder_shapes(8)
  pieces = [np.array([[11, 12, 13]]), np.array([[21, 22, 23, 24]])]
  rows = features.decoder(pieces, shapes, rng(), pack=True)
  batch = features.split(rows, shapes)
  assert {n: (x.shape[1:], x.dtype) for n, x in batch.items()} == shapes
  (row,) = batch['targets'].tolist()
  assert row == [11, 12, 13, 21, 22, 23, 24, 0]
  assert batch['inputs'].tolist() == [[0, 11, 12, 0, 21, 22, 23, 0]]
  assert batch['segments'].tolist() == [[1, 1, 1, 2, 2, 2, 2, 0]]
  assert batch['positions'].tolist() == [[0, 1, 2, 0, 1, 2, 3, 0]]
  assert batch['weights'].tolist() == [[1] * 7 + [0]]

  started = features.decoder(pieces, shapes, rng(), pack=True, start=9)
  started = features.split(started, shapes)
  assert started['inputs'].tolist() == [[9, 11, 12, 9, 21, 22, 23, 0]]

  apart = features.decoder(pieces, shapes, rng(), pack=False)
  apart = features.split(apart, shapes)
  rows = sorted(apart['targets'].tolist())
  assert rows == [[11, 12, 13] + [0] * 5, [21, 22, 23, 24] + [0] * 4]
  assert apart['segments'].max() == 1


def test_no_documents_no_rows():
  for objective, family in (
    ('causal', 'decoder'),
    ('mlm', 'encoder'),
    ('sentence_pairs', 'encoder'),
    ('full_sentences', 'encoder'),
  ):
    config = make_config(objective)
    shapes = blocks.batch_shapes(config, family)
    tokenizer = tokenizers.Numbers(300, 0, config.masks)
    rows = blocks.make_rows([], tokenizer, config, shapes, rng(), family)
    parts = features.split(rows, shapes)
    assert {n: x.shape for n, x in parts.items()} == {
      n: (0, *tail) for n, (tail, _) in shapes.items()
    }


def test_rows_of_pairs():
  pairs = [(np.array([7, 8]), np.array([9]), 1), (np.array([7]), [8, 9], 0)]
  tokens, others = features.pairs_rows(pairs, 8, CLS, SEP)
  assert tokens.tolist() == [
    [CLS, 7, 8, SEP, 9, SEP, 0, 0],
    [CLS, 7, SEP, 8, 9, SEP, 0, 0],
  ]
  assert others['types'].tolist() == [
    [0, 0, 0, 0, 1, 1, 0, 0],
    [0, 0, 0, 1, 1, 1, 0, 0],
  ]
  assert others['positions'].tolist() == [[0, 1, 2, 3, 4, 5, 0, 0]] * 2
  assert others['segments'].tolist() == [[1] * 6 + [0] * 2] * 2
  assert others['is_next'].tolist() == [1, 0]


# ---- Whole batches ----------------------------------------------------------


def make_config(objective, **changes):
  values = {'sentinels': 0, 'mean_span_length': 0.0, 'document_tokens': 0}
  values |= {'objective': objective, 'noise_density': 0.0}
  if objective != 'causal':
    values |= {'noise_density': 0.15, 'predictions': 9, 'masking': 'bert'}
    values |= {'masked_share': 0.8, 'random_share': 0.1}
  if objective == 'sentence_pairs':
    values |= {'short_share': 0.1, 'pack': False}
  return data_config(**values | changes)


def test_long_sentences_of_pairs_stay_whole():
  """A sentence is cut where a pair has no room for it, and not before."""
  config = make_config('sentence_pairs', length=128, predictions=20)
  tokenizer = tokenizers.Numbers(300, 0, specials=True)
  shapes = blocks.batch_shapes(config, 'encoder')
  document = [np.full(100, 7, np.int32), np.full(10, 8, np.int32)]
  for seed in range(20):
    rows = blocks.make_rows(
      [document], tokenizer, config, shapes, np.random.default_rng(seed),
      'encoder',
    )  # fmt: skip
    batch = features.split(rows, shapes)
    following = batch['is_next'] == 0
    lengths = batch['segments'][following].sum(axis=1)
    seconds = batch['types'][following].sum(axis=1)
    if len(lengths) and lengths[0] == 113:
      assert seconds[0] == 11
      return
  raise AssertionError('No seed gave the pair of the two sentences.')


def take(config, family, count=4):
  data = pipeline.open_data(config, 5, 300, family=family)
  batches = data.batches(data.start(), np.arange(config.batch))
  batches = [next(batches) for _ in range(count)]
  for batch in batches:
    assert {n: (x.shape[1:], x.dtype) for n, x in batch.items()} == data.shapes
  return data, {n: np.concatenate([b[n] for b in batches]) for n in batches[0]}


@pytest.mark.parametrize('concatenate', [True, False])
@pytest.mark.parametrize('family', ['decoder', 'rwkv'])
def test_batches_of_decoders(family, concatenate):
  data, rows = take(make_config('causal', concatenate=concatenate), family)
  read = rows['segments'] > 0
  assert (rows['targets'][read] > 0).all()
  assert (rows['weights'] == read).all()
  # Each token but a segment's last is the next one's input.
  same = rows['segments'][:, 1:] == rows['segments'][:, :-1]
  same &= read[:, 1:]
  np.testing.assert_array_equal(
    rows['inputs'][:, 1:][same], rows['targets'][:, :-1][same]
  )
  assert not rows['inputs'][rows['positions'] == 0].any()
  ends = rows['targets'] == data.tokenizer.eos
  assert ends.any()
  if not concatenate:  # nothing of a document after its end
    inside = ends[:, :-1] & same
    assert not inside.any()
    assert rows['segments'].max() > 1


@pytest.mark.parametrize(
  ('objective', 'rule'),
  [
    ('mlm', 'bert'),
    ('mlm', 'electra'),
    ('sentence_pairs', 'bert'),
    ('full_sentences', 'roberta'),
    ('doc_sentences', 'roberta'),
  ],
)
def test_batches_of_encoders(objective, rule):
  shares = (0.85, 0.0) if rule == 'electra' else (0.8, 0.1)
  config = make_config(
    objective, masking=rule, masked_share=shares[0], random_share=shares[1],
    concatenate=False,
  )  # fmt: skip
  family = 'electra' if rule == 'electra' else 'encoder'
  data, rows = take(config, family, 20)
  tokenizer = data.tokenizer
  special = [tokenizer.cls, tokenizer.sep, tokenizer.mask]
  assert len({*special, tokenizer.pad, tokenizer.eos, tokenizer.unk}) == 6
  chosen = rows['weights'] > 0
  read = rows['segments'] > 0
  exact = read.sum(1) * 0.15
  if rule == 'roberta':
    assert (chosen.sum(1) >= np.floor(exact)).all()
    assert (chosen.sum(1) <= np.minimum(np.floor(exact + 1), 9)).all()
  else:
    counts = np.clip(np.rint(exact), 1, 9)
    np.testing.assert_array_equal(chosen.sum(1), counts)
  assert not np.isin(rows['targets'][chosen], special).any()
  assert not rows['targets'][~chosen].any()
  assert (rows['inputs'][:, 0] == tokenizer.cls).all()

  text, shown = restored(rows)
  assert not (text == tokenizer.mask).any()
  if rule == 'roberta':
    assert not np.isin(shown, [*special[:2], *range(3)]).any()
  for found, share in (
    (shown == tokenizer.mask, shares[0]),
    (shown == rows['targets'][chosen], 1 - sum(shares)),
  ):
    spread = 4 * (share * (1 - share) / len(shown)) ** 0.5 + 1 / 256
    assert found.mean() == pytest.approx(share, abs=spread)
  row, _ = np.nonzero(chosen)
  places = zip(row, rows['predict_at'][chosen], strict=True)
  distinct = len(set(places)) / len(row)
  assert distinct < 0.99 if rule == 'electra' else distinct == 1

  separators = (text == tokenizer.sep).sum(1)
  if objective == 'sentence_pairs':
    assert (separators == 2).all()
    second = np.cumsum(text == tokenizer.sep, axis=1) - (text == tokenizer.sep)
    np.testing.assert_array_equal(rows['types'], (second == 1) & read)
  else:
    assert not rows['types'].any()
  if objective in ('mlm', 'doc_sentences'):
    np.testing.assert_array_equal(separators, rows['segments'].max(1))
    assert rows['segments'].max() > 1
  if objective == 'full_sentences':
    assert (separators > rows['segments'].max(1)).any()


def restored(rows):
  """The text again, targets where they were; and what was read there."""
  text, chosen = rows['inputs'].copy(), rows['weights'] > 0
  row, _ = np.nonzero(chosen)
  at = rows['predict_at'][chosen]
  shown = text[row, at]
  text[row, at] = rows['targets'][chosen]
  return text, shown


def test_whole_words_of_a_batch():
  config = make_config('mlm', whole_words=True, length=32, predictions=8)
  data, rows = take(config, 'encoder')
  text, _ = restored(rows)
  picked = np.zeros(text.shape, bool)
  chosen = rows['weights'] > 0
  picked[np.nonzero(chosen)[0], rows['predict_at'][chosen]] = True
  specials = [data.tokenizer.cls, data.tokenizer.sep]
  inside = (rows['segments'] > 0) & ~np.isin(text, specials)
  goes_on = inside & ~data.tokenizer.word_starts()[text]
  goes_on = goes_on[:, 1:] & inside[:, :-1]
  assert goes_on.any()
  np.testing.assert_array_equal(picked[:, 1:][goes_on], picked[:, :-1][goes_on])


def rows_of_epochs(data, epochs):
  """Epoch -> its rows over all streams, sorted, cursors left out."""
  config, found = data.config, [[] for _ in range(epochs)]
  for batch in data.batches(data.start(), np.arange(config.batch)):
    epoch = batch['cursor'][:, 0]
    if epoch.min() >= epochs:
      break
    for row in np.flatnonzero(epoch < epochs):
      parts = (x[row] for n, x in batch.items() if n != 'cursor')
      found[epoch[row]].append(b''.join(x.tobytes() for x in parts))
  return [sorted(rows) for rows in found]


@pytest.mark.parametrize('objective', ['mlm', 'sentence_pairs'])
def test_static_masks(objective, monkeypatch):
  """Every second epoch shows a block alike, whatever stream reads it when."""
  monkeypatch.setattr(sources.Synthetic, 'documents', 4)
  monkeypatch.setattr(sources.Synthetic, 'tokens', 60)

  def rows(epochs, **changes):
    changes = {'duplicates': 2, 'holdout': 4} | changes
    config = make_config(objective, length=16, predictions=3, **changes)
    data = pipeline.open_data(config, 5, 300, family='encoder')
    return rows_of_epochs(data, epochs)

  first, other, again = rows(3)
  assert first == again
  assert len(first) > 200
  assert len(set(first) & set(other)) < len(first) / 4
  assert rows(2, streams=2) == [first, other]
  first, _, again = rows(3, duplicates=0)
  assert len(set(first) & set(again)) < len(first) / 4


def test_resuming_gives_the_same_rows():
  config = make_config('mlm')
  data, rows = take(config, 'encoder')
  places = rows['cursor'][:16].reshape(4, 4, 4)[:, -1]  # after the first batch
  again = next(data.batches(places, np.arange(16)))
  for name, x in again.items():
    np.testing.assert_array_equal(x, rows[name][16:32], name)


@pytest.mark.parametrize(
  ('objective', 'changes', 'message'),
  [
    ('causal', {'predictions': 9}, 'data.predictions=9 must be 0'),
    ('mlm', {'predictions': 0}, 'data.predictions=0 must be at least 1'),
    ('mlm', {'sentinels': 100}, 'data.sentinels=100 must be 0'),
    ('mlm', {'predictions': 65}, 'data.predictions=65 must be at most'),
    ('mlm', {'noise_density': 0.0}, 'data.noise_density=0.0 must lie'),
    ('mlm', {'masking': 'bart'}, "data.masking='bart' must be one of bert"),
    ('mlm', {'masked_share': 1.5}, 'data.masked_share=1.5 must be above'),
    ('mlm', {'random_share': 0.3}, 'must lie between 0 and 0.2'),
    ('mlm', {'duplicates': -1}, 'data.duplicates=-1 must be 0 or more'),
    ('mlm', {'short_share': 0.1}, 'data.short_share=0.1 must be 0.0: data.obj'),
    (
      'mlm',
      {'masking': 'electra', 'whole_words': True},
      'data.whole_words=True must be False',
    ),
    ('causal', {'whole_words': True}, 'data.whole_words=True must be False'),
    ('span_corruption', {}, 'data.sentinels=0 must be at least 1'),
  ],
)
def test_keys_of_other_objectives(objective, changes, message):
  config = vars(make_config('mlm'))
  if objective != 'mlm':
    config = vars(make_config('causal')) | {'objective': objective}
  if objective == 'span_corruption':
    config |= {'document_tokens': 9, 'mean_span_length': 3.0}
    config |= {'noise_density': 0.15}
  with pytest.raises(ValueError, match=message):
    data_config(**(config | changes))


def test_rows_for_another_topology():
  with pytest.raises(ValueError, match="'causal' makes rows for model.family"):
    blocks.batch_shapes(make_config('causal'), 'encoder')
  with pytest.raises(ValueError, match="'span_corruption' makes rows"):
    pipeline.open_data(data_config(), 0, 300, family='electra')
