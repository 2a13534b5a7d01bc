"""What ELECTRA's pair minimises (Clark et al. 2020), by its config.

The generator's loss and a multiple of the discriminator's are added up.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from models.config import TransformerConfig
from models.families.electra import fill
from train.learning import heads
from train.learning.losses import token_losses
from train.learning.tokens import (
  Batch,
  Sums,
  lm_means,
  lm_weights,
  mean,
  token_sums,
)

Config = TransformerConfig

# By model.head, how often the discriminator's loss counts. The paper's 50 (A)
# makes up for the small loss of two classes. For the heads that predict
# original tokens 1 is our choice: their loss is like the generator's.
_WEIGHTS = {
  'rtd': 50.0,
  'rtd_masked': 50.0,
  'replace_mlm': 1.0,
  'all_tokens_mlm': 1.0,
}
_LOSS = {  # its name among the sums
  'rtd': 'replaced_loss',
  'rtd_masked': 'replaced_loss',
  'replace_mlm': 'originals_loss',
  'all_tokens_mlm': 'originals_loss',
}


def sums(
  model: nn.Module,
  params: dict,
  batch: Batch,
  rng: jax.Array | None = None,
  *losses: float,
) -> Sums:
  """Sums over a batch of what the generator and the discriminator lose.

  The arguments are those of `criteria.lm`; `losses` concern the generator.
  Without `rng` there is no dropout, and the generator's samples are the same in
  every call.

  Returns:
    Of the generator those of `criteria.mlm`, and those of `_policy` if it is
    adversarial. Of the discriminator, by `model.head`:
    rtd, rtd_masked: `replaced_loss`; `read`, the tokens it judges; `replaced`,
    those that were replaced; `marked`, those it calls replaced; `found`, those
    that are both.
    all_tokens_mlm: the same, but `originals_loss`; `marked` it does not copy.
    replace_mlm: `originals_loss`, and `originals_correct`, what it predicts, of
    the generator's tokens.
  """
  dropout, sample = None, jax.random.key(0)
  if rng is not None:
    dropout, sample = jax.random.split(rng)
  outputs = heads.apply(model, params, batch, dropout=dropout, sample=sample)
  c, logits = model.config, outputs['logits']
  adversarial = c.generator == 'adversarial'
  if adversarial:  # masked tokens are counted, not learnt
    logits = jax.lax.stop_gradient(logits)
  found = token_sums(logits, batch, *losses)
  match c.head:
    case 'replace_mlm':
      own = token_sums(outputs['originals'], batch)
      return found | {
        'originals_loss': own['loss'],
        'originals_correct': own['correct'],
      }
    case 'all_tokens_mlm':
      loss, marked = _copying(outputs)
    case _:
      loss, marked = detection_loss(outputs), outputs['replaced'] > 0
  if adversarial:
    found |= _policy(outputs, batch)
  read = _read(c, batch)
  marked, labels = read * marked, outputs['labels'].astype('float32')
  return found | {
    _LOSS[c.head]: jnp.sum(read * loss),
    'read': jnp.sum(read),
    'replaced': jnp.sum(read * labels),
    'marked': jnp.sum(marked),
    'found': jnp.sum(marked * labels),
  }


def weights(config: Config, batch: Batch) -> Sums:
  """The predicted tokens, and those that the discriminator judges."""
  found = lm_weights(batch)
  if config.head == 'replace_mlm':
    return found
  return found | {'read': jnp.sum(_read(config, batch))}


def means(config: Config, sums: Sums) -> Sums:
  """`loss` is the generator's plus a multiple of the discriminator's.

  `accuracy` is the generator's; `precision` and `recall` are the
  discriminator's, in finding the replaced tokens. It has
  `discriminator_accuracy` where it predicts the original ones.
  An adversarial generator minimises `policy_loss` and `baseline_loss`, not its
  `generator_loss`, that of masked tokens; `reward` is what it maximises.
  """
  found = lm_means(sums)
  head, generator = config.head, found['loss']
  read = sums['weight' if head == 'replace_mlm' else 'read']
  discriminator = mean(sums[_LOSS[head]], read)
  minimised = generator
  own = {'generator_loss': generator, 'discriminator_loss': discriminator}
  if config.generator == 'adversarial':
    names = 'policy_loss', 'baseline_loss', 'reward'
    own |= {name: mean(sums[name], sums['weight']) for name in names}
    minimised = own['policy_loss'] + own['baseline_loss']
  if head == 'replace_mlm':
    own['discriminator_accuracy'] = mean(sums['originals_correct'], read)
  else:
    own['precision'] = mean(sums['found'], sums['marked'])
    own['recall'] = mean(sums['found'], sums['replaced'])
  return found | own | {'loss': minimised + _WEIGHTS[head] * discriminator}


def _read(config, batch):
  """float32 [B,T]: 1 for the tokens that the discriminator's loss is on."""
  if config.head == 'rtd_masked':  # ELECTRA 15% (table 5): the masked ones
    nowhere = jnp.zeros(batch['segments'].shape, 'int32')
    at = batch['predict_at']
    chosen = fill(nowhere, at, jnp.ones_like(at), batch['weights'])
    return chosen.astype('float32')
  return (batch['segments'] > 0).astype('float32')


def detection_loss(outputs: dict[str, jax.Array]) -> jax.Array:
  """-log of the probability given to the truth, float32 [B,T] (2).

  The truth is whether a token was replaced: the cross-entropy of a sigmoid.
  """
  labels = outputs['labels'].astype('float32')
  return jax.nn.softplus(outputs['replaced']) - labels * outputs['replaced']


def _copying(outputs):
  """The loss of all tokens, and where the model does not copy: [B,T] each.

  A sigmoid gives D, the probability of copying. The original token x has the
  probability D [x = input] + (1 - D) softmax(x): table 5, All-Tokens MLM.
  """
  loss, *_ = token_losses(outputs['originals'], outputs['text'])
  copied = outputs['copied']
  predicted = jax.nn.log_sigmoid(-copied) - loss
  either = jnp.logaddexp(jax.nn.log_sigmoid(copied), predicted)
  return -jnp.where(outputs['labels'], predicted, either), copied < 0


def _policy(outputs, batch):
  """How an adversarial generator learns (appendix F, from memory).

  It shall maximise the discriminator's loss, through samples that have no
  gradient: REINFORCE (Williams 1992). A sample's reward is the discriminator's
  loss at its place, as if that did not depend on the other samples. Losses at
  other places are then beyond the generator's reach. The baseline is
  b = -log sigmoid(w h), h the generator's output there; sigmoid(w h) learns by
  cross-entropy the probability that the discriminator gives the truth. (That h
  has no gradient from it is our choice.)

  Returns:
    Sums over the predicted tokens: `policy_loss`, whose gradient is that of
    REINFORCE, `baseline_loss` and `reward`.
  """
  reward = jnp.take_along_axis(
    detection_loss(outputs), batch['predict_at'], axis=1
  )
  reward = jax.lax.stop_gradient(reward)
  logit = outputs['baseline']
  baseline = jax.lax.stop_gradient(jax.nn.softplus(-logit))
  surprise, *_ = token_losses(outputs['logits'], outputs['sampled'])
  judged = optax.sigmoid_binary_cross_entropy(logit, jnp.exp(-reward))
  w = batch['weights']
  return {
    'policy_loss': jnp.sum(w * (reward - baseline) * surprise),
    'baseline_loss': jnp.sum(w * judged),
    'reward': jnp.sum(w * reward),
  }
