"""The rewards of a batch of answers: of rules, functions and reward models.

`align.rewards` names them, each with its factor, and their sum is the reward.
`align.filters` has pairs too: a name and the least that an answer must get.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from configs.commands import terminal
from input_pipeline import pipeline
from train.aligning.rewards import open_reward
from train.parallel import processes
from train.reinforcing import rules
from train.runs import warm_start

SHOWN = 3  # different failures that are shown as they come


class Model:
  """A reward model, which all processes compute together.

  Args:
    place: WORKDIR[:STEP] of a run of align/reward.py.
    data: of the policy.

  Raises:
    ValueError: one of both reads chats and the other does not, or as others.
  """

  def __init__(self, place: str, data: pipeline.Data):
    self._model = open_reward(*warm_start.parse(place))
    self._chats = bool(data.config.chat_template)
    own, template = self._model.run, self._model.template
    here = (template and template.fingerprint), own.tokenizer.fingerprint
    theirs = None, here[1]
    if self._chats:
      theirs = data.template.fingerprint, data.tokenizer.fingerprint
    if here != theirs:
      raise ValueError(
        f'align.rewards=model:{place} has data.chat_template='
        f'{own.data.chat_template!r}, and this run '
        f'{data.config.chat_template!r}: the chats of a policy and of its '
        'reward model must be written alike, and have one tokenizer. Train the '
        'reward model from the same run, or set both keys alike.'
      )

  def score(
    self,
    answers: Sequence[rules.Triple],
    ids: Sequence[tuple[np.ndarray, np.ndarray]],
  ) -> tuple[list[float], list[str]]:
    """A number for each answer, NaN for one without a token; the failures.

    `ids` are those of the prompts and of the answers, which chats are read by.
    """
    there = [n for n, (_, answer, _) in enumerate(answers) if answer.strip()]
    found = np.full(len(answers), np.nan, 'float32')
    if there and self._chats:
      own = zip(*(ids[n] for n in there), strict=True)
      found[there] = self._model.score_ids(*own)
    elif there:
      prompts, texts, _ = zip(*(answers[n] for n in there), strict=True)
      found[there] = self._model.score(prompts, texts)
    failures = ['it is empty'] * (len(answers) - len(there))
    return found.tolist(), failures

  def close(self) -> None:
    pass


class Scores:
  """(prompt, answer, target) of each answer -> its reward, and if it may pass.

  Args:
    align: the config's group.
    data: of the run.

  Raises:
    ValueError: a rule cannot be used.
  """

  def __init__(self, align: Any, data: pipeline.Data):
    self._data = data
    self._seconds = align.reward_seconds
    self._size = align.reward_memory * 2**20
    self._rewards = [(name, x, self._open(name)) for name, x in align.rewards]
    self._filters = [(name, x, self._open(name)) for name, x in align.filters]
    self._shown = set()

  def _open(self, name):
    if name.startswith(rules.MODEL):
      return Model(name.removeprefix(rules.MODEL), self._data)
    # Only the first process runs what may depend on its machine.
    if jax.process_index():
      return None
    return rules.open_rule(name, self._seconds, self._size)

  def __call__(
    self,
    texts: Sequence[rules.Triple],
    present: np.ndarray,
    ids: Sequence[tuple[np.ndarray, np.ndarray]] = (),
  ) -> tuple[np.ndarray, np.ndarray]:
    """float32 and bool [N]; the reward is NaN where it is not known.

    Args:
      texts: of each answer.
      present: [N], which answers are to a prompt, and not to padding.
      ids: of each prompt and answer, without the end of the answer; reward
        models need them.

    Raises:
      RewardError: no answer has a reward.
    """
    total = np.zeros(len(texts), 'float32')
    for name, factor, rule in self._rewards:
      total += np.float32(factor) * self._of(name, rule, texts, present, ids)
    allowed = np.ones(len(texts), bool)
    for name, least, rule in self._filters:
      # A comparison with NaN is false: what has no number does not pass.
      allowed &= self._of(name, rule, texts, present, ids) >= least
    return total, allowed

  def _of(self, name, rule, texts, present, ids):
    found = np.full(len(texts), np.nan, 'float32')
    asked = [texts[n] for n in np.flatnonzero(present)]
    if not asked:
      return found
    values, failures = np.zeros(len(asked), 'float32'), []
    if rule is not None:
      more = ()
      if isinstance(rule, Model):
        more = ([ids[n] for n in np.flatnonzero(present)],)
      values, failures = rule.score(asked, *more)
      self._report(name, failures)
      values = rules.checked(values, failures, len(asked), name)
    found[present] = processes.of_first(values)
    return found

  def _report(self, name, failures):
    """Shows the first failures of the run, each reason once."""
    for why in failures:
      new = (name, why) not in self._shown and len(self._shown) < SHOWN
      if new and jax.process_index() == 0:
        terminal.warn(f'align.rewards: {name} gave an answer no reward: {why}')
      if new:
        self._shown.add((name, why))

  def close(self) -> None:
    """Ends the processes of the rules."""
    for *_, rule in (*self._rewards, *self._filters):
      if rule is not None:
        rule.close()
