"""Where a run's time goes: its parts between rows, and over all of its starts.

Every moment of the first process belongs to one part:

  startup     from the command to the first step, but for the next two
  compile     compiling the training step
  restore     reading the checkpoint that it resumes from
  compute     the training steps; the rest of the loop too
  input       waiting for the next batch while the devices have nothing to do
  checkpoint  saving, as long as it holds training up
  evaluation  held-out splits, tasks and samples; compiling for them
  logging     writing rows and curves
  rewind      after a spike: reading the checkpoint and skipping batches
  profile     writing a profile

The next step is started before the one before has ended, so waiting for a batch
costs nothing while the devices compute. When a step's numbers are ready is seen
by a thread that waits for them: training itself never does. Of several
processes the first one's time counts; if another one waits for a batch, the
first waits for it inside a step, which is `compute`.

WORKDIR/time.jsonl has a row for the start of each process, and one for each
row of metrics, save, evaluation and end: the step, and the seconds of each part
since the row before. It is only appended to. A process that is killed loses the
time since its last row, which then counts as `down`.
"""

import collections
import contextlib
import dataclasses
import json
import math
import os
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from configs.commands import startup
from input_pipeline.sources import growing, paths
from train.reporting.metrics import writing

NAME = 'time.jsonl'
# In each row of metrics.
ALWAYS = 'compute', 'input', 'checkpoint', 'evaluation'
LOST, DOWN = 'lost', 'down'
# What a table says of each part of a run's life.
MEANINGS = {
  'compute': 'training steps that count',
  LOST: 'training steps that a restart or a rewind made again',
  'startup': 'starting: imports, data, tokenizer, state',
  'compile': 'compiling the training step',
  'restore': 'reading the checkpoint to resume from',
  'input': 'waiting for batches, the devices idle',
  'checkpoint': 'saving',
  'evaluation': 'evaluating',
  'logging': 'writing rows and curves',
  'rewind': 'going back from spikes, skipping batches',
  'profile': 'writing profiles',
  DOWN: 'between processes, and unrecorded before a kill',
}


class _Devices:
  """When the devices ended the newest step, seen by a thread."""

  def __init__(self):
    self._queue = queue.SimpleQueue()
    self._started = self._ended = 0  # steps
    self._at = -math.inf
    self._thread = threading.Thread(target=self._watch, daemon=True)

  def started(self, numbers: Any) -> None:
    if not self._started:
      self._thread.start()
    self._started += 1
    self._queue.put(numbers)

  def idle_since(self) -> float:
    """The time since which they have nothing to do; inf if they compute."""
    return self._at if self._ended == self._started else math.inf

  def close(self) -> None:
    if self._started:
      self._queue.put(None)
      # The last step may be under way. If another process has failed, it never
      # ends.
      self._thread.join(timeout=5 if jax.process_count() > 1 else None)

  def _watch(self):
    while (numbers := self._queue.get()) is not None:
      # A step that fails is reported where its numbers are read.
      with contextlib.suppress(Exception):
        jax.block_until_ready(numbers)
      self._at = time.perf_counter()
      self._ended += 1


class Record:
  """Divides the time of this process, and appends it to WORKDIR/time.jsonl.

  Args:
    workdir: an existing folder.
    active: False writes nothing; only one process of a run may write.

  Raises:
    OSError: the disk is full or read-only.
    ValueError: a whole line of time.jsonl is not a row.
  """

  def __init__(self, workdir: str, active: bool = True):
    self._name, self._since = 'startup', time.perf_counter()
    self._parts = collections.Counter()  # since the last row of time.jsonl
    self._shown = collections.Counter()  # since the last row of metrics
    # A command began before this; its imports took seconds.
    began = startup.began.pop() if startup.began else time.time()
    self._parts['startup'] = time.time() - began
    self._devices = _Devices()
    self._active, self._step = active, 0
    self.life = Life()
    if not active:
      return
    self._path = os.path.join(workdir, NAME)
    with writing(self._path):
      if paths.exists(self._path):
        self.life = read(workdir)
        self._step = self.life.step  # until `mark` says where it goes on
        _cut_last_line(self._path)
      self._file = growing.GrowingFile(self._path, keep=True)
    self._append({'time': round(began, 3), 'event': 'start'})

  @contextlib.contextmanager
  def part(self, name: str) -> Iterator[None]:
    """The time inside belongs to a part, whatever is outside."""
    before = self._name
    self.enter(name)
    try:
      yield
    finally:
      self.enter(before)

  def enter(self, name: str) -> None:
    """The time from now on belongs to a part."""
    now = time.perf_counter()
    self._parts[self._name] += now - self._since
    self._name, self._since = name, now

  @contextlib.contextmanager
  def waiting(self) -> Iterator[None]:
    """The time inside is `input`, as far as the devices have nothing to do."""
    begin = time.perf_counter()
    yield
    end = time.perf_counter()
    waited = max(0.0, end - max(begin, self._devices.idle_since()))
    self._parts['input'] += waited
    self._parts[self._name] -= waited

  def started(self, step: int, numbers: Any) -> None:
    """The devices have a step to make, with these numbers as its result."""
    self._step = step
    self._devices.started(numbers)

  def mark(self, step: int) -> None:
    """Appends a row: `step` updates are made."""
    self._step = step
    self.enter(self._name)
    self._shown += self._parts
    parts = {k: round(x, 6) for k, x in self._parts.items() if x > 0}
    self._parts = collections.Counter()
    row = {'time': round(time.time(), 3), 'step': step} | parts
    if self._active:
      self._append(row)

  def row(self, step: int) -> dict[str, float]:
    """Appends a row. Returns numbers for metrics.jsonl.

    Seconds of each part since the last call, and the share of the run's time so
    far that went into steps that count.
    """
    self.mark(step)
    parts = dict.fromkeys(ALWAYS, 0.0) | self._shown
    self._shown = collections.Counter()
    found = {f'time/{name}': x for name, x in parts.items()}
    if self._active:
      found['time/goodput'] = self.life.goodput
    return found

  def close(self) -> None:
    """Appends the last row, and ends the thread and the file."""
    self._devices.close()
    if self._active:
      with contextlib.suppress(OSError):  # a first error is raised
        self.mark(self._step)
        self._file.close()

  def _append(self, row: Mapping[str, Any]) -> None:
    """Hands a row to the system, where it outlives this process."""
    self.life.add(row)
    with writing(self._path):
      self._file.write(f'{json.dumps(row)}\n'.encode())
      self._file.flush()


