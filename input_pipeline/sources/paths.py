"""Files here or remote: a path with '://' goes through TensorFlow's filesystem.

gs:// works with every TensorFlow, s3:// and others where their plugin does.
Every failure is an OSError that names the path. Files are written whole or not
at all, with the permissions that the umask leaves.
"""

import contextlib
import glob
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import IO, Any

TRIES = 20  # to read a remote file that is replaced again and again


def is_remote(path: str) -> bool:
  """Whether TensorFlow's filesystem must open the path."""
  return '://' in os.fspath(path)


@contextlib.contextmanager
def opened(path: str, mode: str = 'rb') -> Iterator[Any]:
  """The file at `path`; errors of reading or writing name it."""
  if not is_remote(path):
    with _naming(path):
      with open(path, mode, buffering=0 if mode == 'rb' else -1) as file:
        yield file
    return
  with tensorflow_errors(path), _gfile().GFile(path, mode) as file:
    yield _Remote(file) if mode == 'rb' else file


class _Remote(io.RawIOBase):
  """A remote file as one of Python's, which other libraries read from."""

  def __init__(self, file):
    self._file = file

  def readable(self):
    return True

  def seekable(self):
    return True

  def read(self, size=-1):
    return self._file.read(size)

  def seek(self, offset, whence=os.SEEK_SET):
    self._file.seek(offset, whence)
    return self.tell()

  def tell(self):
    return self._file.tell()


def read(path: str) -> bytes:
  """All bytes of a file, also of one that another process replaces meanwhile.

  Of a remote one TensorFlow asks for the size first, and then for so many
  bytes, which may be those of the file that has come in its place.
  """
  before = _version(path)
  for _ in range(TRIES):
    with opened(path) as file:
      data = file.read()
    if before == (before := _version(path)):
      return data
  raise OSError(f'{path}: it changes all the time.')


def _version(path):
  """What changes when a remote file is replaced."""
  if not is_remote(path):
    return None
  with tensorflow_errors(path):
    found = _gfile().stat(path)
  return found.length, found.mtime_nsec


@contextlib.contextmanager
def replacing(path: str, own: str = '') -> Iterator[IO[bytes]]:
  """A file to write bytes to, which becomes `path` when all is written.

  A failure leaves what was at `path` before, and nothing else. Where others may
  write the same path at the same time, `own` is what no other process has.
  """
  partial = f'{path}.partial{own}'
  try:
    with _naming(path):
      with opened(partial, 'wb') as file:
        yield file
        if not is_remote(path):
          file.flush()
          os.fsync(file.fileno())
      move(partial, path)
  except BaseException:
    if not is_remote(path):
      with contextlib.suppress(OSError):
        os.remove(partial)
    raise


def write(path: str, data: bytes, own: str = '') -> None:
  """Writes a file whole or not at all; see replacing."""
  with replacing(path, own) as file:
    file.write(data)


def create(path: str, data: bytes, own: str) -> None:
  """Writes a file unless there is one: that of the first process stays.

  See replacing. A remote file of two processes at once is that of the last.
  """
  if exists(path):
    return
  if is_remote(path):
    write(path, data, own)
    return
  partial = f'{path}.new{own}'
  write(partial, data)
  try:
    os.link(partial, path)
  except FileExistsError:
    pass
  except OSError:  # a file system without links
    move(partial, path)
  finally:
    with contextlib.suppress(OSError):
      os.remove(partial)


def remove(path: str) -> None:
  """Removes a file. Raises OSError when there is none."""
  if not is_remote(path):
    os.remove(path)
    return
  with tensorflow_errors(path):
    _gfile().remove(path)


def remove_folder(path: str) -> None:
  """Removes a folder with all that is in it, as far as it can be removed."""
  if not is_remote(path):
    shutil.rmtree(path, ignore_errors=True)
    return
  with contextlib.suppress(OSError), tensorflow_errors(path):
    _gfile().rmtree(path)


def move(old: str, new: str) -> None:
  """Gives a file its final name, or moves a local file to a remote place.

  `new` has nothing of it before it has all of it.
  """
  if not is_remote(new):
    os.replace(old, new)
  elif is_remote(old):
    with tensorflow_errors(new):
      _gfile().rename(old, new, overwrite=True)
  else:
    with tensorflow_errors(new):
      _gfile().copy(old, f'{new}.partial', overwrite=True)
      _gfile().rename(f'{new}.partial', new, overwrite=True)
    os.remove(old)


def size(path: str) -> int:
  """Bytes of a file. Raises OSError when there is none."""
  if not is_remote(path):
    return os.path.getsize(path)
  with tensorflow_errors(path):
    return _gfile().stat(path).length


def exists(path: str) -> bool:
  """Whether there is a file or folder at `path`."""
  if not is_remote(path):
    return os.path.exists(path)
  with tensorflow_errors(path):
    return _gfile().exists(path)


def is_folder(path: str) -> bool:
  """Whether there is a folder at `path`."""
  if not is_remote(path):
    return os.path.isdir(path)
  with tensorflow_errors(path):
    return _gfile().isdir(path)


