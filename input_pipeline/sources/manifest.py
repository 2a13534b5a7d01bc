"""The manifest of a prepared folder: its files, their hashes and origin."""

import concurrent.futures
import itertools
import json
import os
from typing import Any

from input_pipeline.sources import hashes, paths

FORMAT = 1  # of the manifest: raised when older code could not read it
MANIFEST = 'manifest.json'
PLAN = 'shards.json'  # while shards of the files are made; see preparation
FIX = (
  'Run the same command of input_pipeline.prepare again: it rebuilds what is'
  ' damaged.'
)


def file_entry(path: str) -> dict[str, Any]:
  """The entry of a local file: its size and hashes."""
  return {
    'bytes': os.path.getsize(path),
    'sha256': hashes.hash_file(path),
    'pieces': hashes.hash_pieces(path),
  }


def damaged(
  folder: str, entries: dict[str, dict[str, Any]], hashed: str
) -> list[tuple[str, str]]:
  """The damaged files of a manifest, [(name, what is wrong)].

  `entries` is name -> entry, and `hashed` names the hash that is compared:
  sha256, of the whole file, or pieces. Of a remote file only the size is.
  """
  places = [os.path.join(folder, name) for name in entries]
  with concurrent.futures.ThreadPoolExecutor() as pool:
    found = pool.map(
      _damage, places, entries.values(), itertools.repeat(hashed)
    )
    return [pair for pair in zip(entries, found, strict=True) if pair[1]]


def _damage(path, known, hashed):
  """What is wrong with a file; '' if nothing is."""
  hash_of = {'sha256': hashes.hash_file, 'pieces': hashes.hash_pieces}[hashed]
  try:
    size = paths.size(path)
    if size != known['bytes']:
      return f'{path} has {size} bytes, not {known["bytes"]}'
    if not paths.is_remote(path) and hash_of(path) != known[hashed]:
      return f'{path} does not have the hash that {MANIFEST} records'
  except OSError as error:
    return f'{path} cannot be read ({error.strerror or error})'
  return ''


def read_manifest(
  folder: str, name: str, file: str = MANIFEST
) -> dict[str, Any]:
  """The manifest of a prepared folder; `name` is the folder's in messages.

  `file` may name that of a shard. Raises ValueError when there is none, or it
  was edited or damaged.
  """
  path = os.path.join(folder, file)
  try:
    text = paths.read(path)
  except OSError as error:
    if file == MANIFEST and (left := unfinished(folder)):
      raise ValueError(f'{name}: {left}') from error
    raise ValueError(
      f'{name} is not a token cache: {path} cannot be read'
      f' ({error.strerror or error}). python -m input_pipeline.prepare makes'
      ' one.'
    ) from error
  try:
    manifest = json.loads(text)
    checksum = manifest.pop('checksum')
  except (ValueError, TypeError, KeyError, AttributeError):
    manifest, checksum = None, ''
  if checksum != _checksum(manifest):
    raise ValueError(
      f'{name}: {path} is damaged or was edited. Bring it back, or remove the'
      ' folder and prepare it again.'
    )
  if manifest['format'] != FORMAT:
    raise ValueError(
      f'{name} has format {manifest["format"]}, but this program reads'
      f' {FORMAT}: prepare it again.'
    )
  return manifest


def write_manifest(
  folder: str, manifest: dict[str, Any], own: str = '', file: str = MANIFEST
) -> None:
  """Writes it whole or not at all; `own` is as for paths.replacing."""
  paths.write(os.path.join(folder, file), serialized(manifest), own)


def serialized(manifest: dict[str, Any]) -> bytes:
  """A manifest as the bytes of its file."""
  whole = manifest | {'checksum': _checksum(manifest)}
  return (json.dumps(whole, indent=1) + '\n').encode()


def shard_name(index: int, count: int) -> str:
  """The name of the manifest of one shard of `count`."""
  return f'manifest.{index}-of-{count}.json'


def of_shard(
  names: list[str], index: int, count: int, first: int = 0
) -> list[str]:
  """The files of a folder that a shard makes: every `count`-th.

  `first` files came before them, in other folders.
  """
  return names[(index - first) % count :: count]


def unfinished(folder: str) -> str:
  """Which shards have still files to make in a folder; '' if none is known.

  Raises ValueError when what the shards wrote was edited or damaged.
  """
  if not paths.exists(os.path.join(folder, PLAN)):
    return ''
  where = f'--out={folder}'
  plan = read_manifest(folder, where, PLAN)
  names, count = plan['names'], plan['shards']
  missing = {}  # shard -> names of its files
  for index in range(count):
    files, name = {}, shard_name(index, count)
    if paths.exists(os.path.join(folder, name)):
      files = read_manifest(folder, where, name)['files']
    own = of_shard(names, index, count, plan['first'])
    if left := [name for name in own if name not in files]:
      missing[index] = left
  if not missing:
    return (
      'all shards have made their files, but the last was ended before it wrote'
      f' {MANIFEST}. Run any of them again, such as --shard=0/{count}.'
    )
  lines = [
    f'  --shard={index}/{count}: {len(left)} missing, {", ".join(left[:3])}'
    + ', ...' * (len(left) > 3)
    for index, left in missing.items()
  ]
  more = [f'  and {len(lines) - 16} more'] * (len(lines) > 16)
  total = sum(map(len, missing.values()))
  return (
    f'its preparation is not finished, {len(names) - total} of {len(names)}'
    ' files are made. Run the same command of input_pipeline.prepare again'
    ' with each of these, or without --shard:\n' + '\n'.join(lines[:16] + more)
  )


def check_beside(folder: str, manifest: dict[str, Any], name: str) -> None:
  """Raises ValueError when files beside the tokens are not as first written."""
  for file, known in manifest['beside'].items():
    path = os.path.join(folder, file)
    if not paths.exists(path) or hashes.hash_bytes(paths.read(path)) != known:
      raise ValueError(
        f'{name} is damaged: {path} is missing or changed. {FIX}'
      )


def tokenizer_path(folder: str, manifest: dict[str, Any]) -> str:
  """The path of a cache's tokenizer."""
  if len(manifest['beside']) != 1:
    raise ValueError(
      f'{folder} holds a dataset of text, not tokens: read it as tfds:NAME.'
    )
  (name,) = manifest['beside']
  return os.path.join(folder, name)


def _checksum(manifest):
  return hashes.hash_bytes(json.dumps(manifest, sort_keys=True).encode())
