"""Rows of decoders and encoders: laid out, masked, paired."""

import numpy as np
import pytest

from input_pipeline import (
  blocks,
  corruption,
  features,
  pipeline,
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
def test_masked_counts(length, rate, limit, count):
  lengths = np.array([length, 0])
  counts = corruption.masked_counts(lengths, lengths - 2, rate, limit)
  assert counts[0] == count
  assert counts[1] <= 0


def test_chosen_positions_rise_and_may_be_masked():
  maskable = rng(1).random((200, 30)) < 0.5
  counts = np.minimum(rng(2).integers(0, 12, 200), maskable.sum(1))
  at, chosen = corruption.choose(rng(), maskable, counts, 12)
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
  at, chosen = corruption.choose(rng(), maskable, np.full(N, 3), 4, again)
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
  at, chosen = corruption.choose(rng(), maskable, np.full(N, 8), P)
  inputs = corruption.mask_tokens(
    tokens, at, chosen, rng(3), MASK, 64, masked, drawn
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
  inputs = corruption.mask_tokens(
    tokens, at, chosen, rng(), MASK, 64, masked=0.5, drawn=0.0
  )
  assert (inputs[:, 0] == 5).all()
  assert (inputs[:, 1] == MASK).mean() == pytest.approx(0.75, abs=0.03)


# ---- Layout -----------------------------------------------------------------


def test_pieces_are_framed():
  framed = corruption.frame(np.array([[7, 8], [9, 10]]), CLS, SEP)
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
  ):
    config = make_config(objective)
    shapes = blocks.batch_shapes(config, family)
    tokenizer = tokenizers.Numbers(300, 0, config.masks)
    rows = blocks.make_rows([], tokenizer, config, shapes, rng(), family)
    parts = features.split(rows, shapes)
    assert {n: x.shape for n, x in parts.items()} == {
      n: (0, *tail) for n, (tail, _) in shapes.items()
    }


def test_pairs_of_sentences():
  documents = [1000 * n + np.arange(200) for n in range(50)]
  pairs = corruption.sentence_pairs(documents, rng(), 20)
  assert len(pairs) == 500  # pieces of 20 tokens
  labels = []
  for first, second, label in pairs:
    assert len(first) >= 1
    assert len(second) >= 1
    assert len(first) + len(second) <= 20
    follows = first[-1] + 1 == second[0]
    assert label == (not follows)
    assert label == (first[0] // 1000 != second[0] // 1000)
    labels.append(label)
  assert np.mean(labels) == pytest.approx(0.5, abs=0.1)
  # One document has no other to take a sentence from.
  alone = corruption.sentence_pairs(documents[:1], rng(), 20)
  assert not any(label for *_, label in alone)


def test_rows_of_pairs():
  pairs = [(np.array([7, 8]), np.array([9]), 1), (np.array([7]), [8, 9], 0)]
  tokens, positions, segments, types, labels = features.pairs_rows(
    pairs, 8, CLS, SEP
  )
  assert tokens.tolist() == [
    [CLS, 7, 8, SEP, 9, SEP, 0, 0],
    [CLS, 7, SEP, 8, 9, SEP, 0, 0],
  ]
  assert types.tolist() == [[0, 0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 1, 1, 1, 0, 0]]
  assert positions.tolist() == [[0, 1, 2, 3, 4, 5, 0, 0]] * 2
  assert segments.tolist() == [[1] * 6 + [0] * 2] * 2
  assert labels.tolist() == [1, 0]


# ---- Whole batches ----------------------------------------------------------


def make_config(objective, **changes):
  unread = {'sentinels': 0, 'mean_span_length': 0.0, 'document_tokens': 0}
  masks = objective != 'causal'
  return data_config(
    objective=objective,
    noise_density=0.15 if masks else 0.0,
    predictions=9 if masks else 0,
    pack=objective != 'sentence_pairs',
    **unread,
    **changes,
  )


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
  ('objective', 'family'),
  [('mlm', 'encoder'), ('mlm', 'electra'), ('sentence_pairs', 'encoder')],
)
def test_batches_of_encoders(objective, family):
  data, rows = take(make_config(objective, concatenate=False), family, 20)
  tokenizer = data.tokenizer
  special = [tokenizer.cls, tokenizer.sep, tokenizer.mask]
  assert len({*special, tokenizer.pad, tokenizer.eos, tokenizer.unk}) == 6
  chosen = rows['weights'] > 0
  read = rows['segments'] > 0
  counts = np.clip(np.rint(read.sum(1) * 0.15), 1, 9)
  np.testing.assert_array_equal(chosen.sum(1), counts)
  assert not np.isin(rows['targets'][chosen], special).any()
  assert not rows['targets'][~chosen].any()
  assert (rows['inputs'][:, 0] == tokenizer.cls).all()

  # The text again: targets where they were, and no mask left.
  text = rows['inputs'].copy()
  row = np.broadcast_to(np.arange(len(text))[:, None], chosen.shape)[chosen]
  at = rows['predict_at'][chosen]
  shown = text[row, at]
  text[row, at] = rows['targets'][chosen]
  assert not (text == tokenizer.mask).any()
  masked = (shown == tokenizer.mask).mean()
  kept = (shown == rows['targets'][chosen]).mean()
  distinct = len(set(zip(row, at, strict=True))) / len(row)
  if family == 'electra':
    assert distinct < 0.99  # drawn with repetition
    assert masked == pytest.approx(0.85, abs=0.03)
    assert kept == pytest.approx(0.15, abs=0.03)
  else:
    assert distinct == 1
    assert masked == pytest.approx(0.8, abs=0.03)
    assert kept == pytest.approx(0.1, abs=0.03)

  separators = (text == tokenizer.sep).sum(1)
  if objective == 'sentence_pairs':
    assert (separators == 2).all()
    assert rows['is_next'].mean() == pytest.approx(0.5, abs=0.1)
    second = np.cumsum(text == tokenizer.sep, axis=1) - (text == tokenizer.sep)
    np.testing.assert_array_equal(rows['types'], (second == 1) & read)
  else:
    np.testing.assert_array_equal(separators, rows['segments'].max(1))
    assert rows['segments'].max() > 1
    assert not rows['types'].any()


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
    ('span_corruption', {}, 'data.sentinels=0 must be at least 1'),
  ],
)
def test_keys_of_other_objectives(objective, changes, message):
  config = vars(make_config('mlm')) | {'objective': objective}
  if objective == 'causal':
    config['noise_density'] = 0.0
  if objective == 'span_corruption':
    config |= {'document_tokens': 9, 'mean_span_length': 3.0, 'predictions': 0}
  with pytest.raises(ValueError, match=message):
    data_config(**(config | changes))


def test_rows_for_another_topology():
  with pytest.raises(ValueError, match="'causal' makes rows for model.family"):
    blocks.batch_shapes(make_config('causal'), 'encoder')
  with pytest.raises(ValueError, match="'span_corruption' makes rows"):
    pipeline.open_data(data_config(), 0, 300, family='rwkv')
