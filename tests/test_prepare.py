"""Token caches and datasets made by input_pipeline.prepare: equal, whole."""

import contextlib
import functools
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from configs import t5
from input_pipeline import (
  cache,
  pipeline,
  prepare,
  sources,
  streams,
  tokenizing,
  writers,
)
from tests.test_pipeline import assert_same, data_config, texts, write

REPOSITORY = Path(__file__).resolve().parent.parent
VOCABULARY = 300
CAUSAL = {
  'objective': 'causal', 'sentinels': 0, 'noise_density': 0.0,
  'mean_span_length': 0.0, 'document_tokens': 0,
}  # fmt: skip
FAMILIES = {'causal': 'decoder', 'span_corruption': 'encoder_decoder'}
COUNTS = (150, 230, 97)  # documents of each file
BAD = 50  # in the first file: documents that are none
EMPTY = 60  # and one without a token

pytestmark = pytest.mark.filterwarnings('ignore::ResourceWarning')


@functools.cache
def documents(file):
  return texts(COUNTS[file], file)


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  pytest.importorskip('tensorflow')
  pytest.importorskip('array_record')
  folder = tmp_path_factory.mktemp('corpus')
  for file, count in enumerate(COUNTS):
    documents = texts(count, file)
    if file == 0:
      documents[BAD], documents[EMPTY] = None, ' '
    write(folder / f'{file}.json.gz', documents)
  return folder


def settings(source, **changes):
  """A whole config for the command."""
  config = t5.get_config('tiny')
  config.model.vocab_size = VOCABULARY
  config.data.source, config.data.sentinels = source, 40
  config.data.max_bad_share = 0.01
  for key, value in changes.items():
    group, _, name = key.partition('__')
    config[group][name] = value
  return config


def test_no_tokenizer_of_tokens(made):
  data = settings(f'cache:{made}').data
  with pytest.raises(ValueError, match='holds tokens and no text to train'):
    tokenizing.train(data_config(source=data.source), 0, VOCABULARY)


@pytest.fixture(scope='module')
def made(corpus, tmp_path_factory):
  """The cache of the corpus, with its tokenizer."""
  folder = tmp_path_factory.mktemp('made') / 'cache'
  config = settings(f'json:{corpus}/*.json.gz')
  assert prepare.prepare(config, str(folder), jobs=1) == [f'cache:{folder}']
  return folder


def open_data(source, made, eval_source='', **changes):
  changes = {'max_bad_share': 0.01, **changes}
  if not source.startswith('cache'):
    changes['tokenizer'] = str(made / 'tokenizer.model')
  config = data_config(source=source, **changes)
  family = FAMILIES[config.objective]
  return pipeline.open_data(config, 5, VOCABULARY, eval_source, family=family)


@pytest.mark.parametrize('concatenate', [True, False])
@pytest.mark.parametrize('objective', [{}, CAUSAL], ids=['span', 'causal'])
def test_rows_are_those_of_the_text(
  corpus, made, objective, concatenate, capfd
):
  """In training, over more than an epoch, and in evaluation, bit for bit."""
  objective = objective | {'concatenate': concatenate}
  raw = open_data(f'json:{corpus}/*.json.gz', made, **objective)
  cached = open_data(f'cache:{made}', made, **objective)
  assert cached.tokenizer.fingerprint == raw.tokenizer.fingerprint
  for read in (
    lambda data: data.batches(data.start(), np.arange(16)),
    lambda data: data.evaluation(np.arange(16), 16),
  ):
    pairs = zip(read(raw), read(cached), strict=True)
    for number, (first, second) in enumerate(itertools.islice(pairs, 60)):
      assert_same(first, second)
      if number == 59 and not first['weights'].sum():
        break
    if first['weights'].sum():
      assert first['cursor'][:, 0].max() > 0
  assert raw.report()['skipped'] == cached.report()['skipped'] == 2
  assert raw.report()['documents'] >= sum(COUNTS)
  output = capfd.readouterr().out
  assert output.count('no text') == 2
  assert f'({corpus}/0.json.gz, line {BAD + 1})' in output


def blocks_until_the_end(data, readers, stream):
  """Blocks of a stream's rows, up to the end that must come."""
  with contextlib.suppress(streams.SourceEnded):
    yield from data._own_rows(readers, stream, data.start()[stream])
    pytest.fail('no end')


