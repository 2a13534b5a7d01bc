"""The first documents of a source, epochs, and the end of the data."""

import functools
import re
import threading
from concurrent import futures

import numpy as np
import pytest

from input_pipeline import pipeline, prepare
from input_pipeline.streams import chunks
from tests.helpers import runs
from tests.helpers.caches import rows_until_the_end, settings
from tests.helpers.corpora import assert_same, texts
from tests.helpers.mixtures import (
  COUNTS,
  ROWS,
  VOCABULARY,
  counted,
  last_cursor,
  take,
  whole_evaluation,
)
from train.fingerprint import fingerprint


def epochs_of(data, stream_count=4):
  """Tokens of all rows of all streams up to the end of the source."""
  readers = [part.reader(8) for part in data.corpora]
  counts = np.zeros(VOCABULARY, int)
  for stream in range(stream_count):
    for rows in rows_until_the_end(data, readers, stream):
      counts += counted([pipeline.features.split(rows, data.shapes)])
  return counts


@pytest.mark.parametrize('documents', [1, 60, 108, 109, 180])
@pytest.mark.parametrize('kind', ['json', 'cache'])
def test_first_documents(
  open_mixture, sources, tokenizer, tmp_path, documents, kind
):
  """Exactly N documents are read three times: T5's repeated data."""
  source = f'json:{sources}/a*.gz'
  if kind == 'cache':
    config = settings(source, data__tokenizer=tokenizer)
    (source,) = prepare.prepare(config, str(tmp_path), jobs=1)
  data = open_mixture(source=source, documents=documents, epochs=3)
  counts = epochs_of(data)
  kept = [
    text.encode()
    for file, count in enumerate(COUNTS['a'])
    for index, text in enumerate(texts(count, file))
    if index % 10 != 9
  ][:documents]
  ids = np.concatenate(data.tokenizer.encode_batch(kept))
  expected = 3 * np.bincount(ids, minlength=VOCABULARY)
  expected[data.tokenizer.eos] += 3 * documents
  np.testing.assert_array_equal(counts, expected)
  # Held-out documents stay the same.
  all_of_it = open_mixture(source=source)
  np.testing.assert_array_equal(
    counted(whole_evaluation(data)), counted(whole_evaluation(all_of_it))
  )


def test_too_few_documents(open_mixture, sources):
  with pytest.raises(ValueError, match=r'documents=181, but .* has 180 docum'):
    open_mixture(source=f'json:{sources}/a*.gz', documents=181)
  # Each source of a mixture by itself.
  with pytest.raises(ValueError, match=r'documents=82, but data.mixture\[2\]'):
    open_mixture(documents=82)
  take(open_mixture(documents=81), 3)


def until_the_end(data, rows=ROWS, everywhere=bool, cursor=None):
  """The batches before the end of data.epochs, which must come."""
  cursor, found = data.start() if cursor is None else cursor, []
  key = r'data\.mixture\[\d\]' if data.config.mixture else r'data\.source'
  with pytest.raises(chunks.SourceEnded, match=key + r'=.*data\.epochs=\d ti'):
    found.extend(data.batches(cursor, rows, everywhere))
  return found


def rows_of_streams(batches, stream_count, shapes):
  """The rows of each stream without padding: name -> [N, ...]."""
  found = []
  for stream in range(stream_count):
    own = {
      name: np.concatenate(
        [np.split(b[name], stream_count)[stream] for b in batches]
      )
      for name in shapes
    }
    full = own['segments'].any(axis=1)
    assert not full[full.sum() :].any()  # all of the padding comes last
    found.append({name: x[full] for name, x in own.items()})
  return found


