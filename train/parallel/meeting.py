"""How the processes of a run find one another, before JAX connects them.

Process 0 listens at the coordinator's port. The others connect and say who they
are; when all have come, or time is up, process 0 answers all of them. Then the
port is JAX's. The connections stay: `train.parallel.watch` uses them.
"""

import contextlib
import dataclasses
import errno
import selectors
import socket
import sys
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from configs.commands import terminal
from configs.commands.command import UserError
from train.parallel.lines import Line, Message

PROTOCOL = 1
AGAIN = 75  # a status: run the same command again (EX_TEMPFAIL of sysexits.h)
GREETING = 10.0  # seconds that the first messages of a connection may take
NOTE = 10.0  # seconds after which process 0 says for whom it waits
BEAT = 1.0  # seconds between signs of life
PAUSE = 0.1  # seconds between two tries to connect
RELEASE = 20.0  # seconds that an earlier start may take to give the port up


class LostError(UserError):
  """Another process is missing, has died or is hung; the status is AGAIN."""


@dataclasses.dataclass
class Member:
  """A process of the run."""

  number: int
  host: str
  line: Line | None = None  # to it; None: this process
  facts: dict[str, Any] = dataclasses.field(default_factory=dict)
  ahead: float = 0.0  # seconds that its clock is ahead of process 0's

  def __str__(self) -> str:
    return f'process {self.number} ({self.host})'


def listed(numbers: Collection[int]) -> str:
  """Processes by their numbers.

  >>> listed([1]), listed([0, 2, 3, 4])
  ('process 1', 'processes 0, 2-4')
  """
  parts = []
  for number in sorted(numbers):
    if parts and number == parts[-1][1] + 1:
      parts[-1][1] = number
    else:
      parts.append([number, number])
  words = [f'{a}' if a == b else f'{a}-{b}' for a, b in parts]
  return f'process{"es" * (len(numbers) > 1)} {", ".join(words)}'


def host(
  count: int,
  port: int,
  facts: dict[str, Any],
  timeout: float,
  judge: Callable[[Sequence[Member]], str],
) -> list[Member]:
  """Process 0's part: waits for the others and answers them.

  Args:
    count: of the processes, with this one.
    port: where to listen, on all addresses of this host.
    facts: JSON-able, about this process.
    timeout: seconds to wait for the others.
    judge: what is wrong with the facts of all; '' if nothing is.

  Returns:
    All processes by number. The port is free again.

  Raises:
    UserError: the port is taken; two processes have one number; what `judge`
      says. The others get the same message.
    LostError: not all have come.
  """
  members = {0: Member(0, socket.gethostname(), facts=facts)}
  with _listen(port, count, timeout) as server:
    _gather(server, members, count, port, timeout)
  found = [members[number] for number in range(count)]
  if problem := judge(found):
    _refuse(members, problem)
    raise UserError(problem)
  for member in found[1:]:
    member.line.send(go=found[0].host)
  return found


def _listen(port: int, count: int, timeout: float) -> socket.socket:
  """A socket that listens at the port, for IPv4 and, where there is, IPv6."""
  both = socket.has_dualstack_ipv6()
  options = {'family': socket.AF_INET6, 'dualstack_ipv6': True} if both else {}
  until = time.monotonic() + min(timeout, RELEASE)
  while True:
    try:
      return socket.create_server(('', port), backlog=count + 16, **options)
    except OSError as error:
      if error.errno != errno.EADDRINUSE:
        raise UserError(
          f'--coordinator: process 0 cannot listen at port {port} '
          f'({error.strerror}). Give another port.'
        ) from None
    if time.monotonic() > until:
      raise UserError(
        f'--coordinator: port {port} of this host ({socket.gethostname()}) is '
        'taken: another program, an earlier start of this run or another '
        'process 0 listens there. End it, or give all processes another port.'
      )
    time.sleep(PAUSE)


