"""Programs in their own processes, which need not import everything again.

Importing jax and TensorFlow takes longer than most runs of the tests, so a
server imports them once. A program is a fork of the server. It runs `-m MODULE`
or `-c CODE` as the interpreter would: with its own arguments, environment,
streams and signals, and with the interpreter's shutdown.
"""

import concurrent.futures
import json
import os
import select
import signal
import socket
import subprocess
import sys

# A fork of the server waits for the program and reports its status; the server
# takes the next request at once. Only the program imports its `__main__`, since
# commands define flags.
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
  *streams, report = pipes
  child = os.fork()
  if not child:
    break
  os.write(report, f'{child}\\n'.encode())
  for stream in streams:
    os.close(stream)
  status = os.waitpid(child, 0)[1]
  os.write(report, f'{os.waitstatus_to_exitcode(status)}\\n'.encode())
  os._exit(0)
os.close(report)
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
  # The server may have imported the module already.
  warnings.filterwarnings('ignore', '.*found in sys.modules', RuntimeWarning)
  runpy.run_module(what, run_name='__main__', alter_sys=True)
"""


class Program:
  """As much of subprocess.Popen as tests need."""

  def __init__(self, arguments: list[str], environment: dict[str, str]):
    self.returncode = None
    readers, writers = zip(*(os.pipe() for _ in range(3)), strict=True)
    request = {'arguments': arguments, 'environment': environment}
    server = _server(environment)
    socket.send_fds(server, [json.dumps(request).encode()], writers)
    for writer in writers:
      os.close(writer)
    self.stdout, self.stderr, self._report = map(os.fdopen, readers)
    self.pid = int(self._report.readline())

  def poll(self) -> int | None:
    """The exit status; None while it runs."""
    if self.returncode is None and select.select([self._report], [], [], 0)[0]:
      self.returncode = int(self._report.readline())
    return self.returncode

  def wait(self, timeout: float = 300.0) -> int:
    """The exit status; raises TimeoutExpired if it still runs by then."""
    if self.returncode is None:
      if not select.select([self._report], [], [], timeout)[0]:
        raise subprocess.TimeoutExpired(f'process {self.pid}', timeout)
      self.returncode = int(self._report.readline())
    return self.returncode

  def send_signal(self, number: int) -> None:
    if self.poll() is None:
      os.kill(self.pid, number)

  def kill(self) -> None:
    self.send_signal(signal.SIGKILL)

  def communicate(self, timeout: float = 300.0) -> tuple[str, str]:
    """The rest of stdout and of stderr, after the program has ended."""
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
      try:
        reads = [threads.submit(x.read) for x in (self.stdout, self.stderr)]
        self.wait(timeout)
      except BaseException:
        self.kill()
        raise
      return tuple(read.result() for read in reads)


_SERVERS = []


def _server(environment: dict[str, str]) -> socket.socket:
  """The socket of this process's server, which the first program starts."""
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
