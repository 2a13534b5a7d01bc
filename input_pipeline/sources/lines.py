"""Bytes of text files: plain, .gz or .zst, a buffer in memory at a time."""

import itertools
from collections.abc import Iterator

from isal import isal_zlib

from input_pipeline.sources import paths

BUFFER = 1 << 16  # bytes read at a time
MARK = b'\xef\xbb\xbf'  # the byte order mark of UTF-8, which Windows writes
# What a file of another kind begins with, and what to do about it.
OTHER = {
  b'\xff\xfe': 'is UTF-16: convert it (iconv -f UTF-16 -t UTF-8)',
  b'\xfe\xff': 'is UTF-16: convert it (iconv -f UTF-16 -t UTF-8)',
  b'\x1f\x8b': 'is compressed: give it a name that ends in .gz',
  b'\x28\xb5\x2f\xfd': 'is compressed: give it a name that ends in .zst',
}


class _Damaged(ValueError):
  """Says why a file's bytes cannot be read."""


def read_lines(path: str) -> Iterator[bytes]:
  """Lines of a file, without a byte order mark.

  Raises ValueError with file and line where a .gz or .zst is damaged or cut
  short, or the file is of another kind.
  """
  rest, number = b'', 0
  try:
    for data in _text(path):
      lines = data.split(b'\n')
      lines[0] = rest + lines[0]
      rest = lines.pop()
      number += len(lines)
      yield from lines
  except _Damaged as error:
    raise ValueError(f'{path}, line {number + 1}: {error}.') from error
  if rest:
    yield rest


def read_whole(path: str) -> bytes:
  """All of a file's bytes; raises as read_lines does, without the line."""
  try:
    return b''.join(_text(path))
  except _Damaged as error:
    raise ValueError(f'{path}: {error}.') from error


def _text(path):
  """A file's text in parts, without a byte order mark."""
  parts, start = _decoded(path), b''
  while len(start) < 4 and (part := next(parts, b'')):
    start += part
  for signature, what in OTHER.items():
    if start.startswith(signature):
      raise _Damaged(f'the file {what}')
  return itertools.chain([start.removeprefix(MARK)], parts)


def _decoded(path):
  """A file's decompressed bytes in parts, none of them empty."""
  decode = _plain
  if path.endswith('.gz'):
    decode = _gz
  elif path.endswith(('.zst', '.zstd')):
    decode = _zst
  with paths.opened(path) as file:
    yield from filter(None, decode(file))


def _plain(file):
  while data := file.read(BUFFER):
    yield data


def _gz(file):
  decoder, whole = isal_zlib.decompressobj(wbits=31), False
  try:
    while data := file.read(BUFFER):
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
        data = stream.read(BUFFER)
      except OSError as error:
        if error.errno is not None:  # reading failed, not decompressing
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
