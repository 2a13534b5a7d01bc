"""Training in bfloat16 beside training in float32, on `docs`."""

import jax
import numpy as np
import pytest

from configs import gpt2
from input_pipeline import pipeline
from train.learning.state import create_state
from train.setup import set_up

STEPS = 200
TOLERANCE = 0.02  # nats
CONFIG = {
  'model.vocab_size': 384,
  'model.embed_dim': 32,
  'model.mlp_dim': 128,
  'model.heads': 2,
  'model.kv_heads': 2,
  'model.head_dim': 16,
  'model.decoder_layers': 2,
  'model.max_length': 64,
  'model.dropout': 0.0,
  'model.attention_dropout': 0.0,
  'data.source': 'docs',
  'data.tokenizer_kind': 'bytes',
  'data.documents': 200,
  'data.batch': 8,
  'data.length': 64,
  'data.streams': 2,
  'data.holdout': 50,
  'train.steps': STEPS,
  'train.accumulate': 2,
  'schedule.warmup_steps': 20,
  'schedule.learning_rate': 1e-3,
}
HALF = {'model.dtype': 'bfloat16', 'train.loss_chunk': 24}
SMALL = HALF | {
  'optimizer.moments_dtype': 'bfloat16',
  'train.accumulate_dtype': 'bfloat16',
}


@pytest.fixture(scope='module')
def rows():
  """The batches of a run, which every curve learns."""
  setup = set_up(config_of(), jax.devices()[:1])
  data = pipeline.open_data(setup.data, 0, 384, family='decoder')
  batches = data.batches(data.start(), np.arange(setup.data.batch))
  return data.start(), [next(batches) for _ in range(STEPS)]


def config_of(**changes):
  config = gpt2.get_config('tiny')
  config.update_from_flattened_dict(CONFIG | {'model.dtype': 'float32'})
  config.update_from_flattened_dict(changes)
  return config


def curve(rows, **changes):
  """The loss of every step."""
  start, batches = rows
  setup = set_up(config_of(**changes), jax.devices()[:1])
  state = create_state(setup.model, setup.optimizer, setup.state, start, 0)
  shapes = {k: (x.shape[1:], x.dtype) for k, x in batches[0].items()}
  step, losses = setup.compile_step(setup.batch(shapes)), []
  for batch in setup.place(batches):
    state, metrics = step(state, batch)
    losses.append(metrics['loss'])
  return np.array(losses)


@pytest.fixture(scope='module')
def expected(rows):
  return curve(rows)


@pytest.mark.slow
@pytest.mark.parametrize('changes', [HALF, SMALL], ids=['half', 'moments'])
def test_the_curve_of_the_loss(rows, expected, changes):
  """Each step's loss is within TOLERANCE of float32's, and has fallen as far.

  Bfloat16 rounds a number to 2^-9 of it, about 0.01 of these losses of 6 to 3
  nats; a single logit is as uncertain.
  """
  assert expected[0] - expected[-50:].mean() > 2
  ours = curve(rows, **changes)
  assert np.abs(ours - expected).max() < TOLERANCE
  assert (ours != expected).any()


@pytest.mark.slow
def test_float32_in_chunks(rows, expected):
  """Sums in another order: far closer than bfloat16."""
  ours = curve(rows, **{'train.loss_chunk': 24})
  np.testing.assert_allclose(ours, expected, rtol=1e-4)
