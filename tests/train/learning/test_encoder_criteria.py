"""The criteria of encoders: masked tokens, the next sentence, ELECTRA's."""

import functools
from collections import defaultdict

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from models.build import build
from models.config import TransformerConfig
from tests.models.families.test_electra import (
  BATCH,
  ENCODER,
  apply,
  make_config,
  random_params,
)
from train.learning import criteria
from train.learning.state import TrainState
from train.learning.step import train_step
from train.runs.best import Best


@pytest.fixture(scope='module')
def params():
  return random_params(make_config())


def log_softmax(x):
  x = x - x.max(-1, keepdims=True)
  return x - np.log(np.exp(x).sum(-1, keepdims=True))


def masked_loss(logits):
  logits = np.asarray(logits, 'float64')
  picked = np.take_along_axis(
    log_softmax(logits), BATCH['targets'][..., None], axis=-1
  )[..., 0]
  weights = BATCH['weights']
  hits = (logits.argmax(-1) == BATCH['targets']) * weights
  return -(picked * weights).sum() / weights.sum(), hits.sum() / weights.sum()


def means_of(config, params, rng=None):
  model, criterion = build(config), criteria.criterion_for(config)
  run = jax.jit(lambda p: criterion.sums(model, p, BATCH, rng))
  sums = jax.device_get(run(params))
  # The weights, which the batch alone decides, are those in the sums.
  for name, weight in criterion.weights(BATCH).items():
    assert float(weight) == sums[name]
  means = {name: float(x) for name, x in criterion.means(sums).items()}
  assert means.pop('z_loss') == 0
  return means


@pytest.mark.parametrize('rng', [None, 7])
def test_replaced_token_detection(params, rng):
  config = make_config()
  key = jax.random.key(0)
  rng = None if rng is None else jax.random.key(rng)
  if rng is not None:
    _, key = jax.random.split(rng)
  # Shift the logits so that half of the tokens are marked as replaced.
  logits = apply(config, params, BATCH, sample=key)['replaced']
  params = jax.tree.map(lambda x: x, params)
  params['replaced']['output']['bias'] -= np.median(logits)
  means = means_of(config, params, rng)
  outputs = jax.device_get(apply(config, params, BATCH, sample=key))
  generator, accuracy = masked_loss(outputs['logits'])
  read = BATCH['segments'] > 0
  p = 1 / (1 + np.exp(-outputs['replaced'].astype('float64')))
  labels = outputs['labels']
  entropy = -np.where(labels, np.log(p), np.log(1 - p))
  discriminator = entropy[read].mean()
  marked = read & (p > 0.5)
  expected = {
    'loss': generator + 50 * discriminator,
    'generator_loss': generator,
    'discriminator_loss': discriminator,
    'accuracy': accuracy,
    'precision': labels[marked].mean(),
    'recall': marked[labels].mean(),
  }
  assert means == pytest.approx(expected, rel=1e-5)


def test_masked_tokens_and_the_next_sentence():
  for head in ('mlm', 'mlm_nsp'):
    config = TransformerConfig(**(ENCODER | {'head': head}))
    params = random_params(config)
    means = means_of(config, params)
    outputs = jax.device_get(apply(config, params, BATCH))
    loss, accuracy = masked_loss(outputs['logits'])
    expected = {'loss': loss, 'accuracy': accuracy}
    if head == 'mlm_nsp':
      labels = BATCH['is_next'][:-1]  # the last row is padding
      logits = log_softmax(outputs['next_sentence'][:-1].astype('float64'))
      next_loss = -logits[np.arange(7), labels].mean()
      expected |= {
        'loss': loss + next_loss,
        'mlm_loss': loss,
        'next_sentence_loss': next_loss,
        'next_sentence_accuracy': (logits.argmax(1) == labels).mean(),
      }
    assert means == pytest.approx(expected, rel=1e-5)


def test_heads_without_a_criterion():
  config = TransformerConfig(**ENCODER)
  with pytest.raises(ValueError, match="model.head='rtd' of model.family='enc"):
    criteria.criterion_for(config)


@pytest.mark.parametrize('head', ['rtd', 'mlm', 'mlm_nsp'])
def test_names_of_the_means_are_known_before_any_sum(head):
  """`checkpoint.best` names one of the means."""
  config = make_config()
  if head != 'rtd':
    config = TransformerConfig(**(ENCODER | {'head': head}))
  for name in criteria.criterion_for(config).means(defaultdict(float)):
    assert not Best(name, criteria.criterion_for(config), False).steps


def assert_near(ours, expected):
  """Compares one long vector: the gradients of keys' biases are rounding."""
  difference = jax.tree.map(jnp.subtract, ours, expected)
  norm = float(optax.global_norm(expected))
  assert float(optax.global_norm(difference)) <= 1e-5 * norm


def state_of(params, optimizer):
  return TrainState(
    step=jnp.int32(3),
    params=params,
    opt_state=optimizer.init(params),
    cursor=jnp.zeros((2, 4), 'int32'),
  )


@pytest.mark.parametrize('head', ['rtd', 'mlm', 'mlm_nsp'])
def test_accumulation_changes_nothing(params, head):
  """Rows of unequal weights in unequal parts have the same global means."""
  config = make_config()
  if head == 'rtd':
    # Each part draws its own samples: make the generator sure of one token.
    bias = params['vocabulary']['bias'].copy()
    bias[7] += 100
    params = params | {'vocabulary': params['vocabulary'] | {'bias': bias}}
  else:
    config = TransformerConfig(**(ENCODER | {'head': head}))
    params = random_params(config)
  optimizer = optax.sgd(1.0)
  batch = BATCH | {'cursor': np.zeros((8, 4), 'int32')}

  def step(parts):
    return jax.jit(
      functools.partial(
        train_step,
        model=build(config),
        optimizer=optimizer,
        schedule=lambda step: jnp.float32(1),
        seed=0,
        accumulate=parts,
        z_loss=1e-3,
      )
    )(state_of(params, optimizer), batch)

  (whole, metrics), (parts, others) = step(1), step(4)
  metrics, others = (
    x | x['sums'] | {'cursor': 0, 'sums': 0} for x in (metrics, others)
  )
  for name, value in metrics.items():
    assert float(others[name]) == pytest.approx(float(value), rel=1e-5), name
  moved, in_parts = (
    jax.tree.map(lambda x, y: x - y, state.params, params)
    for state in (whole, parts)
  )
  assert_near(in_parts, moved)

  # And the step follows the gradient of the loss that is reported.
  criterion = criteria.criterion_for(config)
  rng = jax.random.fold_in(jax.random.key(0), 3)

  def loss(params):
    sums = criterion.sums(build(config), params, BATCH, rng, 1e-3)
    means = criterion.means(sums)
    return means['loss'] + means['z_loss']

  gradient = jax.jit(jax.grad(loss))(params)
  assert_near(moved, jax.tree.map(lambda g: -g, gradient))
