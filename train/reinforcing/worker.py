"""Code that may hang or fail, in a process of its own; run by its path.

  worker.py serve SECONDS BYTES FILE FUNCTION   a user's reward function
  worker.py serve SECONDS BYTES '' regex        `regex`
  worker.py test SECONDS BYTES                  one answer's unit test

It imports nothing of Treeline, so that it starts fast and takes little memory.
SECONDS of one core and BYTES of memory are its limits; the caller limits the
time that passes. They guard against mistakes. They are no sandbox: what runs
here has the user's rights.
"""

import ctypes
import json
import math
import os
import re
import resource
import runpy
import signal
import sys


def limit(seconds: int, size: int) -> None:
  """Limits the process: seconds of computing (0: any), bytes of memory.

  On Linux it ends with the one that started it, also where it hangs.
  """
  if sys.platform == 'linux':
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
  wanted = [(resource.RLIMIT_AS, size), (resource.RLIMIT_CORE, 0)]
  if seconds:
    wanted.append((resource.RLIMIT_CPU, seconds))
  for kind, value in wanted:
    resource.setrlimit(kind, (value, value))


def regex(prompt: str, answer: str, target: str) -> float:
  """1 if the pattern `target` is found in the answer."""
  del prompt
  return float(re.search(target, answer) is not None)


def number_of(found: object) -> float:
  """What a function returned, as a number; raises TypeError or ValueError."""
  if isinstance(found, str | bytes) or not hasattr(found, '__float__'):
    what = type(found).__name__
    if hasattr(found, '__len__'):
      what += f' of {len(found)}'
    raise TypeError(f'it returned a {what}, not one number')
  value = float(found)
  if not math.isfinite(value):
    raise ValueError(f'it returned {value}')
  return value


def _load(path, name):
  if not path:
    return regex
  found = runpy.run_path(path).get(name)
  if not callable(found):
    raise ValueError(f'{path} defines no function {name}')
  return found


def serve(path: str, name: str) -> None:
  """Answers each line of stdin, a JSON list of arguments, with a line.

  The first line says that the function is there. What it prints goes to stderr.
  """
  out = os.fdopen(os.dup(1), 'w', encoding='utf-8')
  os.dup2(2, 1)

  def reply(**what):
    print(json.dumps(what), file=out, flush=True)

  try:
    function = _load(path, name)
  except BaseException as error:  # of the user's file, SystemExit too
    reply(error=f'{type(error).__name__}: {error}')
    return
  reply(ready=True)
  for line in sys.stdin:
    try:
      reply(reward=number_of(function(*json.loads(line))))
    except (Exception, SystemExit) as error:  # of the user's function
      reply(error=f'{type(error).__name__}: {error}')


def test() -> None:
  """Runs a program and then its tests: stdin has a JSON list of both.

  The third of the list is a word, which is written if both came to their end:
  a program that exits before its tests has not passed them.
  """
  program, tests, word = json.load(sys.stdin)
  out = os.dup(1)
  null = os.open(os.devnull, os.O_RDWR)
  for place in 0, 1, 2:
    os.dup2(null, place)
  space = {'__name__': '__main__'}
  exec(compile(program, 'answer', 'exec'), space)
  exec(compile(tests, 'tests', 'exec'), space)
  os.write(out, word.encode())


if __name__ == '__main__':
  what, seconds, size, *rest = sys.argv[1:]
  limit(int(seconds), int(size))
  {'serve': serve, 'test': test}[what](*rest)
