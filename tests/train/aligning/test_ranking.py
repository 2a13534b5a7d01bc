"""Best of n, rejection sampling and pairs."""

import math

import numpy as np
import pytest

from train import rank
from train.aligning import ranking

ANSWERS, REWARDS = ['a', 'b', 'c'], np.float32([0.5, 2.0, -1.0])


def test_the_best_and_the_worst():
  (best,) = ranking.ranked('best', 'p', ANSWERS, REWARDS)
  assert best == {'prompt': 'p', 'completion': 'b', 'reward': 2.0}
  (pair,) = ranking.ranked('pairs', 'p', ANSWERS, REWARDS)
  assert (pair['chosen'], pair['rejected']) == ('b', 'c')
  # Nothing is learned from answers that are alike.
  assert not ranking.ranked('pairs', 'p', ['a', 'a'], np.float32([1, 2]))
  assert not ranking.ranked('pairs', 'p', ['a', 'b'], np.float32([1, 1]))


def test_empty_and_unread_answers_are_left_out():
  rows = [
    {'prompt': 'p', 'answers': ['a', ' ', 'b', '']},
    {'prompt': 'q', 'answers': ['c', {'text': 'd'}]},
  ]
  given = np.float32([1, 2, 3, 4]), np.float32([np.nan, np.nan])
  found, rewards, empty = rank.judged(rows, given)
  assert found == [{'prompt': 'p', 'answers': ['a', 'b']}]
  assert [x.tolist() for x in rewards] == [[1, 3]]
  assert empty == 2


def test_rejection_sampling_draws_the_optimal_policy():
  """Kept answers are distributed as p(y) exp(r / beta)."""
  beta, counts = 0.7, np.zeros(3)
  for n in range(4000):
    kept = ranking.ranked('sample', 'p', ANSWERS, REWARDS, beta, (0, n))
    for line in kept:
      counts[ANSWERS.index(line['completion'])] += 1
  wanted = np.exp(REWARDS / beta)
  np.testing.assert_allclose(
    counts / counts.sum(), wanted / wanted.sum(), atol=0.01
  )
  once, again = (
    ranking.ranked('sample', 'p', ANSWERS, REWARDS, beta, (3, 5))
    for _ in range(2)
  )
  assert once == again


def test_the_best_of_one_is_any():
  assert ranking.best_of_n_divergence(1) == 0
  assert ranking.best_of_n_divergence(4) == math.log(4) - 3 / 4


def test_files_of_generated_answers():
  rows = [{'prompt': 'p', 'answers': [{'text': 'a'}, {'text': 'b'}]}]
  kept = rank.rank(rows, [np.float32([1, 2])], 'best')
  assert kept == [{'prompt': 'p', 'completion': 'b', 'reward': 2.0}]
  for row, message in (
    ({'prompt': 'p'}, 'has no answers: write them with'),
    ({'prompt': 'p', 'answers': [{}]}, 'an answer without a text'),
  ):
    with pytest.raises(ValueError, match=message):
      rank.texts(row)