@pytest.mark.parametrize('source', ['raw', 'cache'])
@pytest.mark.parametrize('streams', [1, 4])
def test_every_token_once_an_epoch(corpus, made, source, streams):
  """Of a causal epoch's rows, all streams together; counted by id."""
  name = f'json:{corpus}/*.json.gz' if source == 'raw' else f'cache:{made}'
  data = open_data(name, made, **CAUSAL, streams=streams, holdout=7, epochs=1)
  counts = np.zeros(VOCABULARY, int)
  readers = [part.reader(data.config.block) for part in data.corpora]
  for stream in range(streams):
    for rows in blocks_until_the_end(data, readers, stream):
      parts = pipeline.features.split(rows, data.shapes)
      np.add.at(counts, parts['targets'][parts['segments'] > 0], 1)
  kept = [
    documents(file)[index].encode()
    for file, count in enumerate(COUNTS)
    for index in range(count)
    if index % 7 != 6 and (file, index) not in ((0, BAD), (0, EMPTY))
  ]
  ids = data.tokenizer.encode_batch(kept)
  expected = np.bincount(np.concatenate(ids), minlength=VOCABULARY)
  expected[data.tokenizer.eos] += len(kept)
  np.testing.assert_array_equal(counts, expected)


def test_memory_of_ids(made):
  """16 bits an id, and documents as they were, empty and bad ones too."""
  source = cache.TokenCache(str(made))
  assert source.dtype == np.uint16
  assert source.lengths == list(COUNTS)
  bad = [entry['bad'] for entry in source.manifest['files'].values()]
  assert bad == [2, 0, 0]  # those that give no token among them
  assert cache.id_type(65536) == '<u2'
  assert cache.id_type(65537) == '<u4'
  records = [record for _, record in source.records(0, 0)]
  assert len(source.text(records[EMPTY])) == 0
  with pytest.raises(ValueError, match=r'no text \(.*0\.json\.gz, line 51\)'):
    source.text(records[BAD])
  at_random = source.open(0)([3, 149, 60])
  assert at_random == [(i + 1, records[i]) for i in (3, 149, 60)]


MASKED = {
  'sentinels': 0, 'mean_span_length': 0.0, 'document_tokens': 0,
  'predictions': 20, 'masking': 'bert', 'masked_share': 0.8,
  'random_share': 0.1, 'tokenizer_kind': 'wordpiece', 'pack': False,
}  # fmt: skip


@pytest.mark.parametrize(
  'objective', ['mlm', 'sentence_pairs', 'full_sentences']
)
def test_rows_of_sentences(tmp_path, objective):
  """Documents by sentence, too, are those of the text."""
  rng = np.random.default_rng(0)
  for file in range(2):
    documents = [
      '. '.join(part.capitalize() for part in rng.permutation(of_file)[:9])
      for of_file in [texts(30, file)] * 60
    ]
    write(tmp_path / f'{file}.json.gz', documents)
  source = f'json:{tmp_path}/*.gz'
  changes = MASKED | {'objective': objective}
  config = settings(source, **{f'data__{k}': v for k, v in changes.items()})
  config.data.noise_density = 0.15
  (name,) = prepare.prepare(config, str(tmp_path / 'cache'), jobs=1)
  manifest = cache.read_manifest(str(tmp_path / 'cache'), '')
  assert manifest['sentences'] == (objective != 'mlm')
  assert list(manifest['beside']) == ['tokenizer.json']
  tokenizer = str(tmp_path / 'cache' / 'tokenizer.json')
  data, expected = (
    pipeline.open_data(
      data_config(source=source, tokenizer=tokenizer, **changes),
      5, VOCABULARY, family='encoder',
    )
    for source, tokenizer in ((name, ''), (source, tokenizer))
  )  # fmt: skip
  for first, second in zip(
    itertools.islice(data.batches(data.start(), np.arange(16)), 30),
    itertools.islice(expected.batches(expected.start(), np.arange(16)), 30),
    strict=True,
  ):
    assert_same(first, second)
  other = changes | {
    'objective': 'doc_sentences' if objective == 'mlm' else 'mlm'
  }
  with pytest.raises(
    ValueError, match='holds documents .*, but data.objective'
  ):
    pipeline.open_data(
      data_config(source=name, **other), 5, VOCABULARY, family='encoder'
    )


