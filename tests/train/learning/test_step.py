"""From a config to its compiled step: each key does what its formula says.

The expected values are computed from the model's logits, in NumPy and float64.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from models import attention
from models.build import build
from tests.helpers.decoders import tiny_decoder
from tests.helpers.steps import (
  BATCH,
  INPUTS,
  STREAMS,
  B,
  T,
  V,
  descent,
  make_config,
  model_of,
  state_of,
)
from tests.helpers.t5_reference import random_params
from tests.models.test_models import BATCH as PAIRS
from tests.models.test_models import small_config
from train.learning.criteria import criterion_for
from train.learning.optimizer import make_optimizer
from train.learning.schedules import make_schedule
from train.learning.state import abstract_params, abstract_state
from train.learning.step import (
  cast,
  compile_train_step,
  configured_step,
  eval_step,
  train_step,
)
from train.parallel import sharding
from train.parallel.mesh import make_mesh

RATE, ATTENTION = 0.3, 0.45
HOW = 'accumulate', 'loss_chunk'  # these change no number


@pytest.fixture(scope='module')
def params():
  return random_params(model_of(make_config()))


@pytest.fixture(scope='module')
def logits(params):
  return logits_of(params)


def logits_of(params, batch=BATCH):
  inputs = {name: batch[name] for name in INPUTS}
  found = model_of(make_config()).apply({'params': params}, **inputs)
  return np.asarray(found, 'float64')


def formula(
  logits, batch=BATCH, label_smoothing=0.0, z_loss=0.0, max_logit_loss=0.0
):
  """Means over the batch's weights, and the gradient of each logit."""
  weights = batch['weights'] / batch['weights'].sum(dtype='float64')
  log_z = np.log(np.exp(logits).sum(-1))
  log_p = logits - log_z[..., None]
  hits = np.eye(V)[batch['targets']]
  wanted = (1 - label_smoothing) * hits + label_smoothing / V
  shares = np.exp(log_p)
  gradient = shares - wanted + 2 * z_loss * log_z[..., None] * shares
  highest = logits.max(-1, keepdims=True)
  gradient += max_logit_loss * np.where(logits == highest, highest, 0)
  own = {}
  if max_logit_loss:
    squared = highest[..., 0] ** 2
    own['max_logit_loss'] = max_logit_loss / 2 * (weights * squared).sum()
  return own | {
    'loss': -(weights * (wanted * log_p).sum(-1)).sum(),
    'z_loss': z_loss * (weights * log_z**2).sum(),
    'accuracy': (weights * (logits.argmax(-1) == batch['targets'])).sum(),
  }, weights[..., None] * gradient


@pytest.mark.parametrize(
  'keys',
  [
    {},
    {'label_smoothing': 0.3},
    {'z_loss': 0.2},
    {'max_logit_loss': 0.3},
    {'max_logit_loss': 0.1, 'z_loss': 0.05, 'accumulate': 2},
    {'label_smoothing': 0.1, 'z_loss': 0.05, 'accumulate': 2},
    {'accumulate': 4},
    {'loss_chunk': 4},
    {
      'loss_chunk': 1,
      'accumulate': 2,
      'z_loss': 0.05,
      'label_smoothing': 0.1,
      'max_logit_loss': 0.1,
    },
  ],
  ids=lambda keys: '-'.join(keys) or 'plain',
)
def test_keys_of_train_reach_loss_and_gradient(params, logits, keys):
  run = descent(**{f'train__{key}': value for key, value in keys.items()})
  new, metrics = run(params)
  own = {key: x for key, x in keys.items() if key not in HOW}
  expected, gradient = formula(logits, **own)
  for name, value in expected.items():
    assert metrics[name] == pytest.approx(value, rel=2e-6), name
  moved = new.params['vocabulary']['bias'] - params['vocabulary']['bias']
  np.testing.assert_allclose(moved, -gradient.sum((0, 1)), rtol=1e-4, atol=1e-6)
  change = jax.tree.map(np.subtract, new.params, params)
  norm = np.sqrt(sum((x**2).sum() for x in jax.tree.leaves(change)))
  assert metrics['grad_norm'] == pytest.approx(norm, rel=1e-4)


def test_the_sum_of_parts_in_bfloat16(params):
  """Each of four sums is rounded to 2^-9."""
  keys = {'train__accumulate': 4, 'train__accumulate_dtype': 'bfloat16'}
  whole, _ = descent(train__accumulate=4)(params)
  ours, metrics = descent(**keys)(params)
  assert metrics['sums']['loss'].dtype == 'float32'
  for name in ('output', 'bias'):
    first, x, y = (
      p['vocabulary'][name] for p in (params, whole.params, ours.params)
    )
    error = np.abs(y - x).max() / np.abs(x - first).max()
    assert 0 < error <= 4 * 2**-9, name


