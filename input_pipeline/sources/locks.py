"""Locks of local files: one process of all machines that share the disk."""

import fcntl
import os
import socket
from typing import IO


class HeldError(Exception):
  """Another process holds the lock; the message says which."""


def hold(path: str) -> IO[str] | None:
  """Holds the lock until the returned file is closed or the process ends.

  The file at `path` says who holds it. None where the file system has no locks.
  Raises HeldError if another process holds it.
  """
  while True:
    file = open(path, 'a+')  # noqa: SIM115
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      file.seek(0)
      with file:
        raise HeldError(file.read()) from None
    except OSError:
      file.close()
      return None
    if os.fstat(file.fileno()).st_nlink:
      break
    file.close()  # whoever held it has just removed the file
  file.truncate(0)
  file.write(owner())
  file.flush()
  return file


def owner() -> str:
  """This process, for the messages of others."""
  return f'process {os.getpid()} on {socket.gethostname()}'