def _gather(
  server: socket.socket,
  members: dict[int, Member],
  count: int,
  port: int,
  timeout: float,
) -> None:
  """Adds the others to `members` as they come; raises as `host` does."""
  begun, said = time.monotonic(), False
  beaten, strangers = begun, {}  # line -> when it was greeted, by two clocks
  with selectors.DefaultSelector() as selector:
    selector.register(server, selectors.EVENT_READ)
    while len(members) < count:
      for key, _ in selector.select(PAUSE):
        if key.fileobj is server:
          with contextlib.suppress(OSError):
            line = Line(server.accept()[0])
            strangers[line] = time.monotonic(), time.time()
            selector.register(line, selectors.EVENT_READ)
            line.send(treeline=PROTOCOL)
          continue
        line = key.fileobj
        messages = line.read()
        if line in strangers and messages:
          _admit(members, line, messages[0], count, strangers.pop(line))
        elif messages is None:  # ended before all had come, or a stranger
          selector.unregister(line)
          line.close()
          strangers.pop(line, None)
          for number in [n for n, x in members.items() if x.line is line]:
            del members[number]
      now = time.monotonic()
      for line in [x for x, (t, _) in strangers.items() if now - t > GREETING]:
        selector.unregister(line)
        line.close()
        del strangers[line]
      if now - beaten > BEAT:
        beaten = now
        for member in members.values():
          if member.line:
            member.line.send(beat=1)
      missing = listed(set(range(count)) - members.keys())
      if len(members) < count and now - begun > timeout:
        text = (
          f'{missing} of {count} did not come to port {port} of process 0 '
          f'({members[0].host}) within --join_timeout={timeout:g} s. Start '
          'the same command there, with the same --coordinator; if it runs, '
          'can that host reach this port?'
        )
        _refuse(members, text, AGAIN)
        raise LostError(text)
      if len(members) < count and now - begun > NOTE and not said:
        said = True
        terminal.say(
          f'Waiting up to {timeout:g} s for {missing} of {count} at port '
          f'{port}.',
          sys.stderr,
        )


def _admit(
  members: dict[int, Member],
  line: Line,
  hello: Message,
  count: int,
  greeted: tuple[float, float],
) -> None:
  """Makes the sender of `hello` a member. Raises UserError if it is odd."""
  number, its = hello.get('process'), str(hello.get('host'))
  if hello.get('of') != count:
    problem = (
      f'--processes={hello.get("of")} on process {number} ({its}), but '
      f'{count} on process 0 ({members[0].host}): give all the same.'
    )
  elif number in members:
    problem = (
      f'--process={number} was given to two processes, on '
      f'{members[number].host} and on {its}. Each needs a number of its own.'
    )
  else:
    # It answered at about the middle of the time between greeting and now.
    passed = time.monotonic() - greeted[0]
    ahead = hello.get('time', 0.0) - (greeted[1] + passed / 2)
    members[number] = Member(number, its, line, hello.get('facts', {}), ahead)
    return
  line.send(end=problem, status=1)
  _refuse(members, problem)
  raise UserError(problem)


def _refuse(members: dict[int, Member], problem: str, status: int = 1) -> None:
  """Ends the others with the message."""
  for member in members.values():
    if member.line:
      member.line.send(end=problem, status=status)


def attend(
  address: str,
  number: int,
  count: int,
  facts: dict[str, Any],
  timeout: float,
) -> Member:
  """The part of the other processes: returns process 0, with a line to it.

  Arguments are as those of `host`; `address` is HOST:PORT. Raises UserError for
  what process 0 says is wrong, and LostError if it, or another one, is missing.
  """
  name, _, port = address.rpartition(':')
  begun, why = time.monotonic(), ''
  while time.monotonic() - begun < timeout:
    try:
      line = Line(socket.create_connection((name.strip('[]'), int(port)), 5.0))
    except OSError as error:
      why = error.strerror or str(error)
    else:
      member, why = _attend(line, number, count, facts)
      if member:
        return member
      line.close()
    time.sleep(PAUSE)
  raise LostError(
    f'process 0 of {count} did not answer at --coordinator={address} within '
    f'--join_timeout={timeout:g} s ({why}). Start it there, or correct the '
    'address on this host; if it runs, can this host reach that port?'
  )


def _attend(
  line: Line, number: int, count: int, facts: dict[str, Any]
) -> tuple[Member | None, str]:
  """Process 0, once all have come; None and the reason if it did not answer."""
  greeted, heard = False, time.monotonic()
  with selectors.DefaultSelector() as selector:
    selector.register(line, selectors.EVENT_READ)
    while time.monotonic() - heard < GREETING:
      messages = line.read() if selector.select(PAUSE) else []
      if messages is None and not greeted:
        return None, 'another program answers there'
      if messages is None:
        return None, 'it ended before all had come'
      for message in messages:
        heard = time.monotonic()
        if 'end' in message:
          status = message.get('status')
          raise (LostError if status == AGAIN else UserError)(message['end'])
        if 'go' in message:
          return Member(0, message['go'], line), ''
        if message.get('treeline') == PROTOCOL:
          greeted = line.send(
            process=number, of=count, host=socket.gethostname(),
            time=time.time(), facts=facts,
          )  # fmt: skip
  return None, 'it no longer answers' if greeted else 'no answer'
