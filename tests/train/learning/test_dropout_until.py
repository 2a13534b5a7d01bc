"""Dropout that ends at a step: `train.dropout_until`."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from tests.helpers.steps import BATCH, INPUTS, descent, make_config, model_of


@pytest.fixture(scope='module')
def params():
  inputs = {name: BATCH[name] for name in INPUTS}
  variables = model_of(make_config()).init(jax.random.key(0), **inputs)
  return nn.unbox(variables['params'])


@pytest.mark.parametrize('accumulate', [1, 2])
def test_dropout_that_ends(params, accumulate):
  """Up to the step all is as with dropout, and from it on as without."""
  rates = {'model__dropout': 0.3, 'model__attention_dropout': 0.2}
  parts = {'train__accumulate': accumulate}
  ours = descent(**rates, **parts, train__dropout_until=5)
  with_it, without = descent(**rates, **parts), descent(**parts)

  def check(step, number, expected):
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
      step(params, number=number)[0].params,
      expected(params, number=number)[0].params,
    )

  check(ours, 0, with_it)
  check(ours, 4, with_it)
  check(ours, 5, without)
  check(ours, 70, without)
  with pytest.raises(AssertionError):
    check(ours, 4, without)
