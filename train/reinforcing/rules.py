"""What an answer is worth: a built-in rule or a Python function.

  exact             1 if the answer is the target, without the space around both
  number            1 if it gives the target's number: prompted/arithmetic.py
  regex             1 if the target, a pattern, is found in it
  tests             1 if the answer is a program that passes the target's tests
  FILE.py:FUNCTION  what FUNCTION(prompt, answer, target) returns, a number

The last three run in processes of their own, with limits on time and memory.
An answer for which that fails (it takes too long, raises, or gives no finite
number) has the reward NaN, and counts as a failure. It is left out of the step.
Where all answers of a batch fail, the run ends with the first reason.

A reward model, model:WORKDIR, and a classifier, classifier:WORKDIR=CLASS, are
in scores.py.
"""

import concurrent.futures
import contextlib
import json
import os
import re
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from configs.commands.command import UserError
from input_pipeline.choices import unknown
from input_pipeline.prompted.arithmetic import number

Triple = tuple[str, str, str]  # prompt, answer, target
RULES = {
  'exact': lambda prompt, answer, target: answer.strip() == target.strip(),
  'number': lambda prompt, answer, target: (
    number(answer) is not None and number(answer) == number(target)
  ),
}
LIMITED = 'regex', 'tests'
MODEL, CLASS = 'model:', 'classifier:'
WORKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'worker.py')
# Variables of the environment that a program under test may read.
KEPT = 'PATH', 'LANG', 'LC_ALL', 'TMPDIR'
NO_TARGET = 'its prompt has no target'
FENCE = re.compile(r'```[\w+-]*\n(.*?)(?:```|\Z)', re.DOTALL)
START = 60  # seconds that a file of the user's may take to be imported


class RewardError(UserError):
  """No answer of a batch has a reward, or a rule cannot work."""


def is_limited(name: str) -> bool:
  """Whether a rule of this name runs under limits."""
  return name in LIMITED or '.py:' in name


def open_rule(name: str, seconds: float, size: int) -> Any:
  """The rule of a name: it has `score(answers)` and `close()`.

  Args:
    name: see above.
    seconds: that one answer may take.
    size: bytes of memory that its process may take.

  Raises:
    ValueError: the name is unknown, or its file or function cannot be used.
  """
  if name in RULES:
    return Rule(name)
  if name == 'tests':
    return Tests(seconds, size)
  if name == 'regex':
    return Function('', 'regex', seconds, size)
  path, colon, function = name.rpartition('.py:')
  if not colon or not function:
    known = [
      *(*RULES, *LIMITED, 'FILE.py:FUNCTION', f'{MODEL}WORKDIR'),
      f'{CLASS}WORKDIR=CLASS',
    ]
    raise ValueError(unknown('align.rewards', name, known))
  path += '.py'
  if not os.path.isfile(path):
    raise ValueError(f'align.rewards={name}: there is no file {path}.')
  return Function(path, function, seconds, size)


class Rule:
  """A built-in rule that cannot fail."""

  def __init__(self, name: str):
    self._rule = RULES[name]

  def score(self, answers: Sequence[Triple]) -> tuple[list[float], list[str]]:
    """A number for each (prompt, answer, target), and no failures."""
    return [float(self._rule(*x)) for x in answers], []

  def close(self) -> None:
    pass


