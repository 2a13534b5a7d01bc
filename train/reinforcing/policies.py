"""What PPO, GRPO and RLOO minimise: from answers and advantages to sums.

A batch has, beside what the model reads, of each row [N,L]:

  targets     the tokens of the answer, at the places that predict them
  weights     of these tokens, 0 elsewhere
  advantages  of each
  old         their log probabilities before the first update
  reference   those of the reference (GRPO)
  values, returns  what was expected, and what came (PPO)

PPO's tokens weigh 1 each. Those of GRPO and RLOO weigh 1 / (tokens of their
answer), so that all answers weigh the same.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from train.learning.criteria import Criterion
from train.learning.heads import apply, logits_of
from train.learning.losses import token_losses
from train.learning.tokens import (
  Batch,
  Sums,
  lm_means,
  lm_weights,
  mean,
  token_sums,
)

OF_ANSWERS = 'reward', 'kl', 'length'
OF_WRITTEN = 'ended', 'empty', 'failed', 'kept'
OF_BATCHES = 'gap', 'beta'


@dataclasses.dataclass(frozen=True)
class Policy:
  """How a policy learns.

  Attributes:
    method: 'ppo', 'grpo', 'rloo' or 'filter'.
    clip: how far the ratio of new to old probability counts (PPO's epsilon).
    beta: GRPO: factor of the divergence from the reference in the loss. The
      other methods have it in the rewards.
    value_clip, value_weight: PPO: how far a value counts from the old one; the
      factor of the values' loss.
  """

  method: str
  clip: float = 0.0
  beta: float = 0.0
  value_clip: float = 0.0
  value_weight: float = 0.0

  @property
  def criterion(self) -> Criterion:
    return Criterion(self.sums, lm_weights, self.means)

  def sums(
    self,
    model: nn.Module,
    params: dict,
    batch: Batch,
    rng: jax.Array | None = None,
    *losses: float,
  ) -> Sums:
    """Sums over a batch; the arguments are those of `criteria.lm`.

    Nothing is dropped, whatever `rng` is: the new log probabilities and the old
    ones must be of one model.

    Returns:
      `policy`, the clipped surrogate (Schulman et al. 2017, equation 7), or of
      'filter' the cross-entropy; `weight`; how many ratios were `clipped`; how
      far the policy has `moved`, an estimate of KL(old, new); and by method
      `penalty` or `value`. Of held-out rows, which have no `old`, those of the
      targets' cross-entropy.
    """
    if 'old' not in batch:
      return _held_out(model, params, batch)
    outputs = apply(model, params, batch)
    logits = logits_of(outputs)
    log_probs = -token_losses(logits, batch['targets'])[0]
    weights = batch['weights']
    if self.method == 'filter':
      loss = jnp.sum(weights * -log_probs)
      return {'policy': loss, 'weight': jnp.sum(weights)}
    read = weights > 0
    change = jnp.where(read, log_probs - batch['old'], 0)
    if self.method == 'rloo':  # the answer is one action
      change = jnp.sum(change, axis=1, keepdims=True)
    ratio = jnp.exp(change)
    near = jnp.clip(ratio, 1 - self.clip, 1 + self.clip)
    advantages = batch['advantages']
    gain = jnp.minimum(ratio * advantages, near * advantages)
    sums = {
      'policy': -jnp.sum(weights * gain),
      'weight': jnp.sum(weights),
      'clipped': jnp.sum(weights * (jnp.abs(ratio - 1) > self.clip)),
      'moved': jnp.sum(weights * (ratio - 1 - change)),
    }
    if self.method == 'grpo':
      away = jnp.where(read, batch['reference'] - log_probs, 0)
      sums['penalty'] = jnp.sum(weights * divergence(away))
    if self.method == 'ppo':
      loss = self._value_loss(outputs['values'], batch)
      sums['value'] = jnp.sum(weights * loss)
    return sums

  def _value_loss(self, values, batch):
    """Half the squared error, the larger one of two, of each token.

    The other one has the value clipped about the old one, as in OpenAI's code
    of PPO (memory), which Schulman et al. 2017 do not mention.
    """
    old, wanted = batch['values'], batch['returns']
    near = jnp.clip(values, old - self.value_clip, old + self.value_clip)
    errors = jnp.square(values - wanted), jnp.square(near - wanted)
    return jnp.maximum(*errors) / 2

  def means(self, sums: Sums) -> Sums:
    """`loss` and its parts, and what is known of the answers.

    Of held-out rows, which have no answers of the policy, those of `lm_means`.
    """
    if 'policy' not in sums:
      return lm_means(sums)
    weight = sums['weight']
    found = {'policy_loss': mean(sums['policy'], weight)}
    loss = found['policy_loss']
    if 'penalty' in sums:
      found['penalty'] = mean(sums['penalty'], weight)
      loss = loss + self.beta * found['penalty']
    if 'value' in sums:
      found['value_loss'] = mean(sums['value'], weight)
      loss = loss + self.value_weight * found['value_loss']
    for name in 'clipped', 'moved':
      if name in sums:
        found[name] = mean(sums[name], weight)
    return {'loss': loss} | found | described(sums)


def described(sums: Sums) -> Sums:
  """Means over the answers, those without a reward left out.

  Returns:
    `reward` and its standard deviation `reward_std`; `kl` to the reference, of
    a whole answer, in nats; `length` in tokens, with the one that ends it. The
    share of answers that `ended` before they were cut, that are `empty`, that
    `failed` to get a reward, and that are `kept` to learn from. `gap`: the
    largest difference of the sampler's log probabilities to the trainer's, and
    `beta`, the coefficient of KL, are means over batches.
  """
  if 'written' not in sums:  # inside the compiled step
    return {}
  of = {name: mean(sums[name], sums['answers']) for name in OF_ANSWERS}
  square = mean(sums['reward_square'], sums['answers'])
  of['reward_std'] = max(square - of['reward'] ** 2, 0) ** 0.5
  written = {name: mean(sums[name], sums['written']) for name in OF_WRITTEN}
  batches = {
    name: mean(sums[name], sums['batches'])
    for name in OF_BATCHES
    if name in sums
  }
  return of | written | batches


def divergence(away: Any) -> Any:
  """exp(x) - x - 1 of x = log reference - log policy, of each token.

  Over tokens that the policy draws, its mean is KL(policy, reference), and each
  is at least 0 (Shao et al. 2024, equation 4; Schulman 2020's k3).
  """
  return jnp.exp(away) - away - 1


def policy_of(align: Any) -> Policy:
  """The policy of a config's group `align`, whose method writes answers."""
  return Policy(
    align.method, align.clip, align.beta, align.value_clip, align.value_weight
  )


def _held_out(model, params, batch):
  """The cross-entropy of given answers; of two, that of the first."""
  names = (*model.INPUTS, 'targets', 'weights')
  batch = {
    name: x[:, 0] if x.ndim == 3 else x
    for name, x in batch.items()
    if name in names
  }
  logits = logits_of(apply(model, params, batch))
  return token_sums(logits, batch)
