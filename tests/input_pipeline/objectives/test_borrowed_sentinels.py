"""Sentinels that run into the pieces of a vocabulary, as in T5's code."""

import dataclasses

import numpy as np
import pytest

from input_pipeline import pipeline
from input_pipeline.objectives import features
from input_pipeline.objectives.rows import batch_shapes, make_rows
from input_pipeline.streams import fingerprints
from input_pipeline.tokenizers.interface import check_specials, sentinel_ids
from input_pipeline.tokenizers.numbers import Numbers
from tests.helpers.objectives import EOS, pairs_config, rng

SIZE, OWN = 300, 5
HALF = {'noise_density': 0.5, 'target_length': 64, 'sentinels': OWN}


def borrowing(objective='iid_spans', **changes):
  own = HALF if objective == 'iid_spans' else {'sentinels': OWN}
  return pairs_config(objective, **own | {'borrow_sentinels': True} | changes)


def transcribed(text, chosen):
  """T5's noise_span_to_unique_sentinel: vocab_size - (which run of noise)."""
  starts = chosen & ~np.pad(chosen[:-1], (1, 0))
  marked = np.where(starts, SIZE - np.cumsum(starts), text)
  return [*marked[starts | ~chosen].tolist(), EOS]


def test_ids_count_down_to_the_special_pieces():
  tokenizer = Numbers(SIZE, OWN)
  found = sentinel_ids(tokenizer, borrowing())
  assert found.tolist() == [*range(299, 2, -1)]
  assert found.dtype == tokenizer.sentinels.dtype
  # The vocabulary's own are all used first.
  more = sentinel_ids(Numbers(SIZE, 40), borrowing())
  np.testing.assert_array_equal(more, found)
  plain = dataclasses.replace(borrowing(), borrow_sentinels=False)
  assert sentinel_ids(tokenizer, plain).tolist() == [299, 298, 297, 296, 295]


def test_rows_are_those_of_the_published_code():
  config = borrowing()
  text = np.arange(3, 66, dtype=np.int32)
  shapes = batch_shapes(config, 'encoder_decoder')
  draws = rng(7)
  draws.permutation(1)  # the order of the documents
  noise = draws.random((1, len(text)))[0] < 0.5
  rows = make_rows(
    [text], Numbers(SIZE, OWN), config, shapes, rng(7), 'encoder_decoder'
  )
  (inputs,), (targets,) = (
    features.split(rows, shapes)[name] for name in ('encoder_inputs', 'targets')
  )
  for row, wanted in (
    (inputs, transcribed(text, noise)),
    (targets, transcribed(text, ~noise)),
  ):
    assert row[: len(wanted)].tolist() == wanted
    assert not row[len(wanted) :].any()
    assert sum(token > max(text) for token in wanted) > 2 * OWN


@pytest.mark.parametrize(
  ('objective', 'changes'),
  [
    ('span_corruption', {'noise_density': 0.5}),
    ('ul2', {}),
    ('iid_spans', {}),
  ],
)
def test_what_is_refused_without(objective, changes):
  config = borrowing(objective, **changes)
  batch_shapes(config, 'encoder_decoder')
  plain = dataclasses.replace(config, borrow_sentinels=False)
  with pytest.raises(ValueError, match='need .* data.borrow_sentinels=True'):
    batch_shapes(plain, 'encoder_decoder')
  with pytest.raises(ValueError, match='borrow_sentinels=True must be False'):
    pairs_config('prefix', borrow_sentinels=True)


def test_a_vocabulary_whose_sentinels_have_another_order():
  tokenizer = Numbers(SIZE, OWN)
  tokenizer.sentinels = tokenizer.sentinels[::-1]
  with pytest.raises(ValueError, match='data.borrow_sentinels=True counts'):
    check_specials(tokenizer, borrowing())
  tokenizer = Numbers(SIZE, OWN)
  check_specials(tokenizer, borrowing())


def test_older_runs_have_the_fingerprint_they_had():
  config = dataclasses.replace(borrowing('ul2'), source='synthetic')
  data = pipeline.open_data(config, 5, SIZE, family='encoder_decoder')
  described = data.fingerprint['data']
  assert described['borrow_sentinels'] is True
  plain = dataclasses.replace(config, borrow_sentinels=False)
  described = fingerprints.of(plain, 5, '', data.corpora, data.evaluated)
  assert 'borrow_sentinels' not in described['data']
