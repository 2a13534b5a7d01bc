"""TensorBoard's files: written in this thread, completed after a kill."""

import contextlib
import functools
import os
import socket
import struct
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

from configs.commands import terminal
from input_pipeline.sources import growing, paths

PREFIX = 'events.out.tfevents.'
FLUSH = 30  # seconds between flushes, beside those the caller asks for


@functools.cache
def _library() -> SimpleNamespace:
  """What tensorboardX has of TensorBoard's formats, imported without torch.

  tensorboardX imports torch if it is installed. That takes seconds, and neither
  scalars nor texts need it.
  """
  hide = 'torch' not in sys.modules
  if hide:
    sys.modules['torch'] = None
  try:
    from tensorboardX import record_writer, summary
    from tensorboardX.proto import event_pb2
  finally:
    if hide:
      del sys.modules['torch']
  return SimpleNamespace(
    Event=event_pb2.Event,
    SessionLog=event_pb2.SessionLog,
    checksum=record_writer.masked_crc32c,
    summary=summary,
  )


class Board:
  """Appends events to a new file in a folder that TensorBoard reads.

  A full disk does not end the run, since metrics.jsonl has the same numbers:
  it is reported once, nothing more is written, and the next start adds what is
  missing. Raises OSError only if no file can be made there.

  Args:
    folder: made if it does not exist.
    first: the first step of this start. TensorBoard hides what earlier starts
      wrote for it and for later steps.
  """

  def __init__(self, folder: str, first: int):
    self._folder = folder
    self._flushed = time.monotonic()
    paths.make_folder(folder)
    # TensorBoard reads files in the order of their names.
    name = f'{PREFIX}{time.time():.6f}.{socket.gethostname()}.{first}'
    self._file = growing.GrowingFile(os.path.join(folder, name))
    self._add(file_version='brain.Event:2')
    session = _library().SessionLog
    self._add(step=first, session_log=session(status=session.START))
    self.flush()

  def scalar(self, step: int, name: str, value: float) -> None:
    self._add(step=step, summary=_library().summary.scalar(name, value))

  def text(self, step: int, name: str, text: str) -> None:
    """TensorBoard shows it as Markdown."""
    self._add(step=step, summary=_library().summary.text(name, text))

  def flush(self) -> None:
    """Hands all events to the system, where they outlive this process."""
    self._flushed = time.monotonic()
    with self._writing() as file:
      file.flush()

  def close(self) -> None:
    with self._writing() as file:
      file.close()

  def _add(self, **fields: Any) -> None:
    """Writes a TFRecord: the length, its checksum, the event, its checksum."""
    event = _library().Event(wall_time=time.time(), **fields)
    data = event.SerializeToString()
    length = struct.pack('<Q', len(data))
    with self._writing() as file:
      for part in (length, data):
        file.write(part)
        file.write(struct.pack('<I', _library().checksum(part)))
    if time.monotonic() - self._flushed > FLUSH:
      self.flush()

  @contextlib.contextmanager
  def _writing(self) -> Iterator[Any]:
    """Yields the file; after a failure, one that keeps nothing."""
    try:
      yield self._file
    except OSError as error:
      with contextlib.suppress(OSError):
        self._file.close()
      self._file = open(os.devnull, 'wb')  # noqa: SIM115
      terminal.warn(
        f'{self._folder} cannot be written ({error.strerror}): TensorBoard '
        'shows the rest when the run is started again.'
      )


def shown(folder: str) -> dict[str, set[int]]:
  """name -> the steps at which TensorBoard shows a number of that name.

  Each start hides what earlier files have for its first step and later ones.
  """
  steps = defaultdict(set)
  start = _library().SessionLog.START
  names = paths.names(folder)
  for name in sorted(name for name in names if name.startswith(PREFIX)):
    path = os.path.join(folder, name)
    for event in _events(path):
      if event.session_log.status == start:
        for name, found in steps.items():
          steps[name] = {step for step in found if step < event.step}
      for value in event.summary.value:
        if value.HasField('simple_value'):
          steps[value.tag].add(event.step)
  return steps


def texts(folder: str, name: str) -> dict[int, str]:
  """The texts of a name that TensorBoard shows: step -> text."""
  found, tag = {}, f'{name}/text_summary'
  start = _library().SessionLog.START
  files = [x for x in paths.names(folder) if x.startswith(PREFIX)]
  for file in sorted(files):
    # A start is the second event of a file; millions of scalars may follow.
    events = enumerate(_records(os.path.join(folder, file)))
    for event in _parsed(x for i, x in events if i < 2 or tag.encode() in x):
      if event.session_log.status == start:
        found = {k: text for k, text in found.items() if k < event.step}
      for value in event.summary.value:
        if value.tag == tag:
          text = b''.join(value.tensor.string_val)
          found[event.step] = text.decode(errors='replace')
  return found


def complete(
  board: Board, known: dict[str, set[int]], rows: Iterable[dict[str, Any]]
) -> None:
  """Adds the numbers of metrics.jsonl's rows that TensorBoard does not show.

  `known` is what it shows: `shown` before the board was made.
  """
  for row in rows:
    for name, value in row.items():
      if name != 'step' and row['step'] not in known.get(name, ()):
        number = float('nan') if value is None else value
        board.scalar(row['step'], name, number)


def _events(path: str) -> Iterator[Any]:
  """The events of a file, up to one that a kill or a full disk spoiled."""
  return _parsed(_records(path))


def _records(path: str) -> Iterator[bytes]:
  """The bytes of each event."""
  with paths.opened(path) as file:
    while len(header := file.read(12)) == 12:
      (length,) = struct.unpack('<Q', header[:8])
      data = file.read(length + 4)
      if len(data) < length + 4:
        return
      yield data[:-4]


def _parsed(records: Iterable[bytes]) -> Iterator[Any]:
  for record in records:
    try:
      event = _library().Event.FromString(record)
    except Exception:  # protobuf's own kind
      return
    yield event
