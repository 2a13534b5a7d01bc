"""Rewards that are added up, filters, and the record of rollouts."""

import json

import ml_collections
import numpy as np
import pytest

from train.reinforcing import scores
from train.reinforcing.learner import Record

NONE = {'reward_seconds': 0.0, 'reward_memory': 0, 'filters': ()}


def opened(monkeypatch, given, **align):
  """Scores whose names are lists of rewards, or failures."""

  class Given:
    def __init__(self, values):
      self.values = values

    def score(self, texts):
      found = self.values[: len(texts)]
      return found, ['why' for x in found if np.isnan(x)]

    def close(self):
      pass

  monkeypatch.setattr(
    scores.rules, 'open_rule', lambda name, *limits: Given(given[name])
  )
  return scores.Scores(ml_collections.ConfigDict(NONE | align), None)


def test_parts_filters_and_padding(monkeypatch, capsys):
  given = {'good': [1.0, 2.0, np.nan], 'short': [0.5, -1.0, 0.0]}
  found = opened(
    monkeypatch, given | {'safe': [0.9, 0.1, 0.8]},
    rewards=(('good', 2.0), ('short', 1.0)), filters=(('safe', 0.5),),
  )  # fmt: skip
  present = np.array([True, False, True, True])  # the second row is padding
  rewards, allowed = found([('p', 'a', 't')] * 4, present)
  np.testing.assert_array_equal(rewards, [2.5, np.nan, 3.0, np.nan])
  np.testing.assert_array_equal(allowed, [True, False, False, True])
  said = 'good gave an answer no number: why'
  assert capsys.readouterr().err.count(said) == 1
  found([('p', 'a', 't')] * 4, present)  # one reason is given once
  assert said not in capsys.readouterr().err


def test_no_answer_has_a_reward(monkeypatch):
  found = opened(monkeypatch, {'bad': [np.nan] * 2}, rewards=(('bad', 1.0),))
  with pytest.raises(scores.rules.RewardError, match='bad gave none of 2 ans'):
    found([('p', 'a', 't')] * 2, np.ones(2, bool))


def test_answers_that_fail_by_different_rules(monkeypatch):
  odd, even = [1.0, np.nan], [np.nan, 1.0]
  given = {'odd': odd, 'even': even}
  found = opened(monkeypatch, given, rewards=(('odd', 1.0), ('even', 1.0)))
  with pytest.raises(scores.rules.RewardError, match='of 2 .* .odd, even.: ea'):
    found([('p', 'a', 't')] * 2, np.ones(2, bool))


def test_a_filter_that_nothing_passes_is_told_once(monkeypatch, capsys):
  given = {'good': [1.0, 2.0], 'safe': [-0.5, 0.1]}
  found = opened(
    monkeypatch, given, rewards=(('good', 1.0),), filters=(('safe', 0.5),)
  )
  for _ in range(2):
    _, allowed = found([('p', 'a', 't')] * 2, np.ones(2, bool))
    assert not allowed.any()
  said = capsys.readouterr().err
  assert said.count('safe gives -0.5 to 0.1, and 0.5 is the least') == 1


def test_the_record_keeps_each_step_once(tmp_path):
  path = tmp_path / 'rollouts.jsonl'
  record = Record(str(tmp_path))
  for step in 1, 2, 3:
    record.write(step, [{'step': step, 'n': n} for n in range(2)])
  record.write(2, [{'step': 2, 'n': 7}])  # the run has gone back
  with path.open('a') as file:
    file.write('{"step": 3, "n"')  # a kill cut a line short
  Record(str(tmp_path)).write(3, [{'step': 3, 'n': 8}])  # it resumes
  found = [json.loads(line) for line in path.read_text().splitlines()]
  assert [(x['step'], x['n']) for x in found] == [
    (1, 0),
    (1, 1),
    (2, 7),
    (3, 8),
  ]
