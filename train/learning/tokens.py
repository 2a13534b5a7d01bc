"""Sums and means over predicted tokens, which several criteria share."""

from typing import Any

import jax
import jax.numpy as jnp

from models.logits import ChunkedLogits
from train.learning.losses import weighted_cross_entropy

Sums = dict[str, Any]  # of floats or of float32 scalars
Batch = dict[str, jax.Array]

ADDED = ('z_loss', 'max_logit_loss')  # added to `loss` in training


def mean(total: Any, weight: Any) -> Any:
  """Their quotient, 0 of nothing; of floats and of arrays."""
  return total / (weight + (weight == 0))


def token_sums(
  logits: jax.Array | ChunkedLogits, batch: Batch, *losses: float
) -> Sums:
  """`weighted_cross_entropy` of a batch's `targets`, times its `weights`."""
  return weighted_cross_entropy(
    logits, batch['targets'], batch['weights'], *losses
  )


def lm_weights(batch: Batch) -> Sums:
  """The weights of the predicted tokens, summed."""
  return {'weight': jnp.sum(batch['weights'])}


def lm_means(sums: Sums) -> Sums:
  """Per token: `loss` in nats, what is added to it, `accuracy`."""
  losses = 'loss', *(name for name in ADDED if name in sums)
  means = {name: mean(sums[name], sums['weight']) for name in losses}
  return means | {'accuracy': mean(sums['correct'], sums['weight'])}
