"""The manifest of a prepared folder: what was made, of what, with hashes."""

import json
import os

from input_pipeline.sources import hashes, paths
from input_pipeline.sources.hashes import hash_bytes

FORMAT = 1
MANIFEST = 'manifest.json'
MEND = (
  'Run input_pipeline.prepare as it was run before: it makes anew what is'
  ' damaged.'
)


def file_entry(path):
  """How a manifest knows a local file: its size and hashes."""
  return {
    'bytes': os.path.getsize(path),
    'sha256': hashes.hash_file(path),
    'pieces': hashes.hash_pieces(path),
  }


def damage(folder, name, known, hashed):
  """What is wrong with a file that a manifest has an entry of; '' if nothing.

  `hashed` names the hash that is compared: sha256, of all the file, or pieces.
  Of a file that is far away only the size is looked at.
  """
  path = os.path.join(folder, name)
  try:
    size = paths.size(path)
    if size != known['bytes']:
      return f'{path} has {size} bytes, not {known["bytes"]}'
    if not paths.is_remote(path):
      found = (
        hashes.hash_file(path)
        if hashed == 'sha256'
        else hashes.hash_pieces(path)
      )
      if found != known[hashed]:
        return f'{path} does not have the hash that {MANIFEST} tells'
  except OSError as error:
    return f'{path} cannot be read ({error.strerror or error})'
  return ''


def read_manifest(folder, name):
  """The manifest of a cache. Raises ValueError when there is none, or it was
  edited or damaged; `name` says what was looked for."""
  path = os.path.join(folder, MANIFEST)
  try:
    text = paths.read(path)
  except OSError as error:
    raise ValueError(
      f'{name} is no token cache: {path} cannot be read'
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
      ' folder and prepare it anew.'
    )
  if manifest['format'] != FORMAT:
    raise ValueError(
      f'{name} has format {manifest["format"]} and this program reads'
      f' {FORMAT}: prepare it anew.'
    )
  return manifest


def write_manifest(folder, manifest):
  """Writes it whole or not at all."""
  whole = manifest | {'checksum': _checksum(manifest)}
  text = json.dumps(whole, indent=1) + '\n'
  paths.write(os.path.join(folder, MANIFEST), text.encode())


def check_beside(folder, manifest, name):
  """Raises ValueError unless what lies beside the tokens is as it was made."""
  for file, known in manifest['beside'].items():
    path = os.path.join(folder, file)
    if not paths.exists(path) or hash_bytes(paths.read(path)) != known:
      raise ValueError(f'{name} is damaged: {path} is not as made. {MEND}')


def tokenizer_path(folder, manifest):
  """Where the tokenizer lies in a cache."""
  if len(manifest['beside']) != 1:
    raise ValueError(
      f'{folder} holds a dataset of text, no tokens: read it by tfds:NAME.'
    )
  (name,) = manifest['beside']
  return os.path.join(folder, name)


def _checksum(manifest):
  return hash_bytes(json.dumps(manifest, sort_keys=True).encode())
