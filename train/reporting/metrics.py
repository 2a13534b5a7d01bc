"""A run's numbers: metrics.jsonl, TensorBoard and curves.png in its workdir."""

import contextlib
import json
import math
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from matplotlib import ticker
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from input_pipeline.sources import paths
from train.reporting import board

PANELS = {
  'loss (nats per token)': ('train/loss', 'eval/loss'),
  'accuracy': ('train/accuracy', 'eval/accuracy'),
  'learning rate': ('train/learning_rate',),
  'tokens per second': ('train/tokens_per_second',),
}
POINTS = 2048  # at most, in a curve


class MetricsWriter:
  """Appends numbers to WORKDIR/metrics.jsonl and WORKDIR/tensorboard.

  A row of metrics.jsonl is a JSON object: `step`, the number of updates made,
  and the numbers. A number that is not finite is written as null.

  Args:
    workdir: an existing directory.
    resume_step: the step of the checkpoint that the run resumes from. Rows
      after it are dropped, since they are made again, and so is a last line
      that a kill cut short. None starts anew: all rows are dropped.
    active: False writes nothing; only one process of a run may write.
    rows: how many that checkpoint was saved after, at least; it is reported
      where there are fewer.

  Attributes:
    rows: how many there are.

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
    self.rows = 0
    if not active:
      return
    self._path = os.path.join(workdir, 'metrics.jsonl')
    last = -1 if resume_step is None else resume_step
    with _writing(self._path):
      if os.path.exists(self._path):
        self.rows = _keep_until(self._path, last)
      self._file = open(self._path, 'a', encoding='utf-8')  # noqa: SIM115
    if self.rows < rows:
      print(
        f'Warning: {self._path} lacks {rows - self.rows} of the {rows} rows '
        f'up to step {last}: the curves have a gap. The run itself goes on '
        'unharmed.',
        file=sys.stderr,
        flush=True,
      )
    folder = os.path.join(workdir, 'tensorboard')
    known = board.shown(folder)
    with _writing(folder):
      self._board = board.Board(folder, last + 1)
    board.complete(self._board, known, read_metrics(workdir))

  def write(self, step: int, numbers: Mapping[str, Any]) -> None:
    """Writes one row, and flushes it: {'train/loss': scalar, ...}."""
    if not self.active:
      return
    numbers = {name: float(x) for name, x in numbers.items()}
    row = {'step': int(step)}
    for name, x in numbers.items():
      row[name] = x if math.isfinite(x) else None
    with _writing(self._path):  # first: it tells of a full disk
      self._file.write(json.dumps(row) + '\n')
      self._file.flush()
    self.rows += 1
    for name, x in numbers.items():
      self._board.scalar(step, name, x)

  def write_text(self, step: int, name: str, text: str) -> None:
    """Shows a text, as Markdown, in TensorBoard alone."""
    if self.active:
      self._board.text(step, name, text)

  def flush(self) -> None:
    """Until all lies on the disk: a checkpoint after it may count the rows."""
    if self.active:
      with _writing(self._path):
        os.fsync(self._file.fileno())
      self._board.flush()

  def close(self) -> None:
    if self.active:
      with _writing(self._path):
        self._file.close()
      self._board.close()

  def __enter__(self) -> 'MetricsWriter':
    return self

  def __exit__(self, kind, error, trace) -> None:
    try:
      self.close()
    except OSError:
      if error is None:  # else the error that came first is raised
        raise


def read_metrics(workdir: str) -> Iterator[dict[str, Any]]:
  """The rows of WORKDIR/metrics.jsonl, without a last line cut short.

  Raises:
    ValueError: a whole line is not a row; names it.
  """
  for row, _ in _rows(os.path.join(workdir, 'metrics.jsonl')):
    yield row


def draw_curves(workdir: str) -> None:
  """Draws WORKDIR/curves.png from WORKDIR/metrics.jsonl.

  A long run's neighbouring values are averaged into at most `POINTS` points.
  A panel without numbers is left out.
  """
  curves = defaultdict(_Curve)
  wanted = {name for names in PANELS.values() for name in names}
  for row in read_metrics(workdir):
    for name in wanted & row.keys():
      value = math.nan if row[name] is None else row[name]
      curves[name].add(row['step'], value)
  panels = {
    title: names
    for title, names in PANELS.items()
    if any(name in curves for name in names)
  }
  if not panels:
    return

  figure = Figure(figsize=(11, 3.6 * math.ceil(len(panels) / 2)), dpi=120)
  FigureCanvasAgg(figure)
  figure.set_layout_engine('constrained', w_pad=0.1, h_pad=0.1)
  figure.suptitle(os.path.basename(os.path.abspath(workdir)))
  for i, (title, names) in enumerate(panels.items(), 1):
    axes = figure.add_subplot(math.ceil(len(panels) / 2), 2, i)
    axes.set_title(title, loc='left', fontsize=10)
    axes.grid(color='0.92')
    axes.spines[['top', 'right']].set_visible(False)
    axes.xaxis.set_major_formatter(ticker.EngFormatter(sep=''))
    axes.set_xlabel('step')
    for name in names:
      if name in curves:
        _draw(axes, name, *curves[name].points())
    axes.legend(frameon=False, fontsize=9)
    if title == 'tokens per second':
      axes.yaxis.set_major_formatter(ticker.EngFormatter(sep=''))
      axes.set_ylim(bottom=0)

  path = os.path.join(workdir, 'curves.png')
  with _writing(path), paths.replacing(path) as file:
    figure.savefig(file, format='png')


def _draw(axes, name, steps, values):
  last = f'{values[-1]:,.0f}' if values[-1] >= 1000 else f'{values[-1]:.4g}'
  label = f'{name.split("/")[0]} {last}'
  if name.startswith('eval'):
    axes.plot(steps, values, 'o-', color='tab:orange', ms=4, label=label)
  else:
    axes.plot(steps, values, color='tab:blue', lw=1.2, label=label)


class _Curve:
  """Means of equally many neighbouring values, at most POINTS of them."""

  def __init__(self):
    self.sums = []  # of [values, steps, ones]
    self.share = 1  # values in a mean

  def add(self, step, value):
    if not self.sums or self.sums[-1][2] == self.share:
      if len(self.sums) == POINTS:
        pairs = zip(self.sums[::2], self.sums[1::2], strict=True)
        self.sums = [[x + y for x, y in zip(*p, strict=True)] for p in pairs]
        self.share *= 2
      self.sums.append([0.0, 0, 0])
    last = self.sums[-1]
    last[0] += value
    last[1] += step
    last[2] += 1

  def points(self):
    steps = [step / count for _, step, count in self.sums]
    return steps, [value / count for value, _, count in self.sums]


def _rows(path):
  """Pairs of a row and the line that holds it."""
  with open(path, 'rb') as file:
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


def _keep_until(path, step):
  """Drops the rows after a step; returns how many are left."""
  kept = 0
  with paths.replacing(path) as file:
    for row, line in _rows(path):
      if row['step'] <= step:
        file.write(line)
        kept += 1
  return kept


@contextlib.contextmanager
def _writing(path):
  try:
    yield
  except OSError as error:
    raise OSError(
      error.errno,
      f'Cannot write {path}: {error.strerror}. Make the disk writable, with '
      'space on it, and start the run again: it resumes.',
    ) from error
