"""Commands of one or several processes: if one fails, all end.

This is also a config file, train/runs/command.py:WORKDIR, with the config of a
workdir. Commands use it when keys are overridden without --config.
"""

import os
import sys
import traceback
from collections.abc import Callable

import jax

from configs.commands import command
from train.runs.workdir import read_config as get_config

__all__ = ['get_config', 'run']


def run(main: Callable[[], None]) -> None:
  """As `configs.commands.command.run`; one of several processes ends at once.

  An orderly end would wait for the other processes, which in turn wait for this
  one in a collective operation.
  """

  def run_main():
    try:
      main()
    except Exception as error:
      if not jax.distributed.is_initialized():
        raise
      if command.is_fixable(error):
        print(f'Error: {command.message(error)}', file=sys.stderr)
      else:
        traceback.print_exc()
      sys.stdout.flush()
      sys.stderr.flush()
      os._exit(1)

  command.run(run_main, os.path.abspath(__file__))
