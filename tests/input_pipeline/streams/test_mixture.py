"""Mixtures of sources, first documents, epochs: shares, places, ends."""

import dataclasses
import functools
import itertools
import json
import re
import sys
import threading
from concurrent import futures

import numpy as np
import pytest

from input_pipeline import choices, pipeline, prepare, tokenizing
from input_pipeline.streams import chunks, cursors, fingerprints, mixture
from tests.helpers import runs
from tests.helpers.caches import CAUSAL, rows_until_the_end, settings
from tests.helpers.corpora import assert_same, data_config, texts, write
from tests.input_pipeline.objectives.test_masking import (
  make_config as masked_config,
)
from tests.input_pipeline.objectives.test_objectives import PAIRS, pairs_config
from train.fingerprint import fingerprint

VOCABULARY = 300
COUNTS = {'a': (120, 80), 'b': (150,), 'c': (40, 30, 20)}
RATES = {'a': 0.5, 'b': 0.375, 'c': 0.125}
ROWS = np.arange(16)


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  pytest.importorskip('tensorflow')
  folder = tmp_path_factory.mktemp('corpus')
  for seed, (name, counts) in enumerate(COUNTS.items()):
    for file, count in enumerate(counts):
      write(folder / f'{name}{file}.json.gz', texts(count, 10 * seed + file))
  return folder


@pytest.fixture(scope='module')
def tokenizer(corpus, tmp_path_factory):
  folder = tmp_path_factory.mktemp('tokenizer')
  changed = data_config(source=f'json:{corpus}/*.gz')
  tokenizing.prepare(changed, 0, VOCABULARY, str(folder))
  return str(folder / 'tokenizer.model')


def mixed(corpus, rates=RATES):
  return tuple((f'json:{corpus}/{n}*.gz', rate) for n, rate in rates.items())


@pytest.fixture
def open_data(corpus, tokenizer):
  def opened(eval_source='', **changes):
    if 'source' not in changes:
      changes = {'mixture': mixed(corpus), 'source': ''} | changes
    changes = {'tokenizer': tokenizer, 'holdout': 10} | CAUSAL | changes
    return pipeline.open_data(
      data_config(**changes), 5, VOCABULARY, eval_source, family='decoder'
    )

  return opened


def take(data, count, cursor=None, rows=ROWS):
  cursor = data.start() if cursor is None else cursor
  return list(itertools.islice(data.batches(cursor, rows), count))


def last_cursor(batch):
  return batch['cursor'].reshape(4, 4, -1)[:, -1]


def sources_of(cursors):
  """Which source each row is of: the one whose place moved."""
  moved = np.diff(cursors[:, 1:].reshape(len(cursors), -1, 4), axis=0)
  moved = moved.any(axis=2)
  assert (moved.sum(axis=1) == 1).all()
  return moved.argmax(axis=1)


