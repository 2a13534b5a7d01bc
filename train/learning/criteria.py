"""From a batch to sums of losses and metrics."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from models.config import TransformerConfig
from train.learning.losses import cross_entropy, weighted_cross_entropy

Sums = dict[str, Any]  # of floats or of float32 scalars

ADDED = ('z_loss', 'max_logit_loss')  # to `loss`, when it is minimised
DISCRIMINATOR = 50.0  # how much its loss counts (Clark et al. 2020, A)


class Objective(NamedTuple):
  """What a model is trained for.

  A batch may be cut into parts: their sums add up. A loss of two terms has a
  weight for each, which the batch alone decides; with those of the whole batch
  in the place of a part's own, the parts' means add up, and so do gradients.
  """

  sums: Callable[..., Sums]  # as `lm`
  weights: Callable[[dict[str, jax.Array]], Sums]  # batch -> some of the sums
  means: Callable[[Sums], Sums]  # `loss` and ADDED to minimise, and metrics


def objective_for(config: TransformerConfig) -> Objective:
  """The objective of `model.head`.

  Raises:
    ValueError: no objective trains that head.
  """
  match config.head:
    case 'lm':
      return Objective(lm, lm_weights, lm_means)
    case 'mlm':
      return Objective(mlm, lm_weights, lm_means)
    case 'mlm_nsp':
      return Objective(mlm_nsp, mlm_nsp_weights, mlm_nsp_means)
    case 'rtd' if config.family == 'electra':
      return Objective(rtd, rtd_weights, rtd_means)
  raise ValueError(
    f'model.head={config.head!r} of model.family={config.family!r} is trained '
    'by no objective.'
  )


def _apply(model, params, batch, **rngs):
  return model.apply(
    {'params': params},
    **{name: batch[name] for name in model.INPUTS},
    rngs={name: rng for name, rng in rngs.items() if rng is not None},
  )


def _mean(total, weight):
  return total / (weight + (weight == 0))  # of floats and of arrays


def lm(
  model: nn.Module,
  params: dict,
  batch: dict[str, jax.Array],
  rng: jax.Array | None = None,
  z_loss: float = 0.0,
  label_smoothing: float = 0.0,
  max_logit_loss: float = 0.0,
) -> dict[str, jax.Array]:
  """Prediction of `targets` where `weights` is not 0.

  Args:
    model: reads `model.INPUTS` of the batch, gives logits [B,T,V].
    params: of the model.
    batch: see the design's batch contract; `targets`, `weights` [B,T].
    rng: for dropout; None: no dropout.
    z_loss: factor of log_z^2.
    label_smoothing: see `losses.cross_entropy`.
    max_logit_loss: see `losses.weighted_cross_entropy`.

  Returns:
    Sums over the batch: `loss`, `z_loss`, `correct`, `weight`, and
    `max_logit_loss` where there is one.
  """
  logits = _apply(model, params, batch, dropout=rng)
  return weighted_cross_entropy(
    logits,
    batch['targets'],
    batch['weights'],
    z_loss,
    label_smoothing,
    max_logit_loss,
  )


def lm_weights(batch: dict[str, jax.Array]) -> Sums:
  """Predicted tokens."""
  return {'weight': jnp.sum(batch['weights'])}


def lm_means(sums: Sums) -> Sums:
  """A token's `loss` in nats, what is added to it, `accuracy`."""
  added = [name for name in ADDED if name in sums]
  return {
    'loss': _mean(sums['loss'], sums['weight']),
    **{name: _mean(sums[name], sums['weight']) for name in added},
    'accuracy': _mean(sums['correct'], sums['weight']),
  }


def mlm(
  model: nn.Module,
  params: dict,
  batch: dict[str, jax.Array],
  rng: jax.Array | None = None,
  z_loss: float = 0.0,
  label_smoothing: float = 0.0,
  max_logit_loss: float = 0.0,
) -> Sums:
  """Masked tokens (Devlin et al. 2019, 3.1): `lm` at `predict_at` [B,P]."""
  outputs = _apply(model, params, batch, dropout=rng)
  return _masked(outputs, batch, z_loss, label_smoothing, max_logit_loss)


