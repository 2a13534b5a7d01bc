"""Every pair of objective and family: every token once, in rows of any size."""

import dataclasses
import itertools

import numpy as np
import pytest

from input_pipeline import choices, pipeline
from input_pipeline.objectives import features, lengths
from input_pipeline.objectives.pieces import NOTHING
from input_pipeline.objectives.rows import batch_shapes, make_rows
from input_pipeline.sources import synthetic
from input_pipeline.tokenizers.numbers import Numbers
from tests.helpers.objectives import (
  EOS,
  PAIRS,
  lists,
  masked_config,
  pairs_config,
  piece,
  restored,
  rng,
)


def examples_of(batch):
  """(inputs, targets) of every segment of a batch."""
  found = []
  for row in range(len(batch['segments'])):
    segments = batch['segments'][row]
    for segment in range(1, segments.max() + 1):
      here = segments == segment
      targets = batch['targets'][row][here]
      assert batch['inputs'][row][here].tolist() == [0, *targets[:-1]]
      assert batch['positions'][row][here].tolist() == [*range(len(targets))]
      weights = batch['weights'][row][here]
      if 'encoder_inputs' in batch:
        there = batch['encoder_segments'][row] == segment
        inputs = batch['encoder_inputs'][row][there].tolist()
        places = batch['encoder_positions'][row][there].tolist()
        assert places == [*range(len(inputs))]
        assert weights.all()
      else:
        first = int((weights == 0).sum())
        inputs = targets[:first].tolist()
        assert weights[first:].all()
        prefix = batch['prefix'][row][here].tolist()
        assert prefix == [1] * (first + 1) + [0] * (len(targets) - first - 1)
        targets = targets[first:]
      found.append((inputs, targets.tolist()))
  return found


def text_of(objective, inputs, targets, data):
  """The document's tokens in an example, in order if the example has it."""
  assert inputs[-1] == targets[-1] == data.tokenizer.eos
  sentinels = data.tokenizer.sentinels
  if objective.startswith('ul2'):
    inputs = inputs[3:]  # the modes have three bytes
  plain = not set(targets) & {*sentinels}
  if objective in ('ul2 code', 'ul2 SCLM') and plain:
    return inputs[:-1] + targets[:-1]
  if objective in ('span_corruption', 'ul2', 'ul2 code', 'ul2 SCLM'):
    both = np.array(inputs), np.array(targets)
    text, unused = restored(*both, sentinels)
    assert not any(unused.values())  # one token stays whole
    return text
  if objective in choices.WHOLE_TEXT:
    assert len(inputs) == len(targets)
    if objective == 'deshuffling':
      assert sorted(inputs) == sorted(targets)
    return targets[:-1]
  both = inputs[:-1] + targets[:-1]
  return [token for token in both if token not in sentinels]


@pytest.fixture
def small(monkeypatch):
  """192 documents without jumps in 64 files; every third is held out."""
  for name, value in (('documents', 3), ('tokens', 150), ('jump', 0.0)):
    monkeypatch.setattr(synthetic.Synthetic, name, value)

  def counts(sentinels):
    source = synthetic.Synthetic(5, 300, sentinels)
    found = np.zeros(300, int)
    for file in range(64):
      for index, (_, record) in enumerate(source.records(file, 0)):
        if index < 2:
          np.add.at(found, source.text(record), 1)
          found[EOS] += 1
    return found, source.cycle

  return counts


def epoch_of(data):
  """Batches of the first epoch of all streams; other rows are emptied."""
  for batch in data.batches(data.start(), np.arange(data.config.batch)):
    later = batch['cursor'][:, 0] > 0
    if later.all():
      return
    for name in 'segments', 'encoder_segments', 'weights':
      if name in batch:
        batch[name] = np.where(later[:, None], 0, batch[name])
    yield batch


@pytest.mark.parametrize('concatenate', [True, False])
@pytest.mark.parametrize('family', ['encoder_decoder', 'decoder', 'rwkv'])
@pytest.mark.parametrize('objective', PAIRS)
def test_every_token_once(objective, family, concatenate, small):
  """An epoch of all streams has each token of the documents once.

  If documents are not joined, no example crosses from one to another.
  """
  settings = pairs_config(objective, concatenate=concatenate, holdout=3)
  data = pipeline.open_data(settings, 5, 300, family=family)
  expected, cycle = small(settings.sentinels)
  expected[EOS] = 0
  after = dict(itertools.pairwise([*cycle, cycle[0]]))
  found = np.zeros(300, int)
  for batch in epoch_of(data):
    shapes = {n: (x.shape[1:], x.dtype) for n, x in batch.items()}
    assert shapes == data.shapes
    for inputs, targets in examples_of(batch):
      text = text_of(objective, inputs, targets, data)
      np.add.at(found, text, 1)
      drawn = objective in ('drop_tokens', 'iid_spans', 'ul2 UniLM')
      if drawn or concatenate:
        continue
      # A document follows the cycle without a jump.
      assert all(after[a] == b for a, b in itertools.pairwise(text))
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('concatenate', [True, False])
def test_every_token_once_causal(concatenate, small):
  settings = masked_config('causal', concatenate=concatenate, holdout=3)
  data = pipeline.open_data(settings, 5, 300, family='decoder')
  found = np.zeros(300, int)
  for batch in epoch_of(data):
    np.add.at(found, batch['targets'][batch['weights'] > 0], 1)
  np.testing.assert_array_equal(found, small(0)[0])


