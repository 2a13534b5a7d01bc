"""ELECTRA's losses, each computed by hand from the outputs of the pair."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from models.build import build
from tests.models.families.test_electra import (
  BATCH,
  TEXT,
  apply,
  make_config,
  random_params,
)
from tests.train.learning.test_encoder_criteria import (
  assert_near,
  log_softmax,
  masked_loss,
  means_of,
)
from train.learning import electra
from train.learning.criteria import criterion_for

UNIGRAM = {'generator': 'unigram', 'generator_divisor': 0}
SMALL = {'encoder_layers': 1, 'scan': False}
KEY = jax.random.key(0)  # of the samples where there is no rng
READ = BATCH['segments'] > 0
CHOSEN = np.zeros(READ.shape, bool)
for row, (at, weight) in enumerate(
  zip(BATCH['predict_at'], BATCH['weights'], strict=True)
):
  CHOSEN[row, at[weight > 0]] = True


@functools.cache
def run(**changes):
  """The config of a pair, its parameters, outputs and means."""
  config = make_config(**SMALL | changes)
  params = random_params(config)
  compute = jax.jit(functools.partial(apply, config))
  outputs = compute(params, BATCH, sample=KEY)
  if 'replaced' in outputs:  # half of the tokens are taken for replaced
    params['replaced']['output']['bias'] -= np.median(outputs['replaced'])
    outputs = compute(params, BATCH, sample=KEY)
  outputs = jax.tree.map(np.asarray, outputs)
  return config, params, outputs, means_of(config, params)


def detection(outputs):
  """-log of the probability given to the truth."""
  logits = outputs['replaced'].astype('float64')
  signs = np.where(outputs['labels'], 1, -1)
  return np.log1p(np.exp(-signs * logits))


def found(outputs, marked, among):
  """Precision and recall."""
  labels = outputs['labels']
  marked = marked & among
  return {
    'precision': labels[marked].mean(),
    'recall': marked[labels & among].mean(),
  }


def test_the_loss_of_the_masked_tokens_alone():
  """ELECTRA 15% (table 5): the sum is over the masked tokens, each once."""
  _, _, outputs, means = run(head='rtd_masked')
  assert CHOSEN.sum() < (BATCH['weights'] > 0).sum()  # one is chosen twice
  generator, accuracy = masked_loss(outputs['logits'])
  discriminator = detection(outputs)[CHOSEN].mean()
  assert means == pytest.approx(
    {
      'loss': generator + 50 * discriminator,
      'generator_loss': generator,
      'discriminator_loss': discriminator,
      'accuracy': accuracy,
      **found(outputs, outputs['replaced'] > 0, CHOSEN),
    },
    rel=1e-5,
  )


def test_predicting_what_was_replaced():
  """Replace MLM (table 5): masked tokens, read where samples stand for them."""
  config, params, outputs, means = run(head='replace_mlm')
  generator, accuracy = masked_loss(outputs['logits'])
  discriminator, right = masked_loss(outputs['originals'])
  assert means == pytest.approx(
    {
      'loss': generator + discriminator,
      'generator_loss': generator,
      'discriminator_loss': discriminator,
      'accuracy': accuracy,
      'discriminator_accuracy': right,
    },
    rel=1e-5,
  )
  # It reads the samples: with other samples it predicts otherwise.
  other = apply(config, params, BATCH, sample=jax.random.key(1))
  assert np.abs(other['originals'] - outputs['originals']).max() > 0.1


def test_predicting_all_tokens_with_a_copy_mechanism():
  """All-Tokens MLM (table 5): D [x = input] + (1 - D) softmax(x)."""
  _, _, outputs, means = run(head='all_tokens_mlm')
  generator, accuracy = masked_loss(outputs['logits'])
  D = 1 / (1 + np.exp(-outputs['copied'].astype('float64')))
  distribution = np.exp(log_softmax(outputs['originals'].astype('float64')))
  distribution *= (1 - D)[..., None]
  rows, places = np.indices(TEXT.shape)
  distribution[rows, places, outputs['corrupted']] += D
  assert distribution.sum(-1) == pytest.approx(1)
  p = distribution[rows, places, TEXT]
  discriminator = -np.log(p[READ]).mean()
  assert means == pytest.approx(
    {
      'loss': generator + discriminator,
      'generator_loss': generator,
      'discriminator_loss': discriminator,
      'accuracy': accuracy,
      **found(outputs, D < 0.5, READ),
    },
    rel=1e-5,
  )


def adversarial(outputs):
  """Rewards and baselines [B,P], and log p of the samples."""
  reward = np.take_along_axis(detection(outputs), BATCH['predict_at'], 1)
  logit = outputs['baseline'].astype('float64')
  log_p = log_softmax(outputs['logits'].astype('float64'))
  log_p = np.take_along_axis(log_p, outputs['sampled'][..., None], 2)[..., 0]
  return reward, np.log1p(np.exp(-logit)), log_p


def test_an_adversarial_generator():
  """Appendix F: REINFORCE with the discriminator's loss as the reward."""
  _, _, outputs, means = run(generator='adversarial')
  reward, baseline, log_p = adversarial(outputs)
  generator, accuracy = masked_loss(outputs['logits'])
  discriminator = detection(outputs)[READ].mean()
  w = BATCH['weights'] / BATCH['weights'].sum()
  truth, guess = np.exp(-reward), np.exp(-baseline)
  entropy = -truth * np.log(guess) - (1 - truth) * np.log(1 - guess)
  policy = -(w * log_p * (reward - baseline)).sum()
  assert means == pytest.approx(
    {
      'loss': policy + (w * entropy).sum() + 50 * discriminator,
      'generator_loss': generator,
      'discriminator_loss': discriminator,
      'policy_loss': policy,
      'baseline_loss': (w * entropy).sum(),
      'reward': (w * reward).sum(),
      'accuracy': accuracy,
      **found(outputs, outputs['replaced'] > 0, READ),
    },
    rel=1e-5,
  )