@pytest.mark.parametrize('scan', [False, True])
def test_kernels_are_cast_once(scan):
  """Products of the layers read one bfloat16 copy of each kernel.

  Norms, biases, the table and the projection stay float32 outside. With
  float32 nothing is cast.
  """
  model = model_of(make_config(model__scan=scan))
  shapes, _ = abstract_params(model)
  half, same = (
    flatten_dict(jax.eval_shape(lambda p, t=t: cast(p, t), shapes), sep='/')
    for t in ('bfloat16', 'float32')
  )
  for name, x in half.items():
    kernel = name.startswith('decoder/layer') and name.endswith('/kernel')
    assert x.dtype == ('bfloat16' if kernel else 'float32'), name
    assert same[name].dtype == 'float32', name
  assert sum(x.dtype == 'bfloat16' for x in half.values()) == 6


def test_the_step_uses_the_dropout_of_the_config(monkeypatch, params, logits):
  """Masks that drop nothing leave only the scaling of each place."""
  keep_all = lambda key, p, shape, *_: jnp.ones(shape, bool)  # noqa: E731
  monkeypatch.setattr(jax.random, 'bernoulli', keep_all)
  monkeypatch.setattr(attention, 'all_kept', keep_all)
  run = descent(model__dropout=RATE, model__attention_dropout=ATTENTION)
  _, metrics = run(params)
  kept, seen = 1 / (1 - RATE), 1 / (1 - ATTENTION)
  layer = dict(params['decoder']['layer_0'])
  layer['attention'] = layer['attention'] | {
    'output': {
      'kernel': layer['attention']['output']['kernel'] * kept * seen,
      'bias': layer['attention']['output']['bias'] * kept,
    }
  }
  layer['mlp'] = layer['mlp'] | {
    'output': jax.tree.map(lambda x: x * kept, layer['mlp']['output'])
  }
  scaled = params | {
    'embed': jax.tree.map(lambda x: x * kept, params['embed']),
    'decoder': params['decoder'] | {'layer_0': layer},
  }
  expected = formula(logits_of(scaled))[0]['loss']
  assert metrics['loss'] == pytest.approx(expected, rel=1e-5)
  assert abs(expected - formula(logits)[0]['loss']) > 0.01


@pytest.mark.parametrize('accumulate', [1, 2])
def test_dropout_is_drawn_for_each_seed_step_part_and_row(params, accumulate):
  """Equal rows have different losses; a step computed again has the same."""
  alike = {name: np.tile(x[:1], (B, 1)) for name, x in BATCH.items()}
  keys = {'model__dropout': RATE, 'train__accumulate': accumulate}
  run, other = descent(**keys), descent(**keys, seed=1)

  def loss(run, row, number):
    weights = np.where(np.arange(B)[:, None] == row, 1, 0) * np.ones((B, T))
    batch = alike | {'weights': weights.astype('float32')}
    return float(run(params, batch, number)[1]['loss'])

  # With two parts, rows 0 and 2 are the first one, rows 1 and 3 the second.
  found = [loss(run, row, number) for row in range(B) for number in (0, 1, 2)]
  found += [loss(other, row, 0) for row in range(B)]
  assert len(set(found)) == len(found)
  assert loss(run, 2, 1) == found[7]


def test_tokens_are_counted_without_padding():
  """An encoder-decoder counts what both stacks read."""
  _, metrics = descent()(random_params(model_of(make_config())))
  assert metrics['tokens'] == T + 3 + T + 1

  config = small_config(encoder_layers=1, decoder_layers=1)
  optimizer = optax.sgd(1.0)
  run = functools.partial(
    train_step,
    model=build(config),
    optimizer=optimizer,
    schedule=lambda step: step,
    seed=0,
  )
  state = state_of(random_params(build(config)), optimizer)
  rows = len(PAIRS['inputs'])
  batch = PAIRS | {'cursor': np.zeros((2 * rows, 4), 'int32')}
  _, metrics = jax.jit(run)(state, batch)
  names = 'segments', 'encoder_segments'
  counted = [int(np.count_nonzero(PAIRS[name])) for name in names]
  assert metrics['tokens'] == sum(counted)
  assert counted[0] < PAIRS['segments'].size  # there is padding