@pytest.mark.parametrize('dtype', ['<u2', '<u4'])
def test_sentences(made, dtype):
  source = cache.TokenCache(str(made))
  source.dtype, source.sentences = np.dtype(dtype), True
  for lengths in ([], [0], [3], [2, 0, 5], [1] * 300):
    document = [np.arange(n, dtype=np.int32) + 7 for n in lengths]
    found = source.text(cache.pack(document, dtype, True))
    assert [s.tolist() for s in found] == [s.tolist() for s in document]
    assert all(s.dtype == np.int32 for s in found)


def test_another_objective_or_tokenizer(corpus, made, tmp_path, monkeypatch):
  changed = data_config(source=f'json:{corpus}/2.json.gz')
  tokenizing.prepare(changed, 0, VOCABULARY, str(tmp_path))
  with pytest.raises(ValueError, match=r'cache:.* was made with another token'):
    pipeline.open_data(
      data_config(
        source=f'cache:{made}', tokenizer=str(tmp_path / 'tokenizer.model')
      ),
      5, VOCABULARY, family='encoder_decoder',
    )  # fmt: skip
  needs = property(lambda config: True)
  monkeypatch.setattr(pipeline.Data, '_threads', 1, raising=False)
  monkeypatch.setattr('input_pipeline.config.DataConfig.sentences', needs)
  with pytest.raises(ValueError, match='holds documents whole, but'):
    open_data(f'cache:{made}', made)


def flip(path, at):
  data = bytearray(path.read_bytes())
  data[at] ^= 16
  path.write_bytes(data)


def edit_manifest(folder):
  path = folder / 'manifest.json'
  path.write_text(
    path.read_text().replace('"documents": 97', '"documents": 96')
  )


def unfinished(folder):
  manifest = cache.read_manifest(str(folder), 'x')
  del manifest['files']['00001-of-00003.array_record']
  cache.write_manifest(str(folder), manifest)


def other_tokenizer(folder):
  path = folder / 'tokenizer.model'
  path.write_bytes(path.read_bytes() + bytes([0x52, 0]))  # an unknown field


FILE = '00001-of-00003.array_record'
DAMAGE = {
  'cut': (lambda d: os.truncate(d / FILE, 65536), FILE),
  'flipped': (lambda d: flip(d / FILE, 1000), FILE),
  'gone': (lambda d: os.remove(d / FILE), FILE),
  'exchanged': (lambda d: shutil.copy(d / FILE.replace('1-', '2-'), d / FILE),
                FILE),
  'unfinished': (unfinished, 'not finished, 2 of 3 files are made.*same comm'),
  'tokenizer': (other_tokenizer, 'damaged: .*tokenizer.model is not as made'),
  'manifest': (edit_manifest, 'manifest.json is damaged or was edited'),
  'no manifest': (lambda d: os.remove(d / 'manifest.json'), 'no token cache'),
}  # fmt: skip


@pytest.mark.parametrize('what', DAMAGE)
def test_damage_is_refused_and_mended(corpus, made, tmp_path, what):
  folder = tmp_path / 'cache'
  shutil.copytree(made, folder)
  before = contents(folder)
  damage, message = DAMAGE[what]
  damage(folder)
  with pytest.raises(ValueError, match=rf"source='cache:.*{message}"):
    open_data(f'cache:{folder}', made)
  again = functools.partial(
    prepare.prepare, settings(f'json:{corpus}/*.json.gz'), str(folder), jobs=1
  )
  if what == 'manifest':
    with pytest.raises(ValueError, match='damaged or was edited'):
      again()
  else:
    again()
    assert contents(folder) == before


def test_damage_that_is_seen_when_read(made, tmp_path, monkeypatch):
  """Where files are too large to be hashed whole."""
  folder = tmp_path / 'cache'
  shutil.copytree(made, folder)
  monkeypatch.setattr(sources, 'WHOLE', 0)
  manifest = cache.read_manifest(str(folder), 'x')
  for name, entry in manifest['files'].items():
    flip(folder / name, 1500)
    entry['pieces'] = sources.hash_pieces(folder / name)  # as if not seen
  cache.write_manifest(str(folder), manifest)
  data = open_data(f'cache:{folder}', made)
  with pytest.raises(ValueError, match=r'0000\d-of-00003.array_record is dam'):
    for _ in itertools.islice(data.batches(data.start(), np.arange(16)), 60):
      pass


