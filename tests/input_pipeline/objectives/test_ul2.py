"""UL2's denoisers against their definitions."""

import collections

import numpy as np
import pytest

from input_pipeline.objectives import (
  features,
  t5_ablations,
  ul2,
)
from input_pipeline.objectives.pieces import NOTHING
from input_pipeline.objectives.rows import batch_shapes, make_rows
from input_pipeline.tokenizers.numbers import Numbers
from tests.helpers.objectives import (
  EOS,
  SCLM,
  UL2,
  UNILM,
  lists,
  pairs_config,
  piece,
  restored,
  rng,
)
from tests.input_pipeline.objectives.test_objectives import examples_of
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


@pytest.mark.parametrize('length', [1, 2, 9])
def test_a_denoiser_of_rate_1_is_causal_language_modelling(length):
  """Nothing is read but EOS; the text is written."""
  tokens = piece(length, rows=5)
  one = ('', 1.0, 0.0, 1.0)
  (example,) = ul2.denoise(
    [tokens.ravel()], rng(), [one], [[]], [length], SENTINELS, EOS, True
  )
  inputs, targets = example
  assert inputs.tolist() == [[EOS]] * 5
  assert targets[:, :-1].tolist() == tokens.tolist()
  assert (targets[:, -1] == EOS).all()
  assert ul2.sizes(length, 1.0, 0.0) == (1, length + 1, length + 2)


def test_noise_drawn_token_by_token_is_t5s():
  """The same rows as of iid_spans, where no limit acts."""
  tokens = piece(50, rows=300)
  one = ('', 0.15, 'iid', 1.0)
  most = ul2.most_sentinels(50, 0.15, 'iid')
  ((inputs, targets),) = ul2.denoise(
    [tokens.ravel()], rng(3), [one], [[]], [50], SENTINELS, EOS, True
  )
  same = rng(3)
  same.choice(1, size=300, p=[1.0])  # the denoisers of the pieces
  wanted = t5_ablations.iid_spans(tokens, same, 0.15, SENTINELS, EOS, 100)
  np.testing.assert_array_equal(inputs, wanted[0])
  np.testing.assert_array_equal(targets, wanted[1])
  # 50 x .15 x .85 runs of variance 3.93, four deviations more, and one.
  assert most == round(6.375 + 4 * 3.93**0.5) + 1
  sides = (inputs != NOTHING).sum(axis=1), (targets != NOTHING).sum(axis=1)
  sizes = ul2.sizes(50, 0.15, 'iid')
  for found, size in zip((*sides, sum(sides)), sizes, strict=True):
    assert found.max() <= size


@pytest.mark.parametrize('rate', [0.15, 0.5, 0.8])
def test_noise_drawn_token_by_token_always_fits(rate):
  """Runs beyond the limit are kept, though 5,000 pieces have none of them."""
  N, length = 5000, 40
  tokens = piece(length, rows=N)
  one = [('', rate, 'iid', 1.0)]
  ((inputs, targets),) = ul2.denoise(
    [tokens.ravel()], rng(), one, [[]], [length], SENTINELS, EOS, True
  )
  sides = (inputs != NOTHING).sum(axis=1), (targets != NOTHING).sum(axis=1)
  sizes = ul2.sizes(length, rate, 'iid')
  for found, size in zip((*sides, sum(sides)), sizes, strict=True):
    assert found.max() <= size
  kept = ((inputs != NOTHING) & ~np.isin(inputs, SENTINELS)).sum() - N
  close(N * length - kept, N * length, rate)


# Tay et al. 2022, 4.1.2 and table 5: other spans, rates and shares.
MIXTURES = {
  'SCLM': SCLM,
  'UniLM': UNILM,
  'half S': (
    ('[R]', 0.15, 3.0, 0.25),
    ('[X]', 0.5, 32.0, 0.25),
    ('[S]', 0.0, 0.0, 0.5),
  ),
  'no S': (
    ('[R]', 0.15, 3.0, 0.6),
    ('[X]', 0.5, 8.0, 0.3),
    ('[Y]', 0.5, 32.0, 0.1),
  ),
}


@pytest.mark.parametrize('family', ['encoder_decoder', 'decoder'])
@pytest.mark.parametrize('name', MIXTURES)
def test_rows_have_the_shares_of_the_denoisers(name, family):
  """Of the rows each denoiser has its share; the modes say whose they are."""
  denoisers = MIXTURES[name]
  settings = pairs_config('ul2', denoisers=denoisers, pack=False)
  tokenizer, shapes = Numbers(300, 40), batch_shapes(settings, family)
  modes = [tuple(mode) for mode in ul2.mode_ids(tokenizer, settings)]
  text = [np.arange(60_000, dtype=np.int32) % 250 + 3] * 3
  rows = make_rows(text, tokenizer, settings, shapes, rng(), family)
  batch = features.split(rows, shapes)
  read = batch.get('encoder_inputs', batch['targets'])[:, : len(modes[0])]
  found = collections.Counter(map(tuple, read.tolist()))
  assert set(found) == set(modes)
  assert len(rows) > 1000
  for mode, (*_, share) in zip(modes, denoisers, strict=True):
    close(found[mode], len(rows), share)


@pytest.mark.parametrize('family', ['encoder_decoder', 'decoder'])
def test_a_row_of_each_kind(family):
  """Made by hand, of a text of twelve tokens."""
  text = np.arange(10, 22, dtype=np.int32)
  tokenizer = Numbers(300, 40)
  first = tokenizer.sentinels[0]

  def row_of(*numbers):
    settings = pairs_config(
      'ul2', denoisers=(('', *numbers, 1.0),), length=40, sentinels=30
    )
    shapes = batch_shapes(settings, family)
    rows = make_rows([text], tokenizer, settings, shapes, rng(), family)
    (row,) = examples_of(features.split(rows, shapes))
    return row

  inputs, targets = row_of(1.0, 0.0)
  assert (inputs, targets) == ([EOS], [*text, EOS])
  inputs, targets = row_of(0.0, 0.0)
  assert inputs[:-1] + targets == [*text, EOS]
  assert len(inputs) > 1
  inputs, targets = row_of(0.25, 0.0)
  assert inputs[-2] == targets[0] == first
  assert inputs[:-2] + targets[1:] == [*text, EOS]
  for mean in 3.0, 'iid':
    inputs, targets = row_of(0.15, mean)
    both = [t for t in inputs + targets if t not in tokenizer.sentinels]
    assert sorted(both) == [EOS, EOS, *text]
