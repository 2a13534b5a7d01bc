"""The manifest of a prepared folder: its files, their hashes and origin."""

import concurrent.futures
import itertools
import json
import os
from typing import Any

from input_pipeline.sources import hashes, paths

FORMAT = 1  # of the manifest: raised when older code could not read it
MANIFEST = 'manifest.json'
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


def read_manifest(folder: str, name: str) -> dict[str, Any]:
  """The manifest of a prepared folder; `name` is the folder's in messages.

  Raises ValueError when there is none, or it was edited or damaged.
  """
  path = os.path.join(folder, MANIFEST)
  try:
    text = paths.read(path)
  except OSError as error:
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


def write_manifest(folder: str, manifest: dict[str, Any]) -> None:
  """Writes it whole or not at all."""
  whole = manifest | {'checksum': _checksum(manifest)}
  text = json.dumps(whole, indent=1) + '\n'
  paths.write(os.path.join(folder, MANIFEST), text.encode())


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
