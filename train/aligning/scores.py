"""The rewards of a batch of answers: of rules, functions and reward models.

`align.rewards` names them, each with its factor, and their sum is the reward.
`align.filters` has pairs too: a rule and the least that an answer must get of
it. LaMDA filters by safety and ranks by 3 P(sensible) + P(specific) +
P(interesting).
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from configs.commands import terminal
from train.aligning import rules
from train.parallel import processes

MODEL = 'model:'
SHOWN = 3  # failures that are shown as they come


class Scores:
  """(prompt, answer, target) of each answer -> its reward, and if it may pass.

  Args:
    align: the config's group.

  Raises:
    ValueError: a rule cannot be used.
  """

  def __init__(self, align: Any):
    self._seconds = align.reward_seconds
    self._size = align.reward_memory * 2**20
    self._rewards = [(name, x, self._open(name)) for name, x in align.rewards]
    self._filters = [(name, x, self._open(name)) for name, x in align.filters]
    self._shown = 0

  def _open(self, name):
    if name.startswith(MODEL):
      raise NotImplementedError
    # Only the first process runs what may depend on its machine.
    if jax.process_index():
      return None
    return rules.open_rule(name, self._seconds, self._size)

  def __call__(
    self, texts: Sequence[rules.Triple], present: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    """float32 and bool [N]; the reward is NaN where it is not known.

    `present` [N] says which rows of the batch have a prompt.

    Raises:
      RewardError: no answer has a reward.
    """
    total = np.zeros(len(texts), 'float32')
    for name, factor, rule in self._rewards:
      total += np.float32(factor) * self._of(name, rule, texts, present)
    allowed = np.ones(len(texts), bool)
    for name, least, rule in self._filters:
      # A comparison with NaN is false: what has no number does not pass.
      allowed &= self._of(name, rule, texts, present) >= least
    return total, allowed

  def _of(self, name, rule, texts, present):
    found = np.full(len(texts), np.nan, 'float32')
    asked = [text for text, there in zip(texts, present, strict=True) if there]
    if not asked:
      return found
    values, failures = [0.0] * len(asked), []
    if rule is not None:
      values, failures = rule.score(asked)
      self._report(name, failures)
      values = rules.checked(values, failures, len(asked), name)
    found[present] = processes.of_first(np.asarray(values, 'float32'))
    return found

  def _report(self, name, failures):
    """Shows the first failures of the run."""
    for why in failures[: SHOWN - self._shown]:
      terminal.warn(f'align.rewards: {name} gave an answer no reward: {why}')
    self._shown += len(failures[: SHOWN - self._shown])

  def close(self) -> None:
    """Ends the processes of the rules."""
    for *_, rule in (*self._rewards, *self._filters):
      if rule is not None:
        rule.close()


def uses_limits(align: Any) -> bool:
  """Whether a rule runs in a process of its own."""
  names = (name for name, _ in (*align.rewards, *align.filters))
  return any(map(rules.is_limited, names))
