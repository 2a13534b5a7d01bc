"""Ctrl-C ends a command with one line and the status 130, not a traceback."""

import contextlib
import os
import sys
from typing import NoReturn


def end(line: str = 'Interrupted.') -> NoReturn:
  """Prints the line and ends the process, even if its threads still work."""
  if sys.stderr is not None:  # None: closed before the start
    print('\n' * sys.stderr.isatty() + line, file=sys.stderr, flush=True)
  with contextlib.suppress(AttributeError, OSError):
    sys.stdout.flush()
  os._exit(130)
