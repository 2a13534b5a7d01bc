"""Files here or far away: what has '://' goes through TensorFlow's filesystem.

gs:// works with every TensorFlow, s3:// and others where their plugin does.
Every failure is an OSError that names the path. Files are written whole or not
at all, with the permissions that the umask leaves.
"""

import contextlib
import glob
import hashlib
import io
import os
import shutil
import tempfile


def is_remote(path):
  return '://' in os.fspath(path)


@contextlib.contextmanager
def opened(path, mode='rb'):
  """The file at `path`; errors of reading or writing name it."""
  if not is_remote(path):
    with _named(path):
      with open(path, mode, buffering=0 if mode == 'rb' else -1) as file:
        yield file
    return
  with told(path), _gfile().GFile(path, mode) as file:
    yield _Far(file) if mode == 'rb' else file


class _Far(io.RawIOBase):
  """A far file as Python's own, which other libraries read from."""

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


def read(path):
  with opened(path) as file:
    return file.read()


@contextlib.contextmanager
def replacing(path):
  """A file to write bytes to, which becomes `path` when all is written.

  A failure leaves what was at `path` before, and nothing else.
  """
  partial = f'{path}.partial'
  try:
    with _named(path):
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


def write(path, data):
  """Writes bytes whole or not at all: under another name first."""
  with replacing(path) as file:
    file.write(data)


def sha256(path):
  """The hash of a local file, in hexadecimal digits."""
  with opened(path) as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def move(old, new):
  """Gives a file its final name, or brings a local file to a far place.

  Nothing of it is at `new` before all of it is.
  """
  if not is_remote(new):
    os.replace(old, new)
  elif is_remote(old):
    with told(new):
      _gfile().rename(old, new, overwrite=True)
  else:
    with told(new):
      _gfile().copy(old, f'{new}.partial', overwrite=True)
      _gfile().rename(f'{new}.partial', new, overwrite=True)
    os.remove(old)


def size(path):
  """Bytes of a file. Raises OSError when there is none."""
  if not is_remote(path):
    return os.path.getsize(path)
  with told(path):
    return _gfile().stat(path).length


def exists(path):
  if not is_remote(path):
    return os.path.exists(path)
  with told(path):
    return _gfile().exists(path)


def make_folder(path):
  if not is_remote(path):
    os.makedirs(path, exist_ok=True)
    return
  with told(path):
    _gfile().makedirs(path)


def match(pattern):
  """The files that a glob pattern stands for, sorted; ~ is the home folder.

  The first folders that exist by the very name in the pattern are taken
  literally: 'run[1]/*.txt' finds the files in a folder named run[1]. Raises
  OSError where a link leads nowhere or a folder cannot be read: a glob leaves
  out what it cannot see.
  """
  if not is_remote(pattern):
    pattern = _literal(os.path.expanduser(pattern))
    _check_seen(pattern)
    found = glob.glob(pattern, recursive=True)
    return sorted(path for path in found if os.path.isfile(path))
  with told(pattern):
    return sorted(_gfile().glob(pattern))


def _literal(pattern):
  """The pattern, the part of it that exists as it is written escaped."""
  there = pattern
  while there and not os.path.lexists(there):
    there = os.path.dirname(there.rstrip('/'))
  return glob.escape(there) + pattern[len(there) :]


def _check_seen(pattern):
  """Raises OSError for what keeps a glob from seeing files that it means."""
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
def local(path):
  """A path that any library can open: of a copy, if the file is far away.

  Of a folder the files in it are copied, not those in folders within. The copy
  lies in the folder for temporary files (TMPDIR) for as long as the context
  lasts.
  """
  if not is_remote(path):
    yield path
    return
  path, folder = path.rstrip('/'), tempfile.mkdtemp(prefix='treeline_')
  try:
    copy = os.path.join(folder, os.path.basename(path))
    with told(path):
      if _gfile().isdir(path):
        os.mkdir(copy)
        for name in _gfile().listdir(path):
          if not _gfile().isdir(f'{path}/{name}'):
            _gfile().copy(f'{path}/{name}', os.path.join(copy, name))
      else:
        _gfile().copy(path, copy)
    yield copy
  finally:
    shutil.rmtree(folder, ignore_errors=True)


def _gfile():
  import tensorflow as tf

  return tf.io.gfile


@contextlib.contextmanager
def _named(path):
  """Gives `path` to an OSError that names no file, such as that of a write."""
  try:
    yield
  except OSError as error:
    if error.filename is not None or error.errno is None:
      raise
    raise OSError(error.errno, error.strerror, path) from error


@contextlib.contextmanager
def told(path):
  """TensorFlow's errors as OSErrors of one line."""
  from tensorflow import errors

  try:
    yield
  except errors.OpError as error:
    reason = str(error.message or type(error).__name__).splitlines()[0]
    raise OSError(f'{path}: {reason}') from error
