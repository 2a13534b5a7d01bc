"""Ctrl-C ends a command with one line and the status 130, not a traceback."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn


@contextlib.contextmanager
def listening() -> Iterator[Callable[[], bool]]:
  """Yields a function that returns whether SIGTERM or Ctrl-C has come.

  They do nothing else meanwhile.
  """
  asked = []
  handlers = {
    number: signal.signal(number, lambda *_: asked.append(True))
    for number in (signal.SIGTERM, signal.SIGINT)
  }
  try:
    yield lambda: bool(asked)
  finally:
    for number, handler in handlers.items():
      signal.signal(number, handler)


def end(line: str = 'Interrupted.') -> NoReturn:
  """Prints the line and ends the process, even if its threads still work."""
  if sys.stderr is not None:  # None: closed before the start
    print('\n' * sys.stderr.isatty() + line, file=sys.stderr, flush=True)
  with contextlib.suppress(AttributeError, OSError):
    sys.stdout.flush()
  os._exit(130)
