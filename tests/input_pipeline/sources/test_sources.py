"""Every source reads what it should, and says what is wrong with bad input."""

import gzip
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from input_pipeline.sources import files, hashes, lines, opening


def open_source(name, **options):
  return opening.open_source(name, seed=0, vocab_size=512, sentinels=10)


def read(source, file=0, start=0):
  return [source.text(r) for _, r in source.records(file, start)]


def write_json(path, texts):
  written = [json.dumps({'text': t, 'url': 'x'}) for t in texts]
  data = ('\n'.join(written) + '\n').encode()
  path.write_bytes(gzip.compress(data) if path.suffix == '.gz' else data)
  return path


TEXTS = [f'document {i} "quoted"\nand a line, ünïcode ☃' * 9 for i in range(40)]


@pytest.mark.parametrize('name', ['a.json', 'a.json.gz'])
def test_json(tmp_path, name):
  write_json(tmp_path / name, TEXTS)
  source = open_source(f'json:{tmp_path}/*.json*')
  assert read(source) == [t.encode() for t in TEXTS]
  assert read(source, start=17) == [t.encode() for t in TEXTS[17:]]
  assert [line for line, _ in source.records(0, 17)] == list(range(18, 41))


def test_small_buffers_of_a_gz_with_two_members(tmp_path, monkeypatch):
  monkeypatch.setattr(lines, 'BUFFER', 7)
  path = tmp_path / 'a.gz'
  path.write_bytes(
    gzip.compress(b'one\ntwo\nth') + gzip.compress(b'ree\n\nlast') + bytes(9)
  )
  expected = [b'one', b'two', b'three', b'', b'last']
  assert list(lines.read_lines(str(path))) == expected


def test_truncated_gz(tmp_path):
  rng = np.random.default_rng(0)
  texts = [rng.bytes(50).hex() for _ in range(2000)]
  path = write_json(tmp_path / 'a.json.gz', texts)
  whole = path.read_bytes()
  middle = len(whole) // 2
  flipped = bytes([whole[middle] ^ 64])
  source = open_source(f'json:{path}')
  for damaged in (
    whole[:-20],
    whole[:-3],  # all the text, but not all of the checksum
    whole[:middle] + flipped + whole[middle + 1 :],
  ):
    path.write_bytes(damaged)
    # A flipped bit may give other text first: the checksum at the end finds it.
    with pytest.raises(ValueError, match=r'a\.json\.gz, line \d+: the .gz is'):
      list(source.records(0, 0))
  path.write_bytes(b'')
  with pytest.raises(ValueError, match=r'line 1: the .gz is damaged'):
    read(source)
  path.write_bytes(b'no gz at all')
  with pytest.raises(ValueError, match=r'line 1: the .gz is damaged'):
    read(source)


@pytest.mark.parametrize(
  ('line', 'message'),
  [
    (b'{"text": "cut', 'not JSON'),
    (b'[1]', 'no text: the line is an array, not an object'),
    (b'1', 'no text: the line is 1, not an object'),
    (b'{"body": "a"}', "no field 'text', only body; data.text_field names"),
    (b'{"text": ""}', 'no text$'),
    (b'{"text": 3}', "no text: the field 'text' is 3"),
    (b'{"text": null}', "no text: the field 'text' is null"),
    (b'{"text": {}}', "no text: the field 'text' is an object"),
    (b'[' * 5000 + b']' * 5000, 'JSON that is nested too deeply'),
    (b'{"a":' * 5000 + b'1' + b'}' * 5000, 'JSON that is nested too deeply'),
    (b'[' * 5000, 'JSON that is nested too deeply'),
    (b'{"text": "\xff"}', 'not JSON'),
    (b'{"text": "\\ud800"}', 'not Unicode'),
  ],
)
def test_bad_lines(line, message):
  with pytest.raises(ValueError, match=message):
    files.JsonFiles(['a']).text(line)


