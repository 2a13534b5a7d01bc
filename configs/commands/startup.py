"""What a command does before its other imports, which take seconds.

Every command that imports JAX or TensorFlow begins with

  from configs.commands import startup

  if __name__ == '__main__':
    startup.begin()

Importing a package of this repository changes nothing global in a process.
This call does: it is for commands, which own their process.
"""

import os
import signal
import sys
import threading
import time

from configs.commands import interrupt, memory

# What the interpreter was set up with.
_report, _report_unraisable = sys.excepthook, sys.unraisablehook

# When the command began, in seconds since 1970. Who counts its time takes it
# out, so that it is counted once.
began = []


def begin() -> None:
  """Prepares the process: memory, Ctrl-C and the notices of libraries."""
  began.append(time.time())
  memory.check_limit()
  sys.excepthook = _excepthook
  sys.unraisablehook = _unraisablehook
  # TensorFlow only reads data here: hide the notices of its build, and its own
  # log of errors that are raised anyway. Importing JAX sets the level to 1,
  # which programs started by that process inherit.
  if os.environ.get('TF_CPP_MIN_LOG_LEVEL', '1') == '1':
    os.environ['TF_CPP_MIN_LOG_LEVEL'] = '2'
  os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
  # Other processes write to buckets too: TensorFlow must not remember what it
  # has seen there. It reads this when it is imported.
  os.environ.setdefault('GCS_STAT_CACHE_MAX_AGE', '0')


def _excepthook(kind, error, trace):
  """Ends the command with one line if Ctrl-C caused the exception."""
  cause = error
  while cause is not None:  # a library may have raised its own exception since
    if isinstance(cause, KeyboardInterrupt):
      interrupt.end()
    cause = cause.__cause__ or cause.__context__
  _report(kind, error, trace)


def _unraisablehook(args):
  """Handles exceptions that Python can only print, not raise.

  They come from finalizers and from callbacks of the garbage collector (JAX
  has one). A Ctrl-C that arrives there is sent again; without that the command
  would go on.

  After a failed checkpoint TensorStore's threads report to event loops that
  Orbax has closed by then, one traceback for each array. These are left out:
  the failure itself is raised and reported by the run.
  """
  if issubclass(args.exc_type, KeyboardInterrupt):
    timer = threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGINT])
    timer.daemon = True
    timer.start()
  elif str(args.exc_value) != 'Event loop is closed':
    _report_unraisable(args)
