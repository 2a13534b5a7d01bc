"""A run's folder: made, held by one process, cleared by a start that failed."""

import contextlib
import fcntl
import json
import os
import shutil
import socket
from collections.abc import Iterator

from input_pipeline.sources import paths

LOCK = '.lock'
NOTE = '.unfinished.json'  # of a run that is being begun


def check_name(folder: str) -> None:
  """Refuses a backslash: TensorStore, which writes the arrays, reads it as '/'.

  Raises:
    ValueError: there is one in the folder's absolute path.
  """
  if '\\' in os.path.abspath(folder):
    raise ValueError(
      f'--workdir={folder}: {os.path.abspath(folder)} has a backslash in it, '
      'and checkpoints cannot be kept below such a name. Give or rename it '
      'without.'
    )


def make(folder: str) -> None:
  """Makes the folder, if need be, and sees that files can be written there.

  Raises:
    ValueError: it has a backslash in its path.
    OSError: they cannot.
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


def lock(folder: str) -> object:
  """Makes this process the only one that trains there, while the result lives.

  The system ends it with the process, however that ends. On disks without locks
  nothing is locked.

  Raises:
    ValueError: another process trains there.
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
  """The folder, made if need be; a failure takes back what was made.

  What a killed start made is taken back by the next one: NOTE lists what was
  there before. Whoever finishes removes NOTE (`done`).

  Raises:
    ValueError: another process works there.
    OSError: no files can be written there.
  """
  new = []  # the folders that are made, the innermost first
  path = os.path.abspath(folder)
  while not os.path.exists(path):
    new.append(path)
    path = os.path.dirname(path)
  held = before = None
  try:
    make(folder)
    locked = os.path.exists(os.path.join(folder, LOCK))
    held = lock(folder)
    _take_back(folder)
    before = {name for name in os.listdir(folder) if name != LOCK or locked}
    note = json.dumps(sorted(before)).encode()
    paths.write(os.path.join(folder, NOTE), note)
    yield
  except BaseException:
    if before is not None:
      _clear(folder, before)
    with contextlib.suppress(OSError):  # others may have used them since
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
  """Removes NOTE: what lies there is a run."""
  with contextlib.suppress(FileNotFoundError):
    os.remove(os.path.join(folder, NOTE))


def _take_back(folder):
  """Removes what a killed start made."""
  if unfinished(folder):
    with open(os.path.join(folder, NOTE), encoding='utf-8') as file:
      _clear(folder, {*json.load(file), LOCK, NOTE})
    done(folder)


def _clear(folder, kept):
  """Removes all of a folder but the names in `kept`."""
  for name in {*os.listdir(folder)} - kept:
    path = os.path.join(folder, name)
    if os.path.isdir(path) and not os.path.islink(path):
      shutil.rmtree(path, ignore_errors=True)
    else:
      os.remove(path)
