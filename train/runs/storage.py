"""What Orbax, etils and TensorStore need around them to keep a checkpoint."""

import glob
import os
import sys

from etils import epath


def _unraisable(args, told=sys.unraisablehook) -> None:
  """Leaves out what TensorStore's threads print after a failure.

  They report to event loops that Orbax has closed by then, with one traceback
  for each array; the failure itself is raised and told here.
  """
  if str(args.exc_value) != 'Event loop is closed':
    told(args)


sys.unraisablehook = _unraisable


class Folder(type(epath.Path())):
  """A path whose own name is no pattern, whatever brackets it has.

  Orbax looks for files with glob, and etils takes the folder for a part of the
  pattern. Every path that is made from this one is of this class too.
  """

  def glob(self, pattern):
    here = type(self)(glob.escape(os.fspath(self)))
    return map(type(self), glob.glob(os.fspath(here / pattern)))
