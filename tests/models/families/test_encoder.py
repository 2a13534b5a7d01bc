"""Encoders, with and without a decoder: packed rows, and positions.

Each case is one batch, so that it compiles once.
"""

import jax
import numpy as np
import pytest

from models.build import build
from models.config import TransformerConfig
from tests.helpers.decoders import POSITIONS
from tests.helpers.t5_reference import BASE as T5
from tests.models.families import test_electra as electra

LENGTHS = (5, 6)
T = sum(LENGTHS)
ENCODER = electra.ENCODER | {'encoder_layers': 1, 'head': 'none'}
PAIR = T5 | {'encoder_layers': 1, 'decoder_layers': 1}
NO_POSITION = dict.fromkeys(
  ('max_length', 'relative_buckets', 'relative_max_distance'), 0
)


def make_rows(seed):
  """Rows of both texts, the first, the second, and three more of the first."""
  rng = np.random.default_rng(seed)
  tokens = np.tile(rng.integers(5, 40, T), (6, 1))
  types = np.tile(rng.integers(0, 2, T), (6, 1))
  first, second = LENGTHS
  for x in tokens, types:
    x[1:, first:] = 0
    x[2] = np.roll(x[0], -first)
    x[2, second:] = 0
  segments, places = np.zeros((2, 6, T), 'int32')
  segments[0], places[0] = np.repeat([1, 2], LENGTHS), [*range(5), *range(6)]
  places[1:] = np.arange(T)
  segments[1:, :first] = 1
  segments[2, :second] = 1
  return {
    'inputs': tokens,
    'types': types,
    'segments': segments,
    'positions': places,
  }


# Three further rows of the first text, which the tests change.
FAR, FAR_TARGETS, EXCHANGED = 3, 4, 5


def outputs(fields, batch):
  config = TransformerConfig(**fields | {'scan': False})
  model = build(config)
  batch = {name: batch[name] for name in model.INPUTS}
  params = electra.random_params(config)
  out = jax.jit(lambda p, x: model.apply({'params': p}, **x))(params, batch)
  return config, np.asarray(out['hidden'] if isinstance(out, dict) else out)


def assert_apart(found):
  """Asserts that two packed texts have the outputs that each has alone."""
  first, second = LENGTHS
  for ours, alone in (
    (found[0, :first], found[1, :first]),
    (found[0, first:], found[2, :second]),
  ):
    np.testing.assert_allclose(ours, alone, rtol=1e-4, atol=1e-4)


def differ(a, b):
  return np.abs(a - b).max() > 1e-3


@pytest.mark.parametrize(
  'position', ['learned', 'relative_bias', 'transformer_xl', 'rope', 'alibi']
)
def test_encoder(position):
  own = NO_POSITION | {'position': position} | POSITIONS[position]
  batch = make_rows(0)
  batch['positions'][FAR] *= 3
  batch['inputs'][EXCHANGED, [1, 4]] = batch['inputs'][EXCHANGED, [4, 1]]
  batch['types'][EXCHANGED, [1, 4]] = batch['types'][EXCHANGED, [4, 1]]
  config, found = outputs(ENCODER | own, batch)
  assert_apart(found)
  # Other positions matter if the model reads them.
  assert differ(found[FAR, :5], found[1, :5]) == config.reads_positions
  # The first token sees which of two later tokens is nearer.
  assert differ(found[EXCHANGED, 0], found[1, 0])


@pytest.mark.parametrize('position', ['learned', 'relative_bias', 'rope'])
def test_encoder_decoder(position):
  own = NO_POSITION | {'position': position} | POSITIONS[position]
  batch = make_rows(1)
  source = {f'encoder_{name}': x for name, x in make_rows(2).items()}
  source['encoder_positions'][FAR] *= 3
  batch['positions'][FAR_TARGETS] *= 3
  config, found = outputs(PAIR | own, batch | source)
  assert_apart(found)
  for row in FAR, FAR_TARGETS:
    assert differ(found[row, :5], found[1, :5]) == config.reads_positions
