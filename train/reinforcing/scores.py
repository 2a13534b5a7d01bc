"""The rewards of a batch of answers: of rules, functions and models.

`align.rewards` names them, each with its factor, and their sum is the reward.
`align.filters` has pairs too: a name and the least that an answer must get.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from configs.commands import terminal
from input_pipeline import pipeline
from train.aligning.classifiers import open_classifier
from train.aligning.rewards import open_reward
from train.parallel import processes
from train.reinforcing import rules
from train.runs import warm_start

SHOWN = 3  # different failures that are shown as they come
EMPTY = 'it is empty'


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
    failures: list[str] = []

    def score(there):
      if self._chats:
        own = zip(*(ids[n] for n in there), strict=True)
        return self._model.score_ids(*own, failures)
      prompts, texts, _ = zip(*(answers[n] for n in there), strict=True)
      return self._model.score(prompts, texts, failures)

    found, empty = _of_texts(answers, score)
    return found, failures + empty

  def close(self) -> None:
    pass


class Class:
  """A classifier's probability of a class: WORKDIR[:STEP]=CLASS."""

  def __init__(self, place: str):
    folder, equal, label = place.rpartition('=')
    if not equal:
      raise ValueError(
        f'{rules.CLASS}{place} names no class: write '
        f'{rules.CLASS}WORKDIR=CLASS.'
      )
    folder, step = warm_start.parse(folder)
    self._model = open_classifier(folder, label, step)

  def score(
    self, answers: Sequence[rules.Triple]
  ) -> tuple[list[float], list[str]]:
    """A number for each answer, NaN for one without a token; the failures."""

    def score(there):
      prompts, texts, _ = zip(*(answers[n] for n in there), strict=True)
      return self._model.score(prompts, texts)

    return _of_texts(answers, score)

  def close(self) -> None:
    pass


def _of_texts(answers, score):
  """score(places of answers with a text) -> a number for each, NaN without one.

  And a failure for each answer without a text.
  """
  there = [n for n, (_, answer, _) in enumerate(answers) if answer.strip()]
  found = np.full(len(answers), np.nan, 'float32')
  if there:
    found[there] = score(there)
  return found.tolist(), [EMPTY] * (len(answers) - len(there))


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
    if name.startswith(rules.CLASS):
      return Class(name.removeprefix(rules.CLASS))
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
    asked = texts, present, ids
    total = np.zeros(len(texts), 'float32')
    for name, factor, rule in self._rewards:
      total += np.float32(factor) * self._of('rewards', name, rule, *asked)
    if present.any() and np.isnan(total[present]).all():
      names = ', '.join(name for name, *_ in self._rewards)
      raise rules.RewardError(
        f'None of {present.sum()} answers has a number by all of '
        f'align.rewards ({names}): each fails by one of them. Correct these, '
        'and run the same command again: it resumes.'
      )
    allowed, known = np.ones(len(texts), bool), present & np.isfinite(total)
    for name, least, rule in self._filters:
      found = self._of('filters', name, rule, *asked)
      # A comparison with NaN is false: what has no number does not pass.
      allowed &= found >= least
      if known.any() and not allowed[known].any():
        self._warn(
          'align.filters: no answer of this batch passes, and nothing is '
          f'learned from it: {name} gives {np.nanmin(found[known]):.3g} to '
          f'{np.nanmax(found[known]):.3g}, and {least:g} is the least that '
          'passes. `kept` in metrics.jsonl is the share that does.',
          name,
        )
    return total, allowed

  def _of(self, group, name, rule, texts, present, ids):
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
      self._report(group, name, failures)
      values = rules.checked(values, failures, len(asked), name, group)
    found[present] = processes.of_first(values)
    return found

  def _report(self, group, name, failures):
    """Shows the first failures of the run, each reason once."""
    for why in failures:
      if len(self._shown) < SHOWN:
        message = f'align.{group}: {name} gave an answer no number: {why}'
        self._warn(message, (name, why))

  def _warn(self, message, key):
    """Shows a message of the run once."""
    if key not in self._shown and jax.process_index() == 0:
      terminal.warn(message)
    self._shown.add(key)

  def close(self) -> None:
    """Ends the processes of the rules."""
    for *_, rule in (*self._rewards, *self._filters):
      if rule is not None:
        rule.close()
