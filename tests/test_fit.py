"""`python -m train.fit`: what a step of a config takes, before it runs."""

import jax
import pytest

from configs import t5
from train import fit
from train.step import DoesNotFitError


def test_a_tiny_step_here():
  config = t5.get_config('tiny')
  config.data.source = 'synthetic'
  found = fit.fit(config, jax.devices()[:1])
  assert found['devices'] == 1
  assert found['parameters'] > 1e6
  # Weights in float32, and Adafactor's factors beside them.
  assert found['arguments'] > 4 * found['parameters']
  assert found['peak'] >= found['arguments']


def test_a_step_that_does_not_fit(monkeypatch):
  """As TPU's compiler says it."""

  def refuse(self, *_, **__):
    raise jax.errors.JaxRuntimeError(
      'RESOURCE_EXHAUSTED: Ran out of memory on HBM, 338.22G of 95.74G.\nMore.'
    )

  monkeypatch.setattr(jax.stages.Lowered, 'compile', refuse)
  config = t5.get_config('tiny')
  config.data.source = 'synthetic'
  with pytest.raises(DoesNotFitError, match=r'338\.22G of 95\.74G\. Raise tr'):
    fit.fit(config, jax.devices()[:1])