def test_shares_against_the_binomial():
  """A wrong rate of 1% is seen; a right one fails once in a million seeds."""
  rates = [0.6, 0.3, 0.0999, 0.0001]
  count = 2000 * mixture.DRAWN
  drawn = np.concatenate(
    [mixture.draw(7, n % 2, rates, n // 2) for n in range(2000)]
  )
  for source, rate in enumerate(rates):
    z = ((drawn == source).sum() - count * rate) / np.sqrt(
      count * rate * (1 - rate)
    )
    assert abs(z) < 4.9, (source, z)
  # No row depends on the one before: runs are as long as by chance.
  same = (drawn[1:] == drawn[:-1]).mean()
  expected = np.square(rates).sum()
  assert abs(same - expected) < 4.9 * np.sqrt(expected / count)
  first, second = drawn.reshape(-1, 2, mixture.DRAWN).swapaxes(0, 1)
  assert (first != second).any()


def test_rows_of_each_source_in_turn(open_data):
  """A source's rows in a mixture are its own stream, in order, none lost."""
  data = open_data()
  readers = [part.reader(8) for part in data.corpora]
  mixed_rows = data._padded(readers, 2, data.start()[2], [])
  rows = np.concatenate(list(itertools.islice(mixed_rows, 5)))
  parts = pipeline.features.split(rows, data.shapes)
  passed = np.concatenate([data.start()[2:3], parts['cursor']])
  np.testing.assert_array_equal(passed[:, 0], np.arange(len(passed)))
  which = sources_of(passed)
  np.testing.assert_array_equal(
    which,
    np.concatenate(
      [mixture.draw(5, 2, list(RATES.values()), n) for n in range(5)]
    ),
  )
  for source, share in enumerate(RATES.values()):
    own = rows[which == source]
    assert abs(len(own) - share * len(rows)) < 5 * np.sqrt(len(rows)) / 2
    alone = data._source_rows(readers, source, 2, cursors.START)
    alone = list(itertools.islice(alone, 200))
    expected = np.concatenate(alone)[: len(own)]
    width = np.prod(data.shapes['cursor'][0])
    np.testing.assert_array_equal(own[:, :-width], expected[:, :-width])
    places = pipeline.features.split(expected, data.shapes)['cursor'][:, :4]
    columns = slice(1 + 4 * source, 5 + 4 * source)
    np.testing.assert_array_equal(
      parts['cursor'][which == source][:, columns], places
    )


def test_each_kind_of_draw_has_a_seed_of_its_own(open_data, monkeypatch):
  """Documents, places, shards, chunks and sources draw by different seeds.

  Evaluation draws differently again.
  """
  found, own = {}, np.random.default_rng

  def recorded(seed=None):
    if isinstance(seed, list):  # the frame between is seeds.generator
      place = sys._getframe(2).f_code
      found.setdefault((place.co_filename, place.co_name), set()).add(
        tuple(seed)
      )
    return own(seed)

  monkeypatch.setattr(np.random, 'default_rng', recorded)
  synthetic = {'source': 'synthetic', 'tokenizer': '', 'holdout': 10}
  for data in open_data(), open_data(**synthetic):
    take(data, 2)
    next(data.evaluation(ROWS, 16))
  kinds = {name: {x[1] for x in drawn} for (_, name), drawn in found.items()}
  assert len(kinds) == len(found) == 5
  assert sorted(kinds.values(), key=min) == [{0}, {1}, {2}, {3}, {4}]
  # Each stream's sources, each epoch's shards, each chunk's rows.
  assert {seed[0] for drawn in found.values() for seed in drawn} == {5}
  drawn = {name: drawn for (_, name), drawn in found.items()}
  assert {seed[2] for seed in drawn['draw']} == {0, 1, 2, 3}
  assert {seed[2] for seed in drawn['_rows']} == {0, 1}


def test_resuming_anywhere(open_data):
  data = open_data()
  whole = take(data, 60)
  assert whole[0]['cursor'].shape == (16, 13)
  assert last_cursor(whole[-1])[:, 1::4].max() > 0  # an epoch is over
  for done in 1, 2, 31, 32, 33, 50:
    rest = take(data, 3, last_cursor(whole[done - 1]))
    for first, second in zip(whole[done : done + 3], rest, strict=True):
      assert_same(first, second)


def test_resuming_from_every_row(open_data):
  data, rows = open_data(), np.arange(4)
  whole = take(data, 70, rows=rows)
  flat = {n: np.concatenate([b[n] for b in whole]) for n in whole[0]}
  cursor = data.start()
  for row in [*range(6), *range(120, 136), *range(254, 258)]:
    cursor[0] = flat['cursor'][row]
    (batch,) = take(data, 1, cursor, rows)
    assert_same(batch, {n: v[row + 1 : row + 5] for n, v in flat.items()})


ONE_OF_EACH_FAMILY = (
  ('sentence_pairs', 'encoder'),
  ('mlm', 'electra'),
  ('ul2', 'encoder_decoder'),
  ('causal', 'decoder'),
  ('causal', 'rwkv'),
)


@pytest.mark.parametrize(
  ('objective', 'family'),
  [
    *((o, 'encoder_decoder') for o in PAIRS),
    *((o, 'decoder') for o in ('causal', *PAIRS)),
    ('causal', 'rwkv'),
    *((o, 'encoder') for o in choices.MASKED),
    ('mlm', 'electra'),
  ],
)
def test_every_objective_on_hosts(corpus, objective, family):
  """Hosts see the same rows in both phases, from the start and resumed.

  One objective of each family runs on all hosts of 1, 2 and 4; the others run
  on one host of 4.
  """
  make = pairs_config if objective in PAIRS else masked_config
  predictions = 4 if objective in choices.MASKED else 0
  settings = make(
    objective, source='', mixture=mixed(corpus), tokenizer_kind='bytes',
    holdout=10, curriculum=((0.5, 48, predictions),),
  )  # fmt: skip
  if objective == 'ul2':
    settings = dataclasses.replace(settings, sentinels=30)
  data = pipeline.open_data(settings, 5, VOCABULARY, family=family)
  cursor, hosts = data.start(), [ROWS[8:12]]
  if (objective, family) in ONE_OF_EACH_FAMILY:
    hosts = [ROWS, *np.split(ROWS, 2), *np.split(ROWS, 4)]
  for _, phase in settings.phases(2):
    part = data.phase(phase)
    whole = take(part, 3, cursor)
    names = {'targets', 'weights', 'segments'}
    assert all(batch[name].any() for batch in whole for name in names)
    for rows in hosts:
      for start, expected in (
        (cursor, whole[:2]),
        (last_cursor(whole[0]), whole[1:]),
      ):
        for batch, every in zip(
          take(part, 2, start, rows), expected, strict=True
        ):
          assert_same(batch, {n: v[rows] for n, v in every.items()})
    cursor = cursors.next_chunk(last_cursor(whole[-1]))


def test_a_mixture_of_one(open_data, corpus):
  """A mixture of one has the source's documents; only its cursor differs."""
  data = open_data(mixture=((f'json:{corpus}/b*.gz', 1.0),))
  assert take(data, 1)[0]['cursor'].shape == (16, 5)
  assert data.report()['documents_0'] == data.report()['documents']


def counted(batches):
  counts = np.zeros(VOCABULARY, int)
  for batch in batches:
    np.add.at(counts, batch['targets'][batch['segments'] > 0], 1)
  return counts


def whole_evaluation(data):
  return list(
    itertools.takewhile(
      lambda batch: batch['weights'].any(), data.evaluation(ROWS, 16)
    )
  )


def test_evaluation_of_all_sources(open_data, corpus):
  """Evaluation reads each held-out document of each source once."""
  data = open_data()
  alone = [open_data(source=name) for name, _ in mixed(corpus)]
  expected = sum(counted(whole_evaluation(other)) for other in alone)
  found = counted(whole_evaluation(data))
  np.testing.assert_array_equal(found, expected)
  held_out = sum(n // 10 for counts in COUNTS.values() for n in counts)
  assert found[data.tokenizer.eos] == held_out
  other = open_data(f'json:{corpus}/c*.gz')
  found = counted(whole_evaluation(other))[data.tokenizer.eos]
  assert found == sum(COUNTS['c'])


def test_reports_and_fingerprint(open_data, corpus):
  data = open_data()
  take(data, 20)
  report = data.report()
  own = [report[f'documents_{n}'] for n in range(3)]
  assert min(own) > 0
  assert sum(own) == report['documents']
  assert json.loads(json.dumps(data.fingerprint)) == data.fingerprint
  other = open_data(mixture=mixed(corpus, RATES | {'a': 0.375, 'b': 0.5}))
  changes = fingerprints.changes(data.fingerprint, other.fingerprint)
  assert changes == [
    'data.mixture[0][1]: 0.5, now 0.375',
    'data.mixture[1][1]: 0.375, now 0.5',
  ]


def test_caches_mix(open_data, corpus, tokenizer, tmp_path):
  """Caches that are prepared and trained on together have the texts' rows."""
  config = settings('', data__tokenizer=tokenizer)
  config.data.mixture = mixed(corpus)
  made = prepare.prepare(config, str(tmp_path), jobs=1)
  assert made == [f'cache:{tmp_path}/{n}' for n in range(3)]
  rates = RATES.values()
  cached = open_data(mixture=tuple(zip(made, rates, strict=True)), tokenizer='')
  for first, second in zip(
    take(open_data(), 20), take(cached, 20), strict=True
  ):
    assert_same(first, second)
  # A cache and a text, and the cache's tokenizer.
  pairs = ((made[0], 0.5), (f'json:{corpus}/b*.gz', 0.5))
  take(open_data(mixture=pairs, tokenizer=''), 2)


def test_missing_source(open_data, corpus):
  pairs = ((f'json:{corpus}/a*.gz', 0.5), ('text:/nothing/*', 0.5))
  with pytest.raises(ValueError, match=r"mixture\[1\]='text:/nothing/\*' m"):
    open_data(mixture=pairs)
  with pytest.raises(ValueError, match=r'leave nothing of data\.mixture\[0\]='):
    open_data(holdout=0)


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
  open_data, corpus, tokenizer, tmp_path, documents, kind
):
  """Exactly N documents are read three times: T5's repeated data."""
  source = f'json:{corpus}/a*.gz'
  if kind == 'cache':
    config = settings(source, data__tokenizer=tokenizer)
    (source,) = prepare.prepare(config, str(tmp_path), jobs=1)
  data = open_data(source=source, documents=documents, epochs=3)
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
  all_of_it = open_data(source=source)
  np.testing.assert_array_equal(
    counted(whole_evaluation(data)), counted(whole_evaluation(all_of_it))
  )


def test_too_few_documents(open_data, corpus):
  with pytest.raises(ValueError, match=r'documents=181, but .* has 180 docum'):
    open_data(source=f'json:{corpus}/a*.gz', documents=181)
  # Each source of a mixture by itself.
  with pytest.raises(ValueError, match=r'documents=82, but data.mixture\[2\]'):
    open_data(documents=82)
  take(open_data(documents=81), 3)


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
def test_the_end_comes_when_all_streams_are_there(open_data, corpus, kind):
  """One epoch's rows come, then padding, then the error; from any step on."""
  if kind == 'synthetic':
    changes = {'source': 'synthetic', 'tokenizer': '', 'documents': 600}
  else:
    changes = {'source': f'json:{corpus}/a*.gz'} if kind == 'one' else {}
  ends, endless = open_data(**changes, epochs=1), open_data(**changes)

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
def test_every_document_epochs_times(open_data, corpus, tokenizer, count):
  """Batches have each document so often, even with few chunks for streams."""
  data = open_data(
    source=f'json:{corpus}/a*.gz', epochs=2, streams=count, block=16
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


def test_the_end_on_two_hosts(open_data, corpus):
  """Both end after the same batch, though one's streams end earlier."""
  data = open_data(source=f'json:{corpus}/a*.gz', epochs=1, block=64)
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


def test_next_chunk():
  """A new phase begins after the chunk that a stream is in, in each source."""
  cursor = np.tile([9, 0, 1, 2, 3, 0, 0, 0, -1, 1, 1, 4, 0], [4, 1])
  np.testing.assert_array_equal(
    cursors.next_chunk(cursor)[1], [9, 0, 1, 3, -1, 0, 0, 0, -1, 1, 1, 5, -1]
  )


@pytest.mark.slow
def test_training_to_the_end_of_the_data(tmp_path, corpus, tokenizer):
  """The last step is saved and reported; more epochs continue from there."""
  settings = {
    'model__vocab_size': VOCABULARY, 'data__tokenizer': tokenizer,
    'data__source': f'json:{corpus}/a*.gz', 'data__sentinels': 40,
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
