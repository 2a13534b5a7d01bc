"""Checksums of a checkpoint's files, which reveal any flipped bit.

Orbax and TensorStore check the index of a checkpoint's arrays, not the numbers:
without checksums a flipped bit among them would be restored unnoticed.
"""

import json
import os
from collections.abc import Iterable
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
  with ThreadPoolExecutor(4) as pool:  # hashing releases the interpreter lock
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
  if not os.path.exists(path):
    return ''
  try:
    with open(path) as file:
      expected = json.load(file)
    # The largest first, so that shares and threads have similar work.
    names = sorted(expected, key=lambda name: -expected[name]['bytes'])
    names = [name for name in names if name.startswith(part)]
  except _UNREADABLE:
    return f'{NAME} is damaged'
  parts = (entry.name for entry in os.scandir(folder) if entry.is_dir())
  for name in _files(folder, parts):
    if name.startswith(part) and name not in expected:
      return f'{name} is not in {NAME}'
  with ThreadPoolExecutor(os.cpu_count()) as pool:
    differ = pool.map(
      lambda name: _differs(folder, name, expected[name]), names[share::shares]
    )
  return next(filter(None, differ), '')


def _files(folder: str, parts: Iterable[str]) -> list[str]:
  """Relative paths of all files below some folders of FOLDER."""
  return sorted(
    os.path.relpath(os.path.join(root, name), folder)
    for part in parts
    for root, _, files in os.walk(os.path.join(folder, part))
    for name in files
  )


def _sum(folder: str, name: str) -> dict[str, Any]:
  path = os.path.join(folder, name)
  return {'bytes': os.path.getsize(path), 'sha256': hashes.file_sha256(path)}


def _differs(folder: str, name: str, expected: dict[str, Any]) -> str:
  try:
    if os.path.getsize(os.path.join(folder, name)) != expected['bytes']:
      return f'{name} does not have the size it was written with'
    if _sum(folder, name) != expected:
      return f'{name} does not have the checksum it was written with'
  except OSError as error:
    return f'{name}: {error.strerror}'
  return ''
