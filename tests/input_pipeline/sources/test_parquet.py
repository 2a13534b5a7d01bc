"""Parquet files: what is read from them, and what is refused."""

import contextlib

import numpy as np
import pyarrow as pa
import pytest

from input_pipeline import tokenizing
from input_pipeline.sources import parquet
from input_pipeline.streams import chunks
from tests.helpers.corpora import data_config, open_data, take, texts
from tests.input_pipeline.sources.test_source_files import (
  DOCUMENTS,
  assert_same_rows,
  open_source,
  read,
  write_json,
  write_parquet,
)


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
  """Rows of two files are equal, held out or not, with a limit or without."""
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
  """Row groups before and after a chunk are not read."""
  rng = np.random.default_rng(0)
  values = [rng.bytes(5000).hex() for _ in range(1000)]
  path = write_parquet(
    tmp_path / 'a.parquet', values, row_group_size=100, compression='none',
    use_dictionary=False,
  )  # fmt: skip
  source, amounts = open_source(f'parquet:{path}'), []

  class Counted(parquet.paths._Remote):
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
  reader = chunks.ChunkReader(source, 50, 1, 0, False)
  records = reader.read(0, 11)
  assert [line for line, _ in records] == list(range(551, 601))
  assert sum(amounts) < path.stat().st_size / 4


def test_bad_parquet_documents(tmp_path, capsys):
  """Empty, null and not UTF-8 are each reported with their row."""
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
    (pa.list_(pa.string()), 'text', "list<.*> in the column 'text', not text"),
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
    with pytest.raises(ValueError, match=r'a\.parquet is damaged or not a P'):
      open_source(f'parquet:{path}')
