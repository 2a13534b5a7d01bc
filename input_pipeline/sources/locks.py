"""Locks: one process of all machines that share a disk or a bucket."""

import contextlib
import fcntl
import itertools
import os
import socket
import threading
import time
import weakref
from typing import Protocol

from configs.commands import terminal
from input_pipeline.sources import paths

BEAT = 10  # seconds between two signs of life of who holds a remote lock
PATIENCE = 3 * BEAT  # seconds without one, after which it counts as dead


class HeldError(Exception):
  """Another process holds the lock; the message says which."""


class Lock(Protocol):
  """A lock that is held until it is closed, or the process ends."""

  def close(self) -> None:
    """Gives the lock back."""


def hold(path: str) -> Lock | None:
  """Holds the lock; the file at `path` says who does.

  None where the file system has no locks. Raises HeldError if another process
  holds it.
  """
  if paths.is_remote(path):
    return _Remote(_Life(path))
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
  file.write(_owner())
  file.flush()
  return file


def owner_lives(path: str) -> bool | None:
  """Whether the process lives that the file at `path` names, as `hold` wrote.

  Nothing is locked for that. None: it ran on another machine, or none is named.
  """
  if not paths.exists(path):
    return None
  text = paths.read(path).decode(errors='replace')
  if not text.partition(';')[0].endswith(f' on {socket.gethostname()}'):
    return None
  return not _ended(text)


def _owner():
  """This process, for the messages of others."""
  return f'process {os.getpid()} on {socket.gethostname()}'


class _Remote:
  """A lock in a bucket; given back when it is dropped, or the process ends."""

  def __init__(self, life: '_Life'):
    self.close = weakref.finalize(self, life.end)


class _Life:
  """A lock in a bucket, where a killed process cannot give it back.

  Who holds it writes the file again and again. Who wants it waits to see
  whether that goes on, unless it was held here by a process that has ended.
  """

  def __init__(self, path: str):
    self._path, self._beats = path, itertools.count()
    self._start = time.time_ns()  # no two processes have this and the owner
    before = self._read()
    if before and not _ended(before):
      terminal.say(
        f'{path} is held by {before.partition(";")[0]}: waiting {PATIENCE} s to'
        ' see whether it still runs.'
      )
      time.sleep(PATIENCE)
      if self._read() not in ('', before):
        raise HeldError(before.partition(';')[0])
    self._write()
    time.sleep(1)  # of two that begin at once the last to write holds it
    if not self._is_ours():
      raise HeldError(self._read().partition(';')[0])
    self._end = threading.Event()
    self._thread = threading.Thread(target=self._live, daemon=True)
    self._thread.start()

  def end(self) -> None:
    self._end.set()
    self._thread.join()
    with contextlib.suppress(OSError):
      if self._is_ours():
        paths.remove(self._path)

  def _live(self):
    while not self._end.wait(BEAT):
      with contextlib.suppress(OSError):  # the next one may succeed
        if self._read() and not self._is_ours():
          terminal.warn(
            f'{self._path} is held by {self._read().partition(";")[0]} now:'
            ' this process gave no sign of life for too long. End one of them.'
          )
          return
        self._write()

  def _read(self):
    if not paths.exists(self._path):
      return ''
    try:
      return paths.read(self._path).decode()
    except FileNotFoundError:
      return ''

  def _is_ours(self):
    return self._read().startswith(f'{_owner()}; {self._start};')

  def _write(self):
    text = f'{_owner()}; {self._start}; {next(self._beats)}'
    paths.write(self._path, text.encode(), f'-{self._start}')


def _ended(text):
  """Whether the owner was a process of this machine that has ended."""
  owner = text.partition(';')[0]
  _, number, _, host = owner.split(' ')
  if host != socket.gethostname():
    return False
  if int(number) == os.getpid():
    return True  # one of an earlier start of this container
  try:
    os.kill(int(number), 0)
  except ProcessLookupError:
    return True
  except PermissionError:
    pass
  return False
