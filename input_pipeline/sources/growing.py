"""Files that grow: lines are added, and readers see them meanwhile."""

import os
import tempfile
import time

from input_pipeline.sources import paths

PAUSE = 60  # seconds between two uploads of a file that grows


class GrowingFile:
  """A file to add bytes to.

  A bucket has no files that grow. One at a remote path is kept here, and
  uploaded whole: every PAUSE seconds, and by sync() and close(). Raises
  OSError where it cannot be written.

  Args:
    path: of the file.
    keep: whether it begins with what is there already.
  """

  def __init__(self, path: str, keep: bool = False):
    self.path = path
    self._uploaded = time.monotonic()
    self._new = False  # bytes that are not uploaded yet
    if not paths.is_remote(path):
      self._file = open(path, 'ab' if keep else 'wb')  # noqa: SIM115
      return
    self._file = tempfile.TemporaryFile()  # noqa: SIM115
    if keep and paths.exists(path):
      self._file.write(paths.read(path))
    else:
      paths.write(path, b'')

  def write(self, data: bytes) -> None:
    self._file.write(data)
    self._new = True

  def flush(self) -> None:
    """Hands all bytes to the system; those of a remote file every PAUSE s."""
    self._file.flush()
    if time.monotonic() - self._uploaded > PAUSE:
      self._upload()

  def sync(self) -> None:
    """Waits until all bytes are where they are to stay."""
    self._file.flush()
    if paths.is_remote(self.path):
      self._upload()
    else:
      os.fsync(self._file.fileno())

  def close(self) -> None:
    if self._file.closed:  # perhaps by a close that raised OSError
      return
    with self._file:
      self._file.flush()
      self._upload()

  def _upload(self) -> None:
    if self._new and paths.is_remote(self.path):
      self._file.seek(0)
      paths.write(self.path, self._file.read())
      self._uploaded, self._new = time.monotonic(), False
