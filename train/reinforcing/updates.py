"""A step of learning from rewards: write, score, learn.

A step of the loop takes a batch of prompts. The policy writes answers, which
get rewards. From then on they are data: one compiled program gives them their
log probabilities and advantages, another makes the updates. So the parameters
after a step are a function of those before it, the prompts, the seed, the step
and the rewards. A run that is killed and resumed makes the same steps.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from train.learning.heads import apply, logits_of
from train.learning.losses import token_losses
from train.learning.state import TrainState
from train.learning.step import cast, place
from train.reinforcing import advantages, rollouts
from train.reinforcing.policies import Policy

GAIN = 0.1  # of the coefficient of KL (Ziegler et al. 2019, 2.2; memory)
MOST = 0.2  # largest relative error that counts there


@dataclasses.dataclass(frozen=True)
class Scoring:
  """How answers become what a policy learns from.

  Attributes:
    model: the policy's.
    policy: the method.
    samples: G.
    length: T.
    discount, decay: of PPO's advantages.
  """

  model: nn.Module
  policy: Policy
  samples: int
  length: int
  discount: float = 1.0
  decay: float = 1.0

  def __call__(
    self,
    params: Any,
    reference: Any,
    arrays: dict[str, jax.Array],
    sampled: jax.Array,
    rewards: jax.Array,
    allowed: jax.Array,
    beta: jax.Array,
  ) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """Parameters, answers, rewards -> a batch for `Policy`, and sums.

    Args:
      params: the policy's, as the model reads them.
      reference: those of the reference.
      arrays: of `rollouts.rows_of`.
      sampled: float32 [N,T], the sampler's log probabilities.
      rewards: float32 [N], NaN where not known: such an answer is left out.
      allowed: bool [N], whether a filter lets an answer pass.
      beta: float32 [], the coefficient of KL in the rewards.

    Returns:
      Arrays [N,...], and sums over the answers that have a reward.
    """
    config, T = self.model.config, self.length
    at = functools.partial(rollouts.answered, config, length=T)
    outputs = self._apply(params, arrays)
    wide = {'old': self._log_probs(outputs, arrays)}
    ours, theirs = (
      at(x)
      for x in (
        wide['old'],
        self._log_probs(self._apply(reference, arrays), arrays),
      )
    )
    read, known = at(arrays['read']), jnp.isfinite(rewards)
    count = jnp.sum(read, axis=1)
    away = jnp.where(read, ours - theirs, 0)
    kl = jnp.sum(away, axis=1)
    used = read & known[:, None]
    weights = used / jnp.maximum(count, 1)[:, None]
    more = {}
    groups = functools.partial(jnp.reshape, shape=(-1, self.samples))
    match self.policy.method:
      case 'ppo':
        weights = used.astype('float32')
        last = jnp.arange(T) == count[:, None] - 1
        tokens = jnp.where(last, rewards[:, None], 0) - beta * away
        values = at(outputs['values'])
        found, returns = advantages.generalized(
          tokens, values, used, self.discount, self.decay
        )
        found = advantages.whitened(found, weights)
        more = {'values': values, 'returns': returns}
      case 'grpo':
        more = {'reference': theirs}
        found = advantages.grouped(groups(rewards)).reshape(-1, 1)
      case 'rloo':
        scores = groups(rewards - beta * kl)
        found = advantages.left_out(scores).reshape(-1, 1)
      case 'filter':
        chosen = advantages.best(groups(rewards), groups(allowed))
        weights = read * chosen.reshape(-1, 1)
        found = jnp.zeros_like(weights)
    more |= {'advantages': jnp.broadcast_to(found, read.shape)}
    more |= {'weights': weights.astype('float32')}
    width = arrays['read'].shape[1]
    wide |= {k: rollouts.spread(config, x, width) for k, x in more.items()}
    gap = jnp.max(jnp.where(read, jnp.abs(ours - sampled), 0))

    def total(x):
      return jnp.sum(jnp.where(known, x, 0).astype('float32'))

    return arrays | wide, {
      'reward': total(rewards),
      'reward_square': total(jnp.square(rewards)),
      'kl': total(kl),
      'length': total(count),
      'answers': total(1.0),
      'kept': jnp.sum(jnp.any(weights > 0, axis=1), dtype='float32'),
      'gap': gap,
      'batches': jnp.float32(1),
    }

  def _apply(self, params, arrays):
    params = cast(params, self.model.config.dtype)
    return apply(self.model, params, arrays)

  def _log_probs(self, outputs, arrays):
    return -token_losses(logits_of(outputs), arrays['targets'])[0]


def update(
  state: TrainState,
  batch: dict[str, jax.Array],
  *,
  step: Callable,
  policy: Policy,
  epochs: int,
  minibatches: int,
  seed: int,
  beta: float = 0.0,
  kl_target: float = 0.0,
) -> tuple[TrainState, dict[str, Any]]:
  """All updates from the answers of one batch: state, batch -> state, metrics.

  Args:
    state: donated by the caller.
    batch: `answers`, the arrays of `Scoring`; `sums`, what it sums; and the
      `cursor` of the prompts, with `last_of` where it is there.
    step: `train_step` with the policy's criterion.
    policy: the method.
    epochs, minibatches: each epoch reads all answers in another order, cut into
      so many equal parts, each of which makes an update.
    seed: of the order.
    beta: the coefficient of KL at the beginning.
    kl_target: the KL that it is adapted to; 0: it is fixed.
  """
  answers, sums = batch['answers'], dict(batch['sums'])
  count = len(answers['read'])

  def one(state, rows):
    part = answers
    if rows is not None:
      part = {name: x[rows] for name, x in answers.items()}
    new, found = step(state, part | {'cursor': state.cursor})
    kept = {k: found[k] for k in ('sums', 'grad_norm', 'learning_rate')}
    return new.replace(step=state.step), kept

  if epochs * minibatches == 1:
    new, found = one(state, None)
    found = jax.tree.map(lambda x: x[None], found)
  else:
    rng = jax.random.fold_in(jax.random.key(seed), state.step)
    keys = jax.random.split(rng, epochs)
    orders = jax.vmap(lambda key: jax.random.permutation(key, count))(keys)
    orders = orders.reshape(epochs * minibatches, -1)
    new, found = jax.lax.scan(one, state, orders)
  cursor = place(state.cursor, batch['cursor'], batch.get('last_of'))
  new = new.replace(step=state.step + 1, cursor=cursor)
  if kl_target:
    kl = sums['kl'] / jnp.maximum(sums['answers'], 1)
    new = new.replace(kl_factor=adapted(state.kl_factor, kl, kl_target))
    sums['beta'] = beta * state.kl_factor  # of this batch
  sums |= jax.tree.map(lambda x: jnp.sum(x, axis=0), found['sums'])
  return new, policy.means(sums) | {
    'sums': sums,
    'tokens': jnp.sum(answers['segments'] > 0),
    'grad_norm': jnp.mean(found['grad_norm']),
    'learning_rate': found['learning_rate'][0],
    'cursor': cursor,
  }


def adapted(beta: jax.Array, kl: jax.Array, target: float) -> jax.Array:
  """The coefficient of KL after a batch (Ziegler et al. 2019, 2.2).

  beta (1 + GAIN error), where the error is KL / target - 1, between -MOST and
  MOST.
  """
  error = jnp.clip(kl / target - 1, -MOST, MOST)
  return beta * (1 + GAIN * error)
