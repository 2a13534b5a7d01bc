"""Programs in processes of their own, without importing everything each time.

Importing jax and TensorFlow takes longer than most runs of the tests. A server
imports them once; a program is a fork of it, which runs `-m MODULE` or `-c
CODE` as the interpreter would: with arguments, environment and streams of its
own, a process that signals reach, and the interpreter's own end.
"""

import concurrent.futures
import json
import os
import select
import signal
import socket
import subprocess
import sys

# A fork, `keeper`, waits for the program and tells its status; the server goes
# on to the next request at once. Commands (`__main__`) define flags: theirs is
# imported by the program alone.
SERVER = """
import json, os, runpy, signal, socket, sys, warnings

import models.pretrained, tensorflow, train.loop, train.pretrained

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
server = socket.socket(fileno=int(sys.argv[1]))
while True:
  message, pipes, *_ = socket.recv_fds(server, 1 << 20, 3)
  if not message:
    os._exit(0)
  if os.fork():  # the server
    for pipe in pipes:
      os.close(pipe)
    continue
  server.close()
  signal.signal(signal.SIGCHLD, signal.SIG_DFL)
  *streams, told = pipes
  child = os.fork()
  if not child:
    break
  os.write(told, f'{child}\\n'.encode())
  for stream in streams:
    os.close(stream)
  status = os.waitpid(child, 0)[1]
  os.write(told, f'{os.waitstatus_to_exitcode(status)}\\n'.encode())
  os._exit(0)
os.close(told)
for number, stream in enumerate(streams, 1):
  os.dup2(stream, number)
  os.close(stream)
# Pipes cannot seek, where the server's own streams may have been files.
sys.stdout = open(1, 'w', closefd=False)
sys.stderr = open(2, 'w', 1, errors='backslashreplace', closefd=False)
request = json.loads(message)
os.environ.clear()
os.environ.update(request['environment'])
kind, what, *flags = request['arguments']
sys.argv = [kind, *flags]
if kind == '-c':
  exec(what, {'__name__': '__main__'})
else:
  # The module is there already where another program imports it too.
  warnings.filterwarnings('ignore', '.*found in sys.modules', RuntimeWarning)
  runpy.run_module(what, run_name='__main__', alter_sys=True)
"""


class Program:
  """As much of subprocess.Popen as tests need."""

  def __init__(self, arguments, environment):
    self.returncode = None
    readers, writers = zip(*(os.pipe() for _ in range(3)), strict=True)
    request = {'arguments': arguments, 'environment': environment}
    server = _server(environment)
    socket.send_fds(server, [json.dumps(request).encode()], writers)
    for writer in writers:
      os.close(writer)
    self.stdout, self.stderr, self._told = map(os.fdopen, readers)
    self.pid = int(self._told.readline())

  def poll(self):
    """The exit status, None while it runs."""
    if self.returncode is None and select.select([self._told], [], [], 0)[0]:
      self.returncode = int(self._told.readline())
    return self.returncode

  def wait(self, timeout=300.0):
    """The exit status; TimeoutExpired when there is none by then."""
    if self.returncode is None:
      if not select.select([self._told], [], [], timeout)[0]:
        raise subprocess.TimeoutExpired(f'process {self.pid}', timeout)
      self.returncode = int(self._told.readline())
    return self.returncode

  def send_signal(self, number):
    if self.poll() is None:
      os.kill(self.pid, number)

  def kill(self):
    self.send_signal(signal.SIGKILL)

  def communicate(self, timeout=300.0):
    """What is left of stdout and of stderr, read to their ends."""
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
      try:
        reads = [threads.submit(x.read) for x in (self.stdout, self.stderr)]
        self.wait(timeout)
      except BaseException:
        self.kill()
        raise
      return tuple(read.result() for read in reads)


_SERVERS = []


def _server(environment):
  """The socket of this process's server, started with the first program."""
  if not _SERVERS:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = subprocess.Popen(
      [sys.executable, '-c', SERVER, str(theirs.fileno())],
      env=environment,
      stderr=subprocess.DEVNULL,  # jax warns of each fork
      pass_fds=[theirs.fileno()],
    )
    theirs.close()
    _SERVERS.append((ours, process))
  return _SERVERS[0][0]