def absolute(path: str) -> str:
  """The path from the root of its disk, or of its bucket."""
  return path.rstrip('/') if is_remote(path) else os.path.abspath(path)


def real(path: str) -> str:
  """`absolute`, with links followed."""
  return absolute(path) if is_remote(path) else os.path.realpath(path)


def names(folder: str) -> list[str]:
  """The names of what is in a folder; none where there is no folder."""
  if not is_folder(folder):
    return []
  if not is_remote(folder):
    return os.listdir(folder)
  with tensorflow_errors(folder):
    return [name.rstrip('/') for name in _gfile().listdir(folder)]


def files_below(folder: str) -> list[str]:
  """The paths of all files in a folder and its folders, relative to it."""
  if not is_remote(folder):
    return [
      os.path.relpath(os.path.join(root, name), folder)
      for root, _, files in os.walk(folder)
      for name in files
    ]
  found, bucket = [], folder.startswith('gs://')
  with tensorflow_errors(folder):
    for name in _gfile().listdir(folder):
      place = os.path.join(folder, name.rstrip('/'))
      # The names of folders in a bucket end so: no need to ask for each.
      if name.endswith('/') or (not bucket and is_folder(place)):
        inner = os.path.basename(place)
        found += [os.path.join(inner, path) for path in files_below(place)]
      else:
        found.append(name)
  return found


def make_folder(path: str) -> None:
  """Makes a folder, and those above it, unless it exists."""
  if not is_remote(path):
    os.makedirs(path, exist_ok=True)
    return
  with tensorflow_errors(path):
    _gfile().makedirs(path)


def match(pattern: str) -> list[str]:
  """The files that a glob pattern stands for, sorted; ~ is the home folder.

  The part of the pattern that exists under its literal name is not a pattern:
  'run[1]/*.txt' finds the files in a folder named run[1]. A glob skips what it
  cannot see, so links to nothing and unreadable folders raise OSError.
  """
  if not is_remote(pattern):
    pattern = _literal(os.path.expanduser(pattern))
    _check_seen(pattern)
    found = glob.glob(pattern, recursive=True)
    return sorted(path for path in found if os.path.isfile(path))
  with tensorflow_errors(pattern):
    return sorted(_gfile().glob(pattern))


def _literal(pattern):
  """The pattern; the part of it that exists under its literal name, escaped."""
  there = pattern
  while there and not os.path.lexists(there):
    there = os.path.dirname(there.rstrip('/'))
  return glob.escape(there) + pattern[len(there) :]


def _check_seen(pattern):
  """Raises OSError where a glob would skip files of the pattern unseen."""
  needed = 0  # of the permissions of folders
  while pattern:
    above, name = os.path.split(pattern)
    if '**' in name:
      needed = os.R_OK | os.X_OK
    for path in glob.glob(pattern, recursive=True):
      if os.path.islink(path) and not os.path.exists(path):
        raise FileNotFoundError(
          f'{path} is a link to {os.readlink(path)}, which is missing: bring'
          ' the file back, or remove the link.'
        )
      if needed and os.path.isdir(path) and not os.access(path, needed):
        raise PermissionError(f'The folder {path} cannot be read.')
    needed = os.X_OK | (os.R_OK if glob.has_magic(name) else 0)
    pattern = '' if above == pattern else above


@contextlib.contextmanager
def local(path: str) -> Iterator[str]:
  """A path that any library can open: a copy, if the file is remote.

  Of a remote folder the files in it are copied, but not its subfolders. The
  copy is in the folder for temporary files (TMPDIR) while the context lasts.
  """
  if not is_remote(path):
    yield path
    return
  path = path.rstrip('/')
  with tempfile.TemporaryDirectory(
    prefix='treeline_', ignore_cleanup_errors=True
  ) as folder:
    copy = os.path.join(folder, os.path.basename(path))
    with tensorflow_errors(path):
      if _gfile().isdir(path):
        os.mkdir(copy)
        for name in _gfile().listdir(path):
          if not _gfile().isdir(f'{path}/{name}'):
            _gfile().copy(f'{path}/{name}', os.path.join(copy, name))
      else:
        _gfile().copy(path, copy)
    yield copy


def _gfile():
  # As in configs.commands.startup, for programs that are no commands of ours.
  os.environ.setdefault('GCS_STAT_CACHE_MAX_AGE', '0')
  import tensorflow as tf

  return tf.io.gfile


@contextlib.contextmanager
def _naming(path):
  """Gives `path` to an OSError that names no file, such as that of a write."""
  try:
    yield
  except OSError as error:
    if error.filename is not None or error.errno is None:
      raise
    raise OSError(error.errno, error.strerror, path) from error


@contextlib.contextmanager
def tensorflow_errors(path: str) -> Iterator[None]:
  """TensorFlow's errors as OSErrors of one line that names `path`."""
  from tensorflow import errors

  try:
    yield
  except errors.OpError as error:
    reason = str(error.message or type(error).__name__).splitlines()[0]
    missing = isinstance(error, errors.NotFoundError)
    found = (FileNotFoundError if missing else OSError)(f'{path}: {reason}')
    found.strerror = reason
    raise found from error
