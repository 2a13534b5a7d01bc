"""Parquet, compressed and whole files: what is read, and what is refused."""

import contextlib
import dataclasses
import gzip
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from input_pipeline import (
  lines,
  parquet,
  prepare,
  sources,
  streams,
  tokenizing,
)
from tests import caches
from tests.corpora import data_config, last_cursor, open_data, take, texts

# `printf 'one\ntwo\n' | zstd`: by the library's own program, with a checksum.
FOREIGN = bytes.fromhex('28b52ffd0458410000 6f6e650a74776f0a e6a60e40')
SKIPPABLE = b'\x50\x2a\x4d\x18\x04\x00\x00\x00abcd'  # a frame without text
DOCUMENTS = [f'document {n}, ünïcode ☃ ' * (n % 7 + 1) for n in range(1000)]


def open_source(name, field='text'):
  return sources.open_source(name, 0, 512, 10, field=field)


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
  """Frames of the zstd program and of Arrow, one after another."""
  monkeypatch.setattr(lines, 'CHUNK', 7)
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


@pytest.mark.parametrize(
  ('name', 'data', 'message'),
  [
    ('a.json', gzip.compress(b'text'), 'is compressed.*ends in .gz'),
    ('a.txt', FOREIGN, 'is compressed.*ends in .zst'),
    ('a.txt', 'text'.encode('utf-16'), 'is UTF-16: convert it'),
    ('a.gz', gzip.compress('text'.encode('utf-16-be')), None),
    ('b.gz', gzip.compress(b'\xfe\xff\0t'), 'is UTF-16: convert it'),
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
@pytest.mark.parametrize('chunk', [1, 1 << 16])
def test_byte_order_marks(tmp_path, monkeypatch, ending, chunk):
  """Programs of Windows write one; it is no part of the text."""
  monkeypatch.setattr(lines, 'CHUNK', chunk)
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
  assert 'text_field' not in other.fingerprint['data']  # as runs before it


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'source': 'text:x', 'text_field': 'body'}, "'body' must be 'text'"),
    ({'source': 'textfile:x', 'text_field': 'body'}, "'body' must be 'text'"),
    ({'source': 'docs', 'text_field': 'body'}, "'body' must be 'text'"),
    ({'source': 'json:x', 'text_field': ''}, "text_field='' must name"),
    ({'source': 'parquett:x'}, r'parquet:GLOB.*textfile:GLOB'),
    ({'source': 'textfiles:x'}, r'parquet:GLOB.*textfile:GLOB'),
  ],
)
def test_text_field_that_nothing_reads(changes, message):
  with pytest.raises(ValueError, match=message):
    data_config(**changes)


# Parquet.


@pytest.mark.parametrize(
  'kind',
  [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.dictionary(pa.int32(), pa.string()),
  ],
)
def test_parquet(tmp_path, kind):
  values = DOCUMENTS
  if pa.types.is_binary(kind):
    values = [text.encode() for text in values]
  path = write_parquet(
    tmp_path / 'a.parquet', values, kind, row_group_size=300, compression='zstd'
  )
  source = open_source(f'parquet:{path}')
  assert source.lengths == [1000]
  for start in 0, 1, 127, 128, 299, 300, 301, 730, 999, 1000:
    assert read(source, 0, start) == DOCUMENTS[start:]
    rows = [row for row, _ in source.records(0, start)]
    assert rows == list(range(start + 1, 1001))


def test_parquet_has_the_rows_of_json(tmp_path):
  """Two files, held-out documents and limits among them."""
  pytest.importorskip('tensorflow')
  for n, count in enumerate((150, 230)):
    own = texts(count, n)
    write_json(tmp_path / f'{n}.json', own)
    path = tmp_path / f'{n}.parquet'
    write_parquet(path, own, column='body', row_group_size=64)
  tokenizer = str(tmp_path / 'tokenizer.model')
  first = data_config(source=f'json:{tmp_path}/*.json')
  tokenizing.prepare(first, 0, 300, str(tmp_path))
  for changes in {}, {'documents': 200}:
    data = [
      open_data(data_config(**options, **changes, tokenizer=tokenizer), 0, 300)
      for options in (
        {'source': f'json:{tmp_path}/*.json'},
        {'source': f'parquet:{tmp_path}/*.parquet', 'text_field': 'body'},
      )
    ]
    assert_same_rows(*data)
    (evaluated, *_), (other, *_) = (
      list(zip(d.evaluation(np.arange(16), 16), range(2), strict=False))
      for d in data
    )
    np.testing.assert_array_equal(evaluated[0]['targets'], other[0]['targets'])


def test_a_parquet_file_is_read_in_parts(tmp_path, monkeypatch):
  """Row groups before a block are not read, nor those after it."""
  rng = np.random.default_rng(0)
  values = [rng.bytes(5000).hex() for _ in range(1000)]
  path = write_parquet(
    tmp_path / 'a.parquet', values, row_group_size=100, compression='none',
    use_dictionary=False,
  )  # fmt: skip
  source, amounts = open_source(f'parquet:{path}'), []

  class Counted(parquet.paths._Far):
    def read(self, size=-1):
      data = super().read(size)
      amounts.append(len(data))
      return data

  opened = parquet.paths.opened

  @contextlib.contextmanager
  def counted(path):
    with opened(path) as file:
      yield Counted(file)

  monkeypatch.setattr(parquet.paths, 'opened', counted)
  reader = streams.BlockReader(source, 50, 1, 0, False)
  records = reader.read(0, 11)
  assert [line for line, _ in records] == list(range(551, 601))
  assert sum(amounts) < path.stat().st_size / 4