def _masked(outputs, batch, *losses):
  return weighted_cross_entropy(
    outputs['logits'], batch['targets'], batch['weights'], *losses
  )


def mlm_nsp(
  model: nn.Module,
  params: dict,
  batch: dict[str, jax.Array],
  rng: jax.Array | None = None,
  z_loss: float = 0.0,
  label_smoothing: float = 0.0,
  max_logit_loss: float = 0.0,
) -> Sums:
  """Masked tokens and the next sentence (Devlin et al. 2019, 3.1).

  `is_next` [B] is the class of a row's pair, 0 where the second sentence comes
  next. Sums: those of `mlm`, and `next_loss`, `next_correct`, `pairs`.
  """
  outputs = _apply(model, params, batch, dropout=rng)
  loss, _, correct = cross_entropy(outputs['next_sentence'], batch['is_next'])
  pairs = _pairs(batch)
  return _masked(outputs, batch, z_loss, label_smoothing, max_logit_loss) | {
    'next_loss': jnp.sum(pairs * loss),
    'next_correct': jnp.sum(pairs * correct),
    'pairs': jnp.sum(pairs),
  }


def _pairs(batch):
  """float32 [B], 0 for a row of padding."""
  return jnp.any(batch['segments'] > 0, axis=1).astype('float32')


def mlm_nsp_weights(batch: dict[str, jax.Array]) -> Sums:
  """Predicted tokens, pairs of sentences."""
  return lm_weights(batch) | {'pairs': jnp.sum(_pairs(batch))}


def mlm_nsp_means(sums: Sums) -> Sums:
  """`loss` is a token's plus a pair's."""
  means = lm_means(sums)
  next_loss = _mean(sums['next_loss'], sums['pairs'])
  return means | {
    'loss': means['loss'] + next_loss,
    'mlm_loss': means['loss'],
    'next_sentence_loss': next_loss,
    'next_sentence_accuracy': _mean(sums['next_correct'], sums['pairs']),
  }


def rtd(
  model: nn.Module,
  params: dict,
  batch: dict[str, jax.Array],
  rng: jax.Array | None = None,
  z_loss: float = 0.0,
  label_smoothing: float = 0.0,
  max_logit_loss: float = 0.0,
) -> Sums:
  """Replaced tokens detected (Clark et al. 2020, 3.1), and `mlm` to make them.

  Without `rng` the samples are drawn all the same, always alike. Sums: those of
  `mlm`, of the generator; of the discriminator `replaced_loss` and `read`, the
  tokens it judges, `replaced` (they were), `marked` (it says so), `found`
  (both).
  """
  dropout, sample = None, jax.random.key(0)
  if rng is not None:
    dropout, sample = jax.random.split(rng)
  outputs = _apply(model, params, batch, dropout=dropout, sample=sample)
  logits, labels = outputs['replaced'], outputs['labels'].astype('float32')
  read = (batch['segments'] > 0).astype('float32')
  marked = read * (logits > 0)
  return _masked(outputs, batch, z_loss, label_smoothing, max_logit_loss) | {
    # The cross-entropy of a sigmoid.
    'replaced_loss': jnp.sum(
      read * (jax.nn.softplus(logits) - labels * logits)
    ),
    'read': jnp.sum(read),
    'replaced': jnp.sum(read * labels),
    'marked': jnp.sum(marked),
    'found': jnp.sum(marked * labels),
  }


def rtd_weights(batch: dict[str, jax.Array]) -> Sums:
  """Predicted tokens, and those that the discriminator judges."""
  read = jnp.sum(batch['segments'] > 0, dtype='float32')
  return lm_weights(batch) | {'read': read}


def rtd_means(sums: Sums) -> Sums:
  """`loss` is the generator's plus 50 times the discriminator's.

  `accuracy` is the generator's; `precision` and `recall` are of the tokens that
  were replaced.
  """
  means = lm_means(sums)
  discriminator = _mean(sums['replaced_loss'], sums['read'])
  return means | {
    'loss': means['loss'] + DISCRIMINATOR * discriminator,
    'generator_loss': means['loss'],
    'discriminator_loss': discriminator,
    'precision': _mean(sums['found'], sums['marked']),
    'recall': _mean(sums['found'], sums['replaced']),
  }
