"""`--profile=FROM:TO`: what the devices and the hosts do in some steps.

The trace is for xprof (docs/runs.md). It is in WORKDIR/profile, where each
process has a file. Python's own calls are left out, since tracing them would
slow the steps down.
"""

import contextlib
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import jax

from input_pipeline.sources import paths
from train.reporting.metrics import writing
from train.reporting.timing import Record

FOLDER = 'profile'
_RUNS = os.path.join('plugins', 'profile')  # where xprof looks


def parse(text: str, steps: int) -> tuple[int, int] | None:
  """The first and the last step of --profile; None for ''.

  Raises:
    ValueError: `text` is no range of a run of so many steps.
  """
  if not text:
    return None
  found = re.fullmatch(r'(\d+):(\d+)', text)
  if not found:
    raise ValueError(
      f'--profile={text} must be FROM:TO, the first and the last step to '
      'profile, such as 10:12.'
    )
  first, last = map(int, found.groups())
  if not 1 <= first <= last:
    raise ValueError(
      f'--profile={text}: steps are counted from 1, and the first one must not '
      'come after the last one.'
    )
  if last > steps:
    raise ValueError(
      f'--profile={text} ends after the run does: train.steps is {steps:,}.'
    )
  return first, last


def left(asked: tuple[int, int] | None, start: int) -> tuple[int, int] | None:
  """Those of the asked steps that are made after step `start`.

  >>> left((5, 8), 6), left((5, 8), 8)
  ((7, 8), None)
  """
  if asked is None or asked[1] <= start:
    return None
  return max(asked[0], start + 1), asked[1]


def describe(asked: tuple[int, int] | None, start: int) -> str:
  """What becomes of --profile in a run that resumes; '' if nothing is lost."""
  if asked is None or asked[0] > start:
    return ''
  what = f'--profile={asked[0]}:{asked[1]}: the run resumes after step {start}'
  if own := left(asked, start):
    return f'{what}: steps {own[0]} to {own[1]} are profiled.'
  return f'{what}: these steps are past, and nothing is profiled.'


class Profiler:
  """Profiles a range of steps once, and names every step for xprof.

  Args:
    workdir: the run's.
    steps: the first and the last one; None: nothing is profiled.
    record: where the time goes that writing the trace takes.
  """

  def __init__(
    self, workdir: str, steps: tuple[int, int] | None, record: Record
  ):
    self._target = os.path.join(workdir, FOLDER)
    self._steps, self._record = steps, record
    self._folder = None  # of the trace that is being made

  @contextlib.contextmanager
  def step(self, number: int, before: Any) -> Iterator[None]:
    """The step `number` is started inside; `before` is what comes before it.

    The first one is not started before that has been computed.
    """
    if self._steps and not self._folder and number >= self._steps[0]:
      jax.block_until_ready(before)
      self._begin()
    with jax.profiler.StepTraceAnnotation('train', step_num=number):
      yield

  def stepped(self, number: int, numbers: Any) -> str:
    """Ends the trace after its last step, once it has been computed.

    `numbers` are of the step. Returns what there is to report; '' for nothing.
    """
    if not self._folder or number < self._steps[1]:
      return ''
    jax.block_until_ready(numbers)
    first, last = self._steps
    self.close()
    return (
      f'Steps {first:,} to {last:,} are profiled: xprof --logdir={self._target}'
    )

  def close(self) -> None:
    """Writes the trace that is under way, if any."""
    if not self._folder:
      return
    folder, self._folder, steps = self._folder, None, self._steps
    self._steps = None
    with self._record.part('profile'):
      try:
        jax.profiler.stop_trace()
        with writing(self._target):
          self._keep(folder, f'steps_{steps[0]}_{steps[1]}')
      finally:
        shutil.rmtree(folder, ignore_errors=True)

  def _begin(self):
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    self._folder = tempfile.mkdtemp(prefix='treeline_profile_')
    jax.profiler.start_trace(self._folder, profiler_options=options)

  def _keep(self, folder: str, name: str) -> None:
    """Puts the files of a trace beside those of the other processes.

    xprof takes a file's name for that of a host. The processes of one host must
    differ, too.
    """
    target = os.path.join(self._target, _RUNS, name)
    paths.make_folder(target)
    several = jax.process_count() > 1
    own = f'process_{jax.process_index()}_' if several else ''
    for path in pathlib.Path(folder, _RUNS).glob('*/*'):
      paths.write(os.path.join(target, own + path.name), path.read_bytes())
