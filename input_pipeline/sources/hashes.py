"""SHA-256 of bytes and files: whole, or of pieces of a large file."""

import hashlib
import os
from typing import Any

import numpy as np

from input_pipeline.sources import paths

DIGITS = 16  # hexadecimal digits that fingerprints and manifests keep
WHOLE = 1 << 30  # bytes: files that have more in all are hashed in pieces
PIECES = 16  # of PIECE bytes, evenly over a file, from its start to its end
PIECE = 1 << 16


def sha256(data: bytes) -> str:
  """All 64 hexadecimal digits."""
  return hashlib.sha256(data).hexdigest()


def file_sha256(path: str) -> str:
  """All 64 hexadecimal digits."""
  with paths.opened(path) as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def hash_bytes(data: bytes) -> str:
  """The first DIGITS of the hash, as fingerprints have it."""
  return sha256(data)[:DIGITS]


def hash_file(path: str) -> str:
  """The first DIGITS of the hash, as fingerprints have it."""
  return file_sha256(path)[:DIGITS]


def hash_pieces(path: str) -> str:
  """A hash of PIECES pieces of a local file."""
  last = max(0, os.path.getsize(path) - PIECE)
  pieces = []
  with open(path, 'rb') as file:
    for start in np.linspace(0, last, PIECES, dtype=int):
      file.seek(start)
      pieces.append(file.read(PIECE))
  return hash_bytes(b''.join(pieces))


def fingerprints(files: list[str]) -> list[dict[str, Any]]:
  """Name, size and, of local files, a hash of each file.

  Files of up to WHOLE bytes in all are hashed whole. Of more only pieces are
  hashed: the last piece of a .gz holds the checksum of its whole text, while in
  other files a change between two pieces is not seen.
  """
  local = [path for path in files if not paths.is_remote(path)]
  whole = sum(paths.size(path) for path in local) <= WHOLE
  return [_fingerprint(path, whole) for path in files]


def _fingerprint(path, whole):
  found = {'file': os.path.basename(path), 'bytes': paths.size(path)}
  if not paths.is_remote(path):
    found['sha256'] = hash_file(path) if whole else hash_pieces(path)
  return found