def contents(folder):
  return {
    path.relative_to(folder).as_posix(): path.read_bytes()
    for path in sorted(folder.rglob('*'))
    if path.is_file()
  }


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (
      {'data__source': '[01].json.gz'},
      'made_of.0.: 3 entries .2.json.gz among them., now 2',
    ),
    ({'model__vocab_size': 280}, 'tokenizer|300 pieces'),
    ({'data__source': 'synthetic'}, 'needs no preparation'),
    ({'data__source': 'cache:x'}, 'needs no preparation'),
    ({'data__source': 'nothing'}, 'matches no file'),
    ({'data__max_bad_share': 0.0}, r'2 of 150 documents .*0.json.gz, line 51'),
  ],
)
def test_refused(corpus, made, tmp_path, changes, message):
  folder = tmp_path / 'cache'
  if 'data__max_bad_share' not in changes:
    shutil.copytree(made, folder)
  if (source := changes.get('data__source', '*.json.gz'))[0] in '*[n':
    changes = changes | {'data__source': f'json:{corpus}/{source}'}
  config = settings('', **changes)
  with pytest.raises(ValueError, match=message):
    prepare.prepare(config, str(folder), jobs=1)


def command(corpus, out, *flags):
  config = settings('')
  return [
    *(sys.executable, '-m', 'input_pipeline.prepare'),
    '--config=configs/t5.py:tiny', f'--out={out}',
    f'--config.model.vocab_size={VOCABULARY}',
    f'--config.data.sentinels={config.data.sentinels}',
    '--config.data.max_bad_share=0.01',
    f'--config.data.source=json:{corpus}/*.json.gz', *flags,
  ]  # fmt: skip


def test_kills(corpus, made, tmp_path):
  """Killed at random moments, in two processes, and gone on with: the same."""
  for number in range(6):  # more files, so that kills come in between
    for file in range(3):
      name = tmp_path / f'{number}{file}.json.gz'
      shutil.copy(corpus / f'{file}.json.gz', name)
  start = functools.partial(
    subprocess.Popen, cwd=REPOSITORY, stdout=subprocess.PIPE,
    stderr=subprocess.PIPE, text=True,
  )  # fmt: skip
  tokenizer = f'--config.data.tokenizer={made}/tokenizer.model'
  first = start(command(tmp_path, tmp_path / 'whole', tokenizer, '--jobs=1'))
  assert first.wait(100) == 0, first.stderr.read()
  expected = contents(tmp_path / 'whole')
  assert len(expected) == 20
  rng, partly = random.Random(0), set()
  for _ in range(40):
    again = start(command(tmp_path, tmp_path / 'cut', tokenizer, '--jobs=2'))
    seen = len(list((tmp_path / 'cut').glob('*.array_record')))
    limit = time.monotonic() + 60
    while again.poll() is None and time.monotonic() < limit:
      now = len(list((tmp_path / 'cut').glob('*.array_record')))
      if now >= seen + 3:  # a kill at any moment, each time further on
        time.sleep(rng.random() * 0.02)
        again.send_signal(signal.SIGKILL)
        partly.add(now)
        break
      time.sleep(0.001)
    if again.wait(100) == 0:
      break
  assert again.returncode == 0, again.stderr.read()
  assert len(partly) >= 2
  assert contents(tmp_path / 'cut') == expected


def test_far_away(corpus, tmp_path):
  """TensorFlow's filesystem in place of gs://: source, cache, tokenizer."""
  tf = pytest.importorskip('tensorflow')
  for path in corpus.glob('*.gz'):
    tf.io.gfile.copy(str(path), f'ram://far/{path.name}', overwrite=True)
  config = settings('json:ram://far/*.json.gz')
  (name,) = prepare.prepare(config, 'ram://far/cache', jobs=1)
  again = prepare.prepare(config, 'ram://far/cache', jobs=1)
  assert again == [name] == ['cache:ram://far/cache']
  near = tmp_path / 'cache'
  local = settings(f'json:{corpus}/*.json.gz')
  prepare.prepare(local, str(near), jobs=1)
  data, expected = open_data(name, near), open_data(f'cache:{near}', near)
  rows = np.arange(16)
  for first, second in zip(
    itertools.islice(data.batches(data.start(), rows), 20),
    itertools.islice(expected.batches(expected.start(), rows), 20),
    strict=True,
  ):
    assert_same(first, second)
  with pytest.raises(ValueError, match='no token cache: ram://far/none'):
    open_data('cache:ram://far/none', near)
  with pytest.raises((OSError, ValueError), match='s3q://'):
    open_data('json:s3q://bucket/*.gz', near)


