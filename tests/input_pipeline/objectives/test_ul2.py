"""UL2's denoisers against their definitions."""

import collections

import numpy as np
import pytest

from input_pipeline.objectives import ul2
from tests.helpers.objectives import EOS, UL2, lists, piece, restored, rng
from tests.input_pipeline.objectives.test_t5_ablations import SENTINELS, close


@pytest.mark.parametrize('length', [1, 2, 3, 40])
def test_suffix_corruption(length):
  N = 5000
  tokens = piece(length, rows=N)
  inputs, targets = ul2.suffix_corruption(
    tokens, rng(), 0.25, SENTINELS[0], EOS
  )
  noise = collections.Counter()
  for row, (a, b) in enumerate(zip(lists(inputs), lists(targets), strict=True)):
    assert a[-2:] == [SENTINELS[0], EOS]
    assert (b[0], b[-1]) == (SENTINELS[0], EOS)
    assert a[:-2] + b[1:-1] == tokens[row].tolist()  # to the text's end
    noise[len(b) - 2] += 1
  if length == 1:
    assert set(noise) == {0}
  elif length == 40:
    assert set(noise) == set(range(1, 20))  # mean 10, a quarter
    for count in noise.values():
      close(count, N, 1 / 19)
  for raw, size in zip(
    (len(inputs[0]), len(targets[0])),
    ul2.sizes(length, 0.25, 0.0)[:2],
    strict=True,
  ):
    assert raw <= size


@pytest.mark.parametrize('length', [1, 2, 3, 12])
def test_the_suffix_denoiser_of_the_papers_code(length):
  """The code calls T5's prefix language modelling (the paper's appendix).

  The text has two parts and no sentinel; the first has 1 to L - 1 tokens, all
  equally likely.
  """
  N = 4000
  settings = ('[S]', 0.0, 0.0, 1.0)
  document = np.arange(100, 100 + N * length, dtype=np.int32)
  (example,) = ul2.denoise(
    [document], rng(), [settings], [[10, 11]], [length], SENTINELS, EOS, True
  )
  kept, text = collections.Counter(), []
  for a, b in zip(*map(lists, example), strict=True):
    assert a[:2] == [10, 11]
    assert a[-1] == b[-1] == EOS
    kept[len(a) - 3] += 1
    text += a[2:-1] + b[:-1]
  assert text == document.tolist()
  splits = range(1, length) if length > 1 else [0]
  assert set(kept) == set(splits)
  for count in kept.values():
    close(count, N, 1 / len(splits))
  most = max(kept) + 1, length - min(kept) + 1, length + 2
  assert ul2.sizes(length, 0.0, 0.0) == most


def test_shares_of_the_denoisers():
  N = 3000
  raw = [30, 40, 50, 60, 70, 80, 90]
  shares = [share for *_, share in UL2]
  document = np.arange(N * 60)
  groups = ul2.cut([document[:7], document[7:]], raw, shares, rng(), True)
  found = collections.Counter()
  for kind, pieces in groups:
    assert pieces.shape[1] <= raw[kind]
    found[kind] += len(pieces)
  total = sum(found.values())
  for kind, share in enumerate(shares):
    close(found[kind], total, share)
  flat = np.concatenate([pieces.ravel() for _, pieces in groups])
  np.testing.assert_array_equal(np.sort(flat), document)
  short = [pieces for kind, pieces in groups if pieces.shape[1] < raw[kind]]
  assert sum(map(len, short)) <= 1

  apart = ul2.cut([document[:95], document[95:99]], raw, shares, rng(), 0)
  for _, pieces in apart:
    assert (np.diff(pieces) == 1).all()
    assert not ((pieces[:, 0] < 95) & (pieces[:, -1] >= 95)).any()
  assert ul2.cut([], raw, shares, rng(), True) == []


def test_denoisers_lose_no_text():
  document = np.arange(100, 9000, dtype=np.int32)
  modes = [[10], [10], [11, 12], [13], [13], [13], [13]]
  raw = [60] * 7
  examples = ul2.denoise(
    [document], rng(), UL2, modes, raw, SENTINELS, EOS, True
  )
  seen, text = set(), []
  for inputs, targets in examples:
    for a, b in zip(lists(inputs), lists(targets), strict=True):
      (mode,) = {tuple(m) for m in modes if a[: len(m)] == m}
      seen.add(mode)
      both = np.array(a[len(mode) :]), np.array(b)
      whole, unused = restored(*both, SENTINELS)
      assert not unused
      text += whole
      if mode == (11, 12):
        assert sum(t > 9_000 for t in a) == 1
        assert a[-2] == SENTINELS[0]
  assert seen == {(10,), (11, 12), (13,)}
  assert sorted(text) == document.tolist()
