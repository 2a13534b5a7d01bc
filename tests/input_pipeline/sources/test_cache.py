"""Token caches: their rows are those of the text; damage is refused."""

import functools
import itertools
import os
import shutil

import numpy as np
import pytest

from input_pipeline import pipeline, prepare, tokenizing
from input_pipeline.sources import cache, hashes
from input_pipeline.sources.manifest import read_manifest, write_manifest
from tests.helpers import caches
from tests.helpers.caches import (
  BAD,
  CAUSAL,
  COUNTS,
  EMPTY,
  contents,
  documents,
  open_data,
  rows_until_the_end,
  settings,
)
from tests.helpers.corpora import (
  VOCABULARY,
  assert_same,
  data_config,
  texts,
  write,
)

pytestmark = pytest.mark.filterwarnings('ignore::ResourceWarning')


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  return caches.write_corpus(tmp_path_factory.mktemp('corpus'))


@pytest.fixture(scope='module')
def made(corpus, tmp_path_factory):
  return caches.make(corpus, tmp_path_factory.mktemp('made') / 'cache')


def test_no_tokenizer_of_tokens(made):
  data = settings(f'cache:{made}').data
  with pytest.raises(ValueError, match='holds tokens and no text to train'):
    tokenizing.train(data_config(source=data.source), 0, VOCABULARY)


@pytest.mark.parametrize('concatenate', [True, False])
@pytest.mark.parametrize('objective', [{}, CAUSAL], ids=['span', 'causal'])
def test_rows_are_those_of_the_text(
  corpus, made, objective, concatenate, capfd
):
  """Rows are equal bit for bit, in evaluation and over several epochs."""
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


@pytest.mark.parametrize('source', ['raw', 'cache'])
@pytest.mark.parametrize('streams', [1, 4])
def test_every_token_once_an_epoch(corpus, made, source, streams):
  """The rows of a causal epoch have each id as often as the documents."""
  name = f'json:{corpus}/*.json.gz' if source == 'raw' else f'cache:{made}'
  data = open_data(name, made, **CAUSAL, streams=streams, holdout=7, epochs=1)
  counts = np.zeros(VOCABULARY, int)
  readers = [part.reader(data.config.block) for part in data.corpora]
  for stream in range(streams):
    for rows in rows_until_the_end(data, readers, stream):
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
  """An id takes 16 bits; documents are the same, empty and bad ones too."""
  source = cache.TokenCache(str(made))
  assert source.dtype == np.uint16
  assert source.lengths == list(COUNTS)
  bad = [entry['bad'] for entry in source.manifest['files'].values()]
  assert bad == [2, 0, 0]  # those that give no token among them
  assert cache.id_type(65536) == '<u2'
  assert cache.id_type(65537) == '<u4'
  records = [record for _, record in source.records(0, 0)]
  assert len(source.text(records[EMPTY])) == 0
  with pytest.raises(ValueError, match=r'is null \(.*0\.json\.gz, line 51\)'):
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
  """Documents by sentence are those of the text too."""
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
  manifest = read_manifest(str(tmp_path / 'cache'), '')
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
  manifest = read_manifest(str(folder), 'x')
  del manifest['files']['00001-of-00003.array_record']
  write_manifest(str(folder), manifest)


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
  'tokenizer': (other_tokenizer,
                'damaged: .*tokenizer.model is missing or changed'),
  'tokenizer cut': (lambda d: os.truncate(d / 'tokenizer.model', 1000),
                    'damaged: .*tokenizer.model is missing or changed'),
  'manifest': (edit_manifest, 'manifest.json is damaged or was edited'),
  'no manifest': (lambda d: os.remove(d / 'manifest.json'),
                  'is not a token cache'),
}  # fmt: skip


@pytest.mark.parametrize('what', DAMAGE)
def test_damage_is_refused_and_rebuilt(corpus, made, tmp_path, what):
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
  """Files that are too large to be hashed whole are checked when read."""
  folder = tmp_path / 'cache'
  shutil.copytree(made, folder)
  monkeypatch.setattr(hashes, 'WHOLE', 0)
  manifest = read_manifest(str(folder), 'x')
  for name, entry in manifest['files'].items():
    flip(folder / name, 1500)
    entry['pieces'] = hashes.hash_pieces(folder / name)  # as if unseen
  write_manifest(str(folder), manifest)
  data = open_data(f'cache:{folder}', made)
  with pytest.raises(ValueError, match=r'0000\d-of-00003.array_record is dam'):
    for _ in itertools.islice(data.batches(data.start(), np.arange(16)), 60):
      pass