@functools.cache
def gradients(names, **changes):
  """The gradient of each named sum."""
  config, params, *_ = run(**changes)
  model = build(config)

  def sums(params):
    found = electra.sums(model, params, BATCH)
    return [found[name] for name in names]

  return jax.device_get(jax.jit(jax.jacrev(sums))(params))


def reached(gradient):
  """The top names of parameters that a loss changes."""
  return {
    name
    for name, part in gradient.items()
    if max(np.abs(x).max() for x in jax.tree.leaves(part)) > 0
  }


def test_what_an_adversarial_pair_changes():
  """The gradient is REINFORCE's, and each loss reaches its own weights."""
  names = 'policy_loss', 'baseline_loss', 'replaced_loss', 'loss'
  policy, baseline, discriminator, masked = gradients(
    names, generator='adversarial'
  )
  assert reached(policy) == {'embed', 'generator', 'vocabulary'}
  assert reached(baseline) == {'baseline'}
  assert reached(discriminator) == {'embed', 'encoder', 'replaced'}
  assert not reached(masked)  # it is counted, not learnt
  # d log p(sample) / d bias = [sample] - p, times the advantage.
  outputs = run(generator='adversarial')[2]
  reward, b, _ = adversarial(outputs)
  p = np.exp(log_softmax(outputs['logits'].astype('float64')))
  hit = outputs['sampled'][..., None] == np.arange(40)
  advantage = BATCH['weights'] * (reward - b)
  expected = -np.einsum('BP,BPV->V', advantage, hit - p)
  bias = policy['vocabulary']['bias']
  np.testing.assert_allclose(bias, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
  'head', ['rtd_masked', 'replace_mlm', 'all_tokens_mlm']
)
def test_what_a_discriminator_changes(head):
  """Its loss reaches the shared tables, and never the generator's weights."""
  own = 'replaced' if head == 'rtd_masked' else 'originals'
  discriminator, generator = gradients((f'{own}_loss', 'loss'), head=head)
  copied = {'copied'} if head == 'all_tokens_mlm' else set()
  assert reached(discriminator) == {'embed', 'encoder', own} | copied
  assert reached(generator) == {'embed', 'generator', 'vocabulary'}


def test_the_optimum_of_a_unigram_generator():
  """It is the frequency of the masked tokens, and no sample moves it."""
  config, params, outputs, _ = run(**UNIGRAM)
  bias = 10 * params['unigram']['bias']
  np.testing.assert_array_equal(
    outputs['logits'], np.broadcast_to(bias, outputs['logits'].shape)
  )
  generator, discriminator = gradients(('loss', 'replaced_loss'), **UNIGRAM)
  assert reached(generator) == {'unigram'}
  assert reached(discriminator) == {'embed', 'encoder', 'replaced'}
  weights = BATCH['weights']
  counts = np.bincount(BATCH['targets'].ravel(), weights.ravel(), 40)
  p = np.exp(log_softmax(bias.astype('float64')))
  np.testing.assert_allclose(
    generator['unigram']['bias'] / 10, weights.sum() * p - counts, atol=1e-4
  )


CHUNKED = [
  UNIGRAM | {'head': 'all_tokens_mlm'},
  {'generator': 'adversarial'},
]


@pytest.mark.parametrize('changes', CHUNKED)
def test_chunks_of_the_logits(changes):
  """The same samples, sums and gradients as with all logits at once."""
  config, params, *_ = run(**changes)
  criterion = criterion_for(config)

  def loss(params, chunk):
    model = build(config).clone(loss_chunk=chunk)
    sums = criterion.sums(model, params, BATCH, jax.random.key(3))
    return criterion.means(sums)['loss'], sums

  step = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=1)
  ((expected, sums), gradient), ((ours, chunked), own) = (
    step(params, chunk) for chunk in (0, 2)
  )
  assert float(ours) == pytest.approx(float(expected), rel=1e-5)
  for name, value in sums.items():
    assert float(chunked[name]) == pytest.approx(float(value), rel=1e-5), name
  assert_near(own, gradient)


def test_parts_of_a_batch_add_up():
  """Their means, with the weights of the whole batch, are those of the whole.

  The generator is sure of a token, so that all parts have the same samples.
  """
  for head in 'rtd_masked', 'replace_mlm', 'all_tokens_mlm':
    config, params, *_ = run(head=head)
    bias = params['vocabulary']['bias'].copy()
    bias[7] += 1000
    sure = params | {'vocabulary': params['vocabulary'] | {'bias': bias}}
    criterion = criterion_for(config)
    weights = criterion.weights(BATCH)

    @jax.jit
    def loss(batch, sure=sure, criterion=criterion, config=config):
      sums = criterion.sums(build(config), sure, batch)
      return criterion.means(sums | weights)['loss']  # noqa: B023

    parts = [
      {name: np.concatenate([x[i::2], 0 * x[:4]]) for name, x in BATCH.items()}
      for i in range(2)
    ]
    total = sum(float(loss(part)) for part in parts)
    assert total == pytest.approx(float(loss(BATCH)), rel=1e-5)


def test_the_losses_of_the_detector_are_optaxs():
  _, _, outputs, _ = run(head='rtd_masked')
  expected = optax.sigmoid_binary_cross_entropy(
    outputs['replaced'], jnp.asarray(outputs['labels'], 'float32')
  )
  ours = electra.detection_loss(jax.tree.map(jnp.asarray, outputs))
  np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)
