"""One process that dies, fails or hangs ends all. Here they are threads."""

import contextlib
import queue
import socket
import subprocess
import sys
import threading
import time

import pytest

from tests.helpers import REPOSITORY
from train.parallel import watch
from train.parallel.lines import Line
from train.parallel.meeting import AGAIN, Member

# The thread has more to do than C++ code that aborts the process.
ABORTS = """
import ctypes, threading, time
from train.parallel import watch

def last_word():
  time.sleep(0.5)
  watch.end(watch.Verdict('process 0 has died', 75, (0,)))

watch._delay_aborts()
threading.Thread(target=last_word, daemon=True).start()
ctypes.CDLL(None).abort()  # as C++ threads call it: without Python's lock
"""


class Ended(BaseException):
  """Ends a thread that stands for a process."""


class Run:
  """The watches of `count` processes, joined in pairs by sockets."""

  def __init__(self, count, limit):
    pairs = [tuple(map(Line, socket.socketpair())) for _ in range(count - 1)]
    self.lines = [None, *(b for _, b in pairs)]
    members = [Member(0, 'a')]
    members += [Member(i, 'xyz'[i - 1], x) for i, (x, _) in enumerate(pairs, 1)]
    self.watches = [watch.Watch(members, 0, limit)]
    self.watches += [
      watch.Watch([Member(0, 'a', line)], number, limit)
      for number, line in enumerate(self.lines[1:], 1)
    ]
    self.ends = [queue.SimpleQueue() for _ in range(count)]

    self.threads = [
      threading.Thread(
        target=self._thread, args=(x,), name=str(x.number), daemon=True
      )
      for x in self.watches
    ]

  def _thread(self, one):
    with contextlib.suppress(Ended):
      (one._attend if one.number else one._judge)()

  def verdict(self, number):
    return self.ends[number].get(timeout=20)

  def close(self):
    for line in self.lines[1:]:
      with contextlib.suppress(OSError):
        line.socket.shutdown(socket.SHUT_RDWR)
    for thread in self.threads:
      thread.join(20)
      assert not thread.is_alive()
    for one in self.watches:
      for member in one._others.values():
        member.line.close()


@pytest.fixture
def begin(monkeypatch):
  """Starts so many watches; `end` keeps their verdicts."""
  runs = []

  def end(verdict):
    runs[0].ends[int(threading.current_thread().name)].put(verdict)
    raise Ended

  monkeypatch.setattr(watch, 'end', end)
  monkeypatch.setattr(watch, 'BEAT', 0.05)
  monkeypatch.setattr(watch, 'PARTING', 0.05)
  monkeypatch.setattr(watch, '_show_main_thread', lambda: None)

  def begun(count, limit=0.0):
    runs.append(Run(count, limit))
    for thread in runs[0].threads:
      thread.start()
    return runs[0]

  yield begun
  for run in runs:
    run.close()


def test_one_that_dies_is_named_by_all(begin):
  run = begin(4)
  run.watches[2].at('step 12', long=False)
  time.sleep(0.3)  # a beat or two
  run.lines[2].socket.shutdown(socket.SHUT_RDWR)
  for number in (0, 1, 3):
    verdict = run.verdict(number)
    assert verdict.text.startswith(
      'process 2 (y) has died in step 12: its connection closed. All processes '
      f'end with status {AGAIN}: run the same commands again'
    )
    assert (verdict.status, verdict.guilty) == (AGAIN, (2,))


def test_process_0_dies(begin, monkeypatch):
  run = begin(3)
  monkeypatch.setattr(run.watches[0], '_tell', lambda **_: None)  # it is dead
  for member in run.watches[0]._others.values():
    member.line.socket.shutdown(socket.SHUT_RDWR)
  for number in (1, 2):
    verdict = run.verdict(number)
    assert verdict.text.startswith('process 0 (a) has died: its connection')
    assert verdict.status == AGAIN


