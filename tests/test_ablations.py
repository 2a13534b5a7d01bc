"""Every system with one choice changed: it builds, learns and decodes.

Or it is refused, with the reason. Widths are those of toys; which choices meet
is what counts. Two systems that become the same toy are tested once.
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
from tests.decoders import POSITIONS
from train.objectives import objective_for

B, T, V = 2, 8, 32
UNSET = dict.fromkeys(
  [
    'max_length',
    'position_offset',
    'relative_buckets',
    'relative_max_distance',
    'rope_dim',
  ],
  0,
) | {'rope_theta': 0.0, 'rope_scaling': ()}
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
  # Neither meets any of the choices below.
  'norm_epsilon': 1e-5,
  'init_std': 0.1,
}
CHANGES = {
  'position': [UNSET | {'position': p} | own for p, own in POSITIONS.items()],
  'norm': [
    {'norm': norm} for norm in ('layer_norm', 'layer_norm_no_bias', 'rms_norm')
  ],
  'norm_placement': [{'norm_placement': place} for place in ('pre', 'post')],
  'activation': [
    {'activation': name}
    for name in ('relu', 'gelu', 'gelu_tanh', 'silu', 'squared_relu')
  ],
  'gated': [{'gated': gated} for gated in (False, True)],
  'kv_heads': [{'kv_heads': heads} for heads in (1, 2, 4)],
  'tie_embeddings': [{'tie_embeddings': tied} for tied in (False, True)],
  'bias': [{'bias': bias} for bias in ('none', 'mlp', 'all')],
}


def toy(system: str) -> dict:
  """The fields of a system's tiny config at the sizes of a toy."""
  name, _, arg = system.partition(':')
  versions = [part for part in arg.split(',') if '=' in part]
  module = tree.module_of(name)
  fields = dict(module.get_config(','.join(['tiny', *versions])).model)
  fields |= SIZES
  fields['init'] = 'rwkv' if name == 'rwkv' else 'normal'
  if name == 'rwkv':
    fields['init_std'] = 0.0
  if fields['heads']:
    wide = fields['kv_heads'] == fields['heads']
    shared = 1 if fields['kv_heads'] == 1 else 2
    fields |= {'heads': 4, 'kv_heads': 4 if wide else shared}
  else:
    fields['head_dim'] = 0
  layers = 2 if fields['window'] or name == 'rwkv' else 1  # as many kinds
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
  """Of each system the changes that make a toy not seen before."""
  seen, found = set(), []
  for system in tree.SYSTEMS:
    if not tree.module_of(system).SIZES:
      continue  # nothing published
    fields = toy(system)
    for field, changes in CHANGES.items():
      for change in changes:
        changed = tuple(sorted((fields | change).items()))
        if changed not in seen:
          seen.add(changed)
          value = change[field]
          found.append(
            pytest.param(dict(changed), id=f'{system}-{field}-{value}')
          )
  return found


def refusal(fields: dict) -> str:
  """What of the message must be there where a toy cannot be; '' if it can."""
  if fields['family'] == 'rwkv':
    if fields['position'] != 'none' or fields['kv_heads']:
      return 'no attention'
    if fields['norm_placement'] == 'post' or fields['gated']:
      return 'a block of its own'
    return '' if fields['bias'] == 'none' else 'a block of its own'
  if fields['parallel'] != 'none' and fields['norm_placement'] == 'post':
    return "needs model.norm_placement='pre'"
  if (
    fields['table_dim']
    and fields['tie_embeddings']
    and not fields['output_transform']
    and fields['head'] != 'rtd'
  ):
    return 'needs model.output_transform'
  return ''


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
  """The whole row's logits through a cache."""
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
  """0.1 down the gradient."""
  norm = sum(jnp.sum(g**2) for g in jax.tree.leaves(grads)) ** 0.5
  return jax.tree.map(lambda p, g: p - 0.1 * g / norm, params, grads)


@pytest.mark.parametrize('fields', cases())
def test_one_choice_changed(fields):
  reason = refusal(fields)
  if reason:
    with pytest.raises(ValueError, match=reason):
      TransformerConfig(**fields)
    return
  config = TransformerConfig(**fields)
  model, objective = build(config), objective_for(config)
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
    sums = objective.sums(model, params, batch)
    return objective.means(sums | objective.weights(batch))['loss']

  # Op by op: most operations are those of other cases, and compiled already.
  losses = []
  for _ in range(2):
    value, grads = jax.value_and_grad(loss)(params)
    losses.append(float(value))
    last, params = params, step(params, grads)
  logits = None
  if config.family not in ('encoder', 'electra'):
    logits = decoded(model, last, batch)
  assert np.isfinite(losses).all()
  assert losses[-1] < losses[0]
  if logits is not None:  # the cache's loss is the loss
    chosen = np.take_along_axis(
      np.asarray(jax.nn.log_softmax(logits)), batch['targets'][..., None], -1
    )
    assert -chosen.mean() == pytest.approx(float(losses[-1]), rel=1e-4)
