"""What an evaluation says, by hand; whether a state is finite."""

import functools
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from models.build import build
from tests.helpers.decoders import tiny_decoder
from tests.helpers.t5_reference import random_params
from train.evaluation.held_out import evaluate, make_eval_step
from train.learning.criteria import criterion_for
from train.learning.state import TrainState, is_finite
from train.learning.step import eval_step

V, T = 50, 8
MODEL = build(tiny_decoder(decoder_layers=1))


def make_batch(seed, tokens):
  """Two rows, of which so many tokens are predicted."""
  rng = np.random.default_rng(seed)
  weights = np.zeros(2 * T, 'float32')
  weights[:tokens] = 1
  return {
    'inputs': rng.integers(1, V, (2, T)),
    'targets': rng.integers(1, V, (2, T)),
    'segments': np.full((2, T), int(tokens > 0)),
    'positions': np.tile(np.arange(T), (2, 1)),
    'weights': weights.reshape(2, T),
  }


BATCHES = [make_batch(n, tokens) for n, tokens in enumerate((3, 16, 1, 8))]
PADDING = make_batch(9, 0)
BYTES = np.random.default_rng(5).integers(0, 9, V)


@pytest.fixture(scope='module')
def params():
  return random_params(MODEL)


@pytest.fixture(scope='module')
def by_hand(params):
  """(loss, hit, bytes) of each predicted token, batch by batch."""
  found = []
  apply = jax.jit(lambda *x: MODEL.apply({'params': params}, *x))
  for batch in BATCHES:
    inputs = (batch[name] for name in ('inputs', 'segments', 'positions'))
    logits = np.asarray(apply(*inputs), 'float64')
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    picked = np.take_along_axis(log_p, batch['targets'][..., None], -1)[..., 0]
    hits = logits.argmax(-1) == batch['targets']
    here = batch['weights'] > 0
    sizes = BYTES[batch['targets']]
    found.append((-picked[here], hits[here], sizes[here]))
  return found


@pytest.mark.parametrize('limit', [0, 1, 3, 4, 9])
def test_means_over_unequal_batches_are_over_tokens(params, by_hand, limit):
  called = []
  compiled = jax.jit(
    functools.partial(eval_step, model=MODEL, byte_lengths=BYTES)
  )

  def step(params, batch):
    called.append(batch)
    return compiled(params, batch)

  # After the padding, which ends the split, there may be more of anything.
  batches = [*BATCHES, PADDING, *BATCHES]
  found = evaluate(step, params, batches, limit)
  seen = by_hand[: limit or 4]
  loss, hits, size = (np.concatenate(x) for x in zip(*seen, strict=True))
  assert found == pytest.approx(
    {
      'loss': loss.mean(),
      'perplexity': math.exp(loss.mean()),
      'accuracy': hits.mean(),
      'bits_per_byte': loss.sum() / math.log(2) / size.sum(),
      'tokens': len(loss),
    },
    rel=1e-5,
  )
  if limit in (1, 3, 4):
    assert len(called) == limit
  # A mean of the batches' means is another number.
  if len(seen) > 1:
    means = [x.mean() for x, *_ in seen]
    assert abs(np.mean(means) - loss.mean()) > 0.01


def test_two_kinds_of_means_have_their_own_weights():
  """A token's loss is over tokens, a pair's over pairs."""
  config = types.SimpleNamespace(head='mlm_nsp', family='encoder')
  names = 'weight', 'loss', 'correct', 'pairs', 'next_loss', 'next_correct'
  batches = [
    dict(zip(names, numbers, strict=True)) | {'z_loss': 5.0, 'present': 9}
    for numbers in ((10, 20.0, 4.0, 2, 1.0, 1.0), (30, 30.0, 8.0, 1, 2.0, 0.0))
  ]
  means = criterion_for(config).means
  found = evaluate(lambda _, sums: sums, None, batches, means=means)
  assert found == pytest.approx(
    {
      'loss': 50 / 40 + 3 / 3,
      'mlm_loss': 50 / 40,
      'perplexity': math.exp(50 / 40),
      'accuracy': 12 / 40,
      'next_sentence_loss': 1.0,
      'next_sentence_accuracy': 1 / 3,
      'tokens': 40,
    }
  )


@pytest.mark.parametrize('objective', ['causal', 'prefix'])
def test_bytes_are_counted_where_all_text_is_predicted(params, objective):
  data = types.SimpleNamespace(
    config=types.SimpleNamespace(objective=objective),
    tokenizer=types.SimpleNamespace(byte_lengths=lambda: BYTES),
  )
  sums = make_eval_step(MODEL, data)(params, BATCHES[1])
  if objective == 'causal':
    assert sums['bytes'] == BYTES[BATCHES[1]['targets']].sum()
  else:
    assert 'bytes' not in sums


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('where', ['params', 'mu', 'nu', None])
def test_a_state_is_finite_if_all_of_it_is(where, bad):
  """The optimizer's averages must be finite too."""
  params = {'a': {'kernel': jnp.ones((2, 3))}, 'b': jnp.ones(3)}
  adam, *rest = optax.adam(0.1).init(params)
  broken = {'a': {'kernel': jnp.ones((2, 3)).at[1, 2].set(bad)}}
  broken |= {'b': jnp.ones(3)}
  if where in ('mu', 'nu'):
    adam = adam._replace(**{where: broken})
  state = TrainState(
    step=jnp.int32(2),
    params=broken if where == 'params' else params,
    opt_state=(adam, *rest),
    cursor=jnp.zeros((2, 4), 'int32'),
  )
  assert bool(is_finite(state)) == (where is None)
