"""Empty modules for packages that a bare machine lacks and no step needs.

Import this before Treeline. MISSING names them; what is measured does not call
them. TensorFlow needs none: Treeline imports it only to read data.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
import unittest.mock

NAMES = 'isal', 'matplotlib', 'orjson', 'sentencepiece', 'tensorboardX'
MISSING = [name for name in NAMES if importlib.util.find_spec(name) is None]


class _Empty(types.ModuleType):
  """A module in which every name stands for something that does nothing."""

  def __getattr__(self, name):
    if name.startswith('__'):
      raise AttributeError(name)
    return unittest.mock.MagicMock()


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
  """Finds MISSING, and whatever is asked for inside of them."""

  def find_spec(self, name, path=None, target=None):
    if name.partition('.')[0] in MISSING:
      return importlib.machinery.ModuleSpec(name, self, is_package=True)
    return None

  def create_module(self, spec):
    return _Empty(spec.name)

  def exec_module(self, module):
    pass


sys.meta_path.append(_Finder())


def without_reports():
  """Leaves of a run's reports metrics.jsonl alone, if MISSING makes them."""
  import train.recording
  import train.reporting.metrics

  if 'tensorboardX' in MISSING:
    train.reporting.metrics.board = unittest.mock.MagicMock()
  if 'matplotlib' in MISSING:
    train.recording.draw_curves = unittest.mock.MagicMock()
