"""Answers ranked by a reward: the best of n, rejection sampling, pairs."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

HOW = 'best', 'sample', 'pairs'
_SEED = 7919  # of rejection sampling, beside the user's


def ranked(
  how: str,
  prompt: str,
  answers: Sequence[str],
  rewards: np.ndarray,
  beta: float = 0.0,
  seed: Sequence[int] = (0,),
) -> list[dict[str, Any]]:
  """What is kept of the answers to a prompt, as lines of a data set.

  Args:
    how: best: the answer with the highest reward (best of n). sample: an answer
      is kept with probability exp((r - r_max) / beta), where r_max is the
      highest reward here: those that are kept are distributed as the optimal
      policy of a KL penalty beta, p(y) exp(r / beta), up to the estimate of the
      maximum (rejection sampling: Liu et al. 2024, 3.2, from memory). pairs:
      the best one and the worst one.
    prompt, answers, rewards: of one prompt; rewards are float32 [n].
    beta: of 'sample'.
    seed: numbers, for 'sample': the same seed keeps the same answers.

  Returns:
    Of best and sample objects with `prompt`, `completion` and `reward`; of
    pairs none or one, with `prompt`, `chosen`, `rejected` and their rewards.

  >>> ranked('best', 'p', ['a', 'b'], np.float32([1, 2]))
  [{'prompt': 'p', 'completion': 'b', 'reward': 2.0}]
  """
  rewards = np.asarray(rewards, np.float64)
  best, worst = int(np.argmax(rewards)), int(np.argmin(rewards))
  if how == 'pairs':
    if answers[best] == answers[worst] or rewards[best] == rewards[worst]:
      return []
    return [{
      'prompt': prompt, 'chosen': answers[best], 'rejected': answers[worst],
      'reward_chosen': float(rewards[best]),
      'reward_rejected': float(rewards[worst]),
    }]  # fmt: skip
  kept = [best]
  if how == 'sample':
    drawn = np.random.default_rng([_SEED, *seed]).random(len(rewards))
    accepted = drawn <= np.exp((rewards - rewards[best]) / beta)
    kept = np.flatnonzero(accepted).tolist()
  return [
    {'prompt': prompt, 'completion': answers[n], 'reward': float(rewards[n])}
    for n in kept
  ]


def best_of_n_divergence(n: int) -> float:
  """log n - (n - 1) / n: a bound of KL(best of n, all), in nats.

  Stiennon et al. 2020, appendix G.3, from memory; Beirami et al. 2024 show that
  it is a bound.
  """
  return math.log(n) - (n - 1) / n