def test_the_reported_learning_rate_is_used(params):
  """Without averages, a step of Adam is the rate times the gradient's sign."""
  config = make_config(
    optimizer__b1=0.0,
    optimizer__b2=0.0,
    optimizer__epsilon=1e-12,
    optimizer__weight_decay=0.0,
    optimizer__clip=1e-3,
    schedule__name='linear',
    schedule__learning_rate=0.1,
    schedule__warmup_steps=2,
    schedule__end_fraction=0.0,
    train__steps=6,
  )
  model = model_of(config)
  schedule = make_schedule(config.schedule, config.train.steps)
  _, axes = abstract_params(model)
  optimizer = make_optimizer(config.optimizer, schedule, axes)
  step = jax.jit(configured_step(config, model, optimizer, schedule))
  state = state_of(params, optimizer)
  for number, rate in enumerate((0, 0.05, 0.1, 0.075)):
    before = state.params['vocabulary']['bias']
    state, metrics = step(state, BATCH)
    assert metrics['learning_rate'] == pytest.approx(rate, rel=1e-6)
    moved = np.abs(state.params['vocabulary']['bias'] - before)
    np.testing.assert_allclose(moved, rate, rtol=1e-3, atol=1e-7)
    assert state.step == number + 1
    if number == 0:  # the norm before clipping is reported
      plain = descent()(params)[1]['grad_norm']
      assert metrics['grad_norm'] == pytest.approx(plain, rel=1e-4)
      assert plain > 100 * config.optimizer.clip


def test_the_cursor_is_each_streams_last_row(params):
  new, metrics = descent()(params)
  # Rows 0 and 1 are the first stream's, rows 2 and 3 the second's.
  expected = BATCH['cursor'][[1, 3]]
  np.testing.assert_array_equal(new.cursor, expected)
  np.testing.assert_array_equal(metrics['cursor'], expected)


def test_a_compiled_step_donates_its_state(params):
  config = make_config()
  model = model_of(config)
  schedule = make_schedule(config.schedule, config.train.steps)
  _, axes = abstract_params(model)
  optimizer = make_optimizer(config.optimizer, schedule, axes)
  sizes = dict.fromkeys(sharding.AXES, 1)
  mesh = make_mesh(sizes, 'replicated', jax.devices()[:1])
  rules = sharding.make_rules('replicated')
  shapes = abstract_state(model, optimizer, (STREAMS, 4), mesh, rules)
  place = jax.sharding.NamedSharding(mesh, sharding.BATCH)
  batch = jax.device_put(BATCH, place)
  with jax.set_mesh(mesh):
    compiled = compile_train_step(
      configured_step(config, model, optimizer, schedule),
      shapes,
      jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), batch
      ),
    )
  state = jax.tree.map(
    lambda x, s: jax.device_put(np.array(x), s.sharding),
    state_of(params, optimizer),
    shapes,
  )
  new, _ = compiled(state, batch)
  assert all(x.is_deleted() for x in jax.tree.leaves(state.params))
  assert not any(x.is_deleted() for x in jax.tree.leaves((new, batch)))


def test_sums_of_an_evaluation(params, logits):
  """Sums have no label smoothing and no z-loss; bytes are the targets'."""
  lengths = np.arange(3, 3 + V)
  run = functools.partial(
    eval_step, model=model_of(make_config()), byte_lengths=lengths
  )
  batch = {name: x for name, x in BATCH.items() if name != 'cursor'}
  sums = jax.device_get(jax.jit(run)(params, batch))
  expected, _ = formula(logits)
  total = BATCH['weights'].sum()
  size = (lengths[BATCH['targets']] * BATCH['weights']).sum()
  assert sums == pytest.approx(
    {
      'loss': expected['loss'] * total,
      'correct': expected['accuracy'] * total,
      'z_loss': 0,
      'weight': total,
      'present': np.count_nonzero(BATCH['segments']),
      'bytes': size,
    },
    rel=1e-5,
  )
  means = criterion_for(tiny_decoder()).means(sums)
  assert means['loss'] == pytest.approx(expected['loss'], rel=1e-5)


def test_each_device_keeps_its_own_rows_of_every_part():
  """Row i is in part i mod parts, so devices exchange only sums."""
  config = make_config(train__accumulate=2)
  model = model_of(config)
  optimizer = optax.sgd(1.0)
  sizes = dict.fromkeys(sharding.AXES, 1) | {'data': 2}
  mesh = make_mesh(sizes, 'replicated', jax.devices()[:2])
  rules = sharding.make_rules('replicated')
  shapes = abstract_state(model, optimizer, (STREAMS, 4), mesh, rules)
  place = jax.sharding.NamedSharding(mesh, sharding.BATCH)
  batch = {
    name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)
    for name, x in BATCH.items()
    if name != 'cursor'
  }
  everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  batch['cursor'] = jax.ShapeDtypeStruct((B, 4), 'int32', sharding=everywhere)
  step = configured_step(config, model, optimizer, lambda step: step)
  with jax.set_mesh(mesh):
    text = compile_train_step(step, shapes, batch).as_text()
  assert 'all-reduce(' in text
  for kind in ('all-gather', 'all-to-all', 'collective-permute'):
    assert f' {kind}(' not in text
