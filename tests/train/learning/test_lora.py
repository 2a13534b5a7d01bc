"""LoRA beside peft's, on one BERT with the same weights, A and B."""

import dataclasses

import jax
import numpy as np
import pytest
import transformers
from flax.traverse_util import flatten_dict

from models import pretrained
from models.build import build
from tests.helpers import hf_reference as reference
from tests.helpers.lora import (
  INNER,
  LAYERS,
  RANK,
  TUNING,
  WIDTH,
  V,
  assert_moved_alike,
  make_batch,
  moments_of,
  our_training,
  peft_model,
  random_factors,
  their_training,
  torch_model,
)
from train.learning import lora
from train.learning.state import abstract_params
from train.learning.tuning import Tuning


@pytest.mark.parametrize('scan', [True, False])
def test_steps_and_merged_weights_equal_those_of_peft(tmp_path, scan):
  plain = torch_model()
  folder = reference.saved(plain, tmp_path / 'plain')
  config, params = pretrained.load(folder, head='mlm', scan=scan)
  factors = random_factors(config)
  batch = make_batch()

  theirs = peft_model(plain, factors)
  expected, _ = their_training(theirs, batch)
  losses, first, last = our_training(
    config, params | {lora.KEY: factors}, batch
  )
  np.testing.assert_allclose(losses, expected, rtol=1e-5)
  assert losses[-1] < losses[0] - 0.1

  assert_moved_alike(first, last, theirs)

  # What is exported is what peft's merge_and_unload gives.
  merged = TUNING.merged(last.params)
  pretrained.save(config, merged, str(tmp_path / 'merged'))
  again = transformers.BertForMaskedLM.from_pretrained(tmp_path / 'merged')
  state = theirs.merge_and_unload().state_dict()
  for name, x in again.state_dict().items():
    np.testing.assert_allclose(x, state[name], rtol=1e-4, atol=2e-5)


def test_tables_begin_unchanged_and_change_lookup_and_logits(trained):
  config, _, first, _ = trained
  tuning = dataclasses.replace(TUNING, matrices=('embed/table',))
  shapes, _ = tuning.extended(*abstract_params(build(config)))
  pair = tuning.drawn(shapes, 3)[lora.KEY]['embed']['table']
  assert pair['a'].shape == (V, RANK)
  assert not pair['a'].any()
  assert 0.8 < pair['b'].std() < 1.2
  base = {k: x for k, x in first.params.items() if k != lora.KEY}
  pair = {'a': jax.numpy.ones((V, RANK)), 'b': pair['b']}
  tree = base | {lora.KEY: {'embed': {'table': pair}}}
  for params in (tuning.merged(tree), tuning.applied(tree)):
    np.testing.assert_allclose(
      params['embed']['table'],
      base['embed']['table'] + 6.0 / RANK * pair['a'] @ pair['b'],
      rtol=1e-5,
      atol=1e-5,
    )


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  folder = reference.saved(torch_model(), tmp_path_factory.mktemp('bert'))
  config, params = pretrained.load(folder, head='mlm')
  params |= {lora.KEY: random_factors(config)}
  return config, *our_training(config, params, make_batch())


def test_frozen_weights_do_not_move_and_have_no_moments(trained):
  _, _, first, last = trained
  before, after = (flatten_dict(x.params, sep='/') for x in (first, last))
  for name, x in before.items():
    same = np.asarray(x).tobytes() == np.asarray(after[name]).tobytes()
    assert same != name.startswith('lora/'), name
  adam = moments_of(last)
  for moments in (adam.mu, adam.nu):
    assert moments.keys() == {lora.KEY}
  # Two matrices WIDTH x WIDTH and one INNER x WIDTH in each layer.
  count = LAYERS * RANK * (2 * (WIDTH + WIDTH) + (INNER + WIDTH))
  assert sum(x.size for x in jax.tree.leaves(adam.mu)) == count


def test_merged_weights_are_the_formula(trained):
  _, _, _, last = trained
  merged = TUNING.merged(last.params)
  assert lora.KEY not in merged
  layers = last.params['encoder']['layers']
  for name in ('query', 'value', 'key'):
    kernel = layers['attention'][name]['kernel'].astype('float64')
    expected = kernel
    if name != 'key':
      pair = last.params[lora.KEY]['encoder']['layers']['attention'][name]
      a, b = (pair[x].astype('float64') for x in 'ab')
      expected = kernel + 6.0 / RANK * np.einsum('lir,lro->lio', a, b)
      assert np.abs(expected - kernel).max() > 0.1
    ours = merged['encoder']['layers']['attention'][name]['kernel']
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def test_accumulated_gradients_are_those_of_the_whole_batch(trained):
  config, losses, first, last = trained
  batch = make_batch()
  parts, _, state = our_training(config, first.params, batch, accumulate=2)
  np.testing.assert_allclose(parts, losses, rtol=1e-5)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5),
    state.params,
    last.params,
  )


def test_new_factors_change_nothing_and_are_drawn_from_the_seed(trained):
  config, _, first, _ = trained
  shapes, _ = TUNING.extended(*abstract_params(build(config)))
  new, other = (TUNING.drawn(shapes, seed)[lora.KEY] for seed in (3, 4))
  base = {k: x for k, x in first.params.items() if k != lora.KEY}
  merged = TUNING.merged(base | {lora.KEY: new})
  jax.tree.map(np.testing.assert_array_equal, merged, base)
  flat, other = (flatten_dict(x, sep='/') for x in (new, other))
  uniform = []
  for name, x in flat.items():
    if name.endswith('/b'):
      assert not x.any()
      continue
    assert not np.array_equal(x, other[name])
    uniform.append(np.ravel(x * x.shape[-2] ** 0.5))
  uniform = np.concatenate(uniform)  # between -1 and 1
  assert 0.97 < np.abs(uniform).max() <= 1
  assert abs(uniform.mean()) < 0.05
  assert abs(uniform.std() - 3**-0.5) < 0.05


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'matrices': ('attention/qery',)}, "Did you mean 'attention/query'"),
    ({'matrices': ('mlp_norm',)}, 'which LoRA cannot change'),
    ({'rank': WIDTH}, f'below {WIDTH}, the smaller side of attention/query'),
  ],
)
def test_what_cannot_be_low_rank(trained, changes, message):
  tuning = Tuning(**{**vars(TUNING), **changes})
  with pytest.raises(ValueError, match=message):
    tuning.extended(*abstract_params(build(trained[0])))
