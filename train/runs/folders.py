"""A run's folder: make it, lock it, clear it after a failed start."""

import contextlib
import fcntl
import json
import os
import shutil
import socket
from collections.abc import Iterator
from typing import IO

from input_pipeline.sources import paths

LOCK = '.lock'
NOTE = '.unfinished.json'  # while a run is being begun


def check_name(folder: str) -> None:
  """Raises ValueError for a backslash in the folder's absolute path.

  TensorStore, which writes the arrays, reads it as '/'.
  """
  path = os.path.abspath(folder)
  if '\\' in path:
    raise ValueError(
      f'--workdir={folder}: {path} has a backslash in it, and checkpoints '
      'cannot be kept under such a name. Rename it, or give another folder.'
    )


def make(folder: str) -> None:
  """Makes the folder if it does not exist.

  Raises OSError if files cannot be written there; see `check_name` too.
  """
  check_name(folder)
  try:
    os.makedirs(folder, exist_ok=True)
    probe = os.path.join(folder, '.writable')
    paths.write(probe, b'x')
    os.remove(probe)
  except OSError as error:
    raise OSError(
      f'--workdir={folder}: no files can be written there '
      f'({error.strerror}). Give a folder on a writable disk with space on it.'
    ) from error


def lock(folder: str) -> IO[str]:
  """Makes this process the only one that trains there, or raises ValueError.

  The lock is held until the returned file is closed, or the process ends in any
  way. File systems without locks lock nothing.
  """
  file = open(os.path.join(folder, LOCK), 'a+')  # noqa: SIM115
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    file.seek(0)
    raise ValueError(
      f'--workdir={folder}: another process trains there ({file.read()}). End '
      'it, or take another --workdir.'
    ) from None
  except OSError:
    return file
  file.truncate(0)
  file.write(f'process {os.getpid()} on {socket.gethostname()}')
  file.flush()
  return file


@contextlib.contextmanager
def made(folder: str) -> Iterator[None]:
  """Makes and locks the folder; a failure removes everything made inside it.

  The next start removes what a killed one made: NOTE lists what was there
  before. Whoever finishes the run's beginning removes NOTE (`done`). Raises
  what `make` and `lock` raise.
  """
  new = []  # the folders to make, the innermost first
  path = os.path.abspath(folder)
  while not os.path.exists(path):
    new.append(path)
    path = os.path.dirname(path)
  held = before = None
  try:
    make(folder)
    locked = os.path.exists(os.path.join(folder, LOCK))
    held = lock(folder)
    if unfinished(folder):
      with open(os.path.join(folder, NOTE), encoding='utf-8') as file:
        _clear(folder, {*json.load(file), LOCK, NOTE})
      done(folder)
    before = {name for name in os.listdir(folder) if name != LOCK or locked}
    note = json.dumps(sorted(before)).encode()
    paths.write(os.path.join(folder, NOTE), note)
    yield
  except BaseException:
    if before is not None:
      _clear(folder, before)
    with contextlib.suppress(OSError):  # others may use them by now
      for path in new:
        os.rmdir(path)
    raise
  finally:
    if held is not None:
      held.close()


def unfinished(folder: str) -> bool:
  """Whether a start was killed in `made`."""
  return os.path.exists(os.path.join(folder, NOTE))


def done(folder: str) -> None:
  """Removes NOTE: the folder holds a run."""
  with contextlib.suppress(FileNotFoundError):
    os.remove(os.path.join(folder, NOTE))


def _clear(folder: str, kept: set[str]) -> None:
  """Removes everything in a folder except the names in `kept`."""
  for name in {*os.listdir(folder)} - kept:
    path = os.path.join(folder, name)
    if os.path.isdir(path) and not os.path.islink(path):
      shutil.rmtree(path, ignore_errors=True)
    else:
      os.remove(path)
