"""Empty modules for packages that a bare machine lacks and no step needs.

Import this before Treeline. MISSING names them; what is measured does not call
them. TensorFlow needs none: Treeline imports it only to read data.
"""

import importlib.util
import sys
import unittest.mock

_PARTS = {
  'isal': ['isal_zlib'],
  'matplotlib': ['axes', 'backends', 'backends.backend_agg', 'figure'],
  'orjson': [],
  'sentencepiece': [],
  'tensorboardX': [],
}


def _stand_in():
  missing = [name for name in _PARTS if importlib.util.find_spec(name) is None]
  for name in missing:
    for path in (name, *(f'{name}.{part}' for part in _PARTS[name])):
      sys.modules[path] = unittest.mock.MagicMock()
  return missing


MISSING = _stand_in()
