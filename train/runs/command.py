"""Commands of one process or many: where one fails, all end."""

import os
import sys
import traceback
from collections.abc import Callable

import jax

from configs import command

HERE = os.path.dirname(os.path.abspath(__file__))


def run(main: Callable[[], None]) -> None:
  """As `configs.command.run`; one of several processes ends at once.

  An orderly end would wait for the others, and they for this one's part of a
  collective operation.
  """

  def alone_or_together():
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

  command.run(alone_or_together, os.path.join(HERE, 'begun.py'))
