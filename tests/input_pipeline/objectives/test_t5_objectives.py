"""T5's other objectives and UL2's denoisers against their definitions."""

import collections
import itertools

import numpy as np
import pytest

from input_pipeline.objectives import corruption, ul2
from tests.input_pipeline.objectives.test_corruption import restored

EOS = 1
SENTINELS = np.arange(9_999, 9_899, -1, np.int32)
UL2 = (
  ('[R]', 0.15, 3.0, 0.13),
  ('[R]', 0.15, 8.0, 0.13),
  ('[S]', 0.25, 0.0, 0.22),
  ('[X]', 0.5, 3.0, 0.13),
  ('[X]', 0.5, 8.0, 0.13),
  ('[X]', 0.15, 32.0, 0.13),
  ('[X]', 0.5, 32.0, 0.13),
)


def rng(seed=0):
  return np.random.default_rng(seed)


def piece(length, rows=4):
  return np.arange(100, 100 + rows * length, dtype=np.int32).reshape(rows, -1)


def lists(array):
  """Rows as lists, without what follows the shorter ones."""
  rows = [row.tolist() for row in array]
  for row in rows:
    while row and row[-1] == corruption.NOTHING:
      row.pop()
    assert corruption.NOTHING not in row
  return rows


def close(found, total, p):
  """A count of `total` draws at probability p, within 4 deviations."""
  assert found == pytest.approx(total * p, abs=4 * (total * p * (1 - p)) ** 0.5)


# ---- T5's ablations ---------------------------------------------------------


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
  spans = corruption.iid_spans(tokens, rng(3), density, SENTINELS, EOS, 999)
  dropped = corruption.drop_tokens(tokens, rng(3), density, EOS, 999)
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
  """The text that both tell: runs of one stand where the other's sentinels
  are, by turns."""
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
def test_iid_spans_tell_the_text(length):
  tokens = piece(length, rows=30)
  for room in 999, 12, 3:
    inputs, targets = corruption.iid_spans(
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
  inputs, targets = corruption.drop_tokens(tokens, rng(), p, EOS, 999)
  close((targets > EOS).sum(), N * L, p)
  assert ((inputs > EOS).sum(1) + (targets > EOS).sum(1) == L).all()
  places = np.bincount(targets[targets > EOS], minlength=100 + L)[100:]
  np.testing.assert_allclose(places, N * p, atol=4 * (N * p * (1 - p)) ** 0.5)
  # A run begins with noise after none: (L - 1) p (1 - p) + p a row. Neighbours
  # exclude each other: the variance is below the binomial's.
  runs = (L - 1) * p * (1 - p) + p
  inputs, _ = corruption.iid_spans(tokens, rng(1), p, SENTINELS, EOS, 999)
  found = (inputs > 9_000).sum()
  assert found == pytest.approx(N * runs, abs=4 * (N * runs) ** 0.5)


def test_noise_without_room_is_kept():
  """The targets are cut where T5 cuts them; nothing is lost."""
  tokens = piece(100, rows=50)
  whole = corruption.drop_tokens(tokens, rng(), 0.3, EOS, 999)[1]
  inputs, targets = corruption.drop_tokens(tokens, rng(), 0.3, EOS, 20)
  for row, (a, b) in enumerate(zip(lists(inputs), lists(targets), strict=True)):
    assert b[:-1] == lists(whole)[row][: len(b) - 1]
    assert len(b) <= 20
    assert sorted(a[:-1] + b[:-1]) == tokens[row].tolist()


@pytest.mark.parametrize('share', [0.0, 0.1])
def test_bert_and_mass_style(share):
  N, L = 400, 100
  tokens = piece(L, rows=N)
  ids = np.arange(50_000, 50_064, dtype=np.int32)
  inputs, targets = corruption.bert_style(
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
  inputs, targets = corruption.deshuffling(tokens, rng(), EOS)
  np.testing.assert_array_equal(targets[:, :-1], tokens)
  counts = collections.Counter(map(tuple, inputs.tolist()))
  assert {(*p, EOS) for p in itertools.permutations((5, 6, 7))} == set(counts)
  for count in counts.values():
    close(count, 6000, 1 / 6)


@pytest.mark.parametrize('length', [1, 2, 9])
def test_prefix_lm(length):
  N = 4000
  tokens = piece(length, rows=N)
  inputs, targets = corruption.prefix_lm(tokens, rng(), EOS)
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


# ---- UL2 --------------------------------------------------------------------


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
  """Its appendix calls T5's prefix language modelling: the text in two parts,
  the first of 1 to L - 1 tokens, each as likely, and no sentinel."""
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


def test_denoisers_tell_the_text():
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
