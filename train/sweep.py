"""`python -m train.sweep --config=FILE.py[:ARG] --out=DIR`: several runs.

The runs are those that the file's `sweep()` yields, or the points of a grid:

  --grid model.position=rope,alibi --grid seed=0,1,2

--grid=sweep stands for the file's own runs, to multiply them with a grid. Each
run is a process of `python -m train` with its own folder in DIR, whose name
says what differs; alone, the same command gives the same bits. --config.KEY=X
is for all of them. A table shows step, loss and time left; each run's output is
in its log.txt.

The same command goes on after a kill: runs that have ended are skipped, others
resume. A run that fails is marked, here and in DIR/sweep.json, and the rest go
on; the same command tries it again.

--jobs=N trains N runs at once, each on an equal part of this host's GPUs or
TPU chips. For several hosts --print=slurm and --print=tpu print the commands of
the runs that are left, and train nothing.
"""

from configs.commands import startup

if __name__ == '__main__':
  startup.begin()

import contextlib
import os
import sys
import time
from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from configs import grids
from configs.commands import command, terminal
from configs.commands.command import UserError
from input_pipeline.config import data_config
from input_pipeline.sources import locks, paths
from train import settings
from train.learning import schedules
from train.sweeping import children, partition, queues, record, table
from train.sweeping.children import Run

LOCK = '.sweep.lock'
WORD = 'sweep'  # in place of a grid: the file's own runs


def points_of(config_name: str, grid: Sequence[str]) -> list[grids.Point]:
  """The runs of a config file, or of a grid.

  Raises ValueError if the file names none, or the grid cannot be read.
  """
  grid = list(grid) or [WORD]
  own = []
  if WORD in grid:
    own = grids.of_file(config_name)
    if own is None:
      path = config_name.partition(':')[0]
      raise ValueError(
        f'{path} has no function sweep(): give --grid KEY=VALUE,VALUE.'
      )
  return grids.points(grid, own, word=WORD)


def runs_of(
  config: ConfigDict,
  points: Sequence[grids.Point],
  out: str,
  shared: Sequence[str],
) -> list[Run]:
  """The runs, each with its command.

  Args:
    config: before the points' keys.
    points: of the runs.
    out: the folder of their workdirs.
    shared: the flags that all commands have.

  Raises:
    ValueError: an unknown key, a value that it cannot have, or two runs of one
      config; a run that has begun with another config. What depends on the
      devices, or on the data's text, a run says itself.
  """
  points = [grids.completed(config, point) for point in points]
  configs = {point: grids.configured(config, point) for point in points}
  grids.check_configs(configs)
  runs = []
  for point, own in configs.items():
    folder = os.path.join(out, point.name)
    try:
      settings.check_keys(own)
      schedules.make_schedule(
        own.schedule, own.train.steps, data_config(own).plan
      )
    except ValueError as error:
      raise ValueError(f'{point.name}: {error}') from None
    run = children.run_of(point, folder, 'train', shared)
    run.steps = own.train.steps
    runs.append(run)
    if paths.is_remote(folder):
      continue
    record.check_own(folder, own)
    if record.evaluations(folder):
      run.state = 'done'
  return runs


def train_all(runs: Sequence[Run], out: str, jobs: int) -> None:
  """Trains the runs that are not done.

  Raises:
    ValueError: the devices have no such parts; another sweep runs in `out`.
    UserError: a run has failed, after the others have been trained.
  """
  try:
    lock = locks.hold(os.path.join(out, LOCK))
  except locks.HeldError as error:
    raise ValueError(
      f'--out={out}: another command trains these runs ({error}).'
    ) from None
  with lock or contextlib.nullcontext():
    parts = partition.parts(jobs)
    _wait(runs)
    done = sum(run.state == 'done' for run in runs)
    if done:
      terminal.say(f'{done} of {len(runs)} runs have ended before.')
    live = table.Table(runs)

    def changed(run):
      record.write(out, runs)
      live.changed(run)

    record.write(out, runs)
    went = children.train_all(
      runs, parts, lambda x: bool(record.evaluations(x)), changed, live.look
    )
    live.note(table.text(runs))
  report(runs, went)


def report(runs: Sequence[Run], went: bool) -> None:
  """The end of a sweep; raises UserError if runs have failed.

  `went` is False where a stop was asked for.
  """
  left = sum(run.state != 'done' for run in runs)
  failed = [run for run in runs if run.state == 'failed']
  if not went:
    terminal.say(
      f'Asked to stop: {left} of {len(runs)} runs are left. Run the same '
      'command again to go on.'
    )
    for run in failed:
      terminal.say(f'Failed: {run.name}: {run.why}')
    return
  if failed:
    names = '\n'.join(f'  {run.name}: {run.why}' for run in failed)
    raise UserError(
      f'{len(failed)} of {len(runs)} runs failed:\n{names}\nRun the same '
      'command again to repeat them.'
    )
  if left:
    terminal.say(
      f'{left} of {len(runs)} runs have stopped early. Run the same command '
      'again to go on.'
    )


def _wait(runs: Sequence[Run]) -> None:
  """Waits for runs that processes of a killed sweep still train."""
  held = [run for run in runs if record.is_trained(run.folder)]
  if held:
    names = ', '.join(run.name for run in held)
    terminal.say(f'Other processes still train {names}: waiting for them.')
  for run in held:
    while record.is_trained(run.folder):
      time.sleep(1)
    if record.evaluations(run.folder):
      run.state = 'done'


def main():
  config, out = _CONFIG.value, _OUT.value
  points = points_of(flags.FLAGS['config'].config_filename, _GRID.value)
  shared = children.shared_flags(sys.argv[1:], 'out|grid|jobs|print')
  runs = runs_of(config, points, out, shared)
  if _PRINT.value:
    if _JOBS.value != 1:
      raise ValueError(
        f'--jobs={_JOBS.value} is for runs that are trained here: give it '
        'without --print.'
      )
    left = [run for run in runs if run.state != 'done']
    terminal.say(queues.script(_PRINT.value, left))
    return
  if paths.is_remote(out):
    raise ValueError(
      f'--out={out}: runs that are trained here need a folder here. With '
      '--print, commands are printed.'
    )
  record.check_same(config, '', out, '--out')
  train_all(runs, out, _JOBS.value)


if __name__ == '__main__':
  _CONFIG = config_flags.DEFINE_config_file(
    'config', None, 'configs/FILE.py[:ARG]', lock_config=True
  )
  _OUT = flags.DEFINE_string(
    'out', None, 'The folder of all runs.', required=True
  )
  _GRID = flags.DEFINE_multi_string(
    'grid', [],
    'KEY=VALUE,VALUE: runs with each value of a config key; several multiply. '
    f"'{WORD}': the file's own runs, the default.",
  )  # fmt: skip
  _JOBS = flags.DEFINE_integer('jobs', 1, 'How many runs train at once.')
  _PRINT = flags.DEFINE_enum(
    'print', None, queues.KINDS,
    'Print what trains the runs, for any machine, SLURM or Cloud TPUs.',
  )  # fmt: skip
  flags.mark_flag_as_required('config')
  command.run(main)
