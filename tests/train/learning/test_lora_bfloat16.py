"""LoRA beside a base in bfloat16, and peft's."""

import dataclasses

import jax
import numpy as np
import pytest
import torch
from flax.traverse_util import flatten_dict

from models import pretrained
from models.build import build
from tests.helpers import hf_reference as reference
from tests.helpers.lora import (
  LAYERS,
  THEIRS,
  TUNING,
  assert_moved_alike,
  beside,
  make_batch,
  moments_of,
  our_training,
  peft_model,
  random_factors,
  their_training,
  torch_model,
)
from train.learning import lora
from train.learning.state import abstract_params, as_kept


@pytest.mark.parametrize('scan', [True, False])
def test_a_base_in_bfloat16_equals_that_of_peft(tmp_path, scan):
  """x W + s (x A) B: losses, means of gradients, factors after the steps."""
  tuning = dataclasses.replace(TUNING, base_dtype='bfloat16')
  plain = torch_model()
  with torch.no_grad():
    for p in plain.parameters():
      p.copy_(p.to(torch.bfloat16) if p.ndim > 1 else p)
  folder = reference.saved(plain, tmp_path / 'plain')
  config, params = pretrained.load(folder, head='mlm', scan=scan)
  factors, batch = random_factors(config), make_batch()
  shapes, _ = tuning.extended(*abstract_params(build(config)))
  state = as_kept(params | {lora.KEY: factors}, shapes)
  kept = flatten_dict(state, sep='/')
  for name, x in flatten_dict(params, sep='/').items():
    narrow = kept[name].dtype == 'bfloat16'
    assert narrow == name.endswith(('kernel', 'table', 'position', 'type'))
    np.testing.assert_array_equal(kept[name], x)  # rounded above

  theirs = peft_model(plain, factors)
  expected, optimizer = their_training(theirs, batch)
  losses, first, last = our_training(config, state, batch, tuning=tuning)
  np.testing.assert_allclose(losses, expected, rtol=1e-5)
  assert_moved_alike(first, last, theirs)
  for name, ours, weight in beside(moments_of(last).mu[lora.KEY], theirs):
    mean = optimizer.state[weight]['exp_avg'].numpy().T
    error = np.linalg.norm(ours - mean) / np.linalg.norm(mean)
    assert error <= 1e-4, (name, error)
  for name, x in flatten_dict(last.params, sep='/').items():
    if not name.startswith('lora/'):
      assert np.asarray(x).tobytes() == np.asarray(kept[name]).tobytes(), name
  # A model never sees a sum that would be rounded or take memory.
  given = tuning.applied(last.params)
  flat = flatten_dict(given, sep='/')
  changed = {x.rpartition('/')[0] for x in flat if x.endswith('/a')}
  assert len(changed) == len(THEIRS) * (1 if scan else LAYERS)
  assert all(flat[f'{x}/kernel'].dtype == 'bfloat16' for x in changed)
  merged = tuning.merged(last.params)
  model, rest = build(config), {k: batch[k] for k in build(config).INPUTS}
  with jax.default_matmul_precision('highest'):
    a, b = (
      jax.tree.leaves(jax.jit(model.apply)({'params': x}, **rest))
      for x in (given, merged)
    )
  for x, y in zip(a, b, strict=True):
    np.testing.assert_allclose(x, y, rtol=1e-4, atol=2e-5)