def test_bad_parquet_documents(tmp_path, capsys):
  """Empty, null and not UTF-8: a document's fault each, with its row."""
  values = [text.encode() for text in DOCUMENTS[:400]]
  values[7], values[150], values[301] = None, b'', b'\xff\xfe'
  path = write_parquet(tmp_path / 'a.parquet', values, pa.binary())
  source = open_source(f'parquet:{path}')
  for row, message in ((8, 'no text'), (151, 'no text'), (302, 'not UTF-8')):
    ((_, record),) = [pair for pair in source.records(0, 0) if pair[0] == row]
    with pytest.raises(ValueError, match=message):
      source.text(record)
  config = data_config(
    source=f'parquet:{path}', max_bad_share=0.01, tokenizer_kind='bytes'
  )
  data = open_data(config, 0, 300, '', None)
  take(data, 40)
  assert data.report()['skipped'] == 3
  assert 'a.parquet, row 302: not UTF-8' in capsys.readouterr().out


@pytest.mark.parametrize(
  ('kind', 'column', 'message'),
  [
    (pa.string(), 'body', "has no column 'text', only id, body. data.text_f"),
    (pa.list_(pa.string()), 'text', "list<.*> in the column 'text', no text"),
  ],
)
def test_parquet_without_text(tmp_path, kind, column, message):
  values = [['a']] if pa.types.is_list(kind) else ['a']
  path = write_parquet(tmp_path / 'a.parquet', values, kind, column)
  with pytest.raises(ValueError, match=f"data.source='parquet:.*{message}"):
    open_source(f'parquet:{path}')


def test_damaged_parquet(tmp_path):
  path = write_parquet(
    tmp_path / 'a.parquet', DOCUMENTS, row_group_size=300, compression='none',
    use_dictionary=False, write_page_checksum=True,
  )  # fmt: skip
  source, whole = open_source(f'parquet:{path}'), path.read_bytes()
  place = whole.index(DOCUMENTS[650].encode())
  flipped = bytes([whole[place] ^ 1])
  path.write_bytes(whole[:place] + flipped + whole[place + 1 :])
  message = r'a\.parquet, after row 512 of 1000: the file is damaged.*CRC'
  with pytest.raises(ValueError, match=message):
    list(source.records(0, 0))
  write_parquet(path, DOCUMENTS[:400])
  with pytest.raises(ValueError, match='after row 400 of 1000: .* changed'):
    list(source.records(0, 0))
  for damaged in whole[:-20], whole[: len(whole) // 2], b'', b'1\ttext\n' * 9:
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r'a\.parquet is damaged or no Parqu'):
      open_source(f'parquet:{path}')


def test_far_parquet_and_zst():
  """TensorFlow's filesystem in place of gs://."""
  tf = pytest.importorskip('tensorflow')
  tf.io.gfile.makedirs('ram://far_files')
  with tf.io.gfile.GFile('ram://far_files/a.json.zst', 'wb') as file:
    file.write(zst(json.dumps({'text': 'ünï'}).encode() + b'\n'))
  assert read(open_source('json:ram://far_files/*.zst')) == ['ünï']
  buffer = pa.BufferOutputStream()
  write_parquet(buffer, DOCUMENTS, row_group_size=300)
  with tf.io.gfile.GFile('ram://far_files/b.parquet', 'wb') as file:
    file.write(buffer.getvalue().to_pybytes())
  source = open_source('parquet:ram://far_files/*.parquet')
  assert read(source, 0, 450) == DOCUMENTS[450:]
  for n in range(3):
    with tf.io.gfile.GFile(f'ram://far_files/{n}.txt', 'wb') as file:
      file.write(f'text {n}'.encode())
  source = open_source('textfile:ram://far_files/*.txt')
  assert sorted(read(source)) == ['text 0', 'text 1', 'text 2']
  assert sorted(e['file'] for e in source.fingerprint) == [
    '0.txt', '1.txt', '2.txt'
  ]  # fmt: skip


def test_a_mixture_of_all_and_its_caches(tmp_path):
  """From the files and from token caches of them the same rows."""
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
  """A file is one document, or its paragraphs are one each."""
  source = open_source(f'textfile:{books}/*/*.txt')
  expected = [p.read_text() for p in sorted(books.glob('*/*.txt'))]
  assert sorted(read(source)) == sorted(expected)
  assert source.lengths == [100]
  paragraphs = open_source(f'text:{books}/0/000.txt')
  assert read(paragraphs) == ['one of 0', 'two of 0', 'three']


def test_the_order_of_textfiles(books, tmp_path):
  """Wherever they lie the same; a part of it has files of every folder."""
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
  """Held-out files, blocks, cursors; every file of the rest is read."""
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
  monkeypatch.setattr(sources, 'LISTED', 10)
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
