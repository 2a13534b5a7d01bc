"""Rows and their cursors: the same from anywhere, on any number of hosts."""

import dataclasses
import gc
import itertools
import sys

import numpy as np
import pytest

from input_pipeline.streams import chunks, cursors
from tests.helpers.corpora import (
  BATCH,
  VOCABULARY,
  assert_same,
  data_config,
  json_config,
  last_cursor,
  open_data,
  take,
  texts,
  write,
)


@pytest.fixture
def synthetic():
  return open_data(data_config(), seed=5, vocab_size=VOCABULARY)


@pytest.fixture(params=['data', 'synthetic'])
def either(request):
  return request.getfixturevalue(request.param)


def test_shapes(either):
  (batch,) = take(either, 1)
  assert batch.keys() == either.shapes.keys()
  for name, (tail, dtype) in either.shapes.items():
    assert batch[name].shape == (BATCH, *tail)
    assert batch[name].dtype == dtype
  np.testing.assert_array_equal(batch['weights'], batch['segments'] > 0)
  assert batch['encoder_inputs'].max() < VOCABULARY
  assert (batch['encoder_segments'] > 0).mean() > 0.8


def test_the_same_twice(either):
  for first, second in zip(take(either, 12), take(either, 12), strict=True):
    assert_same(first, second)


def test_another_seed(corpus, workdir, data):
  arguments = {'vocab_size': VOCABULARY, 'workdir': workdir}
  other = open_data(json_config(corpus), seed=6, **arguments)
  assert not np.array_equal(
    take(data, 1)[0]['targets'], take(other, 1)[0]['targets']
  )


def test_cursors_advance(either):
  rows = {s: [] for s in range(4)}
  for batch in take(either, 30):
    for s, places in enumerate(batch['cursor'].reshape(4, -1, 4)):
      rows[s] += [tuple(place) for place in places.tolist()]
  for places in rows.values():
    assert places[0] == (0, 0, 0, 0)
    assert places == sorted(set(places))
    for before, after in itertools.pairwise(places):
      assert after[3] in (before[3] + 1, 0)


def test_resuming_anywhere(either):
  """Rows resume from every batch's cursor, and inside and between chunks."""
  whole = take(either, 14)
  for done in 1, 2, 3, 7, 11:
    rest = take(either, 14 - done, last_cursor(whole[done - 1]))
    for first, second in zip(whole[done:], rest, strict=True):
      assert_same(first, second)


def test_resuming_from_every_row(either):
  """A stream's rows continue in the same way from any row's cursor."""
  rows = np.arange(4)  # those of stream 0
  whole = take(either, 8, rows=rows)
  flat = {n: np.concatenate([b[n] for b in whole]) for n in whole[0]}
  cursor = either.start()
  for row in range(24):
    cursor[0] = flat['cursor'][row]
    (batch,) = take(either, 1, cursor, rows)
    assert_same(batch, {n: v[row + 1 : row + 5] for n, v in flat.items()})


@pytest.mark.parametrize('hosts', [2, 4, 8])
def test_hosts(either, hosts):
  """Any number of hosts sees the same batches, before and after resuming."""
  whole = take(either, 6)
  for host in {0, 1, hosts - 1}:
    rows = np.arange(BATCH).reshape(hosts, -1)[host]
    for cursor, expected in (
      (None, whole[:3]),
      (last_cursor(whole[1]), whole[2:5]),
    ):
      for batch, all_rows in zip(
        take(either, 3, cursor, rows), expected, strict=True
      ):
        assert_same(batch, {n: v[rows] for n, v in all_rows.items()})


def test_rows_of_several_streams(either):
  rows = np.array([1, 2, 7, 12, 15])
  for part, whole in zip(
    take(either, 3, rows=rows), take(either, 3), strict=True
  ):
    assert_same(part, {n: v[rows] for n, v in whole.items()})


def test_fewer_chunks_than_streams(tmp_path, corpus, workdir):
  """Each epoch deals its chunks to other streams: all of them have rows."""
  write(tmp_path / 'a.json.gz', texts(20))
  changed = data_config(source=f'json:{tmp_path}/a.json.gz', holdout=10)
  data = open_data(changed, 5, VOCABULARY, workdir=workdir)
  whole = take(data, 6)
  assert last_cursor(whole[-1])[:, 0].min() > 0
  for first, second in zip(
    whole[3:], take(data, 3, last_cursor(whole[2])), strict=True
  ):
    assert_same(first, second)


