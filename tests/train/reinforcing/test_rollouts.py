"""Rollouts: the sampler's probabilities are the trainer's; seeds decide."""

import functools

import jax
import numpy as np
import pytest

from configs import llama, rwkv, t5
from tests.helpers.t5_reference import random_params
from train.generation import programs
from train.learning.losses import token_losses
from train.reinforcing import rollouts
from train.setup import set_up

V, S, T, G, EOS = 19, 12, 9, 3, 1
SYSTEMS = {'t5': t5, 'llama': llama, 'rwkv': rwkv}


@functools.cache
def made(system):
  c = SYSTEMS[system].get_config('tiny').unlock()
  c.model.vocab_size, c.model.decoder_layers = V, 1
  c.model.encoder_layers = int(system == 't5')
  c.data.source, c.data.sentinels = 'synthetic', 0
  c.data.objective = 'causal' if system != 't5' else 'prefix'
  c.data.noise_density = c.data.mean_span_length = 0.0
  c.data.batch, c.data.length, c.data.streams = 4, S + T, 1
  c.sharding.mesh.data = 1
  setup = set_up(c, jax.devices()[:1])
  params = random_params(setup.model)
  fixed = programs.Fixed(setup.model, EOS, 0, V - 3, setup.mesh)
  return setup, params, fixed


@functools.cache
def prompts(pair):
  rng = np.random.default_rng(0)
  source = rng.integers(3, V, (4, S)).astype('int32')
  segments = np.ones((4, S), 'int32')
  for row, length in enumerate((12, 5, 1, 0)):  # the last row has no prompt
    read = np.arange(S) < length if pair else np.arange(S) >= S - length
    segments[row] = read
  none = np.zeros((4, 1), 'int32')
  return rollouts.Prompts(source * segments, segments, none, none)


@pytest.mark.parametrize('system', SYSTEMS)
def test_the_samplers_log_probs_are_the_trainers(system):
  setup, params, fixed = made(system)
  asked = prompts(system == 't5')
  sample = rollouts.make_sampler(setup, fixed, G, T)
  answers = sample(params, asked, 5)
  arrays = rollouts.rows_of(setup.model.config, asked, answers, 0)
  with setup.on_mesh():
    inputs = {name: arrays[name] for name in setup.model.INPUTS}
    logits = jax.jit(setup.model.apply)({'params': params}, **inputs)
  wide = -token_losses(logits, arrays['targets'])[0]
  ours = rollouts.answered(setup.model.config, wide, T)
  there = rollouts.answered(setup.model.config, arrays['read'], T)
  np.testing.assert_array_equal(there, answers.read)
  read = answers.read.copy()
  read[-G:] = False
  lengths = read.sum(axis=1)
  assert len({*lengths}) > 2
  assert (lengths < T).any()
  np.testing.assert_allclose(
    answers.log_probs[read], np.array(ours)[read], atol=1e-4
  )
  assert np.abs(answers.log_probs[read]).mean() > 0.5
  back = rollouts.spread(setup.model.config, ours, wide.shape[1])
  again = rollouts.answered(setup.model.config, back, T)
  np.testing.assert_array_equal(again, ours)


def test_a_seed_decides_an_answer():
  setup, params, fixed = made('llama')
  asked = prompts(False)
  sample = rollouts.make_sampler(setup, fixed, G, T)
  first, again, other = (sample(params, asked, seed) for seed in (5, 5, 6))
  np.testing.assert_array_equal(first.tokens, again.tokens)
  assert (first.tokens != other.tokens).any()
  assert len({row.tobytes() for row in first.tokens}) == len(first.tokens)


def test_prompts_of_rows():
  """What comes before the first target; of two answers the first counts."""
  row = {
    'inputs': [0, 5, 6, 1, 8, 9, 0, 0],
    'targets': [5, 6, 1, 8, 9, 1, 0, 0],
    'weights': [0, 0, 0, 1, 1, 1, 0, 0],
    'segments': [1, 1, 1, 1, 1, 1, 0, 0],
  }
  empty = {name: [0] * 8 for name in row}
  batch = {name: np.array([row[name], empty[name]]) for name in row}
  pair = {name: np.stack([x, 0 * x], axis=1) for name, x in batch.items()}
  for given in batch, pair:
    found = rollouts.prompts_of(given)
    np.testing.assert_array_equal(found.source[0], [0, 0, 0, 0, 0, 5, 6, 1])
    np.testing.assert_array_equal(found.segments[0], [0, 0, 0, 0, 1, 1, 1, 1])
    np.testing.assert_array_equal(found.targets[0], [0, 0, 0, 8, 9, 1, 0, 0])
    assert not found.segments[1].any()
    assert not found.target_segments[1].any()
