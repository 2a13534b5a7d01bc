"""Span corruption against a slow transcription, its statistics, its lengths."""

import itertools

import numpy as np
import pytest

from input_pipeline.objectives import spans
from tests.helpers.objectives import EOS, piece, restored

SENTINELS = np.arange(999, 899, -1, np.int32)
# From T5's published helper: length, density, mean span -> raw length, length
# of the targets, noise tokens, spans.
LENGTHS = [
  (512, 0.15, 2, 552, 126, 83, 42),
  (512, 0.15, 3, 568, 114, 85, 28),
  (512, 0.15, 5, 581, 105, 87, 17),
  (512, 0.15, 8, 588, 100, 88, 11),
  (512, 0.15, 10, 591, 99, 89, 9),
  (512, 0.15, 32, 598, 94, 90, 3),
  (512, 0.15, 64, 600, 92, 90, 1),
  (512, 0.10, 3, 548, 74, 55, 18),
  (512, 0.25, 3, 614, 206, 154, 51),
  (512, 0.50, 3, 766, 512, None, None),  # cut back to the inputs' length
  (512, 0.50, 8, 908, 512, 454, 57),
  (512, 0.50, 32, 990, 512, None, None),
  (512, 0.50, 64, 1006, 512, None, None),
  (128, 0.15, 3, 141, 29, 21, 7),
]


@pytest.mark.parametrize(
  ('length', 'density', 'mean', 'raw', 'targets', 'noise', 'count'), LENGTHS
)
def test_lengths(length, density, mean, raw, targets, noise, count):
  assert spans.span_lengths(length, density, mean) == (raw, targets)
  if noise:
    assert spans.noise_counts(raw, density, mean) == (noise, count)


def test_halves_are_rounded_as_in_t5s_graph():
  """T5 rounds in float32, where 0.15 is 0.15000000596."""
  found = [spans.noise_counts(n, 0.15, 3.0)[0] for n in (10, 30, 190, 350)]
  # 1.5 and 4.5, to even; 28.5000019 and 52.5000038, up.
  assert found == [2, 4, 29, 53]


@pytest.mark.parametrize('density', [0.05, 0.15, 0.5, 0.8])
@pytest.mark.parametrize('mean', [1, 1.5, 3, 20])
@pytest.mark.parametrize('length', [4, 5, 37, 128])
def test_every_shorter_piece_fits(length, mean, density):
  raw, target_length = spans.span_lengths(length, density, mean)
  for shorter in range(1, raw + 1):
    inputs, targets = corrupt(piece(shorter, rows=1), density, mean)
    assert inputs.shape[1] <= length
    assert targets.shape[1] <= target_length


def test_no_room():
  with pytest.raises(ValueError, match=r'data\.length=2 leaves no room'):
    spans.span_lengths(2, 0.15, 3.0)


def corrupt(tokens, density=0.15, mean=3.0, seed=0, sentinels=None):
  sentinels = np.arange(9_999, 8_999, -1) if sentinels is None else sentinels
  rng = np.random.default_rng(seed)
  return spans.span_corruption(tokens, rng, density, mean, sentinels, EOS)


@pytest.mark.parametrize('length', [2, 3, 4, 7, 20, 100, 568])
def test_round_trip(length):
  tokens = piece(length)
  inputs, targets = corrupt(tokens)
  assert inputs.dtype == targets.dtype == np.int32
  for row in range(len(tokens)):
    text, unused = restored(
      inputs[row], targets[row], np.arange(9_999, 8_999, -1)
    )
    assert text == tokens[row].tolist()
    assert not unused


def test_one_token_stays_whole():
  inputs, targets = corrupt(piece(1, rows=2))
  assert inputs.tolist() == [[100, EOS], [101, EOS]]
  assert targets.tolist() == [[9_999, EOS]] * 2


def test_counts_of_a_full_piece():
  inputs, targets = corrupt(piece(568, rows=8))
  assert inputs.shape == (8, 512)
  assert targets.shape == (8, 114)
  assert ((inputs > 9_000).sum(1) == 28).all()
  assert ((targets > 9_000).sum(1) == 28).all()
  assert (targets[:, 0] == 9_999).all()  # text starts with a kept span
  assert (inputs[:, -2] > 9_000).all()  # and ends with a dropped one