@pytest.mark.parametrize('suffix', ['array_record', 'tfrecord'])
def test_tfds(corpus, made, tmp_path, suffix, monkeypatch):
  """json files as a dataset: the same texts, and its own validation split."""
  tfds = pytest.importorskip('tensorflow_datasets')
  config = settings(
    f'json:{corpus}/[01].json.gz', eval__source=f'json:{corpus}/2.json.gz'
  )
  arguments = str(tmp_path), 'c4/en:3.1.0', suffix, 1
  place = Path(prepare.prepare_tfds(config, *arguments))
  before = contents(place)
  broken = f'c4-train.{suffix}-00001-of-00002'
  os.truncate(place / broken, 9)
  assert str(place) == prepare.prepare_tfds(config, *arguments)
  assert contents(place) == before
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
  monkeypatch.setattr(tfds.core.constants, 'DATA_DIR', str(tmp_path))
  source = sources.open_source('tfds:c4/en', 0, 0, 0)
  assert source.lengths == [149, 230]
  assert source.fingerprint['name'] == 'c4/en/3.1.0'
  for file in 0, 1:
    expected = [
      ' ' if (file, index) == (0, EMPTY) else documents(file)[index]
      for index in range(COUNTS[file])
      if (file, index) != (0, BAD)
    ]
    found = [source.text(r).decode() for _, r in source.records(file, 0)]
    assert found == expected
  assert tfds.builder('c4/en').info.splits['validation'].num_examples == 97
  # A cache of it brings the validation split along.
  folder = tmp_path / 'cache'
  config = settings('tfds:c4/en', data__tokenizer=str(made / 'tokenizer.model'))
  prepare.prepare(config, str(folder), jobs=1)
  raw = open_data('tfds:c4/en', made, holdout=0)
  cached = open_data(f'cache:{folder}', made, holdout=0)
  assert len(cached.fingerprint['eval_source']) == 1
  for read in (
    lambda data: data.batches(data.start(), np.arange(16)),
    lambda data: data.evaluation(np.arange(16), 16),
  ):
    pairs = zip(read(raw), read(cached), strict=True)
    for first, second in itertools.islice(pairs, 10):
      assert_same(first, second)


def test_tfds_is_not_found_before_it_is_finished(corpus, tmp_path, monkeypatch):
  monkeypatch.setattr(writers.Examples, 'write', lambda *_: os.stat('/full'))
  config = settings(f'json:{corpus}/1.json.gz')
  with pytest.raises(OSError, match=r'c4-train.*cannot be made: No such'):
    prepare.prepare_tfds(config, str(tmp_path), 'c4', 'tfrecord', 1)
  assert os.listdir(tmp_path / 'c4/1.0.0') == ['manifest.json']
  for name in 'C4', 'c4/en:3', 'c4:3.1.0/en':
    with pytest.raises(ValueError, match='must be NAME'):
      prepare.prepare_tfds(config, str(tmp_path), name, 'tfrecord', 1)


@pytest.mark.parametrize(
  ('flags', 'lines', 'message'),
  [
    (['source=json:/no'], 0, "data.source='json:/no' matches no file."),
    (['max_bad_share=0', 'threads=2'], 1, '2 of 150 documents are unreadable'),
  ],
)
def test_told_in_a_line(corpus, made, tmp_path, flags, lines, message):
  """Also what a process among several tells."""
  flags = [f'tokenizer={made}/tokenizer.model', *flags]
  done = subprocess.run(
    command(corpus, tmp_path, *(f'--config.data.{flag}' for flag in flags)),
    cwd=REPOSITORY, capture_output=True, text=True, check=False,
  )  # fmt: skip
  assert done.returncode == 1
  (line,) = done.stderr.strip().splitlines()
  assert line.startswith(f'Error: {message}')
  assert done.stdout.count('\n') == lines


def test_other_files_in_the_folder_stay(corpus, made, tmp_path):
  mine = tmp_path / 'thesis.partial.doc'
  mine.write_text('mine')
  tokenizer = f'--config.data.tokenizer={made}/tokenizer.model'
  done = subprocess.run(
    command(corpus, tmp_path, tokenizer), cwd=REPOSITORY, check=False,
    capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert mine.read_text() == 'mine'
  names = [n for n in os.listdir(tmp_path) if n.endswith('.array_record')]
  ours = tmp_path / f'{names[0]}.partial-1'
  ours.write_text('half')
  subprocess.run(
    command(corpus, tmp_path, tokenizer), cwd=REPOSITORY, check=True,
    capture_output=True,
  )  # fmt: skip
  assert not ours.exists()
  assert mine.read_text() == 'mine'
