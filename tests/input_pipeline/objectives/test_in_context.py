"""Prompts of examples: what they are drawn from, and from which places."""

import collections

import numpy as np
import pytest

from input_pipeline.objectives import in_context
from input_pipeline.pipeline import open_data
from tests.helpers.corpora import assert_same, data_config, last_cursor, take
from tests.helpers.objectives import rng

KEYS = {
  'objective': 'in_context',
  'sentinels': 0,
  'noise_density': 0.0,
  'mean_span_length': 0.0,
  'document_tokens': 0,
  'pack': False,
}
KINDS = {
  'linear': {'length': 9, 'dimensions': 3},
  'copying': {'length': 40},
  'classification': {'length': 31, 'dimensions': 2},
}


def config(kind, **changes):
  return data_config(**KEYS | {'prompts': kind} | KINDS[kind] | changes)


def opened(kind, family='decoder', **changes):
  return open_data(config(kind, **changes), 5, 40, family=family)


def test_linear_functions_are_linear():
  """The first I examples decide w, and all later ones agree with it."""
  found = in_context.linear(500, 17, 4, rng())
  x, y = found['inputs'][:, ::2], found['labels'][:, ::2]
  w = np.linalg.solve(x[:, :4], y[:, :4, None])
  np.testing.assert_allclose((x @ w)[..., 0], y, atol=1e-6)
  # N(0, I): the variance of w is 1; that of a sample's square is 2.
  assert abs(np.mean(w**2) - 1) < 5 * (2 / w.size) ** 0.5
  assert abs(np.mean(x**2) - 1) < 5 * (2 / x.size) ** 0.5
  # An answer is read after its question, alone in its vector.
  np.testing.assert_array_equal(found['inputs'][:, 1::2, 0], y[:, :-1])
  assert not found['inputs'][:, 1::2, 1:].any()
  assert found['shots'][0].tolist() == [
    *(n for k in range(8) for n in (k, -1)), 8,
  ]  # fmt: skip


def test_copies_are_copies():
  found = in_context.copying(2000, 40, 64, rng())
  line = np.concatenate([found['inputs'], found['targets'][:, -1:]], axis=1)
  assert (found['inputs'][:, 1:] == found['targets'][:, :-1]).all()
  lengths = collections.Counter()
  for row, shots in zip(line, found['shots'], strict=True):
    period = len(set(row))
    lengths[period] += 1
    assert (row[period:] == row[:-period]).all()
    for place, symbol in enumerate(row[:-1]):
      assert shots[place] == (row[:place] == symbol).sum()
  kinds = range(in_context.LEAST, in_context.MOST + 1)
  assert {*lengths} == {*kinds}
  expected = 2000 / len(kinds)
  assert all(abs(x - expected) < 5 * expected**0.5 for x in lengths.values())
  assert line.min() == in_context.FIRST
  assert line.max() == in_context.FIRST + 63


def test_classes_have_names_and_patterns():
  size, count = 3, 2000
  found = in_context.classification(count, 63, size, rng())
  line = np.concatenate([found['inputs'], found['targets'][:, -1:]], axis=1)
  assert (found['inputs'][:, 1:] == found['targets'][:, :-1]).all()
  examples = line.reshape(count, -1, size + 1)
  x, names = examples[..., :size], examples[..., size] - in_context.FIRST
  assert names.min() == 0
  assert names.max() == in_context.NAMES - 1
  x = x - in_context.FIRST - in_context.NAMES
  for place in range(size):
    values = x[..., place] - place * in_context.VALUES
    assert {*values.ravel()} == {*range(in_context.VALUES)}
  shots = found['shots'].reshape(count, -1)
  alike = np.zeros((count, 2))
  for row in range(count):
    assert len({*names[row]}) <= in_context.CLASSES
    for n, place in enumerate(range(size - 1, shots.shape[1], size + 1)):
      before = names[row, :n] == names[row, n]
      assert shots[row, place] == before.sum()
      if before.any():
        first = np.flatnonzero(before)[0]
        alike[row] += (x[row, first] == x[row, n]).sum(), size
  assert ((shots >= 0).sum(axis=1) == shots.shape[1] // (size + 1) + 1).all()
  # Two of a class agree if both are true to it, or else by chance.
  true = (1 - in_context.NOISE) ** 2
  expected = true + (1 - true) / in_context.VALUES
  share = alike[:, 0].sum() / alike[:, 1].sum()
  # Examples of a prompt share their pattern: prompts are independent.
  error = (alike[:, 0] - expected * alike[:, 1]).std() * count**0.5
  assert abs(share - expected) * alike[:, 1].sum() < 5 * error


@pytest.mark.parametrize('prompts', KINDS)
def test_rows_follow_from_the_cursor(prompts):
  """Resumed, on two hosts, and in another epoch."""
  data = opened(prompts)
  whole = take(data, 6)
  for batch in whole:
    np.testing.assert_array_equal(batch['weights'] > 0, batch['shots'] >= 0)
    for name, (tail, dtype) in data.shapes.items():
      assert batch[name].shape == (16, *tail)
      assert batch[name].dtype == dtype
  cursor = last_cursor(whole[2])
  again = take(opened(prompts, 'rwkv'), 3, cursor)
  for first, second in zip(whole[3:], again, strict=True):
    assert_same(first, second)
  half = data.batches(data.start(), np.arange(8, 16))
  assert_same({k: x[8:] for k, x in whole[0].items()}, next(half))
  later = data.start()
  later[:, 0] = 1
  assert not np.array_equal(
    whole[0]['inputs'], take(data, 1, later)[0]['inputs']
  )


def test_held_out_prompts_are_others():
  data = opened('copying')
  trained = {tuple(x) for batch in take(data, 20) for x in batch['inputs']}
  held_out = next(data.evaluation(np.arange(16), 16))
  assert len(trained) == 320
  assert not trained & {tuple(x) for x in held_out['inputs']}


@pytest.mark.parametrize(
  ('prompts', 'changes', 'message'),
  [
    ('linear', {'prompts': 'quadratic'}, "prompts='quadratic' must be one of"),
    ('linear', {'dimensions': 0}, 'dimensions=0 must be at least 1'),
    ('copying', {'dimensions': 2}, 'dimensions=2 must be 0'),
    ('copying', {'pack': True}, 'pack=True must be False'),
    ('copying', {'source': 'docs'}, "source='docs' must be 'synthetic'"),
    ('copying', {'length': 23}, 'data.length is 23; .* at least 24'),
    ('classification', {'length': 5}, 'data.length is 5; .* at least 6'),
    ('linear', {'objective': 'causal'}, "must be (''|0): data.objective="),
  ],
)
def test_refused(prompts, changes, message):
  with pytest.raises(ValueError, match=message):
    opened(prompts, **changes)


def test_refused_with_other_models():
  with pytest.raises(ValueError, match='for model.family decoder or rwkv'):
    opened('copying', 'encoder')
  data = open_data(config('classification', dimensions=5), 5, 40, family='rwkv')
  with pytest.raises(ValueError, match='vocab_size is 40.* at least 51'):
    take(data, 1)