def transcription(tokens, mask, sentinels):
  """The definition, token by token: one piece and a mask."""

  def sentinels_for(tokens, mask):
    result, used = [], 0
    for i, token in enumerate(tokens):
      if not mask[i]:
        result.append(token)
      elif i == 0 or not mask[i - 1]:
        result.append(sentinels[used])
        used += 1
    return [*result, EOS]

  opposite = [not m for m in mask]
  return sentinels_for(tokens, mask), sentinels_for(tokens, opposite)


def slow_mask(length, density, mean, kept, dropped):
  noise = int(np.round(np.float32(length) * np.float32(density)))
  noise = min(max(noise, 1), length - 1)
  count = max(int(np.round(np.float32(noise) / np.float32(mean))), 1)
  assert len(kept) == len(dropped) == min(count, length - noise)
  assert sum(dropped) == noise
  mask = []
  for stay, go in zip(kept, dropped, strict=True):
    mask += [False] * stay + [True] * go
  return mask


@pytest.mark.parametrize(
  ('length', 'density', 'mean'),
  [(568, 0.15, 3.0), (30, 0.15, 3.0), (17, 0.5, 1.0), (9, 0.8, 1.0)],
)
def test_equals_the_transcription(length, density, mean):
  tokens = piece(length, rows=5)
  inputs, targets = corrupt(tokens, density, mean, seed=3)
  rng = np.random.default_rng(3)
  noise, count = spans.noise_counts(length, density, mean)
  kept = spans.random_segmentation(rng, 5, length - noise, count)
  dropped = spans.random_segmentation(rng, 5, noise, count)
  sentinels = np.arange(9_999, 8_999, -1).tolist()
  for row in range(5):
    mask = slow_mask(length, density, mean, kept[row], dropped[row])
    expected = transcription(tokens[row].tolist(), mask, sentinels)
    assert (inputs[row].tolist(), targets[row].tolist()) == expected


@pytest.mark.parametrize(
  ('items', 'segments'), [(7, 3), (6, 1), (6, 6), (9, 4)]
)
def test_segmentation_is_uniform(items, segments):
  """Chi-square finds all compositions equally likely, at a fixed seed."""
  rows = 40_000
  rng = np.random.default_rng(0)
  drawn = spans.random_segmentation(rng, rows, items, segments)
  assert drawn.shape == (rows, segments)
  assert (drawn >= 1).all()
  assert (drawn.sum(1) == items).all()
  cells = [
    np.diff([0, *cuts, items])
    for cuts in itertools.combinations(range(1, items), segments - 1)
  ]
  seen = np.array([(drawn == cell).all(1).sum() for cell in cells])
  assert seen.sum() == rows
  expected = rows / len(cells)
  freedom = len(cells) - 1
  statistic = ((seen - expected) ** 2 / expected).sum()
  assert statistic <= freedom + 4 * np.sqrt(2 * freedom)


def test_few_segments_of_a_long_piece_are_uniform():
  """The segments' means are equal, within four standard errors."""
  items, segments, rows = 131_072, 3, 64
  rng = np.random.default_rng(0)
  drawn = spans.random_segmentation(rng, rows, items, segments)
  error = items / segments * np.sqrt(0.5 / rows)  # of a flat Dirichlet's parts
  assert np.abs(drawn.mean(0) - items / segments).max() < 4 * error


def test_noise_is_spread_evenly():
  """All places but the fixed ends are dropped equally often."""
  tokens = piece(100, rows=20_000) * 0 + np.arange(100, 200, dtype=np.int32)
  inputs, _ = corrupt(tokens, seed=1)
  stays = np.array([(inputs == 100 + i).sum() for i in range(100)]) / 20_000
  assert stays[0] == 1
  assert stays[99] == 0
  assert abs(stays.mean() - 0.85) < 1e-9
  assert np.abs(stays[40:60] - stays[40:60].mean()).max() < 0.02


def test_too_few_sentinels():
  with pytest.raises(ValueError, match='28 noise spans.*data.sentinels=27'):
    corrupt(piece(568), sentinels=SENTINELS[:27])
