"""`python -m train.fit`: what a step of a config takes, before it runs."""

import jax

from configs import t5
from train import fit


def test_a_tiny_step_here():
  config = t5.get_config('tiny')
  config.data.source = 'synthetic'
  found = fit.fit(config, jax.devices()[:1])
  assert found['devices'] == 1
  assert found['parameters'] > 1e6
  # Weights in float32, and Adafactor's factors beside them.
  assert found['arguments'] > 4 * found['parameters']
  assert found['peak'] >= found['arguments']