def test_a_pair_in_a_decoder():
  shapes = features.decoder_shapes(9, pairs=True)
  examples = [
    (np.array([[7, 8, EOS]]), np.array([[9, EOS]])),
    (np.array([[5, EOS]]), np.array([[6, EOS]])),
  ]
  rows = features.decoder_pairs(examples, shapes, rng(), pack=True)
  batch = features.split(rows, shapes)
  assert {n: x[0].tolist() for n, x in batch.items() if n != 'cursor'} == {
    'inputs': [0, 7, 8, EOS, 9, 0, 5, EOS, 6],
    'targets': [7, 8, EOS, 9, EOS, 5, EOS, 6, EOS],
    'positions': [0, 1, 2, 3, 4, 0, 1, 2, 3],
    'segments': [1] * 5 + [2] * 4,
    'prefix': [1, 1, 1, 1, 0, 1, 1, 1, 0],
    'weights': [0, 0, 0, 1, 1, 0, 0, 1, 1],
  }


@pytest.mark.parametrize('family', ['decoder', 'rwkv'])
@pytest.mark.parametrize('objective', PAIRS)
def test_a_decoders_loss_on_inputs(objective, family):
  """T5's language models of table 2 also predict the inputs.

  In Mesh TensorFlow loss_on_targets_only is False. What is read does not
  change.
  """
  settings = pairs_config(objective)
  tokenizer, documents = Numbers(300, 40), [np.arange(9, 60)] * 9
  shapes = batch_shapes(settings, family)

  def made(config):
    rows = make_rows(documents, tokenizer, config, shapes, rng(), family)
    return features.split(rows, shapes)

  targets = made(settings)
  both = made(dataclasses.replace(settings, loss_on_inputs=True))
  np.testing.assert_array_equal(both['weights'], both['segments'] > 0)
  assert both['weights'].sum() > targets['weights'].sum() > 0
  for name in set(both) - {'weights'}:
    np.testing.assert_array_equal(both[name], targets[name])


def test_an_encoder_decoder_has_no_loss_on_inputs():
  settings = pairs_config('prefix', loss_on_inputs=True)
  with pytest.raises(ValueError, match='data.loss_on_inputs=True is for decod'):
    batch_shapes(settings, 'encoder_decoder')


def test_rows_of_unequal_examples():
  """Every example is unchanged when packed as encoder-decoder rows."""
  inputs = np.full([6, 5], NOTHING, np.int32)
  targets = np.full([6, 4], NOTHING, np.int32)
  for row in range(6):
    inputs[row, : row % 5 + 1] = 10 * row + np.arange(row % 5 + 1) + 2
    targets[row, : 4 - row % 4] = 10 * row + np.arange(4 - row % 4) + 2
  shapes = features.encoder_decoder_shapes(8, 6)
  for pack in True, False:
    rows = features.encoder_decoder([(inputs, targets)], shapes, rng(), pack)
    found = examples_of(features.split(rows, shapes))
    expected = list(zip(lists(inputs), lists(targets), strict=True))
    assert sorted(found) == sorted(expected)
    assert (len(rows) == 6) is not pack


@pytest.mark.parametrize('objective', PAIRS)
@pytest.mark.parametrize('family', ['encoder_decoder', 'decoder'])
def test_pieces_of_every_length_fit(objective, family):
  settings = pairs_config(objective)
  tokenizer = Numbers(300, 40)
  shapes = batch_shapes(settings, family)
  longest = max(lengths.raw_lengths(settings, family))
  documents = [piece(n, rows=1)[0] % 250 + 3 for n in range(1, longest + 5)]
  settings = pairs_config(objective, concatenate=False, pack=False)
  for seed in range(3):
    rows = make_rows(documents, tokenizer, settings, shapes, rng(seed), family)
    found = examples_of(features.split(rows, shapes))
    assert len(found) >= len(documents)
