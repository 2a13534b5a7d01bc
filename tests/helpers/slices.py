"""How many devices a config is for."""

from ml_collections import ConfigDict

from train.fitting.chips import resolve


def devices_of(config: ConfigDict, otherwise: int) -> int:
  """Those of the config's own slices, `otherwise` if it names none."""
  own = config.sharding
  if not own.topology:
    return otherwise
  return resolve(own.topology)[2] * (own.slices or 1)
