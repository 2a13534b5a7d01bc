"""What a step that does not fit may change, and the search for it."""

import jax
import pytest

from configs import llama
from train import fit
from train.fitting import measure, memory, meshes, variants
from train.fitting.variants import Variant

GIB = 2**30


def variant(name, cost, state, computed):
  return Variant({'model.remat': name}, None, cost, state, computed)


OPTIONS = [
  variant('none', 1.0, 2.0, 20.0),
  variant('dots', 1.1, 2.0, 9.0),
  variant('full', 1.3, 2.0, 3.0),
]


def run(needs, most=5, limit=12):
  """The variants tried, in order, and the one found."""
  tried = []

  def attempt(option, number, estimate):
    tried.append(option.changes['model.remat'])
    return needs[tried[-1]]

  found = variants.search(OPTIONS, limit, most, attempt)
  return tried, found and found.changes['model.remat']


def test_the_cheapest_whose_estimate_fits_comes_first():
  assert run({'dots': 11}) == (['dots'], 'dots')


def test_what_was_compiled_corrects_the_estimates():
  """'dots' needs 2 + 2 x 9, so 'full' should need 2 + 2 x 3, which fits."""
  assert run({'dots': 20, 'full': 8}) == (['dots', 'full'], 'full')


def test_at_most_so_many_are_compiled():
  assert run({'dots': 20, 'full': 14}, most=2) == (['dots', 'full'], None)


def test_what_is_refused_does_not_count():
  needs = {'dots': None, 'full': 8}
  assert run(needs, most=1) == (['dots', 'full'], 'full')


@pytest.fixture
def setup():
  config = llama.get_config('tiny')
  config.data.source = 'synthetic'
  config.sharding.rules = 'replicated'
  config.sharding.mesh.data, config.sharding.mesh.fsdp = 8, 1
  config.data.batch, config.data.streams = 32, 32
  config.model.remat, config.train.accumulate = 'none', 1
  return fit.prepared(config, jax.devices())[0]


def found(**sizes):
  held = dict.fromkeys(memory.CATEGORIES, 0) | {
    name: x * GIB for name, x in sizes.items()
  }
  return {'memory': held, 'limit': 16 * GIB, 'peak': sum(held.values())}


def test_candidates(setup):
  own = found(parameters=4, optimizer=8, activations=10, temporaries=2)
  options = variants.candidates(setup, own)
  assert [x.cost for x in options] == sorted(x.cost for x in options)
  by_words = {x.words(): x for x in options}
  assert len(by_words) == len(options)
  assert 'as it is' not in by_words
  twice = by_words['accumulate=2']
  assert twice.computed == pytest.approx(6 * GIB)
  assert twice.state == pytest.approx(16 * GIB)  # and a sum of gradients
  cut = by_words['mesh fsdp=8']
  assert cut.state == pytest.approx(12 / 8 * GIB)
  assert cut.computed == pytest.approx(12 * GIB)
  full = by_words['remat=full']
  assert full.computed < 4 * GIB
  assert full.cost > by_words['remat=dots'].cost > twice.cost
  # The rows of a device can be cut into 4.
  assert 'accumulate=4' in by_words
  assert 'accumulate=8' not in by_words


def test_flags_are_the_change(setup):
  """What is pasted gives the config that was compiled."""
  own = found(parameters=4, optimizer=8, activations=10)
  for option in variants.candidates(setup, own):
    changed, pasted = option.apply(setup.config), llama.get_config('tiny')
    pasted.update_from_flattened_dict(
      {'sharding.rules': 'replicated', 'sharding.mesh.data': 8}
      | {'sharding.mesh.fsdp': 1, 'data.source': 'synthetic'}
      | {'data.batch': 32, 'data.streams': 32, 'model.remat': 'none'}
    )
    for flag in meshes.flags(setup.config, changed).split():
      key, _, value = flag.removeprefix('--config.').partition('=')
      value = int(value) if value.lstrip('-').isdigit() else value
      pasted.update_from_flattened_dict({key: value})
    assert pasted.to_dict() == changed.to_dict()


def test_remedies_are_what_is_not_yet_done(setup):
  own = found(parameters=4, optimizer=8, activations=10)
  assert list(variants.remedies(setup, own)) == [
    '--config.model.remat=dots',
    '--config.model.remat=full',
    '--config.train.accumulate=2',
    '--mesh=fsdp=8',
  ]
  config = setup.config
  config.model.remat = 'offload'  # keeps less than 'dots' does
  offloaded = fit.prepared(config, jax.devices())[0]
  assert not any('remat' in x for x in variants.remedies(offloaded, own))
  config.model.remat, config.train.accumulate = 'full', 4
  config.sharding.rules = 'fsdp'
  config.sharding.mesh.data, config.sharding.mesh.fsdp = 1, 8
  last = fit.prepared(config, jax.devices())[0]
  assert list(variants.remedies(last, own)) == ['--mesh=fsdp=4,tensor=2']


def test_a_step_that_does_not_fit_says_what_does(monkeypatch, setup):
  def refuse(self, batch, more=None):
    raise measure.DoesNotFitError('needs (20.00G) exceeds available (15.75G)')

  monkeypatch.setattr(fit.Setup, 'compile_step', refuse)
  with pytest.raises(measure.NeedsMoreError) as error:
    fit.fit(setup.config, jax.devices())
  message = str(error.value)
  assert '20.00 GiB of 15.75 GiB a device, 4.25 GiB too much' in message
  assert '--config.model.remat=dots, ' in message
  assert not error.value.found['fits']
