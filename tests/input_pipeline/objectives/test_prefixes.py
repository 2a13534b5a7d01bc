"""Prefix language modelling: splits, and pairs of them that fill a row."""

import collections

import numpy as np
import pytest

from input_pipeline.objectives import features, prefixes
from tests.helpers.objectives import EOS, lists, piece, rng
from tests.input_pipeline.objectives.test_t5_ablations import close


@pytest.mark.parametrize('length', [1, 2, 9])
def test_prefix_lm(length):
  N = 4000
  tokens = piece(length, rows=N)
  inputs, targets = prefixes.prefix_lm(tokens, rng(), EOS)
  kept = collections.Counter()
  for row, (a, b) in enumerate(zip(lists(inputs), lists(targets), strict=True)):
    assert a[-1] == b[-1] == EOS
    assert a[:-1] + b[:-1] == tokens[row].tolist()
    kept[len(a) - 1] += 1
  if length == 1:
    assert set(kept) == {0}
  else:
    assert set(kept) == set(range(1, length))
    for count in kept.values():
      close(count, N, 1 / (length - 1))


def test_mirrored_prefixes_fill_both_sides():
  """Two pieces of S - 2 tokens fill a row to the last place.

  All splits of a piece are equally likely.
  """
  N, S = 4000, 12
  pieces = np.arange(N * 10, dtype=np.int32).reshape(N, 10) + 10
  rng = np.random.default_rng(0)
  examples, groups = prefixes.mirrored([pieces], rng, S, 1)
  shapes = features.encoder_decoder_shapes(S, S)
  rows = features.encoder_decoder(examples, shapes, rng, True, 0, groups)
  batch = features.split(rows, shapes)
  assert len(rows) == N // 2
  assert (batch['segments'] > 0).all()
  assert (batch['encoder_segments'] > 0).all()
  kept = (examples[0][0] >= 10).sum(axis=1)
  counts = np.bincount(kept, minlength=11)
  assert not counts[[0, 10]].any()
  np.testing.assert_allclose(counts[1:10] / N, 1 / 9, atol=4 * (0.1 / N) ** 0.5)
  text = [
    [*i[i >= 10].tolist(), *t[t >= 10].tolist()]
    for i, t in zip(*examples[0], strict=True)
  ]
  assert text == pieces.tolist()


@pytest.mark.parametrize('room', [4, 5, 16, 64])
def test_mirrored_prefixes_of_any_length(room):
  """Long and short pieces fit their rows, and every split occurs."""
  rng, seen = np.random.default_rng(room), set()
  shapes = features.encoder_decoder_shapes(room, room)
  for _ in range(60):
    counts = rng.integers(0, 5, room - 2)
    pieces = [
      np.full([count, n + 1], 7, np.int32)
      for n, count in enumerate(counts)
      if count
    ]
    examples, groups = prefixes.mirrored(pieces, rng, room, 1)
    rows = features.encoder_decoder(examples, shapes, rng, True, 0, groups)
    batch = features.split(rows, shapes)
    for side in 'encoder_inputs', 'targets':
      segments = batch['encoder_segments' if 'enc' in side else 'segments']
      assert (segments.max(axis=1) >= 1).all()
    assert (batch['targets'] == 1).sum() == counts.sum()
    both = [(batch[n] == 7).sum() for n in ('encoder_inputs', 'targets')]
    assert sum(both) == counts @ np.arange(1, room - 1)
    for inputs, targets in examples:
      for a, b in zip(inputs, targets, strict=True):
        seen.add(((a == 7).sum(), (b == 7).sum()))
  if room <= 16:
    splits = {(k, n - k) for n in range(2, room - 1) for k in range(1, n)}
    assert seen == splits | {(0, 1)}
