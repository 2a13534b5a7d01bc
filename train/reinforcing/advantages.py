"""How much better an answer, or a token, is than was to be expected.

Letters: B prompts, G answers to each, N = B G answers of at most T tokens. A
reward that is not known (NaN) counts nowhere: its answer has the advantage 0.
"""

import jax
import jax.numpy as jnp

LEAST = 1e-4  # added to a group's standard deviation


def grouped(rewards: jax.Array) -> jax.Array:
  """GRPO: (reward - mean) / standard deviation, over a prompt's answers.

  Shao et al. 2024 (DeepSeekMath), 4.1.2, outcome supervision. The deviation is
  that of a sample, with G - 1 in its denominator, and LEAST is added to it, as
  in the code that is most used (memory: trl). Answers of equal reward have 0.

  Args:
    rewards: float32 [B,G].

  Returns:
    float32 [B,G].
  """
  known, values, count, mean = _means(rewards)
  left = jnp.where(known, values - mean, 0)
  square = jnp.sum(left * left, axis=1, keepdims=True)
  deviation = jnp.sqrt(square / jnp.maximum(count - 1, 1))
  return left / (deviation + LEAST)


def left_out(rewards: jax.Array) -> jax.Array:
  """RLOO: the reward less the mean of the prompt's other answers.

  Ahmadian et al. 2024, 3.3 (Kool et al. 2019). An answer without others has 0.
  Shapes as in `grouped`.
  """
  known, values, count, mean = _means(rewards)
  # r - (sum - r) / (n - 1) = n / (n - 1) (r - mean)
  left = count / jnp.maximum(count - 1, 1) * (values - mean)
  return jnp.where(known, left, 0)


def _means(rewards):
  known = jnp.isfinite(rewards)
  values = jnp.where(known, rewards, 0)
  count = jnp.sum(known, axis=1, keepdims=True)
  total = jnp.sum(values, axis=1, keepdims=True)
  return known, values, count, total / jnp.maximum(count, 1)


def generalized(
  rewards: jax.Array,
  values: jax.Array,
  read: jax.Array,
  discount: float,
  decay: float,
) -> tuple[jax.Array, jax.Array]:
  """Generalized advantage estimation (Schulman et al. 2016, equation 16).

  A_t = d_t + discount decay A_(t+1), d_t = r_t + discount V_(t+1) - V_t. After
  the last token V is 0, also where an answer was cut.

  Args:
    rewards: float32 [N,T], of each token.
    values: float32 [N,T], what the tokens from each on are expected to bring.
    read: bool [N,T], the tokens of the answer, which come first.
    discount: gamma.
    decay: lambda.

  Returns:
    advantages and returns (advantage plus value), float32 [N,T], 0 after the
    answer.
  """
  rewards, values = (jnp.where(read, x, 0) for x in (rewards, values))
  following = jnp.pad(values[:, 1:], [(0, 0), (0, 1)])
  errors = rewards + discount * following - values

  def step(after, error):
    own = error + discount * decay * after
    return own, own

  zeros = jnp.zeros_like(errors[:, 0])
  _, found = jax.lax.scan(step, zeros, errors.T, reverse=True)
  found = jnp.where(read, found.T, 0)
  return found, found + values


def whitened(x: jax.Array, weights: jax.Array) -> jax.Array:
  """x with mean 0 and variance 1 under weights of the same shape, else 0.

  (PPO's advantages over a batch, as in Ziegler et al. 2019's code; memory.)
  """
  total = jnp.maximum(jnp.sum(weights), 1)
  mean = jnp.sum(weights * x) / total
  variance = jnp.sum(weights * jnp.square(x - mean)) / total
  scaled = (x - mean) * jax.lax.rsqrt(variance + 1e-8)
  return jnp.where(weights > 0, scaled, 0)


def best(rewards: jax.Array, allowed: jax.Array) -> jax.Array:
  """1 for a prompt's best allowed answer, else 0: [B,G] each.

  Of equal ones the first counts. A prompt may have none that is allowed.
  """
  allowed = allowed & jnp.isfinite(rewards)
  values = jnp.where(allowed, rewards, -jnp.inf)
  first = jnp.arange(rewards.shape[1]) == jnp.argmax(values, axis=1)[:, None]
  return (first & allowed).astype('float32')
