"""Ctrl-C ends a command with one line and the status 130, not a traceback."""

import os
import sys
from typing import NoReturn


def end() -> NoReturn:
  """Says so and ends the process; its threads may still be at work."""
  print('\n' * sys.stderr.isatty() + 'Interrupted.', file=sys.stderr)
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(130)


def watch_imports() -> None:
  """Lets Ctrl-C end a command as `end` does while it still imports.

  Packages with commands call this first, since imports take seconds. It does
  nothing unless the package is imported by `python -m`: a program that uses
  the package keeps its own ways.
  """
  if sys.argv[0] != '-m':  # what Python sets until the module is found
    return
  usual = sys.excepthook

  def hook(kind, error, trace):
    cause = error
    while cause is not None:  # a library may have raised its own after it
      if isinstance(cause, KeyboardInterrupt):
        end()
      cause = cause.__cause__ or cause.__context__
    usual(kind, error, trace)

  sys.excepthook = hook
