"""T5's other objectives against their definitions."""

import collections
import itertools

import numpy as np
import pytest

from input_pipeline.objectives import t5_ablations
from tests.helpers.objectives import EOS, lists, piece, rng

SENTINELS = np.arange(9_999, 9_899, -1, np.int32)


def close(found, total, p):
  """A count of `total` draws at probability p, within 4 deviations."""
  assert found == pytest.approx(total * p, abs=4 * (total * p * (1 - p)) ** 0.5)


def slow_runs(tokens, chosen):
  """T5's noise_span_to_unique_sentinel, token by token."""
  result, used = [], 0
  for i, token in enumerate(tokens):
    if not chosen[i]:
      result.append(token)
    elif i == 0 or not chosen[i - 1]:
      result.append(SENTINELS[used])
      used += 1
  return [*result, EOS]


@pytest.mark.parametrize('density', [0.1, 0.5, 0.9])
@pytest.mark.parametrize('length', [1, 2, 9, 60])
def test_iid_noise_equals_the_transcriptions(length, density):
  tokens = piece(length, rows=20)
  noise = rng(3).random(tokens.shape) < density
  spans = t5_ablations.iid_spans(tokens, rng(3), density, SENTINELS, EOS, 999)
  dropped = t5_ablations.drop_tokens(tokens, rng(3), density, EOS, 999)
  for row, (text, here) in enumerate(zip(tokens, noise, strict=True)):
    text = text.tolist()
    inputs, targets = (lists(part)[row] for part in spans)
    assert inputs == slow_runs(text, here)
    assert targets == slow_runs(text, ~here)
    inputs, targets = (lists(part)[row] for part in dropped)
    assert inputs == [t for t, n in zip(text, here, strict=True) if not n] + [
      EOS
    ]
    assert targets == [t for t, n in zip(text, here, strict=True) if n] + [EOS]


def text_of_runs(inputs, targets):
  """The text: runs of one side replace the sentinels of the other."""
  known, text = set(SENTINELS.tolist()), []

  def runs(tokens):
    assert tokens[-1] == EOS
    for sentinel, run in itertools.groupby(tokens[:-1], known.__contains__):
      if not sentinel:
        yield list(run)

  kept, noise = list(runs(inputs)), list(runs(targets))
  first = noise if inputs[0] in known else kept
  second = kept if first is noise else noise
  for a, b in itertools.zip_longest(first, second, fillvalue=[]):
    text += a + b
  return text


@pytest.mark.parametrize('length', [1, 5, 80])
def test_iid_spans_lose_no_text(length):
  tokens = piece(length, rows=30)
  for room in 999, 12, 3:
    inputs, targets = t5_ablations.iid_spans(
      tokens, rng(), 0.3, SENTINELS[:9], EOS, room
    )
    assert targets.shape[1] <= room
    for row, (a, b) in enumerate(
      zip(lists(inputs), lists(targets), strict=True)
    ):
      assert text_of_runs(a, b) == tokens[row].tolist()


def test_iid_noise_is_iid():
  N, L, p = 2000, 60, 0.15
  tokens = np.tile(piece(L, rows=1), (N, 1))
  inputs, targets = t5_ablations.drop_tokens(tokens, rng(), p, EOS, 999)
  close((targets > EOS).sum(), N * L, p)
  assert ((inputs > EOS).sum(1) + (targets > EOS).sum(1) == L).all()
  places = np.bincount(targets[targets > EOS], minlength=100 + L)[100:]
  np.testing.assert_allclose(places, N * p, atol=4 * (N * p * (1 - p)) ** 0.5)
  # A run begins with noise after none: (L - 1) p (1 - p) + p a row. Neighbours
  # exclude each other: the variance is below the binomial's.
  runs = (L - 1) * p * (1 - p) + p
  inputs, _ = t5_ablations.iid_spans(tokens, rng(1), p, SENTINELS, EOS, 999)
  found = (inputs > 9_000).sum()
  assert found == pytest.approx(N * runs, abs=4 * (N * runs) ** 0.5)


def test_noise_without_room_is_kept():
  """The targets end where T5 cuts them, but no token is lost."""
  tokens = piece(100, rows=50)
  whole = t5_ablations.drop_tokens(tokens, rng(), 0.3, EOS, 999)[1]
  inputs, targets = t5_ablations.drop_tokens(tokens, rng(), 0.3, EOS, 20)
  for row, (a, b) in enumerate(zip(lists(inputs), lists(targets), strict=True)):
    assert b[:-1] == lists(whole)[row][: len(b) - 1]
    assert len(b) <= 20
    assert sorted(a[:-1] + b[:-1]) == tokens[row].tolist()


@pytest.mark.parametrize('share', [0.0, 0.1])
def test_bert_and_mass_style(share):
  N, L = 400, 100
  tokens = piece(L, rows=N)
  ids = np.arange(50_000, 50_064, dtype=np.int32)
  inputs, targets = t5_ablations.bert_style(
    tokens, rng(), 0.15, share, SENTINELS[0], ids, EOS
  )
  np.testing.assert_array_equal(targets[:, :-1], tokens)
  assert (targets[:, -1] == EOS).all()
  assert (inputs[:, -1] == EOS).all()
  masked, drawn = inputs[:, :-1] == SENTINELS[0], inputs[:, :-1] >= 50_000
  np.testing.assert_array_equal(
    inputs[:, :-1][~masked & ~drawn], tokens[~masked & ~drawn]
  )
  close(masked.sum() + drawn.sum(), N * L, 0.15)
  if share:
    close(drawn.sum(), masked.sum() + drawn.sum(), share)
    assert set(inputs[:, :-1][drawn]) == set(ids)
  else:
    assert not drawn.any()


def test_deshuffling():
  tokens = np.tile(np.array([5, 6, 7], np.int32), [6000, 1])
  inputs, targets = t5_ablations.deshuffling(tokens, rng(), EOS)
  np.testing.assert_array_equal(targets[:, :-1], tokens)
  counts = collections.Counter(map(tuple, inputs.tolist()))
  assert {(*p, EOS) for p in itertools.permutations((5, 6, 7))} == set(counts)
  for count in counts.values():
    close(count, 6000, 1 / 6)
