"""Which slice is meant, by --topology or by the config."""

import pytest

from configs import t5
from train.fitting import chips


@pytest.mark.parametrize(
  ('own', 'asked', 'found', 'left'),
  [
    (('', 0), ('', 0), ('', 1), 0),
    (('', 0), ('', 2), ('', 2), 0),
    (('', 4), ('', 0), ('', 1), 4),  # nodes here
    (('', 4), ('v5e:4x4', 0), ('v5e:4x4', 1), 4),
    (('', 0), ('here', 0), ('', 1), 0),
    (('v5e:4x4', 0), ('', 0), ('v5e:4x4', 1), 0),
    (('v5e:4x4', 3), ('', 0), ('v5e:4x4', 3), 3),
    (('v5e:4x4', 3), ('', 2), ('v5e:4x4', 2), 2),
    (('v5e:4x4', 3), ('', 1), ('v5e:4x4', 1), 0),
    (('v5e:4x4', 3), ('v5e:4x4', 0), ('v5e:4x4', 3), 3),
    (('v5e:4x4', 3), ('v5e-16', 0), ('v5e-16', 3), 3),
    (('v5e:4x4', 3), ('v5e-16', 1), ('v5e-16', 1), 0),
    (('v5e:4x4', 3), ('v4-8', 0), ('v4-8', 1), 0),
    (('v5e:4x4', 3), ('v4-8', 2), ('v4-8', 2), 2),
    (('v5e:4x4', 3), ('here', 0), ('', 1), 0),
  ],
)
def test_which_slice_is_meant(own, asked, found, left):
  """A config's own counts unless another one, or `here`, is asked for."""
  config = t5.get_config('tiny')
  config.sharding.topology, config.sharding.slices = own
  assert chips.slice_of(config, *asked) == found
  assert config.sharding.slices == left


def test_a_config_whose_slice_does_not_exist():
  config = t5.get_config('tiny')
  config.sharding.topology = 'v4-257'
  with pytest.raises(ValueError, match='^sharding.topology=v4-257 does not'):
    chips.slice_of(config)
