"""A small GPT-2, a batch for it, and what its steps do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs import gpt2
from models.build import build
from models.config import TransformerConfig
from train.learning.schedules import make_schedule
from train.learning.state import TrainState
from train.learning.step import configured_step

B, T, V, STREAMS = 4, 6, 11, 2
# A bias on the logits has a gradient in closed form.
SIZES = {
  'model.vocab_size': V,
  'model.embed_dim': 8,
  'model.mlp_dim': 12,
  'model.heads': 2,
  'model.kv_heads': 2,
  'model.head_dim': 4,
  'model.decoder_layers': 1,
  'model.max_length': 8,
  'model.tie_embeddings': False,
  'model.output_bias': True,
  'model.init_std': 0.5,
  'model.scan': False,
  'data.source': 'synthetic',
  'data.batch': B,
  'data.length': T,
}


def make_config(**keys):
  config = gpt2.get_config('tiny')
  keys = {name.replace('__', '.'): value for name, value in keys.items()}
  config.update_from_flattened_dict(SIZES | keys)
  return config


def make_batch(seed=0):
  """Unequal weights; two rows end early."""
  rng = np.random.default_rng(seed)
  lengths = np.array([T, 3, T, 1])[:, None]
  segments = (np.arange(T) < lengths).astype('int32')
  weights = segments * rng.uniform(0.5, 2, (B, T)) * (rng.random((B, T)) < 0.8)
  weights[0, 0] = 1
  return {
    'inputs': rng.integers(0, V, (B, T), 'int32'),
    'targets': rng.integers(0, V, (B, T), 'int32'),
    'segments': segments,
    'positions': np.tile(np.arange(T, dtype='int32'), (B, 1)),
    'weights': weights.astype('float32'),
    'cursor': np.arange(B * 4, dtype='int32').reshape(B, 4),
  }


BATCH = make_batch()
INPUTS = ('inputs', 'segments', 'positions')


def model_of(config):
  return build(TransformerConfig(**config.model))


def state_of(params, optimizer, step=0):
  return TrainState(
    step=jnp.int32(step),
    params=params,
    opt_state=optimizer.init(params),
    cursor=jnp.zeros((STREAMS, 4), 'int32'),
  )


@functools.cache
def descent(**keys):
  """The compiled step of plain descent at rate 1: weights move by -gradient."""
  config = make_config(**keys)
  schedule = make_schedule(config.schedule, config.train.steps)
  optimizer = optax.sgd(1.0)
  step = jax.jit(configured_step(config, model_of(config), optimizer, schedule))
  return lambda params, batch=BATCH, number=0: jax.device_get(
    step(state_of(params, optimizer, number), batch)
  )
