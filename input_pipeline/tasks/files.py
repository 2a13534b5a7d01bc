"""Readers of the files that tasks are published in; errors name the line.

Files are UTF-8, with or without a byte order mark, with any system's line ends.
"""

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from input_pipeline.choices import either
from input_pipeline.sources import paths


class Row(NamedTuple):
  """A record of a file and where it stands, such as 'dev.tsv, line 7'."""

  place: str
  fields: dict[str, Any]


def text(path: str) -> str:
  """The text of a file. Raises ValueError if it is not UTF-8, or empty."""
  data = paths.read(path)
  try:
    found = data.decode('utf-8-sig')
  except UnicodeDecodeError as error:
    line = data.count(b'\n', 0, error.start) + 1
    raise ValueError(
      f'{path}, line {line}: byte {data[error.start]:#x} is not UTF-8. Convert'
      ' the file, for example with iconv.'
    ) from error
  if not found.strip():
    raise ValueError(f'{path} is empty: fetch the file again.')
  return found


def lines(path: str) -> Iterator[tuple[str, str]]:
  """(place, line) of a file, without line ends, with the empty lines.

  The last line may lack its end.
  """
  whole = text(path)
  if '\n' not in whole:  # line ends of CR alone
    whole = whole.replace('\r', '\n')
  for n, line in enumerate(whole.removesuffix('\n').split('\n'), 1):
    yield f'{path}, line {n}', line.removesuffix('\r')


def filled(path: str) -> Iterator[tuple[str, str]]:
  """As `lines`, without empty ones."""
  return ((place, line) for place, line in lines(path) if line.strip())


def header(path: str) -> list[str]:
  """The columns of a TSV's first line."""
  _, line = next(filled(path))
  return line.split('\t')


def tsv(
  path: str,
  needed: Sequence[str] = (),
  *,
  columns: Sequence[str] = (),
  more: bool = False,
  broken: bool = False,
) -> Iterator[Row]:
  """Rows of a file whose columns are separated by tabs; quotes mean nothing.

  Args:
    path: the file.
    needed: columns that it must have.
    columns: their names, if the file's first line is not a header.
    more: whether a row may have further columns, which are not read.
    broken: whether to leave out and count rows with too few or too many
      columns, as TFDS does for published files that have some.

  Raises:
    ValueError: a column is missing or named twice, or a row has too few or
      too many.
  """
  rows = filled(path)
  if not columns:
    place, line = next(rows)
    columns = line.split('\t')
    _check_columns(place, columns, needed)
  left_out = []
  for place, line in rows:
    cells = line.split('\t')
    if len(cells) == len(columns) or (more and len(cells) > len(columns)):
      yield Row(place, dict(zip(columns, cells, strict=False)))
      continue
    reason = (
      f'{place} has {len(cells)} columns, not the {len(columns)} of'
      f' {", ".join(columns)}'
    )
    if not broken:
      raise ValueError(
        f'{reason}. A tab separates columns, even inside quotes: repair or'
        ' remove the line.'
      )
    left_out.append(reason)
  if left_out:
    print(f'{len(left_out)} rows are left out: {left_out[0]}.', flush=True)


def _check_columns(place, columns, needed):
  missing = [name for name in needed if name not in columns]
  if missing:
    raise ValueError(
      f'{place}: there is no column {", ".join(map(repr, missing))}, only'
      f' {", ".join(columns)}. The first line names the columns: use the file'
      ' as published, or name the columns that it has.'
    )
  if twice := [name for name in columns if name and columns.count(name) > 1]:
    raise ValueError(
      f'{place}: {columns.count(twice[0])} columns have the name {twice[0]!r}:'
      ' rename or remove all but one.'
    )


def csv_rows(path: str, needed: Sequence[str] = ()) -> Iterator[Row]:
  """Rows of a CSV file with a header; quotes protect commas and line ends.

  Raises:
    ValueError: a column is missing or named twice, or a row has too few or
      too many, or a quote is not closed.
  """
  rows = csv_cells(path)
  place, columns = next(rows)
  _check_columns(place, columns, needed)
  for place, cells in rows:
    if len(cells) != len(columns):
      raise ValueError(
        f'{place} has {len(cells)} columns, not the {len(columns)} of'
        f' {", ".join(columns)}. A text with a comma must be in quotes.'
      )
    yield Row(place, dict(zip(columns, cells, strict=True)))


