"""Which parameters move, and when."""

import dataclasses
import functools
import re

import jax
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from configs import electra as configs_electra
from configs import t5
from models import pretrained
from models.build import build
from models.layers import Adapter
from tests.helpers import checkpoints
from tests.helpers.checkpoints import ENCODER
from tests.helpers.decoders import tiny_decoder
from tests.helpers.optimizers import adafactor, adamw
from tests.helpers.t5_reference import init_params, random_params, tiny_config
from tests.models.families import test_electra as electra
from tests.models.test_models import BATCH
from train.learning.optimizer import make_optimizer
from train.learning.state import TrainState, abstract_params
from train.learning.step import train_step
from train.learning.tuning import Tuning, make_tuning

RATE = 0.01
T5 = tiny_config()  # of 2 + 3 layers


def trained(config, tuning, steps, batch, optimizer=None):
  """The parameters before, and after each step; and the last state."""
  model = build(config)
  params = random_params(model)
  _, axes = tuning.extended(*abstract_params(model))
  schedule = optax.constant_schedule(RATE)
  optimizer = make_optimizer(
    optimizer or adamw(decay='all'), schedule, tuning.trained(axes)
  )
  batch = batch | {'cursor': np.zeros((len(batch['inputs']), 4), 'int32')}

  @jax.jit
  def step(state):
    return train_step(
      state, batch, model=model, optimizer=optimizer, schedule=schedule,
      seed=0, tuning=tuning,
    )  # fmt: skip

  opt_state = optimizer.init(tuning.trained(params))
  state = TrainState(np.int32(0), params, opt_state, np.zeros((1, 4), 'int32'))
  found, norms = [params], []
  for _ in range(steps):
    state, metrics = step(state)
    found.append(state.params)
    norms.append(float(metrics['grad_norm']))
  return [flatten_dict(jax.device_get(x), sep='/') for x in found], norms, state


def moved(before, after):
  """Names of the parameters of which a bit changed."""
  return {
    name for name, x in before.items() if x.tobytes() != after[name].tobytes()
  }


def test_adapters_and_norms_alone_are_trained():
  config = dataclasses.replace(T5, adapter_dim=5)
  (before, after), _, state = trained(config, Tuning('adapters'), 1, BATCH)
  expected = {
    name for name in before if 'adapter/' in name or name.endswith('scale')
  }
  assert moved(before, after) == expected
  # A norm before each of attention, cross-attention and MLP, and the last one.
  assert sum('norm' in name for name in expected) == (2 + 1) + (3 + 1)
  assert sum('adapter' in name for name in expected) == 2 * 2
  adam = next(
    x for x in state.opt_state if isinstance(x, optax.ScaleByAdamState)
  )
  assert flatten_dict(adam.mu, sep='/').keys() == expected


@pytest.mark.parametrize(
  'config',
  [
    T5,
    tiny_decoder('none', parallel='one_norm'),
    tiny_decoder('rope', scan=False),
  ],
  ids=['t5', 'parallel', 'written_out'],
)
def test_new_adapters_leave_a_model_as_it_was(config):
  adapted = build(dataclasses.replace(config, adapter_dim=5))
  inputs = {name: BATCH[name] for name in adapted.INPUTS if name in BATCH}
  own = flatten_dict(random_params(build(config)))
  new = flatten_dict(init_params(adapted))
  adapters = {path: x for path, x in new.items() if 'adapter' in path}
  assert new.keys() == own.keys() | adapters.keys()
  stacks = bool(config.encoder_layers) + bool(config.decoder_layers)
  arrays = 4 if config.bias == 'all' else 2
  layers = 1 if config.scan else config.decoder_layers
  assert len(adapters) == stacks * arrays * layers

  @functools.partial(jax.jit, static_argnums=0)
  def logits(model, flat):
    return model.apply({'params': unflatten_dict(flat)}, **inputs)

  expected = logits(build(config), own)
  np.testing.assert_array_equal(logits(adapted, own | adapters), expected)
  # They matter once their output is not 0, and add what the paper says.
  rng = np.random.default_rng(0)
  other = {p: rng.normal(size=x.shape) for p, x in adapters.items()}
  other = {p: x.astype('float32') for p, x in other.items()}
  assert np.abs(logits(adapted, own | other) - expected).max() > 0.1


def test_an_adapter_is_dense_relu_dense_around_a_residual():
  config = tiny_decoder('none', adapter_dim=5)
  rng = np.random.default_rng(0)
  x, down, low, up, high = (
    rng.normal(size=shape).astype('float32')
    for shape in ((2, 3, 24), (24, 5), (5,), (5, 24), (24,))
  )
  params = {
    'input': {'kernel': down, 'bias': low},
    'output': {'kernel': up, 'bias': high},
  }
  ours = Adapter(config).apply({'params': params}, x)
  expected = x + np.maximum(x @ down + low, 0) @ up + high
  np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


