"""Processes find one another, or say who is missing. Here they are threads."""

import concurrent.futures
import socket
import threading
import time

import pytest

from configs.commands.command import UserError
from tests.helpers.processes import free_port
from train.parallel import meeting
from train.parallel.lines import Line
from train.parallel.meeting import LostError, listed

HOST = socket.gethostname()


def agree(members):
  return ''


@pytest.fixture
def threads():
  with concurrent.futures.ThreadPoolExecutor(8) as found:
    yield found


@pytest.fixture(autouse=True)
def quick(monkeypatch):
  monkeypatch.setattr(meeting, 'PAUSE', 0.01)
  monkeypatch.setattr(meeting, 'BEAT', 0.05)


def meet(threads, numbers, count, timeout=20.0, judge=agree, port=None):
  """What each process got: members, process 0, or an error."""
  port = port or free_port()

  def one(number):
    facts = {'number': number}
    try:
      if number == 0:
        return meeting.host(count, port, facts, timeout, judge)
      address = f'localhost:{port}'
      return meeting.attend(address, number, count, facts, timeout)
    except UserError as error:
      return error

  return list(threads.map(one, numbers))


def test_all_come(threads):
  members, *others = meet(threads, range(4), 4)
  assert [x.number for x in members] == [0, 1, 2, 3]
  assert [x.facts['number'] for x in members] == [0, 1, 2, 3]
  assert {x.host for x in members} == {HOST}
  assert all(abs(x.ahead) < 1 for x in members)
  # The lines stay, and the port is free for a listener that takes turns.
  for member, first in zip(members[1:], others, strict=True):
    assert first.number == 0
    assert member.line.send(beat=7)
    assert first.line.read() == [{'beat': 7}]
    first.line.close()
    assert member.line.read() is None


def test_the_port_can_be_taken_over(threads):
  """JAX's service listens there while our lines are open."""
  port = free_port()
  members, first = meet(threads, range(2), 2, port=port)
  with socket.create_server(('', port)):
    assert members[1].line.send(beat=1)
    assert first.line.read() == [{'beat': 1}]


def test_the_missing_are_named(threads):
  present = meet(threads, (0, 2), 5, timeout=0.5)
  for error in present:
    assert isinstance(error, LostError)
    assert str(error).startswith('processes 1, 3-4 of 5 did not come to port ')
    assert f'process 0 ({HOST}) within --join_timeout=0.5 s' in str(error)


def test_process_0_is_missing(threads):
  (error,) = meet(threads, [1], 2, timeout=0.3)
  assert isinstance(error, LostError)
  assert str(error).startswith('process 0 of 2 did not answer at --coord')
  assert '(Connection refused)' in str(error)


def test_a_host_that_is_not_known(monkeypatch):
  def unknown(*_):
    raise socket.gaierror(-2, 'Name or service not known')

  monkeypatch.setattr(socket, 'create_connection', unknown)
  with pytest.raises(LostError, match=r'nowhere:1 .*Name or service not known'):
    meeting.attend('nowhere:1', 1, 2, {}, 0.1)


def test_another_program_listens(threads, monkeypatch):
  """Process 0 says so at once; the others, that it is not ours."""
  monkeypatch.setattr(meeting, 'GREETING', 0.2)
  with socket.create_server(('', 0)) as server:
    port = server.getsockname()[1]
    first, second = meet(threads, (0, 1), 2, timeout=0.5, port=port)
  assert not isinstance(first, LostError)
  assert f'port {port} of this host ({HOST}) is taken' in str(first)
  assert 'give all processes another port' in str(first)
  assert isinstance(second, LostError)
  assert '(no answer)' in str(second)


def test_an_earlier_start_gives_the_port_up(threads):
  with socket.create_server(('', 0)) as server:
    port = server.getsockname()[1]
    first = threads.submit(meet, threads, [0], 2, port=port)
    time.sleep(0.1)
  meet(threads, [1], 2, port=port)
  assert len(first.result()[0]) == 2


def test_a_program_that_is_not_ours_connects(threads):
  """It disturbs nobody."""
  port = free_port()

  def stranger():
    while True:
      try:
        connection = socket.create_connection(('localhost', port))
      except OSError:
        time.sleep(0.01)
        continue
      connection.sendall(b'GET / HTTP/1.1\r\n\r\n')
      return connection

  odd = threads.submit(stranger)
  first = threads.submit(meet, threads, [0], 2, port=port)
  odd.result().close()
  (second,) = meet(threads, [1], 2, port=port)
  assert second.number == 0
  assert len(first.result()[0]) == 2


def test_one_that_comes_again(threads):
  """It ended before all had come, and was started again."""
  port = free_port()
  first = threads.submit(meet, threads, [0], 3, port=port)
  while True:
    try:
      line = Line(socket.create_connection(('localhost', port)))
      break
    except OSError:
      time.sleep(0.01)
  line.send(process=1, of=3, host='before', time=0.0, facts={})
  while not any('beat' in x for x in line.read()):  # it is a member
    pass
  line.close()
  meet(threads, (1, 2), 3, port=port)
  assert [x.host for x in first.result()[0]] == [HOST] * 3


@pytest.mark.parametrize(('number', 'of'), [(1, 2), (2, 4)])
def test_numbers_that_do_not_fit(threads, number, of):
  """Two with one number, or with another number of processes."""
  port = free_port()
  first = threads.submit(meet, threads, [0, 1], 3, port=port)
  time.sleep(0.1)
  with pytest.raises(UserError) as failed:
    meeting.attend(f'localhost:{port}', number, of, {}, 20.0)
  expected = f'--processes={of} on process {number} ({HOST}), but 3 on process'
  assert expected in str(failed.value)
  for error in first.result():
    assert str(error) == str(failed.value)


def test_one_number_twice(threads):
  errors = meet(threads, (0, 1, 1), 3)
  for error in errors:
    assert f'--process=1 was given to two processes, on {HOST} and' in str(
      error
    )


def test_all_hear_what_is_wrong(threads):
  judged = threading.Event()

  def judge(members):
    judged.set()
    return f'{members[2]} is odd'

  errors = meet(threads, range(3), 3, judge=judge)
  assert judged.is_set()
  assert [str(x) for x in errors] == [f'process 2 ({HOST}) is odd'] * 3
  assert not any(isinstance(x, LostError) for x in errors)


def test_clocks_are_compared(threads, monkeypatch):
  own = time.time
  ahead = {True: 37.0, False: 0.0}
  monkeypatch.setattr(
    meeting.time, 'time', lambda: own() + ahead[getattr(local, 'odd', False)]
  )
  local = threading.local()
  port = free_port()

  def one(number):
    local.odd = number == 1
    return meet_one(number, port)

  def meet_one(number, port):
    if number == 0:
      return meeting.host(3, port, {}, 20.0, agree)
    return meeting.attend(f'localhost:{port}', number, 3, {}, 20.0)

  members, *_ = threads.map(one, range(3))
  found = [x.ahead for x in members]
  assert found == [0.0, pytest.approx(37, abs=1), pytest.approx(0, abs=1)]


def test_lists_of_processes():
  assert listed([3]) == 'process 3'
  assert listed({5, 0, 1, 2, 9}) == 'processes 0-2, 5, 9'