def csv_cells(path: str) -> Iterator[tuple[str, list[str]]]:
  """(place, cells) of each row of a CSV file that is not empty.

  Raises:
    ValueError: a quote is not closed.
  """
  reader = csv.reader(io.StringIO(text(path), newline=''), strict=True)
  while True:
    place = f'{path}, line {reader.line_num + 1}'
    try:
      cells = next(reader, None)
    except csv.Error as error:
      raise ValueError(
        f'{place}: {error}. A quote inside a quoted text is written twice.'
      ) from error
    if cells is None:
      return
    if cells:
      yield place, cells


def jsonl(path: str, needed: Sequence[str] = ()) -> Iterator[Row]:
  """Objects of a file with one JSON object in each line.

  Raises:
    ValueError: a line is not a JSON object, or a field is missing or null.
  """
  for place, line in filled(path):
    try:
      fields = json.loads(line)
    except json.JSONDecodeError as error:
      raise ValueError(
        f'{place}: not a JSON object: {error.msg} at column {error.colno}.'
      ) from error
    yield Row(place, checked(place, fields, needed))


def parsed(path: str) -> Any:
  """The value of a JSON file. Raises ValueError naming the bad line."""
  try:
    return json.loads(text(path))
  except json.JSONDecodeError as error:
    raise ValueError(
      f'{path}, line {error.lineno}: not JSON: {error.msg} at column'
      f' {error.colno}. Fetch the file again.'
    ) from error


def checked(place: str, fields: Any, needed: Sequence[str]) -> dict[str, Any]:
  """Returns `fields`; raises ValueError if it lacks one or is no object.

  A field that is null is missing too.
  """
  if not isinstance(fields, dict):
    raise ValueError(f'{place}: {str(fields)[:40]!r} is not a JSON object.')
  missing = [name for name in needed if name not in fields]
  if missing:
    raise ValueError(
      f'{place}: there is no field {", ".join(map(repr, missing))}, only'
      f' {", ".join(fields)}. Use the file as published.'
    )
  if null := [name for name in needed if fields[name] is None]:
    raise ValueError(
      f'{place}: the field {null[0]!r} is null: correct or remove the line.'
    )
  return fields


def columns(path: str) -> Iterator[tuple[str, list[list[str]]]]:
  """Sentences of a file with a word in each line (CoNLL-2003).

  An empty line ends a sentence; spaces or tabs separate columns. The lines that
  begin a document are left out.

  Yields:
    The place of the sentence's first word, and its rows of columns.

  Raises:
    ValueError: a line has another number of columns than the first.
  """
  number, begin, sentence = None, '', []
  for place, line in lines(path):
    cells = line.split()
    if not cells or cells[0] == '-DOCSTART-':
      if sentence:
        yield begin, sentence
      sentence = []
      continue
    number = number or len(cells)
    if len(cells) != number:
      raise ValueError(
        f'{place} has {len(cells)} columns, the lines before it have {number}.'
        ' Each line must be a word and its columns, or empty after a sentence.'
      )
    begin = begin if sentence else place
    sentence.append(cells)
  if sentence:
    yield begin, sentence


def class_name(
  place: str, value: Any, labels: Sequence[str], field: str = 'label'
) -> str | None:
  """The class that a value of a file names; None if the label is secret.

  A value is a class's name, its number, True or False. Secret labels are None,
  -1 and ''.

  Raises:
    ValueError: the value names no class; the message has `place`.
  """
  if (
    value is None or value in ('', '-1') or (value == -1 and value is not True)
  ):
    return None
  name = str(value)
  if name in labels:
    return name
  if name.isdecimal() and int(name) < len(labels):
    return labels[int(name)]
  raise ValueError(
    f'{place}: {field} {name!r} is unknown. It must be'
    f' {either(map(repr, labels))}, or a number below {len(labels)}: correct'
    ' the line, or check that this is the file of this task.'
  )


def index(place: str, value: Any, field: str = 'idx') -> int:
  """The whole number, from 0, in a field. Raises ValueError for others."""
  if not str(value).isdecimal():
    raise ValueError(
      f'{place}: {field} {value!r} is not a whole number: use the file as'
      ' published.'
    )
  return int(value)


def number(
  place: str, value: Any, field: str, most: float = math.inf
) -> float | None:
  """The number in a field; None for ''. Raises ValueError for other texts.

  Not a number (NaN) and infinity are refused: no loss or score can use them. So
  are numbers outside 0 to `most`, if it is given.
  """
  if value == '':
    return None
  try:
    found = float(value)
  except (TypeError, ValueError, OverflowError):
    found = math.nan
  if not math.isfinite(found):
    raise ValueError(
      f'{place}: {field} {value!r} is not a finite number: correct or remove'
      ' the line.'
    )
  if most < math.inf and not 0 <= found <= most:
    raise ValueError(
      f'{place}: {field} {value!r} is not in 0 to {most:g}: correct or remove'
      ' the line.'
    )
  return found