@pytest.mark.parametrize('kind', ['one', 'mixture', 'synthetic'])
def test_the_end_comes_when_all_streams_are_there(open_mixture, sources, kind):
  """One epoch's rows come, then padding, then the error; from any step on."""
  if kind == 'synthetic':
    changes = {'source': 'synthetic', 'tokenizer': '', 'documents': 600}
  else:
    changes = {'source': f'json:{sources}/a*.gz'} if kind == 'one' else {}
  ends, endless = open_mixture(**changes, epochs=1), open_mixture(**changes)

  found = until_the_end(ends)
  expected = take(endless, len(found) + 1)
  pairs = zip(
    *(rows_of_streams(x, 4, ends.shapes) for x in (found, expected)),
    strict=True,
  )
  for ours, full in pairs:
    count = len(ours['cursor'])
    assert_same(ours, {name: x[:count] for name, x in full.items()})
    mixed = kind == 'mixture'
    assert full['cursor'][count][mixed::4].max() == 1  # the row refused
    assert full['cursor'][count - 1][mixed::4].max() == 0
  assert found[-1]['segments'].any()
  for step in {1, len(found) // 2, *range(len(found) - 3, len(found) + 1)}:
    rest = until_the_end(ends, cursor=last_cursor(found[step - 1]))
    assert len(rest) == len(found) - step
    for first, second in zip(rest, found[step:], strict=True):
      assert_same(first, second)


@pytest.mark.parametrize('count', [1, 4, 16])
def test_every_document_epochs_times(open_mixture, sources, tokenizer, count):
  """Batches have each document so often, even with few chunks for streams."""
  data = open_mixture(
    source=f'json:{sources}/a*.gz', epochs=2, streams=count, block=16
  )
  kept = [
    text.encode()
    for file, documents in enumerate(COUNTS['a'])
    for index, text in enumerate(texts(documents, file))
    if index % 10 != 9
  ]
  ids = np.concatenate(data.tokenizer.encode_batch(kept))
  expected = 2 * np.bincount(ids, minlength=VOCABULARY)
  expected[data.tokenizer.eos] += 2 * len(kept)
  np.testing.assert_array_equal(counted(until_the_end(data)), expected)


def test_the_end_on_two_hosts(open_mixture, sources):
  """Both end after the same batch, though one's streams end earlier."""
  data = open_mixture(source=f'json:{sources}/a*.gz', epochs=1, block=64)
  whole = until_the_end(data, ROWS)
  barrier, truths = threading.Barrier(2, timeout=60), {}

  def host(number):
    def everywhere(truth):
      truths[number] = truth
      barrier.wait()
      found = all(truths.values())
      barrier.wait()
      return found

    return until_the_end(data, np.split(ROWS, 2)[number], everywhere)

  with futures.ThreadPoolExecutor(2) as pool:
    halves = list(pool.map(host, range(2)))
  ends = [sum(b['segments'].any() for b in half) for half in halves]
  assert min(ends) < max(ends) == len(whole)
  for batch, *parts in zip(whole, *halves, strict=True):
    assert_same(
      batch, {n: np.concatenate([p[n] for p in parts]) for n in batch}
    )


@pytest.mark.slow
def test_training_to_the_end_of_the_data(tmp_path, sources, tokenizer):
  """The last step is saved and reported; more epochs continue from there."""
  settings = {
    'model__vocab_size': VOCABULARY, 'data__tokenizer': tokenizer,
    'data__source': f'json:{sources}/a*.gz', 'data__sentinels': 40,
    'train__steps': 90, 'checkpoint__every': 5,
  }  # fmt: skip
  start = functools.partial(runs.command, tmp_path, **settings)
  done = runs.run(start(data__epochs=1))
  assert done.returncode == 1
  last = done.stderr.strip().splitlines()[-1]
  found = re.search(r'The data has ended after step (\d+) of 90', last)
  step = int(found[1])
  assert 5 < step < 90
  assert f'The newest checkpoint, of step {step}, is kept' in last
  assert runs.checkpoints(tmp_path)[-1] == step
  for name in 'train/tokens', 'eval/loss':
    assert runs.rows(tmp_path, name)[-1][0] == step
  ended = fingerprint(str(tmp_path), step)
  done = runs.run(start(data__epochs=0))
  assert done.returncode == 0, done.stderr
  assert f'Resuming from the checkpoint of step {step}.' in done.stdout
  assert fingerprint(str(tmp_path))['data'] == ended['data']
