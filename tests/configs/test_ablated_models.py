"""Every system with one choice changed: the model builds, learns and decodes.

Or it is refused, with the reason. Widths are those of toys: only the
combination of choices is tested. Two systems that become the same toy are
tested once.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import tree
from models.build import build
from models.config import TransformerConfig
from tests.helpers.ablated import TINY, refusal, sweep
from train.learning.criteria import criterion_for

B, T, V = 2, 8, 32
SIZES = {
  'vocab_size': V,
  'embed_dim': 16,
  'mlp_dim': 24,
  'head_dim': 6,
  'dtype': 'float32',
  'dropout': 0.0,
  'attention_dropout': 0.0,
  'remat': 'none',
  'scan': False,
  # Independent of the choices that are changed.
  'norm_epsilon': 1e-5,
  'init_std': 0.1,
}


def toy(fields: dict) -> dict:
  """The fields of a tiny config at the sizes of a toy."""
  rwkv = fields['family'] == 'rwkv'
  fields = fields | SIZES | {'init': 'rwkv' if rwkv else 'normal'}
  if fields['heads']:
    wide = fields['kv_heads'] == fields['heads']
    shared = 1 if fields['kv_heads'] == 1 else 2
    fields |= {'heads': 4, 'kv_heads': 4 if wide else shared}
  if rwkv:
    fields |= {'head_dim': 0, 'init_std': 0.0}
  layers = 2 if fields['window'] or rwkv else 1  # one of each kind
  for key, value in {
    'encoder_layers': layers,
    'decoder_layers': layers,
    'max_length': 12,
    'rope_dim': 4,
    'window': 3,
    'table_dim': 8,
    'relative_buckets': 8,
    'relative_max_distance': 12,
    'generator_divisor': 2,
  }.items():
    if fields[key]:
      fields[key] = value
  return fields


@functools.cache
def cases():
  """The changes of each system that make a toy not seen before."""
  seen, found = set(), []
  for system in TINY:
    own = dict(tree.config_of(system).model)
    for overrides in ({}, *sweep(system)):
      names = {key: key.removeprefix('model.') for key in overrides}
      model = {n: overrides[key] for key, n in names.items() if n in own}
      fields = toy(own | model)
      changed = tuple(sorted(fields.items()))
      if changed not in seen:
        seen.add(changed)
        field, value = next(iter(model.items()), ('as', 'published'))
        name = f'{system}-{field}-{value}'
        found.append(pytest.param(fields, id=name.replace(':tiny', '')))
  return found


def batch_for(config: TransformerConfig) -> dict:
  rng = np.random.default_rng(0)

  def tokens(*shape):
    return rng.integers(5, V, shape).astype('int32')

  ones, places = np.ones((B, T), 'int32'), np.tile(np.arange(T), (B, 1))
  batch = {'inputs': tokens(B, T), 'segments': ones, 'positions': places}
  if config.family == 'encoder_decoder':
    batch |= {
      'encoder_inputs': tokens(B, T + 2),
      'encoder_segments': np.ones((B, T + 2), 'int32'),
      'encoder_positions': np.tile(np.arange(T + 2), (B, 1)),
    }
  if config.family in ('encoder', 'electra'):
    batch['predict_at'] = np.array([[1, 4], [2, 3]])
    batch['types'] = (places > 4).astype('int32')
    batch['is_next'] = np.array([0, 1])
    batch['targets'] = tokens(B, 2)
  else:
    batch['targets'] = np.roll(batch['inputs'], -1, 1)
  batch['weights'] = np.ones(batch['targets'].shape, 'float32')
  return batch


def decoded(model, params, batch):
  """The logits of the whole row, computed through a cache."""
  variables = {'params': params}
  tokens, cache = jnp.asarray(batch['inputs']), model.start_cache(B, T)

  def step(args):
    return model.apply(variables, *args, method='decode_step')

  seen, encoded = [], []  # of an encoder-decoder
  if model.config.family == 'encoder_decoder':
    source = [batch['encoder_inputs'], batch['encoder_segments']]
    encoded = [model.apply(variables, *source, method='encode')]
    seen = source[1:]
  first, cache = step([tokens[:, :3], cache, jnp.int32(0), *seen, *encoded])
  rest, _ = step([tokens[:, 3:], cache, jnp.int32(3), *seen])
  return jnp.concatenate([first, rest], axis=1)


def step(params, grads):
  """The parameters after a step of length 0.1 down the gradient."""
  grads = jax.device_get(grads)
  norm = sum(np.sum(g**2) for g in jax.tree.leaves(grads)) ** 0.5
  return jax.tree.map(lambda p, g: p - 0.1 * g / norm, params, grads)


@pytest.mark.parametrize('fields', cases())
def test_one_choice_changed(fields):
  reason = refusal(fields)
  if reason:
    with pytest.raises(ValueError, match=reason):
      TransformerConfig(**fields)
    return
  config = TransformerConfig(**fields)
  model, criterion = build(config), criterion_for(config)
  batch = batch_for(config)
  inputs = {name: batch[name] for name in model.INPUTS}
  boxed = jax.eval_shape(
    lambda key: model.init({'params': key, 'sample': key}, **inputs)['params'],
    jax.random.key(0),
  )
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda x: 0.3 * rng.normal(size=x.shape).astype('float32'), nn.unbox(boxed)
  )

  def loss(params):
    sums = criterion.sums(model, params, batch)
    return criterion.means(sums | criterion.weights(batch))['loss']

  # Without jit: most operations were compiled for other cases already.
  first, grads = jax.value_and_grad(loss)(params)
  params = step(params, grads)
  last = float(loss(params))
  assert last < float(first)
  if config.family not in ('encoder', 'electra'):
    # Decoding through a cache gives the same loss.
    logits = decoded(model, params, batch)
    chosen = np.take_along_axis(
      np.asarray(jax.nn.log_softmax(logits)), batch['targets'][..., None], -1
    )
    assert -chosen.mean() == pytest.approx(last, rel=1e-4)