def test_the_head_alone_is_trained():
  tuning = Tuning('head')
  shapes, _ = tuning.extended(*abstract_params(build(ENCODER)))
  names = flatten_dict(tuning.trained(shapes), sep='/').keys()
  assert {name.split('/')[0] for name in names} == {'pooler', 'classes'}
  assert not tuning.split(shapes)[1].keys() & {'pooler', 'classes'}
  joined = tuning.join(*tuning.split(shapes))
  assert flatten_dict(joined) == flatten_dict(shapes)
  with pytest.raises(ValueError, match='trains nothing: .*decoder, embed,'):
    tuning.extended(*abstract_params(build(T5)))  # its output is the table


@pytest.mark.parametrize(
  'tuning', [Tuning('adapters'), Tuning('lora', 2, 4.0, ('mlp/input',))]
)
def test_the_head_of_a_task_is_trained_beside(tuning):
  config = dataclasses.replace(ENCODER, adapter_dim=4)
  shapes, _ = tuning.extended(*abstract_params(build(config)))
  trained = tuning.trained(shapes)
  assert trained.keys() >= {'pooler', 'classes'}
  assert 'The head is trained too: classes, pooler.' in tuning.describe(shapes)
  # A language model's head is its own: peft and T5 leave it.
  config = dataclasses.replace(config, head='mlm', classes=0)
  shapes, _ = tuning.extended(*abstract_params(build(config)))
  vocabulary = flatten_dict(tuning.trained(shapes), sep='/')
  vocabulary = {x for x in vocabulary if x.startswith('vocabulary')}
  norms = {'vocabulary/norm/scale', 'vocabulary/norm/bias'}
  assert vocabulary == (norms if tuning.train == 'adapters' else set())


# ---- Gradual unfreezing ------------------------------------------------------


def layers_of(names, stack):
  """The layers of a stack that are among the names, written out."""
  found = (re.match(rf'{stack}/layer_(\d+)/', name) for name in names)
  return {int(match[1]) for match in found if match}


@pytest.mark.parametrize('make', [adamw, adafactor])
def test_layers_thaw_from_the_top_both_stacks_in_parallel(make):
  """12 steps thaw a layer every 6 in the encoder, every 4 in the decoder."""
  config = dataclasses.replace(T5, scan=False)
  states, norms, _ = trained(
    config, Tuning('unfreezing', steps=12), 12, BATCH, make(decay='all')
  )
  for step in range(12):
    names = moved(states[step], states[step + 1])
    assert layers_of(names, 'encoder') == ({1} if step < 6 else {0, 1})
    expected = {2} if step < 4 else {1, 2} if step < 8 else {0, 1, 2}
    assert layers_of(names, 'decoder') == expected, step
    # What belongs to no layer always moves.
    rest = {x for x in states[0] if 'layer_' not in x}
    assert rest <= names
    assert {x for x in states[0] if 'layer_2' in x} <= names
  assert all(np.isfinite(norms))


def test_stacked_layers_thaw_as_written_out_ones():
  steps = 12
  stacked, norms, _ = trained(T5, Tuning('unfreezing', steps=steps), 5, BATCH)
  for step in range(5):
    a, b = stacked[step], stacked[step + 1]
    for name in a:
      if 'decoder/layers' in name:
        changed = (a[name] != b[name]).reshape(3, -1).any(axis=1).tolist()
        assert changed == [False, step >= 4, True], (step, name)
  # Frozen layers have no part in the norm of the gradient.
  _, whole, _ = trained(T5, Tuning(), 1, BATCH)
  assert norms[0] < 0.999 * whole[0]


# ---- Two stages --------------------------------------------------------------


def test_two_stages_of_electra():
  """The generator learns alone; then the discriminator, from its weights."""
  sizes = {'generator_divisor': 1, 'encoder_layers': 1, 'scan': False}
  config = electra.make_config(**sizes, generator_shares='none')
  batch = electra.BATCH
  states, *_ = trained(config, Tuning('two_stage', steps=4), 4, batch)
  parts = [
    {x.split('/')[0] for x in moved(*states[i : i + 2])} for i in range(4)
  ]
  generator = {'generator', 'generator_embed', 'vocabulary'}
  assert parts[:2] == [generator] * 2
  discriminator = {'embed', 'encoder', 'replaced'}
  assert parts[2:] == [discriminator] * 2
  both, *_ = trained(config, Tuning(), 1, batch)
  for name, x in states[1].items():
    if name.startswith('generator/'):  # as in training both together
      np.testing.assert_allclose(x, both[1][name], atol=1e-3 * RATE)
  for name, x in states[3].items():
    source = re.sub('^embed/', 'generator_embed/', name)
    source = re.sub('^encoder/', 'generator/', source)
    if source != name:  # a step away from the generator, and not from its own
      taken = states[2][source]
      assert 0 < np.abs(x - taken).max() < 5 * RATE
      if 'bias' not in name:
        assert np.abs(states[2][name] - taken).max() > 5 * RATE


