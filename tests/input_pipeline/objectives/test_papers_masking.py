"""What BERT, RoBERTa and ELECTRA mask of a row, token by token."""

import copy

import numpy as np
import pytest

from input_pipeline.choices import MASKING
from input_pipeline.objectives import features, masking
from input_pipeline.objectives.rows import _masked_rows, batch_shapes
from input_pipeline.tokenizers.numbers import Numbers
from tests.helpers.objectives import masked_config, rng


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


SHARES = {'electra': (0.85, 0.0)}


@pytest.mark.parametrize('pack', [True, False])
@pytest.mark.parametrize(
  ('rule', 'shares'),
  [
    *((rule, SHARES.get(rule, (0.8, 0.1))) for rule in MASKING),
    ('bert', (0.0, 0.8)),  # BERT, table 8
    ('bert', (0.0, 1.0)),
  ],
)
def test_rows_are_masked_as_the_papers_say(
  rule, shares, pack, masked, monkeypatch
):
  """Rows of one document and of several equal the papers' token by token."""
  config = masked_config(
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
  config = masked_config(
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