def test_cursor_of_other_streams(synthetic):
  with pytest.raises(ValueError, match=r'shape \(3, 4\).*data\.streams=4'):
    synthetic.batches(np.zeros([3, 4], int), np.arange(BATCH))


@pytest.mark.parametrize('holdout', [0, 10])
def test_an_epoch_covers_every_document_once(corpus, workdir, holdout):
  """The evaluation split has all others, in the order of the files."""
  changed = json_config(corpus, holdout=holdout)
  data = open_data(
    changed, 5, VOCABULARY, '' if holdout else changed.source, workdir
  )

  def documents(evaluation):
    corpora = data.evaluated if evaluation else data.corpora
    reader, found = corpora[0].reader(2 if evaluation else 8), []
    for stream in range(4):
      for at, (file, _), records in chunks.walk(
        reader, stream, 4, None if evaluation else 5, cursors.START
      ):
        if at[0]:
          break
        found += [(file, line) for line, _ in records]
    return found

  everything = {
    (f, i + 1) for f, n in enumerate((150, 230, 97)) for i in range(n)
  }
  training, held_out = documents(False), documents(True)
  assert len(training) == len(set(training))
  assert len(held_out) == len(set(held_out))
  if holdout:
    assert not set(training) & set(held_out)
    assert {line % 10 for _, line in held_out} == {0}
    assert set(training) | set(held_out) == everything
  else:
    assert set(training) == set(held_out) == everything


def text_of(batches, data):
  """Counts of all tokens except sentinels and EOS."""
  counts = np.zeros(VOCABULARY, int)
  for batch in batches:
    for tokens in batch['encoder_inputs'], batch['targets']:
      counts += np.bincount(tokens.ravel(), minlength=VOCABULARY)
  counts[[0, data.tokenizer.eos, *data.tokenizer.sentinels]] = 0
  return counts


@pytest.mark.parametrize('concatenate', [True, False])
@pytest.mark.parametrize('pack', [True, False])
def test_evaluation(corpus, workdir, concatenate, pack):
  """Any number of hosts sees every token of the split once."""
  changed = json_config(corpus, concatenate=concatenate, pack=pack)
  data = open_data(changed, 5, VOCABULARY, workdir=workdir)
  whole = []
  for batch in data.evaluation(np.arange(8), 8):
    if not batch['weights'].sum():
      break
    whole.append(batch)
  held_out = [
    text
    for n, count in enumerate((150, 230, 97))
    for text in texts(count, n)[9::10]
  ]
  ids = np.concatenate(data.tokenizer.encode_batch(held_out))
  expected = np.bincount(ids, minlength=VOCABULARY)
  np.testing.assert_array_equal(text_of(whole, data), expected)
  if not pack:
    assert max(batch['segments'].max() for batch in whole) == 1
  for host in range(4):
    rows = np.arange(8).reshape(4, -1)[host]
    part = itertools.islice(data.evaluation(rows, 8), len(whole) + 2)
    for batch, all_rows in itertools.zip_longest(part, whole):
      if all_rows:
        assert_same(batch, {n: v[rows] for n, v in all_rows.items()})
      else:
        assert not batch['weights'].any()


def test_evaluation_in_batches_of_any_size(data):
  """A batch that streams does not divide has the same rows, and no others."""

  def tokens(batch):
    batches = data.evaluation(np.arange(batch), batch)
    found = np.zeros(VOCABULARY, int)
    for made in itertools.takewhile(lambda x: x['weights'].any(), batches):
      np.add.at(found, made['targets'][made['segments'] > 0], 1)
    return found

  np.testing.assert_array_equal(tokens(6), tokens(16))


@pytest.mark.slow
def test_memory_is_flat(either):
  """Two hundred thousand rows leave about as many objects as before."""
  config = dataclasses.replace(either.config, batch=512, length=16)
  large = either.phase(config)
  iterator = large.batches(large.start(), np.arange(512))
  counts = []
  for step in range(480):
    next(iterator)
    if step % 40 == 39:
      gc.collect()
      counts.append(sys.getallocatedblocks())
  iterator.close()
  # A kept batch has twenty of them; what is read ahead has a thousand.
  assert np.median(counts[-5:]) - np.median(counts[:5]) < 3_000
