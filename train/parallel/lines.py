"""A connection between two processes: JSON objects, one a line, over TCP."""

import contextlib
import json
import socket
import threading
from typing import Any

LONGEST = 1 << 26  # bytes of a message; a config or fingerprint has thousands
# A host that is lost without a word (power, network) closes no connection. Its
# kernel no longer answers: after so many seconds ours closes it.
IDLE, INTERVAL, PROBES = 10, 5, 4
SEND = 30.0  # seconds a message may wait for room

Message = dict[str, Any]


class Line:
  """One end of a connection. Any thread may send; one receives.

  Args:
    connection: a connected TCP socket.
  """

  def __init__(self, connection: socket.socket):
    self.socket = connection
    self._bytes = b''
    self._lock = threading.Lock()
    connection.settimeout(SEND)
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    options += [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in (  # Linux has them all, others some
      ('TCP_KEEPIDLE', IDLE),
      ('TCP_KEEPINTVL', INTERVAL),
      ('TCP_KEEPCNT', PROBES),
      ('TCP_USER_TIMEOUT', 1000 * (IDLE + INTERVAL * PROBES)),
    ):
      if hasattr(socket, name):
        options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    for option in options:
      with contextlib.suppress(OSError):
        connection.setsockopt(*option)

  def fileno(self) -> int:
    """For `selectors`."""
    return self.socket.fileno()

  def send(self, **message: Any) -> bool:
    """Sends a message; returns False if the other end is gone."""
    data = json.dumps(message).encode() + b'\n'
    with self._lock:
      try:
        self.socket.sendall(data)
      except OSError:
        return False
    return True

  def read(self) -> list[Message] | None:
    """The messages that have come: waits for bytes, not for a whole message.

    None: the other end is gone, or does not send such messages.
    """
    try:
      found = self.socket.recv(1 << 16)
    except TimeoutError:
      return []
    except OSError:
      return None
    if not found:
      return None
    *whole, self._bytes = (self._bytes + found).split(b'\n')
    if len(self._bytes) > LONGEST:
      return None
    try:
      messages = [json.loads(line) for line in whole]
    except ValueError:
      return None
    return messages if all(isinstance(x, dict) for x in messages) else None

  def close(self) -> None:
    with contextlib.suppress(OSError):
      self.socket.close()
