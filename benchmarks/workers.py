"""Workers: processes that measure when a line of their input asks for it."""

import contextlib
import json
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def start(stack, python, module, *arguments):
  """Starts `python -m module`; returns the process and its first line.

  The process prints that line when it is ready, and ends with the stack.
  Arguments are strings or become JSON.
  """
  words = [a if isinstance(a, str) else json.dumps(a) for a in arguments]
  process = subprocess.Popen(
    [python, '-m', module, *words],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    cwd=ROOT,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
    text=True,
  )
  stack.callback(process.wait)
  stack.callback(process.kill)
  return process, ask(process, '')


def ask(process, question):
  """Sends a line to a worker and returns its answer.

  Raises:
    RuntimeError: the worker ended; its own message stands above.
  """
  if question:
    with contextlib.suppress(BrokenPipeError):
      print(question, file=process.stdin, flush=True)
  line = process.stdout.readline()
  if not line:
    raise RuntimeError(
      f'The worker of {process.args[3]} ended with status {process.wait()}.'
    )
  return json.loads(line)
