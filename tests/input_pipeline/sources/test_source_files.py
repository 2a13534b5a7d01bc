"""Compressed and whole files, fields: what is read, and what is refused."""

import contextlib
import dataclasses
import gzip
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from input_pipeline import prepare
from input_pipeline.sources import files, lines, opening
from tests.helpers import caches
from tests.helpers.corpora import (
  data_config,
  last_cursor,
  open_data,
  take,
  texts,
)

# `printf 'one\ntwo\n' | zstd`: by the library's own program, with a checksum.
FOREIGN = bytes.fromhex('28b52ffd0458410000 6f6e650a74776f0a e6a60e40')
SKIPPABLE = b'\x50\x2a\x4d\x18\x04\x00\x00\x00abcd'  # a frame without text
DOCUMENTS = [f'document {n}, ünïcode ☃ ' * (n % 7 + 1) for n in range(1000)]


def open_source(name, field='text'):
  return opening.open_source(name, 0, 512, 10, field=field)


def read(source, file=0, start=0):
  return [source.text(r).decode() for _, r in source.records(file, start)]


def zst(data):
  return pa.Codec('zstd').compress(data, asbytes=True)


def write_parquet(path, values, kind=None, column='text', **options):
  table = pa.table({'id': range(len(values)), column: pa.array(values, kind)})
  pq.write_table(table, path, **options)
  return path


def write_json(path, values, field='text'):
  path.write_text('\n'.join(json.dumps({field: text}) for text in values))


def assert_same_rows(first, second):
  for left, right in zip(take(first, 4), take(second, 4), strict=True):
    for name in left:
      np.testing.assert_array_equal(left[name], right[name])


# Compressed lines.


def test_zst(tmp_path, monkeypatch):
  """Frames of the zstd program and of Arrow follow one another in a file."""
  monkeypatch.setattr(lines, 'BUFFER', 7)
  path = tmp_path / 'a.txt.zst'
  path.write_bytes(SKIPPABLE + FOREIGN + zst(b'\nthree') + SKIPPABLE)
  found = list(lines.read_lines(str(path)))
  assert found == [b'one', b'two', b'', b'three']
  assert read(open_source(f'text:{path}')) == ['one\ntwo', 'three']


def test_a_zst_is_read_in_parts(tmp_path, monkeypatch):
  rng = np.random.default_rng(0)
  written = [json.dumps({'text': rng.bytes(500).hex()}) for _ in range(5000)]
  path = tmp_path / 'a.json.zst'
  path.write_bytes(zst('\n'.join(written).encode()))
  opened, files = lines.paths.opened, []

  @contextlib.contextmanager
  def kept(path):
    with opened(path) as file:
      files.append(file)
      yield file

  monkeypatch.setattr(lines.paths, 'opened', kept)
  records = open_source(f'json:{path}').records(0, 0)
  for _ in range(100):
    next(records)
  assert files[0].tell() < path.stat().st_size / 10


