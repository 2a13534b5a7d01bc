"""The processes of a run watch one another: one that dies or hangs ends all.

Each has a thread that sends a sign of life, with the place its main thread has
reached, over its line to process 0. Process 0 judges. A line that closes
without a good-bye is a death; `verdicts` says what a hang is. The verdict goes
to all, which print it as their last line and end with its status.
"""

import ctypes
import dataclasses
import math
import os
import queue
import selectors
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from configs.commands import terminal
from train.parallel.lines import Message
from train.parallel.meeting import AGAIN, BEAT, Member
from train.parallel.verdicts import Report, hung

GRACE = 0.5  # seconds in which a death explains another process's error
PARTING = 1.0  # seconds that process 0 waits for the others to end first
STOPPED = 5.0  # seconds without a beat of our own: we were stopped ourselves
ADVICE = (
  f'All processes end with status {AGAIN}: run the same commands again to '
  'resume from the newest checkpoint.'
)


@dataclasses.dataclass(frozen=True)
class Verdict:
  """Why all processes end."""

  text: str
  status: int
  guilty: tuple[int, ...]


class Watch:
  """One process's part in the watch; processes that train alone have none.

  Args:
    members: in process 0, all by number; elsewhere only process 0.
    number: of this process.
    limit: --hang_timeout in seconds; 0: only deaths count.
  """

  def __init__(self, members: list[Member], number: int, limit: float):
    self.number = number
    self._others = {x.number: x for x in members if x.number != number}
    self._names = {x.number: str(x) for x in members}
    self._limit = limit
    self._place = 0, 'its start', True, time.monotonic()
    self._longest = 0.0  # seconds at a place that is passed
    self._failing = False
    self._verdicts = queue.SimpleQueue()  # for a main thread that fails
    self._answers = queue.SimpleQueue()
    self._asked = 0
    self._questions = {}  # in process 0: number of the question -> values
    self._reports = {}  # in process 0: number -> Report, when it came
    self._failures = {}  # in process 0: number -> message, when it came
    self._heard = time.monotonic()  # elsewhere: the last word of process 0

  def begin(self) -> None:
    """Starts the thread. C++ aborts wait for what it has to say."""
    _delay_aborts()
    body = self._judge if self.number == 0 else self._attend
    threading.Thread(target=body, name='watch', daemon=True).start()

  # ---- What the main thread calls ------------------------------------------

  def at(self, what: str, long: bool = True) -> None:
    """This process comes to a place that all of them pass, in order."""
    count, _, _, since = self._place
    now = time.monotonic()
    self._longest = max(self._longest, now - since)
    self._place = count + 1, what, long, now

  def move(self) -> None:
    """As `at`, within the same work."""
    _, what, long, _ = self._place
    self.at(what, long)

  def ask(self, value: Any, answer: Callable[[list], Any]) -> Any:
    """answer([value of each process]), computed in process 0; JSON-able."""
    self.move()
    self._asked += 1
    if self.number:
      self._others[0].line.send(ask=self._asked, value=value)
      return self._answers.get()
    values = self._questions.setdefault(self._asked, {})
    while len(values) < len(self._others):
      time.sleep(0.01)
    del self._questions[self._asked]
    values[0] = value
    found = answer([values[number] for number in sorted(values)])
    self._tell(answer=found)
    return found

  def fail(self, text: str, status: int) -> Verdict | None:
    """This process fails, as `text` says; returns the verdict on all, if any.

    It is about this process unless another one has died, which may well be the
    cause.
    """
    self._failing = True
    if self.number:
      self._others[0].line.send(failed=text, status=status)
    else:
      self._failures[0] = {'failed': text, 'status': status}, time.monotonic()
    try:
      return self._verdicts.get(timeout=GRACE + PARTING + 3 * BEAT)
    except queue.Empty:
      return None

  def leave(self) -> None:
    """This process has done its work: that its line closes is no death."""
    self._place = math.inf, 'the end', True, time.monotonic()
    self._tell(bye=1)

  # ---- The threads ---------------------------------------------------------

  def _tell(self, **message: Any) -> None:
    for member in self._others.values():
      member.line.send(**message)

  def _report(self) -> dict[str, Any]:
    count, what, long, since = self._place
    idle = time.monotonic() - since
    return dataclasses.asdict(Report(count, what, long, idle, self._longest))

  def _stopped(self, seconds: float) -> bool:
    """Whether this process itself stood still, as after Ctrl-Z.

    `seconds` have passed since its last beat. They do not count.
    """
    if seconds < STOPPED:
      return False
    count, what, long, since = self._place
    self._place = count, what, long, since + seconds
    return True

  def _attend(self) -> None:
    """The thread of every process but the first."""
    first, gone, said = self._others[0], False, time.monotonic()
    line, long = first.line, True
    with selectors.DefaultSelector() as selector:
      selector.register(line, selectors.EVENT_READ)
      while True:
        messages = line.read() if selector.select(BEAT / 4) else []
        now = time.monotonic()
        if self._stopped(now - said) or messages:
          self._heard = now
        for message in messages or ():
          if 'end' in message:
            guilty = tuple(message['by'])
            return self._end(Verdict(message['end'], message['status'], guilty))
          if 'answer' in message:
            self._answers.put(message['answer'])
          elif 'bye' in message:
            gone = True
          elif 'long' in message:
            long = message['long']
        if messages is None and gone:
          return None
        if messages is None:
          what = f'{first} has died: its connection closed. {ADVICE}'
          return self._end(Verdict(what, AGAIN, (0,)))
        silent = {0: Report(0, '', long, 0.0, silent=now - self._heard)}
        if not gone and hung(silent, self._limit)[0]:
          for_ = terminal.duration(now - self._heard)
          what = f'{first} has given no sign of life for {for_}. {ADVICE}'
          line.send(failed=what, status=AGAIN)  # if it goes on after all
          return self._end(Verdict(what, AGAIN, (0,)))
        if now - said > BEAT:
          said = now
          line.send(beat=self._report())

  def _judge(self) -> None:
    """The thread of process 0."""
    now = time.monotonic()
    self._reports = {
      number: (Report(0, 'its start', True, 0.0), now)
      for number in self._others
    }
    dead, said = set(), now
    with selectors.DefaultSelector() as selector:
      for member in self._others.values():
        selector.register(member.line, selectors.EVENT_READ, member)
      while True:
        for key, _ in selector.select(BEAT / 4):
          messages = key.data.line.read()
          if messages is None:
            selector.unregister(key.fileobj)
            dead.add(key.data.number)
          for message in messages or ():
            self._take(key.data.number, message)
        now = time.monotonic()
        if self._stopped(now - said):
          self._reports = {n: (x, now) for n, (x, _) in self._reports.items()}
        if verdict := self._verdict(dead, now):
          self._tell(end=verdict.text, status=verdict.status, by=verdict.guilty)
          self._part(selector)
          return self._end(verdict)
        if now - said > BEAT:
          said = now
          self._tell(long=self._place[2])

  def _take(self, number: int, message: Message) -> None:
    """A message of another process."""
    now = time.monotonic()
    if 'beat' in message:
      self._reports[number] = Report(**message['beat']), now
    elif 'ask' in message:
      asked = self._questions.setdefault(message['ask'], {})
      asked[number] = message['value']
    elif 'failed' in message:
      self._failures[number] = message, now
    elif 'bye' in message:
      self._reports[number] = Report(math.inf, 'the end', True, 0.0), now

  def _verdict(self, dead: set[int], now: float) -> Verdict | None:
    """What ends the run, if anything does."""
    ended = {n for n, (x, _) in self._reports.items() if x.count == math.inf}
    died = sorted(dead - ended - self._failures.keys())
    if died:
      last = self._reports[died[0]][0].what
      return self._lost(died, f'has died in {last}: its connection closed')
    for number, (message, when) in sorted(self._failures.items()):
      if now - when > GRACE:
        return Verdict(
          f'{self._names[number]} has ended with an error: {message["failed"]}',
          message['status'],
          (number,),
        )
    reports = {0: Report(**self._report())}
    for number, (x, when) in self._reports.items():
      past = now - when
      silent = 0.0 if number in ended else past
      reports[number] = dataclasses.replace(
        x, idle=x.idle + past, silent=silent
      )
    guilty, why = hung(reports, self._limit)
    return self._lost(guilty, why) if guilty else None

  def _lost(self, guilty: list[int], why: str) -> Verdict:
    names = [self._names[number] for number in guilty[:5]]
    more = f' and {len(guilty) - 5} more' if len(guilty) > 5 else ''
    text = f'{", ".join(names)}{more} {why}. {ADVICE}'
    return Verdict(text, AGAIN, (*guilty,))

  def _part(self, selector: selectors.BaseSelector) -> None:
    """Lets the others end first: JAX's service here ends with process 0."""
    until = time.monotonic() + PARTING
    while time.monotonic() < until and len(selector.get_map()):
      for key, _ in selector.select(0.05):
        if key.data.line.read() is None:
          selector.unregister(key.fileobj)

  def _end(self, verdict: Verdict) -> None:
    """Ends the process, or lets its failing main thread do so."""
    if self._failing:
      self._verdicts.put(verdict)
      return
    if self.number in verdict.guilty and verdict.status == AGAIN:
      _show_main_thread()
    end(verdict)


