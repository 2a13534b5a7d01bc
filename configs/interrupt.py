"""Ctrl-C ends a command with one line and the status 130, not a traceback."""

import contextlib
import functools
import os
import signal
import sys
import threading
from typing import NoReturn


def end(what: str = 'Interrupted.') -> NoReturn:
  """Says so and ends the process; its threads may still be at work."""
  if sys.stderr is not None:  # None: closed before the start
    print('\n' * sys.stderr.isatty() + what, file=sys.stderr, flush=True)
  with contextlib.suppress(AttributeError, OSError):
    sys.stdout.flush()
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
  sys.unraisablehook = functools.partial(_again, sys.unraisablehook)


def _again(usual, args):
  """Repeats a Ctrl-C that came where Python can only print an exception.

  That is inside of a callback of the garbage collector, as JAX has one, or of
  a finalizer: without this the command would go on.
  """
  if not issubclass(args.exc_type, KeyboardInterrupt):
    usual(args)
    return
  timer = threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGINT])
  timer.daemon = True
  timer.start()