@pytest.mark.parametrize('kind', ['json', 'text', 'textfile'])
def test_damaged_zst(tmp_path, kind):
  rng = np.random.default_rng(0)
  written = [json.dumps({'text': rng.bytes(50).hex()}) for _ in range(2000)]
  whole = bytearray(zst('\n'.join(written).encode()))
  flipped = bytearray(whole)
  flipped[len(whole) // 2] ^= 64
  path = tmp_path / 'a.zst'
  source = None
  for damaged in whole[:-20], whole[: len(whole) // 2], b'', b'no zstd':
    path.write_bytes(damaged)
    source = source or open_source(f'{kind}:{path}')
    where = r'a\.zst' if kind == 'textfile' else r'a\.zst, line \d+'
    with pytest.raises(ValueError, match=f'{where}: the .zst is damaged'):
      list(source.records(0, 0))


def test_the_checksum_of_a_zst(tmp_path):
  path = tmp_path / 'a.zst'
  path.write_bytes(FOREIGN.replace(b'two', b'too'))
  with pytest.raises(ValueError, match=r'a\.zst, line \d: .*checksum'):
    list(lines.read_lines(str(path)))


def test_a_zst_with_a_long_window(tmp_path):
  """The library refuses a window of 2 GiB (zstd --long=31)."""
  path = tmp_path / 'a.zst'
  path.write_bytes(bytes.fromhex('28b52ffd 00 a8 210000') + b'text')
  message = r'a\.zst, line 1: .*window of more than 128 MiB.*without --long'
  with pytest.raises(ValueError, match=message):
    list(lines.read_lines(str(path)))


@pytest.mark.parametrize(
  ('name', 'data', 'message'),
  [
    ('a.json', gzip.compress(b'text', mtime=0), 'is compressed.*ends in .gz'),
    ('a.txt', FOREIGN, 'is compressed.*ends in .zst'),
    ('a.txt', 'text'.encode('utf-16'), 'is UTF-16: convert it'),
    ('a.gz', gzip.compress('text'.encode('utf-16-be'), mtime=0), None),
    ('b.gz', gzip.compress(b'\xfe\xff\0t', mtime=0), 'is UTF-16: convert it'),
  ],
)
def test_files_of_another_kind(tmp_path, name, data, message):
  (tmp_path / name).write_bytes(data)
  source = open_source(f'text:{tmp_path}/{name}')
  if message is None:  # nothing says so
    assert list(source.records(0, 0))
    return
  with pytest.raises(ValueError, match=f'{name}, line 1: the file {message}'):
    list(source.records(0, 0))


@pytest.mark.parametrize('ending', ['', '.gz', '.zst'])
@pytest.mark.parametrize('size', [1, 1 << 16])
def test_byte_order_marks(tmp_path, monkeypatch, ending, size):
  """Windows programs write the mark, which is not part of the text."""
  monkeypatch.setattr(lines, 'BUFFER', size)
  compress = {'.gz': gzip.compress, '.zst': zst}.get(ending, bytes)
  mark = b'\xef\xbb\xbf'
  (tmp_path / f'a.txt{ending}').write_bytes(
    compress(mark + b'one\n\nt' + mark + b'wo')
  )
  path = f'{tmp_path}/a.txt{ending}'
  assert read(open_source(f'text:{path}')) == ['one', 't\ufeffwo']
  assert read(open_source(f'textfile:{path}')) == ['one\n\nt\ufeffwo']
  line = json.dumps({'text': '\ufeffx'}).encode()
  # Files that were joined have one in their middle.
  joined = mark + line + b'\n' + mark + line
  (tmp_path / f'b.json{ending}').write_bytes(compress(joined))
  source = open_source(f'json:{tmp_path}/b.json{ending}')
  assert read(source) == ['\ufeffx'] * 2
  assert [line for line, _ in source.records(0, 0)] == [1, 2]
  (tmp_path / 'c.txt').write_bytes(mark)
  assert read(open_source(f'text:{tmp_path}/c.txt')) == []


# The field of a text.


def test_text_field(tmp_path):
  write_json(tmp_path / 'a.json', DOCUMENTS[:300], 'content')
  write_json(tmp_path / 'b.json', DOCUMENTS[:300])
  source = open_source(f'json:{tmp_path}/a.json', 'content')
  assert read(source) == DOCUMENTS[:300]
  config = data_config(
    source=f'json:{tmp_path}/a.json', text_field='content',
    tokenizer_kind='bytes',
  )  # fmt: skip
  own = open_data(config, 0, 300)
  config = dataclasses.replace(
    config, source=f'json:{tmp_path}/b.json', text_field='text'
  )
  other = open_data(config, 0, 300)
  assert_same_rows(own, other)
  assert own.fingerprint['data']['text_field'] == 'content'
  assert 'text_field' not in other.fingerprint['data']  # as in older runs


def test_remote_parquet_and_zst():
  """TensorFlow's filesystem stands for gs://."""
  tf = pytest.importorskip('tensorflow')
  tf.io.gfile.makedirs('ram://remote_files')
  with tf.io.gfile.GFile('ram://remote_files/a.json.zst', 'wb') as file:
    file.write(zst(json.dumps({'text': 'ünï'}).encode() + b'\n'))
  assert read(open_source('json:ram://remote_files/*.zst')) == ['ünï']
  buffer = pa.BufferOutputStream()
  write_parquet(buffer, DOCUMENTS, row_group_size=300)
  with tf.io.gfile.GFile('ram://remote_files/b.parquet', 'wb') as file:
    file.write(buffer.getvalue().to_pybytes())
  source = open_source('parquet:ram://remote_files/*.parquet')
  assert read(source, 0, 450) == DOCUMENTS[450:]
  for n in range(3):
    with tf.io.gfile.GFile(f'ram://remote_files/{n}.txt', 'wb') as file:
      file.write(f'text {n}'.encode())
  source = open_source('textfile:ram://remote_files/*.txt')
  assert sorted(read(source)) == ['text 0', 'text 1', 'text 2']
  assert sorted(e['file'] for e in source.fingerprint) == [
    '0.txt', '1.txt', '2.txt'
  ]  # fmt: skip


def test_a_mixture_of_all_and_its_caches(tmp_path):
  """Rows from the files equal those from their token caches."""
  pytest.importorskip('tensorflow')
  own = [texts(count, n) for n, count in enumerate((150, 230, 97))]
  write_parquet(tmp_path / 'a.parquet', own[0], row_group_size=64)
  for n, text in enumerate(own[1]):
    (tmp_path / f'{n}.txt').write_text(text)
  written = '\n'.join(json.dumps({'text': text}) for text in own[2])
  (tmp_path / 'a.json.zst').write_bytes(zst(written.encode()))
  globs = 'parquet:{}/*.parquet', 'textfile:{}/*.txt', 'json:{}/*.zst'
  rates = 0.5, 0.25, 0.25
  names = [glob.format(tmp_path) for glob in globs]
  config = caches.settings(
    '', data__mixture=tuple(zip(names, rates, strict=True)), data__holdout=10
  )
  made = prepare.prepare(config, str(tmp_path / 'made'), jobs=1)
  assert made == [f'cache:{tmp_path}/made/{n}' for n in range(3)]
  tokenizer = str(tmp_path / 'made' / '0' / 'tokenizer.model')
  data = [
    open_data(
      data_config(
        source='', mixture=tuple(zip(which, rates, strict=True)),
        tokenizer=tokenizer,
      ),
      0, 300,
    )
    for which in (names, made)
  ]  # fmt: skip
  assert_same_rows(*data)
  read = [data[0].report()[f'documents_{n}'] for n in range(3)]
  assert min(read) > 0


# Files as documents.


@pytest.fixture
def books(tmp_path):
  for number in range(100):
    path = tmp_path / 'books' / f'{number % 3}' / f'{number:03d}.txt'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'one of {number}\n\ntwo of {number}\n\n\nthree\n')
  return tmp_path / 'books'


def test_textfile_and_text(books):
  """A file is one document, or each of its paragraphs is."""
  source = open_source(f'textfile:{books}/*/*.txt')
  expected = [p.read_text() for p in sorted(books.glob('*/*.txt'))]
  assert sorted(read(source)) == sorted(expected)
  assert source.lengths == [100]
  paragraphs = open_source(f'text:{books}/0/000.txt')
  assert read(paragraphs) == ['one of 0', 'two of 0', 'three']


def test_the_order_of_textfiles(books, tmp_path):
  """The order is the same in any place; each part has files of all folders."""
  source = open_source(f'textfile:{books}/**/*.txt')
  shutil.move(books, tmp_path / 'moved')
  moved = open_source(f'textfile:{tmp_path}/moved/*/*.txt')
  assert read(moved) == read(open_source(f'textfile:{tmp_path}/moved/*/*'))
  assert (
    moved.fingerprint
    == open_source(f'textfile:{tmp_path}/moved/**/*.txt').fingerprint
  )
  folders = [path.split('/')[-2] for path in moved.paths[:30]]
  assert min(folders.count(folder) for folder in '012') >= 4
  names = [path.split('/')[-1] for path in source.paths]
  assert names == [path.split('/')[-1] for path in moved.paths]


def test_rows_of_textfiles(books):
  """Held-out files are not trained on; all other files are read."""
  pytest.importorskip('tensorflow')
  (books / '0' / '000.txt').write_bytes(b'\xff')
  config = data_config(
    source=f'textfile:{books}/*/*.txt', block=4, max_bad_share=0.01, epochs=1,
    tokenizer_kind='bytes',
  )  # fmt: skip
  data = open_data(config, 0, 300, '', None)
  batches, own = [], data.batches(data.start(), np.arange(16))
  with pytest.raises(ValueError, match='data.epochs=1'):
    batches.extend(own)
  assert data.report()['documents'] == 90
  evaluated = data.evaluation(np.arange(16), 16)
  assert next(evaluated)['weights'].any()
  again = take(data, 1, last_cursor(batches[0]))
  for name, values in again[0].items():
    np.testing.assert_array_equal(values, batches[1][name])


def test_what_is_wrong_with_a_textfile(books, capsys):
  (books / '0' / '000.txt').write_bytes(b'\xff')
  (books / '1' / '001.txt').write_bytes(b' \n')
  source = open_source(f'textfile:{books}/*/*.txt')
  found = {}
  for line, record in source.records(0, 0):
    try:
      source.text(record)
    except ValueError as error:
      found[source.place(0, line)] = str(error)
  assert found == {
    f'{books}/0/000.txt': 'not UTF-8 (invalid start byte)',
    f'{books}/1/001.txt': 'no text',
  }
  (books / '2' / '002.txt').unlink()
  with pytest.raises(OSError, match=r'2/002\.txt'):
    list(source.records(0, 0))


def test_the_fingerprint_of_textfiles(books, monkeypatch):
  name = f'textfile:{books}/*/*.txt'
  before = open_source(name).fingerprint
  assert [entry['file'] for entry in before[:2]] == ['0/000.txt', '0/003.txt']
  monkeypatch.setattr(files, 'LISTED', 10)
  many = open_source(name).fingerprint
  assert len(many) == 10
  assert many[0]['documents'] == 10
  assert many[0]['file'] == '0/000.txt to 0/027.txt'
  path = books / '0' / '003.txt'
  path.write_bytes(path.read_bytes().replace(b'one', b'two'))
  changed = open_source(name).fingerprint
  assert [a == b for a, b in zip(many, changed, strict=True)] == (
    [False] + [True] * 9
  )