def end(verdict: Verdict) -> NoReturn:
  """Prints the verdict as the last line, and ends the process at once."""
  # Not through sys.stderr, whose lock another thread may hold.
  start = '\n' * os.isatty(2)  # a line of progress may be shown
  os.write(2, f'{start}Error: {verdict.text}\n'.encode())
  os._exit(verdict.status)


def _show_main_thread() -> None:
  """Prints where the main thread of a process that hangs is."""
  frame = sys._current_frames().get(threading.main_thread().ident)
  where = ''.join(traceback.format_stack(frame, 8)) if frame else ''
  os.write(2, f'This process hangs here:\n{where}'.encode())


def _delay_aborts() -> None:
  """Lets C++ code that aborts wait for some seconds before the process ends.

  JAX's client aborts the process as soon as process 0 is gone. Its connection
  and ours close at the same moment: this thread must have time to say why. The
  handler is libc's own `sleep`, called with the signal's number as the seconds.
  It needs no lock of Python's, which the code that aborts may hold.
  """
  try:
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = ctypes.c_int, ctypes.c_void_p
    libc.signal.restype = ctypes.c_void_p
    sleep = ctypes.cast(libc.sleep, ctypes.c_void_p)
    libc.signal(int(signal.SIGABRT), sleep)
  except (AttributeError, OSError):  # another kind of system
    return
