"""Sampling: tokens come as often as they should, independently of one another.

The bounds are Pearson's chi-square: with n degrees of freedom, one seed in a
million exceeds n + 5 (2 n)^1/2. The seed is fixed.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from models import decoding
from models.build import build
from models.sampling import Sampling, discourage, limit
from tests.helpers.decoders import tiny_decoder
from tests.helpers.t5_reference import random_params

ROWS, V = 6000, 8
PROMPT = [0, 5, 7]


@pytest.fixture(scope='module')
def drawn():
  """A function that draws two tokens after a prompt, and one for logits."""
  model = build(tiny_decoder(decoder_layers=1))
  params = random_params(model)
  norm = params['decoder']['norm']  # flatter logits
  params['decoder']['norm'] = jax.tree.map(lambda x: 0.3 * x, norm)
  source = np.tile(PROMPT, (ROWS, 1))
  rngs = jax.random.split(jax.random.key(0), ROWS)

  @functools.cache
  def draw(**how):
    run = functools.partial(
      decoding.decode, model=model, length=2, eos=-1, vocabulary=V,
      how=Sampling(**how),
    )  # fmt: skip
    return np.asarray(jax.jit(run)(params, source, source * 0 + 1, rngs).tokens)

  def logits(*after):
    tokens = np.array([[*PROMPT, *after]])
    read = model.apply({'params': params}, tokens, tokens * 0 + 1)
    return np.asarray(read, 'float64')[0, -1, :V]

  return draw, logits


def softmax(logits):
  shares = np.exp(logits - logits.max())
  return shares / shares.sum()


def close(counts, expected):
  """Asserts that Pearson's statistic is below its bound."""
  common = expected > 5
  assert counts[expected < 1e-9].sum() == 0
  value = ((counts - expected) ** 2 / np.maximum(expected, 1e-9))[common].sum()
  freedom = common.sum() - 1
  assert value < freedom + 5 * (2 * freedom) ** 0.5


@pytest.mark.parametrize('temperature', [0.5, 1.0, 2.5])
def test_tokens_come_as_often_as_the_softmax_says(drawn, temperature):
  draw, logits = drawn
  tokens = draw(temperature=temperature)
  shares = softmax(logits() / temperature)
  assert (shares * ROWS > 5).sum() >= 3
  close(np.bincount(tokens[:, 0], minlength=V), ROWS * shares)
  # The second token, after the commonest first one.
  first = int(shares.argmax())
  second = tokens[tokens[:, 0] == first, 1]
  shares = softmax(logits(first) / temperature)
  close(np.bincount(second, minlength=V), len(second) * shares)


@pytest.mark.parametrize(
  'limits', [{'top_k': 3}, {'top_p': 0.7}, {'min_p': 0.9}]
)
def test_limits_leave_the_rest_as_likely_as_before(drawn, limits):
  """Limits apply to logits that the temperature has divided."""
  draw, logits = drawn
  shares = softmax(logits() / 2.0)
  order = np.argsort(-shares)
  kept = order[:3]
  if 'top_p' in limits:
    count = int(np.searchsorted(np.cumsum(shares[order]), 0.7)) + 1
    kept = order[:count]
  if 'min_p' in limits:
    kept = shares >= 0.9 * shares.max()
    assert 1 < kept.sum() < V
  left = np.zeros(V)
  left[kept] = shares[kept]
  tokens = draw(temperature=2.0, **limits)[:, 0]
  close(np.bincount(tokens, minlength=V), ROWS * left / left.sum())


def test_limit_keeps_the_likeliest_tokens():
  logits = jnp.log(jnp.array([[0.15, 0.5, 0.05, 0.3], [0.1, 0.1, 0.1, 0.7]]))

  def left(**limits):
    return np.isfinite(limit(logits, **limits)).tolist()

  assert left() == [[True] * 4] * 2
  assert left(top_k=1) == [[False, True, False, False], [False] * 3 + [True]]
  assert left(top_k=2)[0] == [False, True, False, True]
  assert left(top_k=9) == [[True] * 4] * 2
  assert left(top_p=0.45)[0] == [False, True, False, False]
  assert left(top_p=0.6)[0] == [False, True, False, True]
  assert left(top_p=0.9)[0] == [True, True, False, True]
  assert left(min_p=0.29)[0] == [True, True, False, True]
  assert left(top_k=2, min_p=0.29)[0] == [False, True, False, True]
  # Of the three that top_k keeps, the first has 0.53.
  assert left(top_k=3, top_p=0.51)[0] == [False, True, False, False]


def test_steps_and_rows_are_independent():
  """Any two tokens are independent, if logits are always the same."""
  model = build(tiny_decoder(decoder_layers=1, output_bias=True))
  params = jax.tree.map(np.zeros_like, random_params(model))
  bias = np.random.default_rng(0).normal(size=50).astype('float32')
  params['vocabulary']['bias'] = bias
  source = np.ones((ROWS, 1), 'int32')
  run = functools.partial(
    decoding.decode,
    model=model,
    length=3,
    eos=-1,
    vocabulary=V,
    how=Sampling(temperature=1.0),
  )
  rngs = jax.random.split(jax.random.key(1), ROWS)
  tokens = np.asarray(jax.jit(run)(params, source, source, rngs).tokens)
  shares = softmax(bias[:V].astype('float64'))
  both = np.outer(shares, shares)
  for a, b in ((0, 1), (1, 2), (0, 2)):
    counts = np.zeros((V, V))
    np.add.at(counts, (tokens[:, a], tokens[:, b]), 1)
    close(counts, ROWS * both)
  # So are two rows.
  counts = np.zeros((V, V))
  np.add.at(counts, (tokens[:-1, 0], tokens[1:, 0]), 1)
  close(counts, (ROWS - 1) * both)


def test_limits_are_those_of_transformers():
  """The penalty, and each limit, on random logits."""
  from transformers.generation import logits_process as theirs

  rng = np.random.default_rng(0)
  logits = rng.normal(size=(64, 40)).astype('float32') * 3
  read = rng.integers(0, 40, (64, 9))
  seen = np.zeros((64, 40), bool)
  np.put_along_axis(seen, read, True, axis=1)
  arrays = torch.from_numpy(read), torch.from_numpy(logits)
  for ours, processor in (
    (
      discourage(jnp.asarray(logits), jnp.asarray(seen), 1.3),
      theirs.RepetitionPenaltyLogitsProcessor(1.3),
    ),
    (limit(logits, top_k=7), theirs.TopKLogitsWarper(7)),
    (limit(logits, top_p=0.8), theirs.TopPLogitsWarper(0.8)),
    (limit(logits, min_p=0.1), theirs.MinPLogitsWarper(0.1)),
  ):
    expected = processor(arrays[0], arrays[1].clone()).numpy()
    np.testing.assert_allclose(np.asarray(ours), expected, rtol=1e-6)
