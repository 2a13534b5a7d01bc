"""Hashes by which files and arrays are known: whole, or in pieces."""

import hashlib
import os

import numpy as np

from input_pipeline.sources import paths

CHUNK = 1 << 16  # bytes of a piece that is hashed
WHOLE = 1 << 30  # bytes: files that have more in all are hashed in PIECES
PIECES = 16  # of CHUNK bytes, evenly over a file, its two ends among them


def fingerprints(files):
  """Name, size and, where reading is cheap, a hash of each file.

  Few files are hashed whole. Of many, only pieces: in a .gz the last one holds
  the checksum of the whole text, in others a change between them stays unseen.
  """
  local = [path for path in files if not paths.is_remote(path)]
  whole = sum(paths.size(path) for path in local) <= WHOLE
  return [_fingerprint(path, whole) for path in files]


def _fingerprint(path, whole):
  found = {'file': os.path.basename(path), 'bytes': paths.size(path)}
  if not paths.is_remote(path):
    found['sha256'] = hash_file(path) if whole else hash_pieces(path)
  return found


def hash_file(path):
  return paths.sha256(path)[:16]


def hash_pieces(path):
  """A hash of PIECES pieces of a file, evenly over it."""
  digest, last = hashlib.sha256(), max(0, os.path.getsize(path) - CHUNK)
  with open(path, 'rb') as file:
    for start in np.linspace(0, last, PIECES, dtype=int):
      file.seek(start)
      digest.update(file.read(CHUNK))
  return digest.hexdigest()[:16]


def hash_array(array):
  return hashlib.sha256(array.tobytes()).hexdigest()[:16]


def hash_bytes(data):
  return hashlib.sha256(data).hexdigest()[:16]
