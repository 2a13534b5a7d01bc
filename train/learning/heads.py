"""Losses of the heads that labelled tasks train; see criteria.

A batch's `weights` are 1 where there is a label, and 0 in rows of padding.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from train.learning.losses import cross_entropy, weighted_cross_entropy

Sums = dict[str, Any]

ANSWERED = 0.5  # weight of whether there is an answer (ELECTRA's code)
TEXT = 0.5  # weight of GPT-1's loss of the text (Radford et al. 2018, 3.2)


def apply(
  model: nn.Module,
  params: dict,
  batch: dict[str, jax.Array],
  also: Sequence[str] = (),
  **rngs: Any,
) -> Any:
  """Applies the model to the arrays of the batch that it reads.

  `also` names arrays that it reads in training alone.
  """
  return model.apply(
    {'params': params},
    **{name: batch[name] for name in (*model.INPUTS, *also)},
    rngs={name: rng for name, rng in rngs.items() if rng is not None},
  )


def logits_of(outputs: Any) -> Any:
  """The logits of a vocabulary among what a model returns."""
  return outputs['logits'] if isinstance(outputs, dict) else outputs


def weights(batch: dict[str, jax.Array]) -> Sums:
  """The number of labels."""
  return {'weight': jnp.sum(batch['weights'])}


def means(sums: Sums) -> Sums:
  """Per label: `loss` in nats, and `accuracy`."""
  weight = sums['weight'] + (sums['weight'] == 0)
  return {
    'loss': sums['loss'] / weight,
    'accuracy': sums['correct'] / weight,
  }


def _class_logits(outputs):
  return outputs['classes'] if isinstance(outputs, dict) else outputs


def _sums(loss, correct, weights):
  return {
    'loss': jnp.sum(weights * loss),
    'correct': jnp.sum(weights * correct),
    'weight': jnp.sum(weights),
  }


def classes(
  model: nn.Module,
  params: dict,
  batch: dict[str, jax.Array],
  rng: jax.Array | None = None,
  *losses: float,
) -> Sums:
  """Cross-entropy of the classes `labels`, [B] or, for words, [B,T].

  The arguments, here and below, are those of `criteria.lm`; `losses` are not
  used.
  """
  logits = _class_logits(apply(model, params, batch, dropout=rng))
  loss, _, correct = cross_entropy(logits, batch['labels'])
  return _sums(loss, correct, batch['weights'])


def choice(
  model: nn.Module,
  params: dict,
  batch: dict[str, jax.Array],
  rng: jax.Array | None = None,
  *losses: float,
) -> Sums:
  """Cross-entropy of the right row among C (Devlin et al. 2019, 4.4).

  The model reads B x C rows of `inputs` [B,C,T] and gives each a number; a
  softmax over these is the probability of `labels` [B].
  """
  logits = choice_logits(model, params, batch, rng)
  loss, _, correct = cross_entropy(logits, batch['labels'])
  return _sums(loss, correct, batch['weights'])


def choice_logits(
  model: nn.Module,
  params: dict,
  batch: dict[str, jax.Array],
  rng: jax.Array | None = None,
) -> jax.Array:
  """float32 [B,C]: a number for each of the rows of an example."""
  rows, several = batch['inputs'].shape[:2]
  flat = {
    name: x.reshape(rows * several, *x.shape[2:])
    for name, x in batch.items()
    if name in model.INPUTS
  }
  outputs = _class_logits(apply(model, params, flat, dropout=rng))
  return outputs.reshape(rows, several)


def number(
  model: nn.Module,
  params: dict,
  batch: dict[str, jax.Array],
  rng: jax.Array | None = None,
  *losses: float,
) -> Sums:
  """Squared error of the number `labels` [B] (Clark et al. 2020's code).

  With the head tokens they are [B,T].
  """
  found = _class_logits(apply(model, params, batch, dropout=rng))[..., 0]
  error = jnp.square(found - batch['labels'])
  return {
    'loss': jnp.sum(batch['weights'] * error),
    'weight': jnp.sum(batch['weights']),
  }


def number_means(sums: Sums) -> Sums:
  """`loss`: the mean squared error."""
  return {'loss': sums['loss'] / (sums['weight'] + (sums['weight'] == 0))}


def span(
  model: nn.Module,
  params: dict,
  batch: dict[str, jax.Array],
  rng: jax.Array | None = None,
  *losses: float,
) -> Sums:
  """Mean cross-entropy of an answer's `start` and `end` [B].

  Devlin et al. 2019, 4.2; padding cannot be chosen. `correct`: both are right.
  """
  outputs = apply(model, params, batch, dropout=rng)
  losses, right = [], 1.0
  for name in 'start', 'end':
    logits = jnp.where(batch['segments'] > 0, outputs[name], -1e9)
    loss, _, correct = cross_entropy(logits, batch[name])
    losses.append(loss)
    right = right * correct
  return _sums(sum(losses) / 2, right, batch['weights'])


def span_joint(
  model: nn.Module,
  params: dict,
  batch: dict[str, jax.Array],
  rng: jax.Array | None = None,
  *losses: float,
) -> Sums:
  """As `span`, each end given the right start; and whether there is an answer.

  Clark et al. 2020's code: the binary cross-entropy of `no_answer` [B], 1 where
  the question has no answer in any window, counts half.
  """
  outputs = apply(model, params, batch, ['start'], dropout=rng)
  start, _, begins = cross_entropy(outputs['start'], batch['start'])
  end, _, ends = cross_entropy(outputs['end'], batch['end'])
  answered = optax.sigmoid_binary_cross_entropy(
    outputs['no_answer'], batch['no_answer'].astype('float32')
  )
  loss = (start + end) / 2 + ANSWERED * answered
  return _sums(loss, begins * ends, batch['weights'])


def classes_and_text(
  model: nn.Module,
  params: dict,
  batch: dict[str, jax.Array],
  rng: jax.Array | None = None,
  *losses: float,
) -> Sums:
  """`classes`, and the loss of the text itself (Radford et al. 2018, 3.2).

  Every token after the first is predicted: `text_loss` is the sum over
  `tokens`.
  """
  outputs = apply(model, params, batch, dropout=rng)
  loss, _, correct = cross_entropy(outputs['classes'], batch['labels'])
  inputs, segments = (  # [B,2,T] where a pair is read in both orders
    batch[name].reshape(-1, batch[name].shape[-1])
    for name in ('inputs', 'segments')
  )
  # The last token predicts nothing.
  following, after = (
    jnp.pad(x[:, 1:], [(0, 0), (0, 1)]) for x in (inputs, segments)
  )
  read = (after > 0).astype('float32')
  text = weighted_cross_entropy(outputs['logits'], following, read)
  return _sums(loss, correct, batch['weights']) | {
    'text_loss': text['loss'],
    'tokens': text['weight'],
  }


def classes_and_text_weights(batch: dict[str, jax.Array]) -> Sums:
  """The numbers of labels and of predicted tokens."""
  read = jnp.sum(batch['segments'][..., 1:] > 0, dtype='float32')
  return weights(batch) | {'tokens': read}


def classes_and_text_means(sums: Sums) -> Sums:
  """`loss` is that of the labels plus half of the text's, per token."""
  found = means(sums)
  text = sums['text_loss'] / (sums['tokens'] + (sums['tokens'] == 0))
  return found | {
    'loss': found['loss'] + TEXT * text,
    'label_loss': found['loss'],
    'text_loss': text,
  }
