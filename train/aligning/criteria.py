"""Criteria of `align.method`: from a batch of compared answers to sums.

A row of a batch has two answers to a prompt (see input_pipeline/objectives/
preferences.py). Rows of padding count as nothing.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from train.aligning import losses
from train.aligning.methods import METHODS
from train.learning import heads
from train.learning.criteria import Criterion
from train.learning.losses import token_losses
from train.learning.tokens import Batch, Sums, mean
from train.reinforcing import policies

Rng = jax.Array | None
# What is reported of pairs, beside the accuracy.
PAIR = 'loss', 'reward_margin', 'reward_chosen', 'reward_rejected'


def criterion_for(align: Any) -> Criterion:
  """The criterion of the config's group, which `methods.check` has passed."""
  if METHODS[align.method].writes:
    return policies.policy_of(align).criterion
  match align.method:
    case 'reward':
      return Criterion(reward, weights, functools.partial(means, PAIR))
    case 'kto':
      return Criterion(functools.partial(kto, align), weights, kto_means)
    case 'orpo':
      return Criterion(
        orpo, orpo_weights, functools.partial(orpo_means, align.beta)
      )
  names = *PAIR, 'log_prob_chosen', 'log_prob_rejected'
  return Criterion(
    functools.partial(preference, align),
    weights,
    functools.partial(means, names),
  )


def log_probs(
  model: nn.Module, params: dict, batch: Batch, rng: Rng = None
) -> tuple[jax.Array, jax.Array]:
  """log p(answer | prompt) of both answers, and their tokens: [B,2] each."""
  losses = _token_losses(model, params, batch, rng)
  tokens = jnp.sum(batch['weights'], axis=-1)
  return -jnp.sum(batch['weights'] * losses, axis=-1), tokens


def _token_losses(model, params, batch, rng):
  """[B,2,T], -log p of each target."""
  outputs = heads.apply(model, params, flattened(model, batch), dropout=rng)
  logits = heads.logits_of(outputs)
  shape = batch['targets'].shape
  found, *_ = token_losses(logits, batch['targets'].reshape(-1, shape[-1]))
  return found.reshape(shape)


def flattened(model: nn.Module, batch: Batch) -> Batch:
  """What the model reads, with a row for each answer: [B,A,T] -> [BA,T]."""
  found = {}
  for name in model.INPUTS:
    x = batch[name]
    if name.startswith('encoder_'):  # the prompt of all answers
      found[name] = jnp.repeat(x, batch['inputs'].shape[1], axis=0)
    else:
      found[name] = x.reshape(-1, x.shape[-1])
  return found


def present(batch: Batch) -> jax.Array:
  """float32 [B]: 1 for a row of answers, 0 for one of padding."""
  return jnp.any(batch['segments'] > 0, axis=(1, 2)).astype('float32')


def weights(batch: Batch) -> Sums:
  """The number of pairs, or of KTO's answers."""
  return {'weight': jnp.sum(present(batch))}


def means(names: Sequence[str], sums: Sums) -> Sums:
  """Per pair: the sums of these names, and `accuracy`."""
  found = {name: mean(sums[name], sums['weight']) for name in names}
  return found | {'accuracy': mean(sums['correct'], sums['weight'])}


def _pair_sums(loss, rewards, batch):
  """Sums of the loss [B] and of the rewards [B,2]."""
  there = present(batch)
  found = {
    'loss': loss,
    'correct': rewards[:, 0] > rewards[:, 1],
    'reward_margin': rewards[:, 0] - rewards[:, 1],
    'reward_chosen': rewards[:, 0],
    'reward_rejected': rewards[:, 1],
  }
  found = {
    name: jnp.sum(jnp.where(there > 0, x, 0)) for name, x in found.items()
  }
  return found | {'weight': jnp.sum(there)}


def reward(
  model: nn.Module, params: dict, batch: Batch, rng: Rng = None, *none: float
) -> Sums:
  """Bradley-Terry loss of a reward model; see `losses.bradley_terry`.

  The arguments, here and below, are those of `criteria.lm`; further losses are
  not used.
  """
  rewards = scores(model, params, batch, rng)
  return _pair_sums(losses.bradley_terry(rewards), rewards, batch)


def scores(
  model: nn.Module, params: dict, batch: Batch, rng: Rng = None
) -> jax.Array:
  """float32 [B,2]: the number that the head gives each answer."""
  found = heads.apply(model, params, flattened(model, batch), dropout=rng)
  found = found['classes'] if isinstance(found, dict) else found
  return found.reshape(batch['inputs'].shape[:2])