@dataclasses.dataclass
class Life:
  """What became of a run's time since its first start.

  Attributes:
    starts: how many processes, one after another.
    seconds: by part; see MEANINGS. All of them together are the whole time.
    step: the newest.
  """

  starts: int = 0
  seconds: dict[str, float] = dataclasses.field(
    default_factory=collections.Counter
  )
  step: int = 0
  # The last row's time, and (first step, last step, seconds) of rows whose
  # steps count.
  _at: float | None = None
  _counted: list[tuple[int, int, float]] = dataclasses.field(
    default_factory=list
  )

  @property
  def total(self) -> float:
    return sum(self.seconds.values())

  @property
  def goodput(self) -> float:
    """The share of the time that went into steps that count."""
    return self.seconds['compute'] / self.total if self.total else 0.0

  def add(self, row: Mapping[str, Any]) -> None:
    """Counts the next row of time.jsonl."""
    if row.get('event') == 'start':
      self.starts += 1
      if self._at is not None:
        self.seconds[DOWN] += max(0.0, row['time'] - self._at)
      self._at = row['time']
      return
    self._at = row['time']
    self._go_to(row['step'], row.get('compute', 0.0))
    for name, seconds in row.items():
      if name not in ('time', 'step'):
        self.seconds[name] += seconds

  def _go_to(self, step: int, seconds: float) -> None:
    """Steps beyond `step` are lost; if there are none, those up to it count."""
    while self._counted and self._counted[-1][1] > step:
      first, last, spent = self._counted.pop()
      lost = spent * min(1.0, (last - step) / max(last - first, 1))
      self.seconds['compute'] -= lost
      self.seconds[LOST] += lost
      if first < step:
        self._counted.append((first, step, spent - lost))
        break
    self._counted.append((min(self.step, step), step, seconds))
    self.step = step

  def table(self) -> str:
    """The parts of the time, as lines."""
    starts = f'{self.starts} start{"s" * (self.starts != 1)}'
    first = (
      f'Goodput {self.goodput:.1%} of {self.total:,.0f} s since the first of '
      f'{starts}, up to step {self.step:,}:'
    )
    lines = [first]
    for name, meaning in MEANINGS.items():
      seconds = self.seconds.get(name, 0.0)
      if name == 'compute' or seconds >= 0.05:
        share = seconds / self.total if self.total else 0.0
        lines.append(f'  {name:10} {seconds:12,.1f} s {share:6.1%}  {meaning}')
    return '\n'.join(lines)


def read(workdir: str) -> Life:
  """What became of the time of the run in a workdir.

  Raises:
    ValueError: there is no time.jsonl, or a whole line of it is not a row.
  """
  path = os.path.join(workdir, NAME)
  if not paths.exists(path):
    raise ValueError(
      f'{workdir} has no {NAME}: it holds no run, or one of an older version.'
    )
  life = Life()
  lines = paths.read(path).split(b'\n')
  for number, line in enumerate(lines[:-1], 1):  # the last: '', or cut short
    try:
      life.add(json.loads(line))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
      raise ValueError(
        f'{path}, line {number}, is not a row of times: {line[:80]!r}. Remove '
        'this line.'
      ) from error
  return life


def _cut_last_line(path: str) -> None:
  """Removes what a kill left of a last line."""
  data = paths.read(path)
  if not data.endswith(b'\n'):
    paths.write(path, data[: data.rfind(b'\n') + 1])
