"""RWKV's kernel equals the formula, and its gradients those without it."""

import jax.numpy as jnp
import pytest

from models.families.wkv import wkv
from models.kernels import sharded
from models.kernels.wkv import wkv_in_blocks
from tests.models.families.test_wkv import (
  formula,
  gradients_and_values,
  terms,
)
from tests.models.test_models import assert_close


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch):
  monkeypatch.setattr(sharded, 'INTERPRET', True)


@pytest.mark.parametrize(('T', 'D'), [(3, 6), (16, 6), (50, 130), (300, 6)])
def test_values_and_gradients(T, D):
  (*numbers, starts), g = terms(2, T, D)

  grads, out = gradients_and_values(wkv_in_blocks, numbers, starts, g)
  expected, other = gradients_and_values(wkv, numbers, starts, g)
  assert_close(out, formula(*numbers, starts) if T < 100 else other, 1e-5)
  for a, b in zip(grads, expected, strict=True):
    assert_close(a, b, 1e-4)


@pytest.mark.parametrize('scale', [100.0, 1e4])
def test_large_keys_stay_finite(scale):
  (k, v, decay, bonus, starts), g = terms(1, 600, 6, starts=False)

  numbers = scale * k, v, decay, bonus
  grads, out = gradients_and_values(wkv_in_blocks, numbers, starts, g)
  assert_close(out, formula(scale * k, v, decay, bonus, starts), scale * 1e-5)
  assert all(jnp.isfinite(x).all() for x in grads)
