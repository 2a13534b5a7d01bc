"""Files here or far away: what has '://' goes through TensorFlow's filesystem.

gs:// works with every TensorFlow, s3:// and others where their plugin does.
Every failure is an OSError that names the path.
"""

import contextlib
import glob
import os
import shutil
import tempfile


def is_remote(path):
  return '://' in path


@contextlib.contextmanager
def opened(path, mode='rb'):
  """The file at `path`; errors of reading or writing name it."""
  if not is_remote(path):
    with open(path, mode, buffering=0 if mode == 'rb' else -1) as file:
      yield file
    return
  with _told(path), _gfile().GFile(path, mode) as file:
    yield file


def read(path):
  with opened(path) as file:
    return file.read()


def write(path, data):
  """Writes bytes whole or not at all: under another name first."""
  partial = f'{path}.partial'
  with opened(partial, 'wb') as file:
    file.write(data)
    if not is_remote(path):
      file.flush()
      os.fsync(file.fileno())
  move(partial, path)


def move(old, new):
  """Gives a file its final name, or brings a local file to a far place.

  Nothing of it is at `new` before all of it is.
  """
  if not is_remote(new):
    os.replace(old, new)
  elif is_remote(old):
    with _told(new):
      _gfile().rename(old, new, overwrite=True)
  else:
    with _told(new):
      _gfile().copy(old, f'{new}.partial', overwrite=True)
      _gfile().rename(f'{new}.partial', new, overwrite=True)
    os.remove(old)


def size(path):
  """Bytes of a file. Raises OSError when there is none."""
  if not is_remote(path):
    return os.path.getsize(path)
  with _told(path):
    return _gfile().stat(path).length


def exists(path):
  if not is_remote(path):
    return os.path.exists(path)
  with _told(path):
    return _gfile().exists(path)


def make_folder(path):
  if not is_remote(path):
    os.makedirs(path, exist_ok=True)
    return
  with _told(path):
    _gfile().makedirs(path)


def match(pattern):
  """The files that a glob pattern stands for, sorted; ~ is the home folder."""
  if not is_remote(pattern):
    found = glob.glob(os.path.expanduser(pattern), recursive=True)
    return sorted(path for path in found if os.path.isfile(path))
  with _told(pattern):
    return sorted(_gfile().glob(pattern))


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
    with _told(path):
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
def _told(path):
  """TensorFlow's errors as OSErrors of one line."""
  from tensorflow import errors

  try:
    yield
  except errors.OpError as error:
    reason = str(error.message or type(error).__name__).splitlines()[0]
    raise OSError(f'{path}: {reason}') from error
