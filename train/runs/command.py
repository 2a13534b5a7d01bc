"""Commands of one or several processes: if one fails, all end.

This is also a config file, train/runs/command.py:WORKDIR, with the config of a
workdir. Commands use it when keys are overridden without --config.
"""

import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

import jax

from configs.commands import command
from train.parallel import processes
from train.parallel.meeting import AGAIN, LostError
from train.runs.workdir import read_config as get_config

__all__ = ['get_config', 'run']


def run(main: Callable[[], None]) -> None:
  """As `configs.commands.command.run`; one of several processes ends at once.

  An orderly end would wait for the other processes, which in turn wait for this
  one in a collective operation. The status is `meeting.AGAIN` where another
  process is missing, has died or is hung, and the same command, run again,
  resumes.
  """

  def run_main():
    try:
      main()
    except LostError as error:
      _end(f'Error: {error}', AGAIN)
    except KeyboardInterrupt:
      processes.failed('Interrupted.', 130)
      raise
    except Exception as error:
      fixable = command.is_fixable(error)
      text = f'{type(error).__name__}: {error}'.split('\n')[0]
      text = command.message(error) if fixable else text
      processes.failed(text, 1)
      if not jax.distributed.is_initialized():
        raise
      if not fixable:
        traceback.print_exc()
      _end(f'Error: {text}' * fixable, 1)
    processes.leave()

  command.run(run_main, os.path.abspath(__file__))


def _end(line: str, status: int) -> NoReturn:
  if line:
    print(line, file=sys.stderr)
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)