def of_electra(**keys):
  config = configs_electra.get_config('tiny').unlock()
  config.model.update({'generator_divisor': 1, 'generator_shares': 'none'})
  config.tuning.train = 'two_stage'
  config.update_from_flattened_dict(
    {name.replace('__', '.'): x for name, x in keys.items()}
  )
  return make_tuning(config)


def test_the_stages_of_a_config():
  tuning = of_electra(train__steps=8)
  assert (tuning.stages, tuning.switch) == (2, 4)
  assert of_config().stages == 1


@pytest.mark.parametrize(
  ('keys', 'message'),
  [
    ({'train__steps': 7}, 'train.steps is 7; .* must be even'),
    ({'model__generator_divisor': 2}, 'model.embed_dim=64, not 128'),
    ({'model__generator_layers': 1}, 'model.encoder_layers=1, not 2'),
    ({'model__generator_shares': 'tables'}, "shares=none, not 'tables'"),
    ({'model__generator': 'adversarial'}, "generator=mlm, not 'adversarial'"),
    ({'model__head': 'replace_mlm'}, "rtd_masked, not 'replace_mlm'"),
  ],
)
def test_stages_that_cannot_be(keys, message):
  with pytest.raises(ValueError, match=message):
    of_electra(**keys)
  with pytest.raises(ValueError, match='needs model.family=electra'):
    of_config(tuning__train='two_stage')


# ---- From a config -----------------------------------------------------------


def of_config(**keys):
  config = t5.get_config('tiny').unlock()
  config.update_from_flattened_dict(
    {name.replace('__', '.'): x for name, x in keys.items()}
  )
  return make_tuning(config)


def test_the_tuning_of_a_config():
  assert of_config(train__steps=7) == Tuning(steps=7)
  assert of_config(tuning__train='unfreezing', train__steps=7) == Tuning(
    'unfreezing', steps=7
  )
  keys = {'tuning__rank': 2, 'tuning__alpha': 3.0}
  found = of_config(
    tuning__train='lora',
    tuning__matrices=('mlp/input',),
    train__steps=1,
    **keys,
  )
  assert found == Tuning('lora', 2, 3.0, ('mlp/input',), 1)


@pytest.mark.parametrize(
  ('keys', 'message'),
  [
    ({'tuning__train': 'adapters'}, 'needs model.adapter_dim above 0'),
    ({'tuning__layer_decay': 1.1}, 'layer_decay is 1.1; .* between 0 and 1'),
    ({'tuning__layer_decay': -0.1}, 'layer_decay is -0.1'),
    ({'tuning__train': 'lora', 'tuning__rank': 4}, 'tuning.alpha is 0.0'),
    ({'tuning__alpha': 4.0}, 'tuning.train=all does not use it'),
    ({'tuning__train': 'heads'}, "'heads'; it must be one of all, lora"),
  ],
)
def test_configs_that_cannot_work(keys, message):
  with pytest.raises(ValueError, match=message):
    of_config(**keys)


def test_published_weights_with_new_adapters(tmp_path):
  config, params = checkpoints.make()
  folder = str(tmp_path / 'bert')
  pretrained.save(config, params, folder)
  adapted, found = pretrained.load(
    folder, adapter_dim=4, head='sequence', classes=2
  )
  assert adapted.adapter_dim == 4
  flat, old = (flatten_dict(x, sep='/') for x in (found, params))
  new = {x for x in flat if x not in old}
  assert {x.split('/')[0] for x in new} == {'classes', 'encoder'}
  assert {x for x in new if x.startswith('encoder')} == {
    f'encoder/layers/adapter/{end}/{x}'
    for end in ('input', 'output')
    for x in ('kernel', 'bias')
  }
  for name in flat.keys() & old:
    np.testing.assert_array_equal(flat[name], old[name])
  with pytest.raises(ValueError, match=r'model\.adapter_dim=4: models of'):
    pretrained.save(adapted, found, str(tmp_path / 'to'))
