"""ELECTRA's pair of encoders in one model."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import electra
from models.build import build
from models.config import TransformerConfig
from models.families.electra import fill, generator_config
from tests.models.test_models import assert_close
from train.learning import electra as criterion
from train.learning.state import abstract_params, count_params

FIELDS = {
  'family': 'electra',
  'vocab_size': 40,
  'embed_dim': 24,
  'mlp_dim': 36,
  'heads': 4,
  'kv_heads': 4,
  'head_dim': 6,
  'encoder_layers': 2,
  'generator_divisor': 3,
  'position': 'learned',
  'max_length': 16,
  'norm': 'layer_norm',
  'norm_epsilon': 1e-12,
  'norm_placement': 'post',
  'parallel': 'none',
  'activation': 'gelu',
  'gated': False,
  'bias': 'all',
  'scale_attention': True,
  'table_dim': 10,
  'token_types': 2,
  'embed_norm': True,
  'scale_embed': False,
  'tie_embeddings': True,
  'scale_output': False,
  'output_transform': True,
  'output_bias': True,
  'head': 'rtd',
  'init': 'truncated_normal',
  'init_std': 0.02,
  'dropout': 0.0,
  'attention_dropout': 0.0,
  'dropout_kind': 'residual',
  'dtype': 'float32',
  'scan': True,
  'remat': 'none',
}
ENCODER = FIELDS | {'family': 'encoder', 'generator_divisor': 0}


def make_config(**changes) -> TransformerConfig:
  return TransformerConfig(**(FIELDS | changes))


def random_params(config, seed=0):
  shapes, _ = abstract_params(build(config))
  rng = np.random.default_rng(seed)

  def draw(path, x):
    mean = float(path[-1].key == 'scale')
    return (mean + rng.normal(0, 0.4, x.shape)).astype('float32')

  return jax.tree_util.tree_map_with_path(draw, shapes)


def make_batch(rows=8, T=16, P=5, seed=0):
  """Masked rows of different lengths; the first holds two texts, the last is
  padding."""
  rng = np.random.default_rng(seed)
  lengths = rng.integers(6, T + 1, rows)
  lengths[-1] = 0
  text = rng.integers(3, 40, (rows, T), 'int32')
  segments = (np.arange(T) < lengths[:, None]).astype('int32')
  text *= segments
  positions = np.tile(np.arange(T, dtype='int32'), (rows, 1))
  segments[0, 3 : lengths[0]] = 2
  positions[0, 3:] -= 3
  weights = np.zeros((rows, P), 'float32')
  predict_at = np.zeros((rows, P), 'int32')
  for i in range(rows - 1):
    count = rng.integers(2, P + 1)
    weights[i, :count] = 1
    predict_at[i, :count] = np.sort(rng.integers(0, lengths[i], count))
  predict_at[0, 1] = predict_at[0, 0]  # one is chosen twice
  targets = np.take_along_axis(text, predict_at, axis=1)
  targets *= weights.astype('int32')
  inputs = text.copy()
  for i in range(rows - 1):  # some keep their token
    inputs[i, predict_at[i, : int(weights[i].sum()) - 1]] = 2
  return {
    'inputs': inputs,
    'positions': positions,
    'segments': segments,
    'types': (np.arange(T) >= T // 2).astype('int32') * (segments > 0),
    'predict_at': predict_at,
    'targets': targets,
    'weights': weights,
    'is_next': rng.integers(0, 2, rows, 'int32'),
  }, text


BATCH, TEXT = make_batch()


@pytest.fixture(scope='module')
def params():
  return random_params(make_config())


def apply(config, params, batch, **rngs):
  model = build(config)
  batch = {name: batch[name] for name in model.INPUTS}
  return model.apply({'params': params}, **batch, rngs=rngs)


@pytest.fixture(scope='module')
def outputs(params):
  run = jax.jit(functools.partial(apply, make_config()))
  return jax.device_get(run(params, BATCH, sample=jax.random.key(0)))


def test_labels_and_the_corrupted_text(outputs):
  chosen = BATCH['weights'] > 0
  rows = np.nonzero(chosen)[0]
  expected = TEXT.copy()
  expected[rows, BATCH['predict_at'][chosen]] = outputs['sampled'][chosen]
  np.testing.assert_array_equal(outputs['corrupted'], expected)
  np.testing.assert_array_equal(outputs['labels'], expected != TEXT)
  assert outputs['labels'].any()
  # Tokens that were not chosen are never labelled.
  assert outputs['labels'].sum() <= chosen.sum()
  assert outputs['logits'].shape == (8, 5, 40)
  assert outputs['replaced'].shape == (8, 16)


def test_a_sample_equal_to_the_text_is_not_a_replacement(params):
  """A bias makes the generator sure of one token, which is in the text."""
  config = make_config()
  token = int(TEXT[0, BATCH['predict_at'][0, 0]])
  bias = params['vocabulary']['bias'].copy()
  bias[token] += 1e4
  sure = params | {'vocabulary': params['vocabulary'] | {'bias': bias}}
  outputs = apply(config, sure, BATCH, sample=jax.random.key(0))
  assert (np.asarray(outputs['sampled'])[BATCH['weights'] > 0] == token).all()
  labels = np.asarray(outputs['labels'])
  assert not labels[0, BATCH['predict_at'][0, 0]]
  expected = np.zeros_like(labels)
  chosen = BATCH['weights'] > 0
  at = BATCH['predict_at'][chosen]
  expected[np.nonzero(chosen)[0], at] = BATCH['targets'][chosen] != token
  np.testing.assert_array_equal(labels, expected)


def test_samples_are_distributed_as_the_softmax(params):
  config = make_config()
  one = {name: np.repeat(x[1:2], 4000, axis=0) for name, x in BATCH.items()}
  run = jax.jit(functools.partial(apply, config))
  outputs = run(params, one, sample=jax.random.key(0))
  shares = np.bincount(outputs['sampled'][:, 0], minlength=40) / 4000
  expected = jax.nn.softmax(outputs['logits'][0, 0])
  spread = 4 * np.sqrt(expected * (1 - expected) / 4000)
  assert (np.abs(shares - expected) <= spread + 1e-3).all()
  again = run(params, one, sample=jax.random.key(0))
  np.testing.assert_array_equal(again['sampled'], outputs['sampled'])
  likeliest = apply(config, params, BATCH)
  wanted = np.asarray(likeliest['logits']).argmax(-1)
  chosen = BATCH['weights'] > 0
  chosen[0] = False  # two samples for one position
  np.testing.assert_array_equal(
    np.asarray(likeliest['sampled'])[chosen], wanted[chosen]
  )


def test_the_discriminator_is_an_encoder(params, outputs):
  """An encoder with its tables and weights gives the same logits."""
  encoder = TransformerConfig(**ENCODER)
  own = {name: params[name] for name in ('embed', 'encoder', 'replaced')}
  shapes, _ = abstract_params(build(encoder))
  assert jax.tree.map(jnp.shape, own) == jax.tree.map(jnp.shape, shapes)
  alone = apply(encoder, own, BATCH | {'inputs': outputs['corrupted']})
  assert_close(alone['replaced'], outputs['replaced'])


def test_the_generator_is_an_encoder_with_the_same_tables(params, outputs):
  generator = generator_config(make_config())
  assert (generator.embed_dim, generator.mlp_dim) == (8, 12)
  assert (generator.heads, generator.head_dim) == (1, 6)
  own = {
    'embed': params['embed'],
    'encoder': params['generator'],
    'vocabulary': params['vocabulary'],
  }
  alone = apply(generator, own, BATCH)
  assert_close(alone['logits'], outputs['logits'])


def test_tables_as_wide_as_the_generator_need_no_projection():
  config = make_config(table_dim=8)
  assert generator_config(config).table_dim == 0
  shapes, _ = abstract_params(build(config))
  assert 'projection' not in shapes['generator']
  assert 'projection' in shapes['encoder']
  same = make_config(table_dim=0, generator_divisor=1)
  assert generator_config(same).table_dim == 0
  random = random_params(same)
  assert np.isfinite(apply(same, random, BATCH)['replaced']).all()


def test_no_gradient_through_the_samples(params):
  """The discriminator's loss reaches the tables but not the generator."""
  model = build(make_config())

  def loss(params, name):
    sums = criterion.sums(model, params, BATCH, jax.random.key(0))
    return sums[name]

  gradient = jax.jit(jax.grad(loss), static_argnums=1)
  of_discriminator = gradient(params, 'replaced_loss')
  of_generator = gradient(params, 'loss')

  def largest(tree):
    return max(float(jnp.abs(x).max()) for x in jax.tree.leaves(tree))

  for name in ('generator', 'vocabulary'):
    assert largest(of_discriminator[name]) == 0
    assert largest(of_generator[name]) > 0
  for name in ('encoder', 'replaced'):
    assert largest(of_discriminator[name]) > 0
    assert largest(of_generator[name]) == 0
  for grads in (of_discriminator, of_generator):
    assert all(largest(x) > 0 for x in grads['embed'].values())


