"""Serves a report to browsers on this machine while its runs go on."""

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from train.comparing.page import Report

HOST = '127.0.0.1'  # nobody else's machine can ask


class Newest:
  """The report as it is now, made again when it is asked for and is old.

  Args:
    make: makes it.
    every: seconds that one is kept for.
  """

  def __init__(self, make: Callable[[], Report], every: float):
    self._make, self._every = make, every
    self._lock = threading.Lock()
    self._report, self._made = None, 0.0

  def __call__(self) -> Report:
    with self._lock:
      if not self._report or time.monotonic() - self._made > self._every:
        self._report, self._made = self._make(), time.monotonic()
      return self._report


def server(newest: Callable[[], Report], port: int = 0) -> ThreadingHTTPServer:
  """A server of the page at / and its PNGs beside it, on loopback alone.

  Port 0 is any that is free. Raises OSError if the port is taken.
  """

  class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
      # A page of another site may not read this one under a name of its own.
      name = self.headers.get('Host', '').rpartition(':')[0]
      if name not in (HOST, 'localhost'):
        self.send_error(403)
        return
      report, path = newest(), self.path.partition('?')[0]
      found = {'/': ('text/html; charset=utf-8', report.html.encode())}
      found |= {f'/{k}': ('image/png', x) for k, x in report.pngs.items()}
      if path not in found:
        self.send_error(404)
        return
      kind, data = found[path]
      self.send_response(200)
      self.send_header('Content-Type', kind)
      self.send_header('Content-Length', str(len(data)))
      self.send_header('Cache-Control', 'no-store')
      self.send_header('X-Content-Type-Options', 'nosniff')
      self.end_headers()
      self.wfile.write(data)

    def log_message(self, *unused):
      """Says nothing of requests."""

  class Server(ThreadingHTTPServer):
    daemon_threads = True  # a browser that waits does not keep the command

  try:
    return Server((HOST, port), Handler)
  except OSError as error:
    raise OSError(
      error.errno,
      f'--port={port} cannot be served on ({error.strerror}). Give another; 0 '
      'takes any that is free.',
    ) from error
