"""Commands of one or several processes: if one fails, all end."""

import os
import sys
import traceback
from collections.abc import Callable

import jax

from configs import command

HERE = os.path.dirname(os.path.abspath(__file__))


def run(main: Callable[[], None]) -> None:
  """As `configs.command.run`, but one of several processes exits at once.

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

  command.run(run_main, os.path.join(HERE, 'begun.py'))
