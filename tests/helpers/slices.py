"""TPU slices that are not here: their compiler, and how many devices."""

import importlib.util

import pytest
from ml_collections import ConfigDict

from train.fitting.chips import resolve

NEEDS_COMPILER = pytest.mark.skipif(
  importlib.util.find_spec('libtpu') is None,
  reason='needs the TPU compiler: install the extra aot',
)


def devices_of(config: ConfigDict, otherwise: int) -> int:
  """Those of the config's own slices, `otherwise` if it names none."""
  own = config.sharding
  if not own.topology:
    return otherwise
  return resolve(own.topology)[2] * (own.slices or 1)
