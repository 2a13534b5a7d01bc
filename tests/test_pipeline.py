"""Rows, cursors, hosts, epochs, held-out documents, errors."""

import dataclasses
import functools
import gc
import gzip
import itertools
import json
import os
import shutil
import subprocess
import sys
import tracemalloc
import weakref
from pathlib import Path

import numpy as np
import pytest

from input_pipeline import config, pipeline, streams, tokenizing

REPOSITORY = Path(__file__).resolve().parent.parent
BATCH = 16

open_data = functools.partial(pipeline.open_data, family='encoder_decoder')


def data_config(**changes):
  values = {
    'source': 'synthetic',
    'tokenizer': '',
    'sentinels': 40,
    'objective': 'span_corruption',
    'noise_density': 0.15,
    'mean_span_length': 3.0,
    'batch': BATCH,
    'length': 64,
    'concatenate': True,
    'pack': True,
    'block': 8,
    'document_tokens': 65536,
    'streams': 4,
    'holdout': 10,
    'max_bad_share': 0.001,
    'threads': 2,
  }
  return config.DataConfig(**(values | changes))


def texts(count, seed=0):
  """Documents of 1 to 60 made-up words."""
  rng = np.random.default_rng(seed)
  syllables = [a + b for a in 'bdfgklmnprst' for b in 'aeiou']
  return [
    ' '.join(
      ''.join(rng.choice(syllables, size=rng.integers(1, 4)))
      for _ in range(rng.integers(1, 60))
    )
    for _ in range(count)
  ]


def write(path, documents):
  lines = [json.dumps({'text': text}) for text in documents]
  path.write_bytes(gzip.compress('\n'.join(lines).encode(), 1))


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  """Three files of unequal size; one lets the tokenizer be trained once."""
  pytest.importorskip('tensorflow')
  folder = tmp_path_factory.mktemp('corpus')
  for n, count in enumerate((150, 230, 97)):
    write(folder / f'{n}.json.gz', texts(count, n))
  return folder


VOCABULARY = 300


@pytest.fixture(scope='module')
def workdir(corpus, tmp_path_factory):
  folder = str(tmp_path_factory.mktemp('workdir'))
  tokenizing.prepare(json_config(corpus), 0, VOCABULARY, folder)
  return folder


def json_config(corpus, files='*.json.gz', **changes):
  return data_config(source=f'json:{corpus}/{files}', **changes)


@pytest.fixture
def data(corpus, workdir):
  return open_data(
    json_config(corpus), seed=5, vocab_size=VOCABULARY, workdir=workdir
  )


@pytest.fixture
def synthetic():
  return open_data(data_config(), seed=5, vocab_size=VOCABULARY)


@pytest.fixture(params=['data', 'synthetic'])
def either(request):
  return request.getfixturevalue(request.param)


def take(data, count, cursor=None, rows=None):
  cursor = data.start() if cursor is None else cursor
  rows = np.arange(BATCH) if rows is None else rows
  return list(itertools.islice(data.batches(cursor, rows), count))


def assert_same(first, second):
  assert first.keys() == second.keys()
  for name in first:
    np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def last_cursor(batch, count=4):
  return batch['cursor'].reshape(count, -1, 4)[:, -1]


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


def test_every_block_has_its_own_noise(synthetic):
  """The same documents everywhere are corrupted in another way each time."""
  synthetic.corpora[0].source.text = lambda record: np.arange(
    3, 60, dtype=np.int32
  )
  rows = np.concatenate([b['encoder_inputs'] for b in take(synthetic, 30)])
  assert len(np.unique(rows, axis=0)) > 0.95 * len(rows)


def test_another_seed(corpus, workdir, data):
  arguments = {'vocab_size': VOCABULARY, 'workdir': workdir}
  other = open_data(json_config(corpus), seed=6, **arguments)
  assert not np.array_equal(
    take(data, 1)[0]['targets'], take(other, 1)[0]['targets']
  )


def test_cursors_advance(either):
  rows = {s: [] for s in range(4)}
  for batch in take(either, 30):
    for s, cursors in enumerate(batch['cursor'].reshape(4, -1, 4)):
      rows[s] += [tuple(c) for c in cursors.tolist()]
  for cursors in rows.values():
    assert cursors[0] == (0, 0, 0, 0)
    assert cursors == sorted(set(cursors))
    for before, after in itertools.pairwise(cursors):
      assert after[3] in (before[3] + 1, 0)


def test_resuming_anywhere(either):
  """From every batch's cursor on, and from cursors inside and between."""
  whole = take(either, 14)
  for done in 1, 2, 3, 7, 11:
    rest = take(either, 14 - done, last_cursor(whole[done - 1]))
    for first, second in zip(whole[done:], rest, strict=True):
      assert_same(first, second)