def preference(
  align: Any,
  model: nn.Module,
  params: dict,
  batch: Batch,
  rng: Rng = None,
  *none: float,
) -> Sums:
  """DPO, IPO and SimPO. The sums have implicit rewards too.

  They are beta times the log-ratio to the reference; SimPO's, which has none,
  are beta times the mean log-probability.
  """
  policy, tokens = log_probs(model, params, batch, rng)
  tokens = jnp.maximum(tokens, 1)
  reference = batch['reference']
  rewards = align.beta * (policy - reference)
  match align.method:
    case 'dpo':
      loss = losses.dpo(policy, reference, align.beta)
    case 'ipo':
      loss = losses.ipo(policy, reference, tokens, align.beta)
    case 'simpo':
      loss = losses.simpo(policy, tokens, align.beta, align.margin)
      rewards = align.beta * policy / tokens
  found = _pair_sums(loss, rewards, batch)
  there = present(batch)
  return found | {
    'log_prob_chosen': jnp.sum(there * policy[:, 0]),
    'log_prob_rejected': jnp.sum(there * policy[:, 1]),
  }


def orpo(
  model: nn.Module, params: dict, batch: Batch, rng: Rng = None, *none: float
) -> Sums:
  """Sums of ORPO: the chosen text's loss over tokens, the odds ratio's.

  As in the published code and in trl, a decoder's chosen text is the prompt and
  the answer. Targets that follow the row's last token are padding.
  """
  found = _token_losses(model, params, batch, rng)
  policy = -jnp.sum(batch['weights'] * found, axis=-1)
  tokens = jnp.maximum(jnp.sum(batch['weights'], axis=-1), 1)
  loss = losses.odds_ratio(policy, tokens)
  sums = _pair_sums(loss, policy / tokens, batch)
  sums['odds_loss'] = sums.pop('loss')
  text = (batch['segments'][:, 0] > 0).astype('float32')
  return sums | {
    'text_loss': jnp.sum(text * found[:, 0]),
    'text_tokens': jnp.sum(text),
  }


def orpo_weights(batch: Batch) -> Sums:
  """The numbers of pairs, and of the tokens of chosen texts."""
  text = jnp.sum(batch['segments'][:, 0] > 0, dtype='float32')
  return weights(batch) | {'text_tokens': text}


def orpo_means(beta: float, sums: Sums) -> Sums:
  """`loss` is the text's per token plus beta times the odds ratio's per pair.

  Hong et al. 2024, equation 6; beta is the paper's lambda.
  """
  found = means(('odds_loss', *PAIR[1:]), sums)
  text_loss = mean(sums['text_loss'], sums['text_tokens'])
  loss = text_loss + beta * found['odds_loss']
  return {'loss': loss, 'text_loss': text_loss} | found


def kto(
  align: Any,
  model: nn.Module,
  params: dict,
  batch: Batch,
  rng: Rng = None,
  *none: float,
) -> Sums:
  """KTO. The second answer of a row is another prompt's: it gives z_0.

  z_0 is the mean log-ratio of these answers over the batch, at least 0
  (Ethayarajh et al. 2024, 4.1).
  """
  policy = [
    log_probs(model, own, _answer(batch, n), rng)[0][:, 0]
    # Nothing is learned from the second answers: no gradient is kept for them.
    for n, own in enumerate((params, jax.lax.stop_gradient(params)))
  ]
  ratio, other = (x - batch['reference'][:, n] for n, x in enumerate(policy))
  there, desirable = present(batch), batch['desirable']
  count = jnp.sum(there)
  kl = jnp.maximum(mean(jnp.sum(there * other), count), 0)
  loss = losses.kto(
    ratio, kl, desirable, align.beta, align.desirable_weight,
    align.undesirable_weight,
  )  # fmt: skip
  good, bad = there * desirable, there * (1 - desirable)
  right = jnp.where(desirable > 0, ratio > kl, ratio < kl)
  return {
    'loss': jnp.sum(there * loss),
    'correct': jnp.sum(there * right),
    'kl': jax.lax.stop_gradient(kl) * count,
    'reward_chosen': jnp.sum(good * ratio) * align.beta,
    'reward_rejected': jnp.sum(bad * ratio) * align.beta,
    'desirable': jnp.sum(good),
    'undesirable': jnp.sum(bad),
    'weight': count,
  }


def _answer(batch, n):
  """The batch with the n-th answers alone: [B,1,T]."""
  names = 'inputs', 'targets', 'positions', 'segments', 'prefix', 'weights'
  return batch | {
    name: batch[name][:, n : n + 1] for name in names if name in batch
  }


def kto_means(sums: Sums) -> Sums:
  """Per answer: `loss`, `kl` and `accuracy`; rewards by kind of answer."""
  chosen = mean(sums['reward_chosen'], sums['desirable'])
  rejected = mean(sums['reward_rejected'], sums['undesirable'])
  return {
    'loss': mean(sums['loss'], sums['weight']),
    'accuracy': mean(sums['correct'], sums['weight']),
    'kl': mean(sums['kl'], sums['weight']),
    'reward_chosen': chosen,
    'reward_rejected': rejected,
    'reward_margin': chosen - rejected,
  }
