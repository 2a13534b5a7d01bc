"""What Orbax, etils and TensorStore need around them to keep a checkpoint."""

import glob
import os

from etils import epath


class Folder(type(epath.Path())):
  """A path whose own name is no pattern, whatever brackets it has.

  Orbax looks for files with glob, and etils takes the folder for a part of the
  pattern. Every path that is made from this one is of this class too.
  """

  def glob(self, pattern):
    here = type(self)(glob.escape(os.fspath(self)))
    return map(type(self), glob.glob(os.fspath(here / pattern)))
