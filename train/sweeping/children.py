"""Runs as child processes, so many at once: started, watched and stopped."""

import contextlib
import dataclasses
import fcntl
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from configs import grids
from configs.commands import interrupt

LOG = 'log.txt'  # in a run's folder: what its processes print
PAUSE = 0.2  # seconds between two looks at the processes


@dataclasses.dataclass(eq=False)
class Run:
  """A run of a sweep.

  Attributes:
    name: what differs from the other runs.
    folder: its workdir.
    command: trains it, or resumes it.
    keys: the pairs of config key and value that make it.
    steps: `train.steps`; 0: not known before it begins.
    state: waiting, running, done, stopped (it can go on) or failed.
    why: it failed.
    began: when it was started, as time.monotonic() has it.
  """

  name: str
  folder: str
  command: Sequence[str]
  keys: tuple[tuple[str, str], ...] = ()
  steps: int = 0
  state: str = 'waiting'
  why: str = ''
  began: float = 0.0


def run_of(
  point: grids.Point, folder: str, module: str, shared: Sequence[str]
) -> Run:
  """The run of a point, by `python -m MODULE`; see `shared_flags`."""
  keys = [f'--config.{key}={x}' for key, x in point.keys]
  command = [sys.executable, '-m', module, *shared, *keys]
  command.append(f'--workdir={folder}')
  return Run(point.name, folder, command, point.keys)


def shared_flags(args: Sequence[str], own: str) -> list[str]:
  """The flags of a command that each of its processes gets too.

  Left out are those whose names match `own`, as '--KEY=VALUE' or '--KEY VALUE'.

  >>> args = ['--grid', 'seed=0,1', '-jobs=2', '--from', 'RUN']
  >>> shared_flags(args, 'grid|jobs')
  ['--from', 'RUN']
  """
  kept, rest = [], iter(args)
  for arg in rest:
    found = re.fullmatch(rf'--?({own})(=.*)?', arg, re.DOTALL)
    if not found:
      kept.append(arg)
    elif not found[2]:
      next(rest, None)  # its value
  return kept


def train_all(
  runs: Sequence[Run],
  parts: Sequence[Mapping[str, str]],
  is_done: Callable[[str], bool],
  changed: Callable[[Run], None],
  look: Callable[[], None],
) -> bool:
  """Trains the runs that wait, one on each part of the devices at a time.

  A run that fails is marked, and the rest go on. SIGTERM and Ctrl-C are passed
  on to the runs, which save and end; a second Ctrl-C does not wait for that.

  Args:
    runs: their states are kept up to date.
    parts: the environment variables that give a process a part of the devices.
    is_done: whether the run in a folder has come to its end.
    changed: is called when the state of a run has changed.
    look: is called again and again.

  Returns:
    Whether all runs were trained, as far as they can be: False if a stop was
    asked for.
  """
  free, running = list(parts), {}
  waiting = [run for run in runs if run.state == 'waiting']
  stopping = False
  with contextlib.ExitStack() as listening:
    asked = listening.enter_context(interrupt.listening())
    try:
      while running or (waiting and not stopping):
        if asked() and not stopping:
          stopping = True
          for process, _, _ in running.values():
            process.terminate()
          listening.close()  # the next Ctrl-C ends this command
        while waiting and free and not stopping:
          run, part = waiting.pop(0), free.pop(0)
          running[run] = *_start(run, part), part
          run.state, run.began = 'running', time.monotonic()
          changed(run)
        for run, (process, start, part) in [*running.items()]:
          if process.poll() is not None:
            del running[run]
            free.append(part)
            _judge(run, process.returncode, start, is_done, stopping)
            changed(run)
        look()
        time.sleep(PAUSE)
    except BaseException:
      for process, _, _ in running.values():
        process.kill() if stopping else process.terminate()
      for process, _, _ in running.values():
        process.wait()
      raise
  return not stopping


def _start(run: Run, part: Mapping[str, str]) -> tuple[subprocess.Popen, int]:
  """A process of the run, and where its part of the log begins."""
  os.makedirs(run.folder, exist_ok=True)
  with open(os.path.join(run.folder, LOG), 'ab') as log:
    variables = [f'{key}={shlex.quote(x)}' for key, x in part.items()]
    line = ' '.join([*variables, shlex.join(run.command)])
    log.write(f'$ {line}\n'.encode())
    log.flush()
    # The process keeps the lock with its standard output, also if this one is
    # killed: see `record.is_trained`.
    with contextlib.suppress(OSError):  # a disk without locks
      fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    process = subprocess.Popen(
      run.command,
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=log,
      env=os.environ | part,
    )
    return process, log.tell()


def _judge(
  run: Run,
  status: int,
  start: int,
  is_done: Callable[[str], bool],
  stopping: bool,
) -> None:
  """Sets the state of a run whose process has ended."""
  log = os.path.join(run.folder, LOG)
  try:
    done = status == 0 and is_done(run.folder)
  except (ValueError, OSError) as error:  # a file of the run is damaged
    run.state, run.why = 'failed', str(error)
    return
  if done:
    run.state = 'done'
  elif status == 0 or stopping:
    run.state = 'stopped'
  else:
    run.state = 'failed'
    run.why = _reason(log, start)
    if status < 0:
      run.why = f'ended by {signal.Signals(-status).name}'
    run.why = f'{run.why} (see {log})'.strip()


def _reason(log: str, start: int) -> str:
  """The error that a log reports after its byte `start`, or the last line."""
  with open(log, encoding='utf-8', errors='replace') as file:
    file.seek(start)
    lines = [line.strip() for line in re.split('[\r\n]', file.read())]
  errors = [line for line in lines if line.startswith('Error: ')]
  last = (errors or [line for line in lines if line] or [''])[-1]
  return last.removeprefix('Error: ')