def test_one_that_leaves_has_not_died(begin):
  run = begin(3)
  run.watches[1].leave()
  time.sleep(0.2)
  run.lines[1].socket.shutdown(socket.SHUT_RDWR)
  time.sleep(0.3)
  assert run.ends[0].empty()
  assert run.ends[2].empty()
  run.lines[2].socket.shutdown(socket.SHUT_RDWR)
  assert run.verdict(0).guilty == (2,)


@pytest.mark.parametrize('number', [0, 2])
def test_an_error_of_one_ends_all(begin, number):
  """With its message and its status: running again would not help."""
  run = begin(3)
  verdict = run.watches[number].fail('the disk is full', 1)
  assert verdict.status == 1
  for other in {0, 1, 2} - {number}:
    found = run.verdict(other)
    assert found == verdict
    assert found.text == (
      f'process {number} ({"axyz"[number]}) has ended with an error: the disk '
      'is full'
    )


def test_a_death_explains_an_error(begin):
  """A collective operation fails where another process has died."""
  run = begin(3)

  def die():
    run.lines[2].socket.shutdown(socket.SHUT_RDWR)

  threading.Timer(0.1, die).start()  # it is seen after the error
  verdict = run.watches[1].fail('Gloo: connection closed by peer', 1)
  assert (verdict.status, verdict.guilty) == (AGAIN, (2,))


@pytest.mark.parametrize('number', [0, 1])
def test_one_that_hangs(begin, number):
  run = begin(3, limit=0.5)
  for one in run.watches:
    one.at('step 1', long=False)
  for one in run.watches:
    if one.number != number:
      one.at('step 2', long=False)
  name = f'process {number} ({"ax"[number]})'
  for other in range(3):
    verdict = run.verdict(other)
    assert verdict.text.startswith(f'{name} has been in step 1 for 0m0')
    assert verdict.status == AGAIN


@pytest.mark.parametrize('number', [0, 1])
def test_one_that_gives_no_sign_of_life(begin, number, monkeypatch):
  run = begin(3, limit=1.0)
  for one in run.watches:
    one.at('step 1', long=False)
  time.sleep(0.3)
  stuck = threading.Event()
  own = run.watches[number]._stopped
  monkeypatch.setattr(
    run.watches[number], '_stopped', lambda x: stuck.wait(20) or own(x)
  )
  try:
    for other in {0, 1, 2} - {number}:
      verdict = run.verdict(other)
      name = f'process {number} ({"ax"[number]})'
      assert verdict.text.startswith(f'{name} has given no sign of life for 0m')
  finally:
    stuck.set()


def test_time_in_which_all_stood_stood_still_does_not_count():
  """As after Ctrl-Z: here, the clock of the last beat is set back."""
  one = watch.Watch([Member(0, 'a')], 0, 0.0)
  one.at('step 1', long=False)
  since = one._place[3]
  assert not one._stopped(watch.STOPPED - 1)
  assert one._place[3] == since
  assert one._stopped(watch.STOPPED + 1)
  assert one._place[3] == since + watch.STOPPED + 1


def test_all_get_the_answer(begin):
  run = begin(3)
  asked = []

  def answer(values):
    asked.append(values)
    return {'sum': sum(values)}

  found = queue.SimpleQueue()

  def ask(one):
    for value in (1, 10):
      given = one.ask(value * (one.number + 1), answer)
      found.put((value, given['sum']))

  threads = [threading.Thread(target=ask, args=(x,)) for x in run.watches]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(20)
  assert asked == [[1, 2, 3], [10, 20, 30]]  # in process 0 alone
  got = sorted(found.get(timeout=20) for _ in range(6))
  assert got == [(1, 6)] * 3 + [(10, 60)] * 3


def test_an_abort_waits_for_the_last_word():
  """C++ code, as JAX's client, aborts the process when process 0 is gone."""
  done = subprocess.run(
    [sys.executable, '-c', ABORTS], cwd=REPOSITORY, capture_output=True,
    text=True, timeout=100, check=False,
  )  # fmt: skip
  assert done.returncode == 75
  assert done.stderr.endswith('Error: process 0 has died\n')
