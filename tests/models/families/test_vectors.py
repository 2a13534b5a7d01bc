"""Vectors of numbers in place of tokens, read by a linear layer."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import gpt2, rwkv
from models.build import build
from models.config import TransformerConfig

B, T, I = 2, 5, 3
SIZES = {
  'vocab_size': 16,
  'decoder_layers': 1,
  'embed_dim': 8,
  'mlp_dim': 12,
  'dtype': 'float32',
  'tie_embeddings': False,
  'head': 'tokens',
  'classes': 1,
}
HEADS = {'heads': 2, 'kv_heads': 2, 'head_dim': 4, 'max_length': T}


def config_of(module, **changes):
  fields = module.get_config('tiny').model.to_dict()
  own = HEADS if module is gpt2 else {}
  return TransformerConfig(**fields | SIZES | own | changes)


@pytest.mark.parametrize('module', [gpt2, rwkv])
def test_one_hot_vectors_are_tokens(module):
  """The kernel takes the place of the table of tokens."""
  config = config_of(module, vocab_size=I)
  tokens = jax.random.randint(jax.random.key(0), (B, T), 0, I)
  others = {'segments': jnp.ones((B, T), 'int32')}
  if module is gpt2:
    others['positions'] = jnp.tile(jnp.arange(T), (B, 1))
  model = build(config)
  params = nn.unbox(model.init(jax.random.key(1), inputs=tokens, **others))
  params = jax.tree.map(
    lambda x: x + 0.1 * jax.random.normal(jax.random.key(2), x.shape), params
  )
  wanted = model.apply(params, inputs=tokens, **others)
  assert wanted.shape == (B, T, 1)

  vectors = build(dataclasses.replace(config, input_dim=I))
  hot = jax.nn.one_hot(tokens, I)
  made = nn.unbox(vectors.init(jax.random.key(1), inputs=hot, **others))
  own = {**params['params']['embed']}
  bias = jnp.full(8, 0.5)
  own['vectors'] = {'kernel': own.pop('table') - bias, 'bias': bias}
  params = {'params': params['params'] | {'embed': own}}
  assert jax.tree.structure(made) == jax.tree.structure(params)
  found = vectors.apply(params, inputs=hot, **others)
  np.testing.assert_allclose(found, wanted, atol=1e-5)
  assert np.abs(wanted).max() > 0.05


def test_initial_values():
  """U(-I^-1/2, I^-1/2), PyTorch's of a linear layer."""
  model = build(config_of(gpt2, input_dim=16, embed_dim=512, head_dim=256))
  inputs = jnp.zeros((1, 1, 16))
  ones = jnp.ones((1, 1), 'int32')
  made = model.init(
    jax.random.key(0), inputs=inputs, segments=ones, positions=0 * ones
  )
  kernel = np.asarray(nn.unbox(made)['params']['embed']['vectors']['kernel'])
  assert 0.249 < np.abs(kernel).max() <= 0.25
  assert np.isclose(kernel.std(), 0.25 / 3**0.5, rtol=0.03)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'input_dim': -1}, 'input_dim is -1'),
    ({'classes': 2}, "head 'tokens', classes 1"),
    ({'head': 'lm', 'classes': 0}, "head 'tokens', classes 1"),
    ({'table_dim': 4}, 'table_dim 0'),
    ({'base_dim': 4}, 'model.input_dim is 3, which muP has no rule for'),
    (
      {'family': 'encoder', 'decoder_layers': 0, 'encoder_layers': 1},
      "family 'decoder' or 'rwkv'",
    ),
  ],
)
def test_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    config_of(gpt2, **{'input_dim': I} | changes)
