"""Checksums of a checkpoint's files, which reveal any flipped bit.

Orbax and TensorStore check the index of a checkpoint's arrays, not the numbers:
without checksums a flipped bit among them would be restored unnoticed. Buckets
check the bytes of each object themselves: of remote files only sizes are kept.
"""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from input_pipeline.sources import hashes, paths

NAME = 'checksums.json'
_UNREADABLE = (
  *(OSError, ValueError, RecursionError),
  *(TypeError, KeyError, AttributeError),  # JSON of another form
)


def write(folder: str, parts: tuple[str, ...]) -> None:
  """Writes sizes and sha256 of all files below `parts` into FOLDER/NAME."""
  names = _files(folder, parts)
  # Hashing releases the interpreter lock.
  with ThreadPoolExecutor(_threads(folder, 4)) as pool:
    sums = list(pool.map(lambda name: _sum(folder, name), names))
  text = json.dumps(dict(zip(names, sums, strict=True)), indent=1)
  paths.write(os.path.join(folder, NAME), f'{text}\n'.encode())


def damage(folder: str, share: int = 0, shares: int = 1, part: str = '') -> str:
  """What is wrong with the files of a checkpoint; '' if nothing is.

  A checkpoint without NAME counts as undamaged: nothing is known of it. Each
  process checks one of `shares` of the files. Only those in the folder `part`
  of the checkpoint are checked, if it is given.
  """
  path = os.path.join(folder, NAME)
  if not paths.exists(path):
    return ''
  try:
    expected = json.loads(paths.read(path))
    # The largest first, so that shares and threads have similar work.
    names = sorted(expected, key=lambda name: -expected[name]['bytes'])
    names = [name for name in names if name.startswith(part)]
  except _UNREADABLE:
    return f'{NAME} is damaged'
  for name in _files(folder):
    if name.startswith(part) and name not in expected:
      return f'{name} is not in {NAME}'
  with ThreadPoolExecutor(_threads(folder, os.cpu_count())) as pool:
    differ = pool.map(
      lambda name: _differs(folder, name, expected[name]), names[share::shares]
    )
  return next(filter(None, differ), '')


def _files(folder: str, parts: Sequence[str] = ()) -> list[str]:
  """Relative paths of all files below some folders of FOLDER, or below all."""
  below = [name.split(os.sep) for name in paths.files_below(folder)]
  return sorted(
    os.path.join(*steps)
    for steps in below
    if len(steps) > 1 and (not parts or steps[0] in parts)
  )


def _threads(folder: str, usual: int | None) -> int | None:
  """How many threads sum up files: those of a bucket wait for its answers."""
  return 32 if paths.is_remote(folder) else usual


def _sum(folder: str, name: str) -> dict[str, Any]:
  path = os.path.join(folder, name)
  known = {'bytes': paths.size(path)}
  if paths.is_remote(path):
    return known
  return known | {'sha256': hashes.file_sha256(path)}


def _differs(folder: str, name: str, expected: dict[str, Any]) -> str:
  try:
    found = _sum(folder, name)
    if found['bytes'] != expected['bytes']:
      return f'{name} does not have the size it was written with'
    if any(found[key] != expected[key] for key in found.keys() & expected):
      return f'{name} does not have the checksum it was written with'
  except OSError as error:
    return f'{name}: {error.strerror}'
  return ''
