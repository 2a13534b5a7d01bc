"""RWKV-4: the network in training and decoding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from models.build import build
from models.config import TransformerConfig
from tests.models.test_models import assert_close
from train.learning import criteria
from train.learning.state import abstract_params

FIELDS = {
  'family': 'rwkv',
  'vocab_size': 40,
  'embed_dim': 12,
  'mlp_dim': 44,
  'heads': 0,
  'kv_heads': 0,
  'head_dim': 0,
  'decoder_layers': 3,
  'position': 'none',
  'norm': 'layer_norm',
  'norm_epsilon': 1e-5,
  'norm_placement': 'pre',
  'parallel': 'none',
  'activation': 'squared_relu',
  'gated': False,
  'bias': 'none',
  'scale_attention': False,
  'embed_norm': True,
  'scale_embed': False,
  'tie_embeddings': False,
  'scale_output': False,
  'output_transform': False,
  'output_bias': False,
  'head': 'lm',
  'init': 'rwkv',
  'dropout': 0.0,
  'attention_dropout': 0.0,
  'dropout_kind': 'residual',
  'dtype': 'float32',
  'scan': True,
  'remat': 'none',
}


def make_config(**changes) -> TransformerConfig:
  return TransformerConfig(**(FIELDS | changes))


def random_params(model, seed=0):
  """Random weights everywhere: most kernels start at 0."""
  shapes, _ = abstract_params(model)
  rng = np.random.default_rng(seed)

  def draw(path, x):
    name = path[-1].key
    if name == 'kernel':
      return rng.normal(0, 2 * x.shape[-2] ** -0.5, x.shape)
    if name.startswith('mix'):
      return rng.uniform(0, 1, x.shape)
    return rng.normal(float(name == 'scale'), 0.7, x.shape)

  drawn = jax.tree_util.tree_map_with_path(draw, shapes)
  return jax.tree.map(lambda x: np.asarray(x, 'float32'), drawn)


@functools.partial(jax.jit, static_argnums=0)
def run(config, params, batch):
  """The loss summed over the batch, its gradient, and the logits."""
  model = build(config)

  def loss(params):
    return criteria.lm(model, params, batch)['loss']

  logits = model.apply({'params': params}, batch['inputs'], batch['segments'])
  return *jax.value_and_grad(loss)(params), logits


def make_batch(*lengths, T=30, seed=1):
  """A row for each tuple, with a segment of each of its lengths."""
  rng = np.random.default_rng(seed)
  shape = len(lengths), T
  targets = rng.integers(1, 40, shape, 'int32')
  inputs = rng.integers(1, 40, shape, 'int32')
  segments = np.zeros(shape, 'int32')
  for row, parts in zip(segments, lengths, strict=True):
    filled = np.repeat(np.arange(len(parts)) + 1, parts)
    row[: len(filled)] = filled
  return {
    'inputs': inputs,
    'targets': targets,
    'segments': segments,
    'weights': (segments > 0).astype('float32'),
  }


BATCH = make_batch((30,), (7, 12, 9), (1, 1, 20))


@pytest.fixture(scope='module')
def params():
  return random_params(build(make_config()))


@pytest.fixture(scope='module')
def outputs(params):
  return run(make_config(), params, BATCH)


# ---- The network ------------------------------------------------------------


def transcribed(params, tokens):
  """The published recurrence for one row of one segment: logits [T,V]."""
  params = jax.tree.map(lambda x: np.asarray(x, 'float64'), params)

  def norm(x, p):
    x = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    return x * p['scale'] + p['bias']

  def sigmoid(x):
    return 1 / (1 + np.exp(-x))

  layers = [
    jax.tree.map(lambda x, i=i: x[i], params['decoder']['layers'])
    for i in range(3)
  ]
  states = [dict.fromkeys('xyab', 0.0) for _ in layers]
  logits = []
  for token in tokens:
    x = norm(params['embed']['table'][token], params['embed']['norm'])
    for p, s in zip(layers, states, strict=True):
      y, mix = norm(x, p['time_mix_norm']), p['time_mix']

      def projected(name, mix=mix, y=y, last=s['x']):
        mu = mix[f'mix_{name}']
        return (y * mu + last * (1 - mu)) @ mix[name]['kernel']

      k, v = projected('key'), projected('value')
      r = sigmoid(projected('receptance'))
      own = np.exp(mix['time_first'] + k)
      mean = (s['a'] + own * v) / (s['b'] + own)
      kept = np.exp(-np.exp(mix['time_decay']))
      s |= {'x': y, 'a': kept * s['a'] + np.exp(k) * v}
      s['b'] = kept * s['b'] + np.exp(k)
      x = x + (r * mean) @ mix['output']['kernel']

      y, mix = norm(x, p['channel_mix_norm']), p['channel_mix']
      k = projected('key', mix, y, s['y'])
      r = sigmoid(projected('receptance', mix, y, s['y']))
      s['y'] = y
      x = x + r * (np.maximum(k, 0) ** 2 @ mix['value']['kernel'])
    x = norm(x, params['decoder']['norm'])
    logits.append(x @ params['vocabulary']['output'])
  return np.stack(logits)


def test_the_network_is_the_published_recurrence(params, outputs):
  expected = transcribed(params, BATCH['inputs'][0])
  assert_close(outputs[2][0], expected, 2e-5)


def test_equals_transformers(params, outputs):
  config = transformers.RwkvConfig(
    vocab_size=40,
    context_length=30,
    hidden_size=12,
    num_hidden_layers=3,
    intermediate_size=44,
    rescale_every=0,
  )
  theirs = transformers.RwkvForCausalLM(config)
  state = {'rwkv.embeddings.weight': params['embed']['table']}
  state['head.weight'] = params['vocabulary']['output'].T
  norms = {'rwkv.blocks.0.pre_ln': params['embed']['norm']}
  norms['rwkv.ln_out'] = params['decoder']['norm']
  for i in range(3):
    layer = jax.tree.map(lambda x, i=i: x[i], params['decoder']['layers'])
    at = f'rwkv.blocks.{i}'
    norms[f'{at}.ln1'] = layer['time_mix_norm']
    norms[f'{at}.ln2'] = layer['channel_mix_norm']
    for half, name in (
      ('time_mix', 'attention'),
      ('channel_mix', 'feed_forward'),
    ):
      for key, value in layer[half].items():
        if key.startswith('mix_'):
          state[f'{at}.{name}.time_{key}'] = value.reshape(1, 1, -1)
        elif key.startswith('time_'):
          state[f'{at}.{name}.{key}'] = value
        else:
          state[f'{at}.{name}.{key}.weight'] = value['kernel'].T
  for name, norm in norms.items():
    state[f'{name}.weight'], state[f'{name}.bias'] = norm['scale'], norm['bias']
  state = {k: torch.from_numpy(np.array(v)) for k, v in state.items()}
  theirs.load_state_dict(state)
  tokens = torch.from_numpy(BATCH['inputs'][:1].astype('int64'))
  targets = torch.from_numpy(BATCH['targets'][:1].astype('int64'))
  theirs.eval()
  logits = theirs(tokens, use_cache=False).logits
  expected = logits.detach().numpy()
  assert_close(outputs[2][:1], expected)
  worst = np.abs(outputs[2][:1] - expected).max() / np.abs(expected).max()

  loss = torch.nn.functional.cross_entropy(
    logits[0], targets[0], reduction='sum'
  )
  loss.backward()
  first = {name: x[:1] for name, x in BATCH.items()}
  ours, grads, _ = run(make_config(), params, first)
  assert float(ours) == pytest.approx(loss.item(), rel=1e-5)
  named = dict(theirs.named_parameters())
  blocks = grads['decoder']['layers']
  mix = blocks['time_mix']
  errors = []
  for name, grad in (
    ('attention.time_decay', mix['time_decay']),
    ('attention.time_first', mix['time_first']),
    ('attention.time_mix_value', mix['mix_value']),
    ('attention.key.weight', mix['key']['kernel']),
    ('feed_forward.key.weight', blocks['channel_mix']['key']['kernel']),
  ):
    for i in range(3):
      theirs_grad = named[f'rwkv.blocks.{i}.{name}'].grad.numpy()
      ours_grad = np.asarray(grad[i]).T.reshape(theirs_grad.shape)
      difference = np.linalg.norm(ours_grad - theirs_grad)
      errors.append(difference / np.linalg.norm(theirs_grad))
      assert errors[-1] <= 1e-4, name
  print(f'\nLARGEST RWKV: logits {worst:.1e}, gradients {max(errors):.1e}')


@pytest.mark.parametrize('sizes', [(1,) * 30, (30,), (13, 1, 1, 15)])
def test_decoding_equals_training(params, outputs, sizes):
  model = build(make_config())
  step = jax.jit(
    lambda tokens, cache, index: model.apply(
      {'params': params}, tokens, cache, index, method='decode_step'
    )
  )
  cache, logits, index = model.start_cache(1), [], 0
  for size in sizes:
    tokens = BATCH['inputs'][:1, index : index + size]
    new, cache = step(tokens, cache, index)
    logits.append(new)
    index += size
  assert_close(np.concatenate(logits, axis=1), outputs[2][:1])


def test_a_prompt_padded_on_the_left(params, outputs):
  model = build(make_config())
  tokens = np.pad(BATCH['inputs'][:1], [(0, 0), (4, 0)], constant_values=3)
  hidden = np.arange(40)[None] < 4
  apply = functools.partial(
    model.apply, {'params': params}, method='decode_step', hidden=hidden
  )
  first, cache = apply(tokens[:, :4], model.start_cache(1, 40), 0)
  rest, _ = apply(tokens[:, 4:], cache, 4)
  assert_close(rest, outputs[2][:1])
  whole, _ = apply(tokens, model.start_cache(1, 40), 0)
  assert_close(whole[:, 4:], outputs[2][:1])


def test_no_position_sees_later_ones(params):
  """The gradient of a position's logits is 0 at every later embedding."""
  model = build(make_config())

  def at(table, position):
    tokens = jnp.arange(30)[None]  # a row of the table for each position
    replaced = params | {'embed': params['embed'] | {'table': table}}
    segments = BATCH['segments'][1:2]  # 7, 12, 9 tokens and padding
    logits = model.apply({'params': replaced}, tokens, segments)
    return jnp.sum(logits[0, position] * jnp.arange(40.0))

  gradient = jax.jit(jax.grad(at))
  for position, first in ((0, 0), (6, 0), (7, 7), (18, 7), (19, 19), (27, 19)):
    grads = np.asarray(gradient(params['embed']['table'], position))
    seen = np.flatnonzero(np.abs(grads[:30]).max(1))
    np.testing.assert_array_equal(seen, np.arange(first, position + 1))