def test_fill_takes_the_last_of_several_values():
  tokens = jnp.array([[1, 2, 3, 4]])
  at, values = jnp.array([[2, 0, 2, 0]]), jnp.array([[7, 8, 9, 6]])
  weights = jnp.array([[1.0, 1, 1, 0]])
  filled = fill(tokens, at, values, weights)
  assert filled.tolist() == [[8, 2, 9, 4]]
  assert fill(tokens, at, values, 0 * weights).tolist() == tokens.tolist()


@pytest.mark.parametrize(
  ('size', 'generator', 'heads'),
  [('small', 64, 1), ('base', 256, 4), ('large', 256, 4)],
)
def test_published_sizes(size, generator, heads):
  config = TransformerConfig(**electra.get_config(size).model)
  c = generator_config(config)
  assert (c.embed_dim, c.mlp_dim, c.heads, c.head_dim) == (
    generator, 4 * generator, heads, 64,
  )  # fmt: skip
  shapes, _ = abstract_params(build(config))
  body = {'embed': shapes['embed'], 'encoder': shapes['encoder']}
  published = {'small': 13.48e6, 'base': 108.89e6, 'large': 334.09e6}
  assert count_params(body) == pytest.approx(published[size], rel=1e-3)


def test_dense_layers_without_an_initializer_start_as_glorot():
  """google-research/electra uses tf.layers.dense without an initializer.

  The layers are the projection to the model's width (modeling.py) and the
  discriminator's last (run_pretraining.py); all other matrices are truncated
  normal of 0.02.
  """
  sizes = {'embed_dim': 240, 'mlp_dim': 240, 'head_dim': 60, 'table_dim': 40}
  config = make_config(**sizes, encoder_layers=1)
  model = build(config)
  inputs = {name: BATCH[name] for name in model.INPUTS}
  params = nn.unbox(model.init(jax.random.key(0), **inputs)['params'])
  projections = [
    params['encoder']['projection']['kernel'],
    params['generator']['projection']['kernel'],
    params['replaced']['output']['kernel'],
  ]
  for kernel in projections:
    limit = (6 / sum(kernel.shape)) ** 0.5
    assert 0.9 * limit < np.abs(kernel).max() <= limit
    assert kernel.std() == pytest.approx(limit / 3**0.5, rel=0.1)
  for kernel in (
    params['replaced']['dense']['kernel'],
    params['vocabulary']['dense']['kernel'],
    params['embed']['table'],
  ):
    # Cut at two deviations, it has 0.88 of the one that TensorFlow gets.
    assert kernel.std() == pytest.approx(0.88 * 0.02, rel=0.05)
    assert np.abs(kernel).max() <= 0.04


def test_heads_of_the_generator_that_do_not_divide():
  with pytest.raises(ValueError, match='12 wide, has 5 of model.heads'):
    make_config(heads=10, kv_heads=5, generator_divisor=2)


def test_scan_equals_loop(params):
  config = make_config()
  loop = dataclasses.replace(config, scan=False)
  unstacked = dict(params)
  for name in ('generator', 'encoder'):
    stack = dict(params[name])
    layers = stack.pop('layers')
    for i in range(2):
      stack[f'layer_{i}'] = jax.tree.map(lambda x, i=i: x[i], layers)
    unstacked[name] = stack
  ours = apply(loop, unstacked, BATCH, sample=jax.random.key(0))
  expected = apply(config, params, BATCH, sample=jax.random.key(0))
  for name in ('logits', 'replaced'):
    assert_close(ours[name], expected[name])
