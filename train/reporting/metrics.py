"""A run's numbers: rows of metrics.jsonl, and TensorBoard's files."""

import contextlib
import io
import json
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

from configs.commands import terminal
from input_pipeline.sources import growing, paths
from train.reporting import board


class MetricsWriter:
  """Appends numbers to WORKDIR/metrics.jsonl and WORKDIR/tensorboard.

  A row of metrics.jsonl is a JSON object: `step`, the number of updates made,
  and the numbers. A number that is not finite is written as null.

  Args:
    workdir: an existing folder.
    resume_step: the step of the checkpoint that the run resumes from. Later
      rows are dropped, since the run makes them again; so is a last line that a
      kill cut short. None drops all rows.
    active: False writes nothing; only one process of a run may write.
    rows: how many rows there were when that checkpoint was saved. A warning
      says so if some are missing. The attribute counts the rows there are.

  Raises:
    OSError: the disk is full or read-only.
    ValueError: a whole line of metrics.jsonl is not a row.
  """

  def __init__(
    self,
    workdir: str,
    resume_step: int | None = None,
    active: bool = True,
    rows: int = 0,
  ):
    self.active = active
    self._workdir = workdir
    self.rows = 0
    if active:
      self._open(resume_step, rows)

  def go_back(self, step: int) -> None:
    """Drops the rows after a step, which are made again."""
    self.close()
    self.rows = 0
    if self.active:
      self._open(step, 0)

  def _open(self, resume_step, rows):
    self._path = os.path.join(self._workdir, 'metrics.jsonl')
    last = -1 if resume_step is None else resume_step
    with writing(self._path):
      if paths.exists(self._path):
        with paths.replacing(self._path) as file:
          for row, line in _rows(self._path):
            if row['step'] <= last:
              file.write(line)
              self.rows += 1
      self._file = growing.GrowingFile(self._path, keep=True)
    if self.rows < rows:
      terminal.warn(
        f'{self._path} lacks {rows - self.rows} of the {rows} rows up to step '
        f'{last}: the curves have a gap. The run itself is not affected.'
      )
    folder = os.path.join(self._workdir, 'tensorboard')
    known = board.shown(folder)
    with writing(folder):
      self._board = board.Board(folder, last + 1)
    board.complete(self._board, known, read_metrics(self._workdir))

  def write(self, step: int, numbers: Mapping[str, Any]) -> None:
    """Writes and flushes one row, such as {'train/loss': scalar, ...}."""
    if not self.active:
      return
    numbers = {name: float(x) for name, x in numbers.items()}
    finite = {k: x if math.isfinite(x) else None for k, x in numbers.items()}
    row = {'step': int(step)} | finite
    with writing(self._path):  # before TensorBoard, which raises no error
      self._file.write(f'{json.dumps(row)}\n'.encode())
      self._file.flush()
    self.rows += 1
    for name, x in numbers.items():
      self._board.scalar(step, name, x)

  def write_text(self, step: int, name: str, text: str) -> None:
    """Writes a text, as Markdown, to TensorBoard alone."""
    if self.active:
      self._board.text(step, name, text)

  def flush(self) -> None:
    """Waits until all rows are on disk: a checkpoint may then count them."""
    if self.active:
      with writing(self._path):
        self._file.sync()
      self._board.flush()

  def close(self) -> None:
    if self.active:
      with writing(self._path):
        self._file.close()
      self._board.close()

  def __enter__(self) -> 'MetricsWriter':
    return self

  def __exit__(self, kind, error, trace) -> None:
    try:
      self.close()
    except OSError:
      if error is None:  # otherwise the first error is raised
        raise


def read_metrics(workdir: str) -> Iterator[dict[str, Any]]:
  """The rows of WORKDIR/metrics.jsonl, without a last line cut short.

  Raises ValueError if a whole line is not a row; names it.
  """
  for row, _ in _rows(os.path.join(workdir, 'metrics.jsonl')):
    yield row


@contextlib.contextmanager
def writing(path: str) -> Iterator[None]:
  """An OSError inside it names `path` and says what to do."""
  try:
    yield
  except OSError as error:
    raise OSError(
      error.errno,
      f'Cannot write {path}: {error.strerror}. Make the disk writable, with '
      'space on it, and start the run again: it resumes.',
    ) from error


def _rows(path: str) -> Iterator[tuple[dict[str, Any], bytes]]:
  """Each row, and the line that holds it."""
  # A remote file is read at once; a local one may be long, or still grow.
  remote = paths.is_remote(path)
  with io.BytesIO(paths.read(path)) if remote else open(path, 'rb') as file:
    for number, line in enumerate(file, 1):
      if not line.endswith(b'\n'):
        return  # the last line, cut short
      try:
        row = json.loads(line)
        row['step'] + 0
      except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
          f'{path}, line {number}, is not a row of metrics: {line[:80]!r}. '
          'Remove this line.'
        ) from error
      yield row, line