def test_packed_rows_equal_separate_ones(params):
  packed = {name: x[1:2] for name, x in BATCH.items()}
  loss, grads, logits = run(make_config(), params, packed)
  alone = {name: np.zeros((3, 30), x.dtype) for name, x in packed.items()}
  for i in range(3):
    own = packed['segments'][0] == i + 1
    for name, x in packed.items():
      alone[name][i, : own.sum()] = x[0, own]
    alone['segments'][i] = alone['segments'][i] > 0
    alone['inputs'][i, own.sum() :] = 9  # any token may be padding
  expected, expected_grads, apart = run(make_config(), params, alone)
  assert float(loss) == pytest.approx(float(expected), rel=1e-6)
  assert_close(grads, expected_grads)
  apart = np.asarray(apart)[alone['segments'] > 0]
  assert_close(np.asarray(logits)[packed['segments'] > 0], apart)


def unstacked(params):
  decoder = dict(params['decoder'])
  layers = decoder.pop('layers')
  for i in range(3):
    decoder[f'layer_{i}'] = jax.tree.map(lambda x, i=i: x[i], layers)
  return params | {'decoder': decoder}


def test_scan_equals_loop(params, outputs):
  config = make_config(scan=False)
  loss, grads, logits = run(config, unstacked(params), BATCH)
  assert_close(logits, outputs[2])
  assert_close(grads, unstacked(outputs[1]))
  model = build(config)
  tokens = BATCH['inputs'][:1]
  decoded, cache = model.apply(
    {'params': unstacked(params)},
    tokens,
    model.start_cache(1),
    0,
    method='decode_step',
  )
  assert_close(decoded, outputs[2][:1])
  shapes = jax.tree.map(jnp.shape, cache)
  assert shapes == jax.tree.map(jnp.shape, model.start_cache(1))


@pytest.mark.parametrize('remat', ['full', 'dots'])
def test_remat_changes_nothing(params, outputs, remat):
  loss, grads, _ = run(make_config(remat=remat), params, BATCH)
  assert float(loss) == pytest.approx(float(outputs[0]), rel=1e-6)
  assert_close(grads, outputs[1])
