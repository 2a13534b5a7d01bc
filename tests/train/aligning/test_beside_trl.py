"""Losses and gradients equal to trl's, on the same weights.

trl.json has trl's own: trl_numbers.py writes it. What trl no longer has, an
encoder-decoder's, is transcribed here.
"""

import functools
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from input_pipeline.config import data_config
from models import pretrained
from models.build import build
from models.pretrained.layouts import llama
from tests.helpers import answers, compared
from tests.helpers import hf_reference as reference
from train.aligning import criteria

TRL = json.loads((Path(__file__).parent / 'trl.json').read_text())
METHODS = 'dpo', 'ipo', 'kto', 'orpo', 'simpo'


@pytest.fixture(scope='module')
def llamas(tmp_path_factory):
  """The config, and the parameters of the policy and of the reference."""
  found = []
  for seed in 0, 1:
    folder = tmp_path_factory.mktemp(f'llama{seed}')
    saved = reference.saved(compared.torch_llama(seed), folder)
    found.append(pretrained.load(saved))
  return found[0][0], found[0][1], found[1][1]


def loss_of(config, model, params, batch):
  """The loss as training has it, from sums and means."""
  criterion = criteria.criterion_for(config.align, model.config)
  sums = criterion.sums(model, params, batch)
  return criterion.means(sums | criterion.weights(batch))['loss'], sums


@pytest.mark.parametrize('method', METHODS)
def test_a_decoder_learns_as_with_trl(method, llamas):
  described, policy, start = llamas
  config = answers.config_of(method)
  model = build(described)
  batch = answers.batch_of(data_config(config), 'decoder', padding=1)
  batch['reference'], _ = criteria.log_probs(model, start, batch)
  of = functools.partial(loss_of, config, model, batch=batch)
  (loss, _), grads = jax.jit(jax.value_and_grad(of, has_aux=True))(policy)
  theirs = TRL[method]
  np.testing.assert_allclose(loss, theirs['loss'], rtol=3e-6)
  named = reference.under_their_names(described, grads, llama)
  assert named.keys() == theirs['gradients'].keys()
  for name, norm in theirs['gradients'].items():
    np.testing.assert_allclose(
      np.linalg.norm(named[name]), norm, rtol=2e-5, err_msg=name
    )
