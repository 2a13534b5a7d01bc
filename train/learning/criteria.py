"""What is minimised: from a batch to sums of losses and metrics.

A criterion belongs to a model's head. (An objective is what the pipeline makes
of text: see input_pipeline/objectives.)
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from models.config import TransformerConfig
from train.learning import electra, heads
from train.learning.losses import cross_entropy
from train.learning.tokens import (
  Batch,
  Sums,
  lm_means,
  lm_weights,
  mean,
  token_sums,
)

Rng = jax.Array | None


class Criterion(NamedTuple):
  """What a model's training minimises.

  A batch may be cut into parts, whose sums add up. Each term of the loss has a
  weight that depends on the batch alone. With the weights of the whole batch in
  place of a part's own, the means of the parts add up, and so do gradients.
  """

  sums: Callable[..., Sums]  # such as `lm`
  weights: Callable[[Batch], Sums]  # batch -> some of the sums
  means: Callable[[Sums], Sums]  # `loss` and ADDED to minimise, and metrics


def criterion_for(config: TransformerConfig) -> Criterion:
  """The criterion of `model.head`; raises ValueError if none trains it."""
  match config.head:
    case 'lm':
      return Criterion(lm, lm_weights, lm_means)
    case 'mlm':
      return Criterion(mlm, lm_weights, lm_means)
    case 'mlm_nsp':
      return Criterion(mlm_nsp, mlm_nsp_weights, mlm_nsp_means)
    case _ if config.family == 'electra':
      return Criterion(
        electra.sums,
        functools.partial(electra.weights, config),
        functools.partial(electra.means, config),
      )
    case 'sequence' | 'tokens' if config.classes == 1:
      return Criterion(heads.number, heads.weights, heads.number_means)
    case 'sequence' | 'tokens':
      return Criterion(heads.classes, heads.weights, heads.means)
    case 'sequence_lm':
      return Criterion(
        heads.classes_and_text, heads.classes_and_text_weights,
        heads.classes_and_text_means,
      )  # fmt: skip
    case 'choice':
      return Criterion(heads.choice, heads.weights, heads.means)
    case 'span':
      return Criterion(heads.span, heads.weights, heads.means)
    case 'span_joint':
      return Criterion(heads.span_joint, heads.weights, heads.means)
  raise ValueError(
    f'No criterion trains model.head={config.head!r} of '
    f'model.family={config.family!r}.'
  )


def lm(
  model: nn.Module,
  params: dict,
  batch: Batch,
  rng: Rng = None,
  z_loss: float = 0.0,
  label_smoothing: float = 0.0,
  max_logit_loss: float = 0.0,
) -> Sums:
  """Sums over a batch of the cross-entropy of `targets`, times `weights`.

  Args:
    model: reads `model.INPUTS` of the batch and returns logits [B,T,V].
    params: the model's parameters.
    batch: the inputs, and `targets` and `weights` [B,T].
    rng: for dropout; None: no dropout.
    z_loss, label_smoothing, max_logit_loss: see `weighted_cross_entropy`.
  """
  logits = heads.apply(model, params, batch, dropout=rng)
  return token_sums(logits, batch, z_loss, label_smoothing, max_logit_loss)


def mlm(
  model: nn.Module, params: dict, batch: Batch, rng: Rng = None, *losses: float
) -> Sums:
  """Masked tokens (Devlin et al. 2019, 3.1): `lm` at `predict_at` [B,P].

  The arguments, here and below, are those of `lm`.
  """
  outputs = heads.apply(model, params, batch, dropout=rng)
  return token_sums(outputs['logits'], batch, *losses)


def mlm_nsp(
  model: nn.Module, params: dict, batch: Batch, rng: Rng = None, *losses: float
) -> Sums:
  """Masked tokens and the next sentence (Devlin et al. 2019, 3.1).

  `is_next` [B] is the class of a row's pair: 0 if the second sentence follows
  the first. Sums: those of `mlm`, and `next_loss`, `next_correct`, `pairs`.
  """
  outputs = heads.apply(model, params, batch, dropout=rng)
  loss, _, correct = cross_entropy(outputs['next_sentence'], batch['is_next'])
  pairs = _pairs(batch)
  return token_sums(outputs['logits'], batch, *losses) | {
    'next_loss': jnp.sum(pairs * loss),
    'next_correct': jnp.sum(pairs * correct),
    'pairs': jnp.sum(pairs),
  }


def _pairs(batch):
  """float32 [B]: 1 for a pair, 0 for a row of padding."""
  return jnp.any(batch['segments'] > 0, axis=1).astype('float32')


def mlm_nsp_weights(batch: Batch) -> Sums:
  """Predicted tokens, and pairs of sentences."""
  return lm_weights(batch) | {'pairs': jnp.sum(_pairs(batch))}


def mlm_nsp_means(sums: Sums) -> Sums:
  """`loss` is the mean per token plus the mean per pair."""
  means = lm_means(sums)
  next_loss = mean(sums['next_loss'], sums['pairs'])
  return means | {
    'loss': means['loss'] + next_loss,
    'mlm_loss': means['loss'],
    'next_sentence_loss': next_loss,
    'next_sentence_accuracy': mean(sums['next_correct'], sums['pairs']),
  }