@pytest.mark.parametrize('value', ['NaN', '1e999', '"\\ud800"', '9' * 30])
def test_what_python_takes_for_json(value):
  """The reader is as lenient as `json`, though its parser is stricter."""
  line = f'{{"text": "a", "other": {value}, "text": "b"}}'.encode()
  assert files.JsonFiles(['a']).text(line) == b'b'


def test_text(tmp_path):
  path = tmp_path / 'a.txt'
  path.write_text('\none\ntwo\n\n\n  \nthree\n\nfour')
  source = open_source(f'text:{path}')
  assert list(source.records(0, 0)) == [(2, b'one\ntwo'), (7, b'three'),
                                        (9, b'four')]  # fmt: skip
  assert read(source, start=2) == [b'four']
  with pytest.raises(ValueError, match='not UTF-8'):
    source.text(b'\xff')


@pytest.mark.parametrize('kind', ['json', 'text'])
def test_no_file(tmp_path, kind):
  name = f'{kind}:{tmp_path}/*.gz'
  with pytest.raises(ValueError, match='matches no file') as error:
    open_source(name)
  assert f'data.source={name!r}' in str(error.value)


def test_unknown_source():
  with pytest.raises(ValueError, match="data.source='c4' must be json:GLOB"):
    open_source('c4')


@pytest.mark.parametrize(
  ('pattern', 'link'),
  [
    ('*.txt', 'b.txt'),
    ('b.txt', 'b.txt'),
    ('*/b.txt', 'folder'),
    ('**/*.txt', 'other/deep/b.txt'),
  ],
)
def test_dangling_links(tmp_path, pattern, link):
  """A glob would skip a link to a missing file or folder of files."""
  (tmp_path / 'a.txt').write_text('text')
  (tmp_path / 'other').mkdir()
  (tmp_path / 'other' / 'a.txt').write_text('text')
  (tmp_path / link).parent.mkdir(exist_ok=True)
  (tmp_path / link).symlink_to(tmp_path / 'gone')
  message = f'{link} is a link to {tmp_path}/gone, which is missing'
  with pytest.raises(ValueError, match=message):
    open_source(f'text:{tmp_path}/{pattern}')
  (tmp_path / link).unlink()
  (tmp_path / link).symlink_to(tmp_path / 'a.txt')
  open_source(f'text:{tmp_path}/*.txt')


@pytest.mark.parametrize('pattern', ['*/*.txt', '**/*.txt', '*/in/*.txt', '**'])
def test_folders_that_cannot_be_read(tmp_path, pattern, monkeypatch):
  for name in 'one', 'two':
    (tmp_path / name / 'in').mkdir(parents=True)
    (tmp_path / name / 'a.txt').write_text('text')
    (tmp_path / name / 'in' / 'a.txt').write_text('text')
  open_source(f'text:{tmp_path}/{pattern}')
  closed = str(tmp_path / 'two')  # root may read any folder
  monkeypatch.setattr(os, 'access', lambda path, mode: path != closed)
  with pytest.raises(ValueError, match=f'folder {closed} cannot be read'):
    open_source(f'text:{tmp_path}/{pattern}')


def test_fingerprint_sees_sizes_and_contents(tmp_path):
  path = write_json(tmp_path / 'a.json', TEXTS)
  first = open_source(f'json:{path}').fingerprint
  assert json.loads(json.dumps(first)) == first
  assert first[0]['file'] == 'a.json'
  path.write_bytes(path.read_bytes().replace(b'document 7', b'document 8'))
  second = open_source(f'json:{path}').fingerprint
  assert first[0]['bytes'] == second[0]['bytes']
  assert first != second


def test_fingerprint_sees_the_middle_of_a_large_file(tmp_path, monkeypatch):
  path = tmp_path / 'a.json'
  text = bytearray(b'x' * 3_000_000)
  path.write_bytes(text)
  first = hashes.fingerprints([str(path)])
  text[1_234_567] = 0
  path.write_bytes(text)
  assert hashes.fingerprints([str(path)]) != first
  # Of too many bytes only pieces are read; the ends are among them.
  monkeypatch.setattr(hashes, 'WHOLE', 1_000_000)
  pieces = hashes.fingerprints([str(path)])
  text[-1] = 0
  path.write_bytes(text)
  assert hashes.fingerprints([str(path)]) != pieces


