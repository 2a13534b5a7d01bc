"""Parquet files: a column of text, read in batches of rows."""

import concurrent.futures
import contextlib
from collections.abc import Iterator

from input_pipeline.sources import files, paths

ROWS = 128  # read at a time
# Types of a column of text, as pyarrow names them.
TEXT = (
  *('string', 'large_string', 'string_view'),
  *('binary', 'large_binary', 'binary_view'),
)
BUFFER = 1 << 20  # bytes of a column read at a time


class ParquetFiles(files.TextFiles):
  """A column of strings, each of which is a document; has `lengths`.

  Row groups before the wanted document are skipped, the others are read a
  buffer at a time. Raises ValueError, naming the file, when one is damaged or
  does not have the column `field` of text.
  """

  unit = 'row'

  def __init__(self, files: list[str], field: str, name: str):
    super().__init__(files)
    self.field, self.name = field, name
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
      self.lengths = list(pool.map(self._length, files))

  def records(
    self, file: int, start: int
  ) -> Iterator[tuple[int, bytes | None]]:
    import pyarrow as pa

    path, number = self.files[file], start
    try:
      with _opened(path) as opened:
        for values in self._batches(opened, start):
          for value in values:
            number += 1
            yield number, value
      found = 'it ends there'
    except (pa.ArrowException, OSError) as error:
      found = str(error).splitlines()[0]
    if number < self.lengths[file]:
      raise ValueError(
        f'{path}, after row {number} of {self.lengths[file]}: the file is'
        f' damaged or changed ({found}). Fetch the file again.'
      )

  def text(self, record: bytes | None) -> bytes:
    if not record:
      raise ValueError('no text')
    return super().text(record)

  def _length(self, path):
    """The number of rows of a file; checks the column."""
    import pyarrow as pa

    try:
      with _opened(path) as opened:
        schema, rows = opened.schema_arrow, opened.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
      reason = str(error).splitlines()[0]
      raise ValueError(
        f'{self.name}: {path} is damaged or not a Parquet file ({reason}).'
      ) from error
    if self.field not in schema.names:
      raise ValueError(
        f'{self.name}: {path} has no column {self.field!r}, only'
        f' {", ".join(schema.names)}. data.text_field names another.'
      )
    kind = schema.field(self.field).type
    if pa.types.is_dictionary(kind):
      kind = kind.value_type
    if str(kind) not in TEXT:
      raise ValueError(
        f'{self.name}: {path} has {kind} in the column {self.field!r}, not'
        ' text. data.text_field names another.'
      )
    return rows

  def _batches(self, opened, start):
    """Lists of a file's values as bytes or None, from the start-th on."""
    import pyarrow as pa

    groups, left = [], start
    for group in range(opened.num_row_groups):
      rows = opened.metadata.row_group(group).num_rows
      if not groups and left >= rows:
        left -= rows
      else:
        groups.append(group)
    for batch in opened.iter_batches(
      ROWS, groups, [self.field], use_threads=False
    ):
      column = batch.column(0).slice(left)
      left = max(0, left - len(batch))
      if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
      # As bytes: text that is not UTF-8 spoils one document, not the batch.
      yield column.cast(pa.large_binary()).to_pylist()


@contextlib.contextmanager
def _opened(path):
  import pyarrow.parquet as pq

  options = {'buffer_size': BUFFER, 'page_checksum_verification': True}
  with (
    paths.opened(path) as where,
    pq.ParquetFile(where, pre_buffer=False, **options) as opened,
  ):
    yield opened
