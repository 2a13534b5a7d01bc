"""Losses of compared answers, in nats, as the papers write them.

`policy` and `reference` are float32 [B,2]: log p(y|x) under the model that is
trained and under the reference, summed over the tokens of both answers y, the
chosen one first. `tokens` [B,2] counts these tokens. Each loss is [B].
"""

import jax
import jax.numpy as jnp


def bradley_terry(rewards: jax.Array) -> jax.Array:
  """-log sigmoid(r_w - r_l) of the rewards [B,2].

  Bradley & Terry 1952; Ouyang et al. 2022, equation 1.
  """
  return -jax.nn.log_sigmoid(rewards[:, 0] - rewards[:, 1])


def dpo(policy: jax.Array, reference: jax.Array, beta: float) -> jax.Array:
  """Direct preference optimization: Rafailov et al. 2023, equation 7."""
  return bradley_terry(beta * (policy - reference))


def ipo(
  policy: jax.Array, reference: jax.Array, tokens: jax.Array, beta: float
) -> jax.Array:
  """Identity preference optimization: Azar et al. 2023, equation 17.

  `beta` is the paper's tau. Log-ratios are means over tokens, as in trl: the
  paper's sums would make the target of 1 / (2 beta) depend on the length.
  """
  ratios = (policy - reference) / tokens
  return jnp.square(ratios[:, 0] - ratios[:, 1] - 1 / (2 * beta))


def kto(
  ratio: jax.Array,
  kl: jax.Array,
  desirable: jax.Array,
  beta: float,
  desirable_weight: float,
  undesirable_weight: float,
) -> jax.Array:
  """Kahneman-Tversky optimization: Ethayarajh et al. 2024, equation 8.

  Args:
    ratio: [B], log p(y|x) under the policy minus that under the reference.
    kl: [], the reference point z_0; no gradient flows through it.
    desirable: [B], 1 or 0.
    beta, desirable_weight, undesirable_weight: as the paper has them; the
      weights are its lambdas.
  """
  kl = jax.lax.stop_gradient(kl)
  above = desirable > 0
  margin = jnp.where(above, ratio - kl, kl - ratio)
  weight = jnp.where(above, desirable_weight, undesirable_weight)
  return weight * (1 - jax.nn.sigmoid(beta * margin))


def odds_ratio(policy: jax.Array, tokens: jax.Array) -> jax.Array:
  """ORPO's -log sigmoid of the log odds ratio: Hong et al. 2024, equation 7.

  The probability of an answer is the geometric mean over its tokens (3).
  """
  mean = policy / tokens
  # An answer of probability 1 has infinite odds: float32 ends at 1e-7.
  odds = mean - jnp.log1p(-jnp.exp(jnp.minimum(mean, -1e-7)))
  return bradley_terry(odds)


def simpo(
  policy: jax.Array, tokens: jax.Array, beta: float, margin: float
) -> jax.Array:
  """Simple preference optimization: Meng et al. 2024, equation 6.

  `margin` is the paper's gamma.
  """
  rewards = beta * policy / tokens
  return -jax.nn.log_sigmoid(rewards[:, 0] - rewards[:, 1] - margin)