def test_resuming_from_every_row(either):
  """A single stream's rows go on alike from any row's cursor."""
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


@pytest.mark.parametrize('holdout', [0, 10])
def test_an_epoch_covers_every_document_once(corpus, workdir, holdout):
  """And the evaluation split has the others, in the order of the files."""
  changed = json_config(corpus, holdout=holdout)
  data = open_data(
    changed, 5, VOCABULARY, '' if holdout else changed.source, workdir
  )

  def documents(evaluation):
    corpora = data.evaluated if evaluation else data.corpora
    reader, found = corpora[0].reader(2 if evaluation else 8), []
    for stream in range(4):
      for at, (file, _), records in streams.walk(
        reader, stream, 4, None if evaluation else 5, pipeline.CURSOR
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
  """Tokens but sentinels and EOS, counted."""
  counts = np.zeros(VOCABULARY, int)
  for batch in batches:
    for tokens in batch['encoder_inputs'], batch['targets']:
      counts += np.bincount(tokens.ravel(), minlength=VOCABULARY)
  counts[[0, data.tokenizer.eos, *data.tokenizer.sentinels]] = 0
  return counts


@pytest.mark.parametrize('concatenate', [True, False])
@pytest.mark.parametrize('pack', [True, False])
def test_evaluation(corpus, workdir, concatenate, pack):
  """The whole split once, every token of it, on any number of hosts."""
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


def test_evaluation_batch_must_fit_the_streams(synthetic):
  with pytest.raises(ValueError, match=r'6 rows.*data\.streams=4'):
    synthetic.evaluation(np.arange(6), 6)


def test_evaluation_source(corpus, workdir):
  """Another source for evaluation leaves all of the first to training."""
  own = json_config(corpus, '[01].json.gz')
  other = f'json:{corpus}/2.json.gz'
  data = open_data(own, 5, VOCABULARY, other, workdir)
  assert [corpus.holdout for corpus in data.corpora] == [0]
  assert data.fingerprint['eval_source'][0]['file'] == '2.json.gz'
  with pytest.raises(ValueError, match="eval.source='json:nothing'"):
    open_data(own, 5, VOCABULARY, 'json:nothing', workdir)
  none = dataclasses.replace(own, holdout=0)
  with pytest.raises(ValueError, match=r'data\.holdout=0 and eval\.source'):
    open_data(none, 5, VOCABULARY, '', workdir)
  with pytest.raises(ValueError, match='both or neither must be synthetic'):
    open_data(own, 5, VOCABULARY, 'synthetic', workdir)


def test_tokenizer_in_the_workdir(corpus, workdir, tmp_path):
  path = os.path.join(workdir, 'tokenizer.model')
  given = json_config(corpus, tokenizer=path)
  first = open_data(given, 5, VOCABULARY, workdir=str(tmp_path))
  copy = tmp_path / 'tokenizer.model'
  assert copy.read_bytes() == Path(path).read_bytes()
  gone = json_config(corpus, tokenizer='/no/such.model')
  again = open_data(gone, 5, VOCABULARY, workdir=str(tmp_path))
  assert pipeline.differences(first.fingerprint, again.fingerprint) == []
  with pytest.raises(ValueError, match=r"data\.tokenizer='/no/such.model'"):
    open_data(gone, 5, VOCABULARY)
  other = tokenizing.prepare(json_config(corpus), 0, 280, None)
  (tmp_path / 'other.model').write_bytes(other.model)
  changed = json_config(corpus, tokenizer=str(tmp_path / 'other.model'))
  with pytest.raises(ValueError, match='is not the tokenizer that --workdir'):
    open_data(changed, 5, VOCABULARY, workdir=str(tmp_path))
  with pytest.raises(ValueError, match=r'300 pieces.*model\.vocab_size=200'):
    open_data(given, 5, 200, workdir=str(tmp_path))


def test_fingerprint_of_moved_files(tmp_path, corpus, workdir, data):
  shutil.copytree(corpus, tmp_path / 'moved')
  moved = open_data(
    json_config(tmp_path / 'moved'), 5, VOCABULARY, workdir=workdir
  )
  assert moved.fingerprint == data.fingerprint


def test_fingerprint(corpus, workdir, data):
  assert json.loads(json.dumps(data.fingerprint)) == data.fingerprint
  faster = open_data(
    json_config(corpus, threads=1), 5, VOCABULARY, workdir=workdir
  )
  assert pipeline.differences(data.fingerprint, faster.fingerprint) == []
  other = open_data(
    json_config(corpus, block=9), 6, VOCABULARY, workdir=workdir
  )
  assert pipeline.differences(data.fingerprint, other.fingerprint) == [
    'data.block: 8, now 9',
    'seed: 5, now 6',
  ]
  fewer = json_config(corpus, '[01].json.gz')
  fewer = open_data(fewer, 5, VOCABULARY, workdir=workdir)
  changes = pipeline.differences(data.fingerprint, fewer.fingerprint)
  assert 'source: 3 entries (2.json.gz among them), now 2 entries' in changes


def test_bad_documents(tmp_path, corpus, workdir, capfd):
  lines = [json.dumps({'text': text}) for text in texts(200)]
  lines[50] = '{"text": "cut'
  (tmp_path / 'a.json').write_text('\n'.join(lines))
  changes = {'source': f'json:{tmp_path}/a.json', 'streams': 1}
  arguments = {'seed': 5, 'vocab_size': VOCABULARY, 'workdir': workdir}
  data = open_data(data_config(**changes), **arguments)
  take(data, 30)
  assert data.report()['skipped'] == 1
  assert data.report()['documents'] >= 150
  assert capfd.readouterr().out.startswith(
    f'Skipped a document: {tmp_path}/a.json, line 51: not JSON'
  )
  lines[60], lines[70] = '[]', '{"text": ""}'
  (tmp_path / 'a.json').write_text('\n'.join(lines))
  data = open_data(data_config(**changes), **arguments)
  with pytest.raises(ValueError, match=r'2 of \d+ documents are unreadable.*'
                     r'data\.max_bad_share=0\.001.*line \d+'):  # fmt: skip
    take(data, 30)
  data = open_data(data_config(**changes, max_bad_share=0.01), **arguments)
  take(data, 30)
  assert data.report()['skipped'] == 3


def test_errors_of_files_come_through_the_graph(tmp_path, workdir, capfd):
  path = tmp_path / 'a.json.gz'
  write(path, texts(400))
  path.write_bytes(path.read_bytes()[:-30])
  changed = data_config(source=f'json:{path}')
  data = open_data(changed, 5, VOCABULARY, workdir=workdir)
  with pytest.raises(ValueError, match=r'a\.json\.gz, line \d+: the .gz is'):
    take(data, 200)
  assert not capfd.readouterr().err  # TensorFlow's own account of it


def test_fewer_blocks_than_streams(tmp_path, corpus, workdir):
  """Each epoch deals its blocks to other streams: all of them have rows."""
  write(tmp_path / 'a.json.gz', texts(20))
  changed = data_config(source=f'json:{tmp_path}/a.json.gz', holdout=10)
  data = open_data(changed, 5, VOCABULARY, workdir=workdir)
  whole = take(data, 6)
  assert last_cursor(whole[-1])[:, 0].min() > 0
  for first, second in zip(
    whole[3:], take(data, 3, last_cursor(whole[2])), strict=True
  ):
    assert_same(first, second)


def test_no_documents(tmp_path, corpus, workdir):
  (tmp_path / 'a.json').write_text('\n')
  changed = data_config(source=f'json:{tmp_path}/a.json')
  data = open_data(changed, 5, VOCABULARY, workdir=workdir)
  with pytest.raises(ValueError, match=r'No document is left for stream \d of'):
    take(data, 1)
  assert not next(data.evaluation(np.arange(8), 8))['weights'].any()


@pytest.mark.parametrize(
  ('key', 'value'),
  [
    ('source', 'c4'),
    ('source', None),
    ('objective', 'copying'),
    ('noise_density', 0.0),
    ('noise_density', 1.0),
    ('mean_span_length', 0.5),
    ('batch', 18),
    ('streams', 0),
    ('length', 3),
    ('holdout', 1),
    ('max_bad_share', 2.0),
    ('threads', -1),
  ],
)
def test_impossible_values(key, value):
  with pytest.raises(ValueError, match=rf'data\.{key}={value!r} must '):
    data_config(**{key: value})


def test_too_few_sentinels():
  changed = data_config(length=512, sentinels=27)
  with pytest.raises(ValueError, match=r'need 28 sentinels.*data\.sentinels'):
    open_data(changed, 0, VOCABULARY)


def test_cursor_of_other_streams(synthetic):
  with pytest.raises(ValueError, match=r'shape \(3, 4\).*data\.streams=4'):
    synthetic.batches(np.zeros([3, 4], int), np.arange(BATCH))


def test_synthetic_without_tensorflow():
  script = """
import sys
for name in ('tensorflow', 'tensorflow_datasets', 'jax', 'absl'):
  sys.modules[name] = None
import numpy as np
from input_pipeline import config
from tests.test_pipeline import data_config, open_data
data = open_data(data_config(), 0, 300)
batch = next(data.batches(data.start(), np.arange(16)))
held_out = next(data.evaluation(np.arange(16), 16))
print(int(batch['weights'].sum() > 0), int(held_out['weights'].sum() > 0))
"""
  done = subprocess.run(
    [sys.executable, '-c', script], cwd=REPOSITORY, check=True,
    capture_output=True, text=True,
  )  # fmt: skip
  assert done.stdout.split() == ['1', '1']


@pytest.mark.slow
def test_memory_is_flat(either):
  """Over a hundred thousand rows."""
  config = dataclasses.replace(either.config, batch=512, length=16)
  large = either.phase(config)
  iterator = large.batches(large.start(), np.arange(512))
  for _ in range(20):
    next(iterator)
  tracemalloc.start()
  try:
    for _ in range(20):
      next(iterator)
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(200):
      next(iterator)
    after = tracemalloc.get_traced_memory()[0]
  finally:
    iterator.close()  # stop() can crash other threads that are in Python
    tracemalloc.stop()
  assert after - before < 2_000_000  # 200 batches are 40 MB


def test_phases_of_a_curriculum(data):
  config = data_config(curriculum=((0.5, 16, 0), (0.25, 20, 0)), length=32)
  phases = config.phases(40)
  assert [(last, c.length) for last, c in phases] == [
    (20, 16),
    (30, 20),
    (40, 32),
  ]
  assert all(c.curriculum == () for _, c in phases)
  with pytest.raises(ValueError, match=r'0\.5 of train\.steps=41 is no whole'):
    config.phases(41)
  short = data.phase(dataclasses.replace(data.config, length=16))
  batch = take(short, 1)[0]
  assert batch['encoder_inputs'].shape == (BATCH, 16)
  # The next length begins with whole blocks, of the same streams.
  cursor = data.next_block(last_cursor(batch))
  first = take(data, 1, cursor)[0]['cursor'].reshape(4, -1, 4)[:, 0]
  for old, new in zip(last_cursor(batch).tolist(), first.tolist(), strict=True):
    assert new[3] == 0
    assert new[:3] > old[:3]


@pytest.mark.parametrize(
  'curriculum',
  [
    ((1.0, 16, 0),),
    ((0.6, 16, 0), (0.4, 20, 0)),
    ((0.5, 16),),
    (0.5, 16, 0),  # no phase, but the numbers of one
  ],
)
def test_impossible_curricula(curriculum):
  with pytest.raises(ValueError, match=r'data\.curriculum'):
    data_config(curriculum=curriculum)
  with pytest.raises(ValueError, match=r'data\.length=2'):
    data_config(curriculum=((0.5, 2, 0),))


def test_closed_iterators_keep_nothing_open(data, monkeypatch):
  readers, open_reader = [], data.corpora[0].reader

  def reader(block):
    readers.append(open_reader(block))
    return readers[-1]

  monkeypatch.setattr(data.corpora[0], 'reader', reader)
  iterator = data.batches(data.start(), np.arange(BATCH))
  next(iterator)
  left = weakref.ref(readers.pop())
  iterator.close()
  del iterator
  gc.collect()
  assert left() is None


@pytest.mark.parametrize('ending', ['running', 'deleted', 'failed'])
def test_processes_end_cleanly(corpus, workdir, ending, tmp_path):
  """Whatever the graph's threads are doing."""
  write(tmp_path / 'a.json.gz', texts(400))
  data = (tmp_path / 'a.json.gz').read_bytes()
  (tmp_path / 'a.json.gz').write_bytes(
    data[: -30 if ending == 'failed' else -1]
  )
  script = f"""
import numpy as np
from tests.test_pipeline import json_config, open_data
data = open_data(
  json_config({str(tmp_path)!r}), 0, 300, workdir={workdir!r})
iterator = data.batches(data.start(), np.arange(16))
next(iterator)
if {ending == 'deleted'}:
  del iterator
while {ending == 'failed'}:
  next(iterator)
print('end', flush=True)
"""
  done = subprocess.run(
    [sys.executable, '-c', script], cwd=REPOSITORY, timeout=120, check=False,
    capture_output=True, text=True,
  )  # fmt: skip
  if ending == 'failed':
    assert done.returncode == 1, done.stderr[-2000:]
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith('ValueError')
    assert 'cut short' in last
  else:
    assert done.stdout == 'end\n'
    assert done.returncode == 0, done.stderr[-2000:]


def test_global_batch(synthetic):
  jax = pytest.importorskip('jax')
  from jax.sharding import NamedSharding, PartitionSpec

  mesh = jax.make_mesh((len(jax.devices()),), ('data',))
  shardings = dict.fromkeys(
    synthetic.shapes, NamedSharding(mesh, PartitionSpec('data'))
  )
  (batch,) = take(synthetic, 1)
  rows = np.arange(BATCH)
  whole = pipeline.global_batch(batch, rows, shardings, BATCH)
  for name, array in whole.items():
    assert array.sharding == shardings[name]
    np.testing.assert_array_equal(array, batch[name])
