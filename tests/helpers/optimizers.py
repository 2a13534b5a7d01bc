"""Optimizers of a config, and some steps of training with them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from configs import common


def adafactor(**settings) -> ConfigDict:
  """The config group `optimizer` of a T5, with other settings."""
  group = common.base().optimizer
  group.update(
    name='adafactor',
    decay_rate=0.8,
    epsilon1=1e-30,
    epsilon2=1e-3,
    clip_threshold=1.0,
    factor_from=128,
    parameter_scale=True,
    b1=0.0,
    weight_decay=0.0,
  )
  group.update(settings)
  return group


def adamw(**settings) -> ConfigDict:
  """The config group `optimizer` of an AdamW, with other settings."""
  group = common.base().optimizer
  group.update(
    name='adamw',
    b1=0.9,
    b2=0.98,
    epsilon=1e-6,
    bias_correction=True,
    weight_decay=0.1,
  )
  group.update(settings)
  return group


def lion(**settings) -> ConfigDict:
  """The config group `optimizer` of a Lion, with other settings."""
  group = common.base().optimizer
  group.update(name='lion', b1=0.9, b2=0.99, weight_decay=0.1)
  group.update(settings)
  return group


def muon(**settings) -> ConfigDict:
  """The config group `optimizer` of a Muon, with other settings."""
  group = common.base().optimizer
  group.update(
    name='muon',
    momentum=0.95,
    matrix_rate=0.7,
    b1=0.9,
    b2=0.98,
    epsilon=1e-6,
    weight_decay=0.1,
  )
  group.update(settings)
  return group


AXES = {
  'kernel': ('embed', 'mlp'),
  'narrow': ('embed', 'heads'),
  'scale': ('norm',),
  'scalar': (),
  'experts': ('experts', 'embed', 'mlp'),
}
SHAPES = {
  'kernel': (12, 20),
  'narrow': (12, 3),
  'scale': (12,),
  'scalar': (),
  'experts': (2, 8, 10),
}


def normal(rng, shapes, scale=1.0) -> dict:
  """Normal numbers in arrays of the shapes."""
  return {
    k: scale * rng.standard_normal(shape).astype('float32')
    for k, shape in shapes.items()
  }


def rate(step) -> jax.Array:
  """The learning rate of the tests: it falls from 0.1."""
  return 0.1 / jnp.sqrt(step + 1.0)


def paper_adamw(x, gradients, o, shrinks):
  """Loshchilov & Hutter 2019, algorithm 2, decoupled, times the rate."""
  m = v = 0.0
  for t, g in enumerate(gradients, 1):
    m = o.b1 * m + (1 - o.b1) * g
    v = o.b2 * v + (1 - o.b2) * g**2
    u = m / (1 - o.b1**t) / (np.sqrt(v / (1 - o.b2**t)) + o.epsilon)
    x = x - float(rate(t - 1)) * (u + o.weight_decay * shrinks * x)
  return x


def train(tx, params, gradients) -> tuple:
  """The parameters and the state after one step with each gradient."""
  state = tx.init(params)

  @jax.jit
  def step(params, state, gradient):
    updates, state = tx.update(gradient, state, params)
    return optax.apply_updates(params, updates), state

  for gradient in gradients:
    params, state = step(params, state, gradient)
  return params, state
