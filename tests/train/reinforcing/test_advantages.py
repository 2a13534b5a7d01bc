"""Advantages against plain loops in NumPy, as the papers write them."""

import jax
import numpy as np

from train.reinforcing import advantages

NAN = np.nan


def test_groups_as_in_deepseekmath():
  rewards = np.float32([[1, 0, 0, 1], [2, 5, -1, 3], [1, 1, 1, 1]])
  found = advantages.grouped(rewards)
  for own, row in zip(found, rewards, strict=True):
    wanted = (row - row.mean()) / (row.std(ddof=1) + 1e-4)
    np.testing.assert_allclose(own, wanted, rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(found[2], 0)  # nothing to learn


def test_others_as_in_rloo():
  rewards = np.float32([[1, 0, 0, 1], [2, 5, -1, 3]])
  found = advantages.left_out(rewards)
  for own, row in zip(found, rewards, strict=True):
    wanted = [x - np.delete(row, n).mean() for n, x in enumerate(row)]
    np.testing.assert_allclose(own, wanted, rtol=1e-5, atol=1e-6)


def test_an_unknown_reward_counts_nowhere():
  rewards = np.float32([[1, NAN, 0, 1], [NAN, NAN, 3, NAN], [NAN] * 4])
  for function in advantages.grouped, advantages.left_out:
    found = np.array(function(rewards))
    np.testing.assert_allclose(
      found[0, [0, 2, 3]], function(np.float32([[1, 0, 1]]))[0], rtol=1e-6
    )
    assert found[0, 1] == 0
    np.testing.assert_array_equal(found[1:], 0)  # one alone has no other


def test_generalized_advantages_are_the_sum_of_discounted_errors():
  rng = np.random.default_rng(0)
  lengths, discount, decay = (5, 1, 3, 0), 0.9, 0.8
  rewards, values = rng.normal(size=(2, 4, 5)).astype('float32')
  read = np.arange(5) < np.array(lengths)[:, None]
  found, returns = jax.jit(
    advantages.generalized, static_argnums=(3, 4)
  )(rewards, values, read, discount, decay)  # fmt: skip
  for n, length in enumerate(lengths):
    for t in range(5):
      wanted = 0.0
      for k in range(t, length):  # what stands in rows after the end is junk
        after = values[n, k + 1] if k + 1 < length else 0
        error = rewards[n, k] + discount * after - values[n, k]
        wanted += (discount * decay) ** (k - t) * error
      np.testing.assert_allclose(found[n, t], wanted, rtol=1e-4, atol=1e-5)
      own = values[n, t] if t < length else 0
      np.testing.assert_allclose(returns[n, t], wanted + own, atol=1e-5)


def test_returns_without_discount_are_the_rewards_to_come():
  rewards = np.float32([[1, 2, 3]])
  _, returns = advantages.generalized(
    rewards, np.float32([[7, 8, 9]]), np.ones((1, 3), bool), 1.0, 1.0
  )
  np.testing.assert_allclose(returns, [[6, 5, 3]], rtol=1e-6)


def test_whitened():
  rng = np.random.default_rng(1)
  x, weights = rng.normal(3, 5, (4, 6)), rng.random((4, 6)) < 0.5
  found = np.array(advantages.whitened(x, weights.astype('float32')))
  own = x[weights]
  wanted = (own - own.mean()) / own.std()
  np.testing.assert_allclose(found[weights], wanted, rtol=1e-4, atol=1e-5)
  assert not found[~weights].any()


def test_the_best_that_is_allowed():
  rewards = np.float32([[1, 3, 3, NAN], [5, 4, 1, 0], [1, 2, 3, 4]])
  allowed = np.array([[1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0]], bool)
  np.testing.assert_array_equal(
    advantages.best(rewards, allowed),
    [[0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]],
  )