def test_synthetic():
  source = open_source('synthetic')
  (first, *_), (second, *_) = read(source, 3, 1020), read(source, 3, 1021)
  assert first.dtype == np.int32
  assert first.min() >= 3
  assert first.max() < 512 - 10
  assert not np.array_equal(first, second)
  np.testing.assert_array_equal(read(source, 3, 1020)[1], second)
  assert len(read(source, 0, 1000)) == 24
  following = dict(zip(source.cycle, np.roll(source.cycle, -1), strict=True))
  steps = [
    following[a] == b for a, b in zip(first[:-1], first[1:], strict=True)
  ]
  assert 0.85 < np.mean(steps) < 1


BUILD = """
import sys
import tensorflow_datasets as tfds

class C4Like(tfds.core.GeneratorBasedBuilder):
  VERSION = tfds.core.Version('1.0.0')

  def _info(self):
    text = tfds.features.Text()
    features = tfds.features.FeaturesDict({'text': text, 'url': text})
    return tfds.core.DatasetInfo(builder=self, features=features)

  def _split_generators(self, manager):
    return {'train': self._generate_examples('train', 300),
            'validation': self._generate_examples('validation', 40)}

  def _generate_examples(self, split, count):
    for i in range(count):
      yield i, {'text': f'{split} document {i} ' * 20, 'url': 'u'}

config = tfds.download.DownloadConfig(num_shards=3)
builder = C4Like(file_format=sys.argv[2], data_dir=sys.argv[1])
builder.download_and_prepare(download_config=config)
"""


@pytest.fixture(params=['tfrecord', 'array_record'])
def prepared(request, tmp_path, monkeypatch):
  pytest.importorskip('tensorflow_datasets')
  if request.param == 'array_record':
    pytest.importorskip('array_record')
  subprocess.run(
    [sys.executable, '-c', BUILD, str(tmp_path), request.param],
    check=True, capture_output=True, cwd=tmp_path,
  )  # fmt: skip
  import tensorflow_datasets as tfds

  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
  monkeypatch.setattr(tfds.core.constants, 'DATA_DIR', str(tmp_path))
  return tmp_path


def test_tfds(prepared):
  source = open_source('tfds:c4_like')
  assert source.splits == ['train', 'validation']
  assert source.lengths == [100, 100, 100]
  assert source.fingerprint['name'] == 'c4_like/1.0.0'
  texts = [t for file in range(3) for t in read(source, file)]
  assert sorted(texts) == sorted(
    (f'train document {i} ' * 20).encode() for i in range(300)
  )
  assert read(source, 1, 93) == texts[193:200]
  assert read(source, 1, 100) == []
  validation = open_source('tfds:c4_like@validation')
  assert sum(validation.lengths) == 40
  with pytest.raises(ValueError, match="no split 'test'.*train, validation"):
    open_source('tfds:c4_like@test')
  with pytest.raises(ValueError, match="'tfds:c5' is not prepared"):
    open_source('tfds:c5')
  before = source.fingerprint
  with open(source.files[0], 'r+b') as file:  # cut off
    file.truncate(os.path.getsize(source.files[0]) * 3 // 4)
  with pytest.raises(ValueError, match='00000-of-00003, after record .*of 100'):
    read(source, 0)
  with open(source.files[2], 'r+b') as file:  # a flipped bit
    file.seek(os.path.getsize(source.files[2]) // 2)
    byte = file.read(1)
    file.seek(-1, os.SEEK_CUR)
    file.write(bytes([byte[0] ^ 16]))
  with pytest.raises(ValueError, match='00002-of-00003, after record .*of 100'):
    read(source, 2)
  with open(source.files[1], 'r+b') as file:
    first = file.read(1)
    file.seek(0)
    file.write(bytes([first[0] ^ 1]))
  assert open_source('tfds:c4_like').fingerprint != before