class Function:
  """A function in a process that is started again where it hangs."""

  def __init__(self, path: str, name: str, seconds: float, size: int):
    self._where = path, name
    self._seconds, self._size = seconds, size
    self._process = None
    self._start()

  def score(self, answers: Sequence[Triple]) -> tuple[list[float], list[str]]:
    """A number for each answer, NaN after a failure; and the failures."""
    found, failures = [], []
    for triple in answers:
      value, why = self._one(triple)
      found.append(value)
      failures += [why] if why else []
    return found, failures

  def _one(self, triple):
    if self._where == ('', 'regex') and not triple[2]:
      return np.nan, NO_TARGET
    if self._process is None:
      self._start()
    try:
      self._process.stdin.write(json.dumps(triple).encode() + b'\n')
      self._process.stdin.flush()
    except BrokenPipeError:
      return self._ended()
    reply = self._read(self._seconds)
    if reply is None:
      self.close()
      return np.nan, f'it took more than {self._seconds:g} s'
    if not reply:
      return self._ended()
    if 'error' in reply:
      return np.nan, reply['error']
    return reply['reward'], ''

  def _ended(self):
    """The process has died: of memory, or by an exit of its own."""
    self._process.wait()
    status = self._process.returncode
    self.close()
    return np.nan, f'its process ended with status {status}'

  def _read(self, seconds):
    """A reply; {}: the process has ended; None: it took too long."""
    last = time.monotonic() + seconds
    while b'\n' not in self._rest:
      left = last - time.monotonic()
      if (
        left <= 0 or not select.select([self._process.stdout], [], [], left)[0]
      ):
        return None
      part = os.read(self._process.stdout.fileno(), 2**16)
      if not part:
        return {}
      self._rest += part
    line, _, self._rest = self._rest.partition(b'\n')
    return json.loads(line)

  def _start(self):
    path, name = self._where
    self._rest = b''
    # The time that passes is limited here, that of computing is not: the
    # process answers many times.
    self._process = subprocess.Popen(
      [sys.executable, '-P', WORKER, 'serve', '0', str(self._size), path, name],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      start_new_session=True,
    )
    reply = self._read(START)
    if not reply or 'error' in reply:
      self.close()
      why = f'importing it took more than {START} s'
      if reply is not None:
        why = reply.get('error', 'its process ended')
        if 'error' not in reply or 'MemoryError' in why:
          why += f'; align.reward_memory={self._size // 2**20} may be too low'
      raise ValueError(f'align.rewards={path}:{name}: {why}.')

  def close(self) -> None:
    """Ends the process, and what it has started."""
    process, self._process = self._process, None
    if process is not None:
      _kill(process)
      process.stdin.close()
      process.stdout.close()


class Tests:
  """Unit tests: each answer is a program in a process and a folder of its own.

  The target's tests run after it, with its names: `assert add(1, 2) == 3`.
  """

  def __init__(self, seconds: float, size: int):
    self._seconds, self._size = seconds, size

  def score(self, answers: Sequence[Triple]) -> tuple[list[float], list[str]]:
    """1 where all tests pass, else 0: a program that hangs has not passed.

    NaN without tests. Of an answer in Markdown the first block of code counts.
    """
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
      found = list(pool.map(self._one, answers))
    return found, [NO_TARGET] * int(np.isnan(found).sum())

  def _one(self, triple):
    _, program, tests = triple
    if not tests.strip():
      return np.nan
    if block := FENCE.search(program):
      program = block[1]
    word = secrets.token_hex(8)
    with tempfile.TemporaryDirectory() as folder:
      process = subprocess.Popen(
        [
          *(sys.executable, '-I', WORKER, 'test'),
          *(str(int(np.ceil(self._seconds))), str(self._size)),
        ],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, start_new_session=True, cwd=folder,
        env={k: os.environ[k] for k in KEPT if k in os.environ},
      )  # fmt: skip
      asked = json.dumps([program, tests, word]).encode()
      try:
        written, _ = process.communicate(asked, timeout=self._seconds)
      except subprocess.TimeoutExpired:
        return 0.0
      finally:
        _kill(process)
        process.stdout.close()
    return float(written == word.encode())

  def close(self) -> None:
    pass


def _kill(process: subprocess.Popen) -> None:
  """Ends a process and its children, which share its session."""
  with contextlib.suppress(ProcessLookupError):
    os.killpg(process.pid, signal.SIGKILL)
  process.wait()


def checked(
  found: Sequence[float],
  failures: Sequence[str],
  count: int,
  name: str,
  group: str = 'rewards',
) -> np.ndarray:
  """The rewards of `count` answers, float32, NaN where one is not known.

  Raises:
    RewardError: there are more or fewer, or none is known.
  """
  rewards = np.asarray(found, 'float32')
  if rewards.shape != (count,):
    raise RewardError(
      f'align.{group}: {name} gave numbers of shape {list(rewards.shape)} for '
      f'{count} answers: it must give one number for each.'
    )
  rewards[~np.isfinite(rewards)] = np.nan
  if count and np.isnan(rewards).all():
    why = failures[0] if failures else 'they are not finite'
    raise RewardError(
      f'align.{group}: {name} gave none of {count} answers a number. The first '
      f'reason: {why}. Correct it, or raise align.reward_seconds or '
      'align.reward_memory, and run the same command again: it resumes.'
    )
  return rewards
