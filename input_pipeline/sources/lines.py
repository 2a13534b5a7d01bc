"""Bytes of text files: plain, .gz or .zst, a chunk in memory at a time."""

import itertools

from isal import isal_zlib

from input_pipeline.sources import paths

CHUNK = 1 << 16  # bytes read at a time
MARK = (
  b'\xef\xbb\xbf'  # the byte order mark that some programs begin UTF-8 with
)
# What else a file may begin with, and what to do about it.
OTHER = {
  b'\xff\xfe': 'is UTF-16: convert it (iconv -f UTF-16 -t UTF-8)',
  b'\xfe\xff': 'is UTF-16: convert it (iconv -f UTF-16 -t UTF-8)',
  b'\x1f\x8b': 'is compressed: give it a name that ends in .gz',
  b'\x28\xb5\x2f\xfd': 'is compressed: give it a name that ends in .zst',
}


class _Damaged(ValueError):
  """A file's compressed bytes cannot be read; says what is wrong with them."""


def read_lines(path):
  """Lines of a file, as bytes, without a byte order mark.

  Raises ValueError with file and line where a .gz or .zst is damaged or cut
  short, or the file is not of UTF-8 at all.
  """
  rest, number = b'', 0
  try:
    for chunk in _text(path):
      lines = chunk.split(b'\n')
      lines[0] = rest + lines[0]
      rest = lines.pop()
      number += len(lines)
      yield from lines
  except _Damaged as error:
    raise ValueError(f'{path}, line {number + 1}: {error}.') from error
  if rest:
    yield rest


def read_whole(path):
  """All of a file's bytes; see read_lines, whose errors name no line here."""
  try:
    return b''.join(_text(path))
  except _Damaged as error:
    raise ValueError(f'{path}: {error}.') from error


def _text(path):
  """Chunks of a file's text, without a byte order mark."""
  chunks, start = _chunks(path), b''
  while len(start) < 4 and (chunk := next(chunks, b'')):
    start += chunk
  for signature, what in OTHER.items():
    if start.startswith(signature):
      raise _Damaged(f'the file {what}')
  return itertools.chain([start.removeprefix(MARK)], chunks)


def _chunks(path):
  """Chunks of a file's bytes, none of them empty."""
  decoded = _plain
  if path.endswith('.gz'):
    decoded = _gz
  elif path.endswith(('.zst', '.zstd')):
    decoded = _zst
  with paths.opened(path) as file:
    yield from filter(None, decoded(file))


def _plain(file):
  while data := file.read(CHUNK):
    yield data


def _gz(file):
  decoder, whole = isal_zlib.decompressobj(wbits=31), False
  try:
    while data := file.read(CHUNK):
      # A .gz may hold several members, and zeros after them.
      while data := data.lstrip(b'\0') if whole else data:
        if whole:
          decoder = isal_zlib.decompressobj(wbits=31)
        yield decoder.decompress(data)
        data, whole = decoder.unused_data, decoder.eof
  except isal_zlib.error as error:
    raise _damaged('.gz', error) from error
  if not whole:
    raise _damaged('.gz', 'no end-of-stream marker')


def _zst(file):
  import pyarrow as pa

  source = pa.PythonFile(file, 'r')
  if not source.read(1):
    raise _damaged('.zst', 'it is empty')
  source.seek(0)
  with pa.CompressedInputStream(source, 'zstd') as stream:
    while True:
      try:
        data = stream.read(CHUNK)
      except OSError as error:
        if error.errno is not None:  # not Arrow's, but of reading the file
          raise
        if 'too much memory' in str(error):
          raise _Damaged(
            'the .zst has a window of more than 128 MiB: compress it again'
            ' without --long'
          ) from error
        raise _damaged('.zst', error) from error
      if not data:
        return
      yield data


def _damaged(kind, error):
  return _Damaged(
    f'the {kind} is damaged or cut short ({error}); fetch the file again'
  )
