"""A run's folder: make it, lock it, clear it after a failed start."""

import contextlib
import importlib.util
import json
import os
from collections.abc import Iterator

from input_pipeline.sources import locks, paths

LOCK = '.lock'
NOTE = '.unfinished.json'  # while a run is being begun
# What buckets need: package -> module. Orbax removes checkpoints by the second.
BUCKETS = {
  'tensorflow-cpu': 'tensorflow',
  'google-cloud-storage': 'google.cloud.storage',
}


def check_name(folder: str) -> None:
  """Raises ValueError for a folder that checkpoints cannot be written to.

  It has a backslash in its absolute path, which TensorStore, which writes the
  arrays, reads as '/'; or it is remote, and not in a bucket of gs://, or what
  reads and writes buckets is not installed.
  """
  path = paths.absolute(folder)
  if '\\' in path:
    raise ValueError(
      f'--workdir={folder}: {path} has a backslash in it, and checkpoints '
      'cannot be kept under such a name. Rename it, or give another folder.'
    )
  if not paths.is_remote(path):
    return
  if not path.startswith('gs://'):
    raise ValueError(
      f'--workdir={folder}: of remote folders only those in gs:// can be a '
      'workdir.'
    )
  missing = [
    package for package, module in BUCKETS.items() if not _is_installed(module)
  ]
  if missing:
    raise ValueError(
      f'--workdir={folder}: a workdir in a bucket needs {", ".join(missing)}: '
      f'pip install {" ".join(missing)}.'
    )


def _is_installed(module):
  with contextlib.suppress(ModuleNotFoundError):  # of what it is in
    return importlib.util.find_spec(module) is not None
  return False


def make(folder: str) -> None:
  """Makes the folder if it does not exist.

  Raises OSError if files cannot be written there, and ValueError if its bucket
  does not exist; see `check_name` too.
  """
  check_name(folder)
  if paths.is_remote(folder):
    _check_bucket(folder)
  try:
    paths.make_folder(folder)
    probe = os.path.join(folder, '.writable')
    paths.write(probe, b'x')
    paths.remove(probe)
  except OSError as error:
    raise OSError(
      f'--workdir={folder}: no files can be written there '
      f'({error.strerror}). Give a folder on a writable disk with space on it.'
    ) from error


def _check_bucket(folder):
  """TensorFlow would ask for a bucket that does not exist without end."""
  from google.api_core.exceptions import Forbidden
  from google.auth.exceptions import DefaultCredentialsError
  from google.cloud import storage

  name = folder.removeprefix('gs://').partition('/')[0]
  try:
    there = storage.Client(project='none').bucket(name).exists(timeout=30)
  except Forbidden:  # who may write files there need not see the bucket
    return
  except DefaultCredentialsError as error:
    raise ValueError(
      f'--workdir={folder}: there are no credentials for gs://. Run gcloud '
      'auth application-default login, or name a file of them in '
      'GOOGLE_APPLICATION_CREDENTIALS.'
    ) from error
  if not there:
    raise ValueError(
      f'--workdir={folder}: there is no bucket {name!r}. Correct its name, or '
      f'make it: gcloud storage buckets create gs://{name}.'
    )


def lock(folder: str) -> locks.Lock | None:
  """Makes this process the only one that trains there, or raises ValueError.

  The lock is held until what is returned is closed, or the process ends in any
  way. File systems without locks lock nothing.
  """
  try:
    return locks.hold(os.path.join(folder, LOCK))
  except locks.HeldError as error:
    raise ValueError(
      f'--workdir={folder}: another process trains there ({error}). End '
      'it, or take another --workdir.'
    ) from None


@contextlib.contextmanager
def made(folder: str) -> Iterator[None]:
  """Makes and locks the folder; a failure removes everything made inside it.

  The next start removes what a killed one made: NOTE lists what was there
  before. Whoever finishes the run's beginning removes NOTE (`done`). Raises
  what `make` and `lock` raise.
  """
  new = []  # the folders to make, the innermost first
  path = paths.absolute(folder)
  while not paths.is_remote(path) and not os.path.exists(path):
    new.append(path)
    path = os.path.dirname(path)
  held = before = None
  try:
    make(folder)
    locked = paths.exists(os.path.join(folder, LOCK))
    held = lock(folder)
    if unfinished(folder):
      note = json.loads(paths.read(os.path.join(folder, NOTE)))
      _clear(folder, {*note, LOCK, NOTE})
      done(folder)
    before = {name for name in paths.names(folder) if name != LOCK or locked}
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
  return paths.exists(os.path.join(folder, NOTE))


def done(folder: str) -> None:
  """Removes NOTE: the folder holds a run."""
  with contextlib.suppress(FileNotFoundError):
    paths.remove(os.path.join(folder, NOTE))


def _clear(folder: str, kept: set[str]) -> None:
  """Removes everything in a folder except the names in `kept`."""
  for name in {*paths.names(folder)} - kept:
    path = os.path.join(folder, name)
    if paths.is_folder(path) and not os.path.islink(path):
      paths.remove_folder(path)
    else:
      paths.remove(path)
