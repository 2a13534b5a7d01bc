"""Training in processes of its own: killed, and on two hosts."""

import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import Popen

from tests.helpers import runs
from train.fingerprint import fingerprint

# Is killed when it should save step `last`; the one before is on disk.
KILLED = """
import os, runpy, signal, sys
from train.runs import adapters

class Checkpoints(adapters.Checkpoints):
  def save(self, state, step, run):
    if step == last:
      self.wait()
      os.kill(os.getpid(), signal.SIGKILL)
    super().save(state, step, run)

last = int(sys.argv.pop())
adapters.Checkpoints = Checkpoints
runpy.run_module('train', run_name='__main__', alter_sys=True)
"""

# Gets a signal when it comes to a place, as 'step 7': the step before is under
# way on its devices, and the others wait for it in that one.
SIGNALLED = """
import os, runpy, sys
from train.parallel import processes

doing = processes.doing
number, place = int(sys.argv.pop()), sys.argv.pop()

def signalled(what, long=True):
  doing(what, long)
  if what == place:
    os.kill(os.getpid(), number)

processes.doing = signalled
runpy.run_module('train', run_name='__main__', alter_sys=True)
"""


def signalled(command: Sequence[str], place: str, number: int) -> list[str]:
  """The command of a run that gets a signal at a place; see SIGNALLED."""
  return [command[0], '-c', SIGNALLED, *command[3:], place, str(number)]


def killed(command: Sequence[str], last: int) -> list[str]:
  """The command of a run that is killed when it should save step `last`."""
  return [command[0], '-c', KILLED, *command[3:], str(last)]


def assert_equal_runs(folder: Path, whole: Path) -> None:
  """Checks that losses and final states are equal to the last bit."""
  assert runs.rows(folder) == runs.rows(whole)
  assert fingerprint(str(folder)) == fingerprint(str(whole))


def free_port() -> int:
  with socket.socket() as listening:
    listening.bind(('localhost', 0))
    return listening.getsockname()[1]


def start_all(count: int, command: Callable[..., Sequence[str]]) -> list[Popen]:
  """Processes of eight devices in all: `command` of the flags of each."""
  flags = [f'--coordinator=localhost:{free_port()}', f'--processes={count}']
  return [
    runs.start(command(*flags, f'--process={i}'), devices=8 // count)
    for i in range(count)
  ]


def start_two(command: Callable[..., Sequence[str]]) -> list[Popen]:
  """As `start_all`, for two processes."""
  return start_all(2, command)


def finish(processes: Sequence[Popen]) -> list[str]:
  """Waits for processes that must all succeed; returns their stdouts."""
  try:
    ends = [process.communicate(timeout=300) for process in processes]
  finally:
    for process in processes:
      process.kill()
  for process, (_, stderr) in zip(processes, ends, strict=True):
    assert process.returncode == 0, stderr
  return [stdout for stdout, _ in ends]
