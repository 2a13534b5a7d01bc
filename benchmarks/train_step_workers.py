"""The workers of benchmarks/train_step.py: a T5 and its training step each.

One process each, which makes a step when told so through its standard input.
The Flax peer's runs in another environment, where Treeline is not installed.
"""

import contextlib
import gc
import importlib.metadata
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

LEARNING_RATE = 0.01  # T5's, for the first 10,000 steps


def make_batch(setting):
  """Tokens of one batch: inputs [B,S], targets [B,T] and them shifted."""
  random = np.random.default_rng(1)
  rows, low, high = setting['batch'], 3, 32000  # no pad, EOS or unknown
  inputs = random.integers(low, high, (rows, setting['inputs']))
  targets = random.integers(low, high, (rows, setting['targets']))
  shifted = np.concatenate([np.zeros_like(targets[:, :1]), targets[:, :-1]], 1)
  return [x.astype(np.int32) for x in (inputs, targets, shifted)]


def make_weights(m):
  """T5's weights by torch names, kernels [out, in], as T5 initialises them."""
  random = np.random.default_rng(0)
  D, F, N, H = m['embed_dim'], m['mlp_dim'], m['heads'], m['head_dim']
  weights = {}

  def normal(name, shape, deviation):
    x = random.standard_normal(shape, np.float32) * np.float32(deviation)
    weights[f'{name}.weight'] = x

  def attention(name):
    normal(f'{name}.q', (N * H, D), (D * H) ** -0.5)
    normal(f'{name}.k', (N * H, D), D**-0.5)
    normal(f'{name}.v', (N * H, D), D**-0.5)
    normal(f'{name}.o', (D, N * H), (N * H) ** -0.5)

  normal('shared', (m['vocab_size'], D), 1.0)
  for stack in ('encoder', 'decoder'):
    layers = m[f'{stack}_layers']
    buckets = (m['relative_buckets'], N)
    attention_0 = f'{stack}.block.0.layer.0.SelfAttention'
    normal(f'{attention_0}.relative_attention_bias', buckets, D**-0.5)
    for i in range(layers):
      sublayers = ['SelfAttention', 'EncDecAttention', 'DenseReluDense']
      if stack == 'encoder':
        del sublayers[1]
      for j, sublayer in enumerate(sublayers):
        layer = f'{stack}.block.{i}.layer.{j}'
        if sublayer == 'DenseReluDense':
          normal(f'{layer}.{sublayer}.wi', (F, D), D**-0.5)
          normal(f'{layer}.{sublayer}.wo', (D, F), F**-0.5)
        else:
          attention(f'{layer}.{sublayer}')
        weights[f'{layer}.layer_norm.weight'] = np.ones(D, np.float32)
    weights[f'{stack}.final_layer_norm.weight'] = np.ones(D, np.float32)
  return weights


def peer_config(setting):
  """T5Config of either version of transformers."""
  from transformers import T5Config

  m = setting['model']
  return T5Config(
    vocab_size=m['vocab_size'],
    d_model=m['embed_dim'],
    d_kv=m['head_dim'],
    d_ff=m['mlp_dim'],
    num_layers=m['encoder_layers'],
    num_decoder_layers=m['decoder_layers'],
    num_heads=m['heads'],
    relative_attention_num_buckets=m['relative_buckets'],
    relative_attention_max_distance=m['relative_max_distance'],
    dropout_rate=setting['dropout'],
    decoder_start_token_id=0,
    use_cache=False,
  )


# Each of the three builds its model and returns a function that makes one step
# and returns the loss before it, as a dict with times of its parts if known.


def torch_worker(setting):
  import torch
  from transformers import T5ForConditionalGeneration
  from transformers.optimization import Adafactor

  model = T5ForConditionalGeneration(peer_config(setting)).train()
  weights = {
    k: torch.from_numpy(v) for k, v in make_weights(setting['model']).items()
  }
  missing, unexpected = model.load_state_dict(weights, strict=False)
  if unexpected or {k.split('.')[-2] for k in missing} - {
    'embed_tokens',
    'lm_head',
  }:
    raise RuntimeError(f'Weights do not fit: {missing}, {unexpected}.')
  inputs, targets, shifted = (
    torch.from_numpy(x).long() for x in make_batch(setting)
  )
  optimizer = Adafactor(
    model.parameters(),
    lr=LEARNING_RATE,
    scale_parameter=True,
    relative_step=False,
    warmup_init=False,
  )

  def step():
    start = time.perf_counter()
    loss = model(
      input_ids=inputs, decoder_input_ids=shifted, labels=targets
    ).loss
    forward = time.perf_counter()
    loss.backward()
    backward = time.perf_counter()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    end = time.perf_counter()
    return {
      'loss': loss.item(),
      'forward': forward - start,
      'backward': backward - forward,
      'optimizer': end - backward,
    }

  return step


def flax_worker(setting):
  import jax
  import optax
  from transformers import FlaxT5ForConditionalGeneration

  model = FlaxT5ForConditionalGeneration(peer_config(setting), _do_init=False)
  params = {}
  for name, weight in make_weights(setting['model']).items():
    *path, leaf = name.split('.')[:-1]
    if leaf in ('shared', 'relative_attention_bias'):
      last = 'embedding'
    elif 'layer_norm' in leaf:
      last = 'weight'
    else:
      last, weight = 'kernel', weight.T
    node = params
    for key in (*path, leaf):
      node = node.setdefault(key, {})
    node[last] = weight
  inputs, targets, shifted = make_batch(setting)
  params = jax.device_put(params)
  optimizer = optax.adafactor(LEARNING_RATE)

  def train_step(params, opt_state, inputs, targets, shifted, rng):
    def loss_of(params):
      logits = model(
        input_ids=inputs,
        decoder_input_ids=shifted,
        params=params,
        dropout_rng=rng,
        train=True,
      ).logits
      return optax.softmax_cross_entropy_with_integer_labels(
        logits, targets
      ).mean()

    loss, grads = jax.value_and_grad(loss_of)(params)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, loss

  train_step = jax.jit(train_step, donate_argnums=(0, 1))
  state = [params, jax.jit(optimizer.init)(params)]
  del params
  rng = jax.random.key(0)
  count = 0

  def step():
    nonlocal count
    count += 1
    key = jax.random.fold_in(rng, count)
    *state[:], loss = jax.block_until_ready(
      train_step(*state, inputs, targets, shifted, key)
    )
    return {'loss': float(loss)}

  return step


def treeline_worker(setting):
  import functools

  import flax.linen as nn
  import jax
  import optax
  from jax.sharding import NamedSharding, PartitionSpec
  from ml_collections import ConfigDict

  import train.step
  from models import build
  from models.config import TransformerConfig
  from train import optimizer, sharding, state

  model = build.build(
    TransformerConfig(**setting['model'] | {'dropout': setting['dropout']})
  )
  sizes = dict.fromkeys(sharding.AXES, 1)
  mesh = sharding.make_mesh(sizes, 'replicated', jax.devices()[:1])
  rules = sharding.make_rules('replicated')
  schedule = optax.constant_schedule(LEARNING_RATE)
  _, axes = state.abstract_params(model)
  adafactor = optimizer.make_optimizer(
    ConfigDict(setting['optimizer']), schedule, axes
  )
  inputs, targets, shifted = make_batch(setting)
  rows = setting['batch']
  abstract = state.abstract_state(model, adafactor, rows, mesh, rules)
  cursor = np.zeros((rows, 4), np.int32)
  now = state.create_state(model, adafactor, abstract, cursor, seed=0)
  params = treeline_params(make_weights(setting['model']), setting['model'])
  jax.tree.map(
    lambda a, b: np.testing.assert_equal(a.shape, b.shape), now.params, params
  )
  places = jax.tree.map(lambda x: x.sharding, abstract.params)
  now = now.replace(params=jax.device_put(params, places))
  batch = {
    'encoder_inputs': inputs,
    'encoder_positions': np.broadcast_to(
      np.arange(inputs.shape[1], dtype=np.int32), inputs.shape
    ),
    'encoder_segments': np.ones_like(inputs),
    'inputs': shifted,
    'targets': targets,
    'positions': np.broadcast_to(
      np.arange(targets.shape[1], dtype=np.int32), targets.shape
    ),
    'segments': np.ones_like(targets),
    'weights': np.ones(targets.shape, np.float32),
    'cursor': cursor,
  }
  batch = jax.device_put(batch, NamedSharding(mesh, PartitionSpec()))
  step_function = functools.partial(
    train.step.train_step,
    model=model,
    optimizer=adafactor,
    schedule=schedule,
    seed=0,
  )
  with jax.set_mesh(mesh), nn.logical_axis_rules(rules):
    compiled = train.step.compile_train_step(step_function, abstract, batch)

  def step():
    nonlocal now
    now, metrics = jax.block_until_ready(compiled(now, batch))
    return {'loss': float(metrics['loss'])}

  return step


def treeline_params(weights, m):
  """Treeline's tree of the torch weights, layers stacked for model.scan."""
  import jax

  places = {
    'SelfAttention': 'attention',
    'EncDecAttention': 'cross_attention',
    'DenseReluDense': 'mlp',
  }
  leaves = {
    'q': 'query',
    'k': 'key',
    'v': 'value',
    'o': 'output',
    'wi': 'input',
    'wo': 'output',
  }
  params = {'embed': {'table': weights['shared.weight']}}
  for stack in ('encoder', 'decoder'):
    layers = {}
    first = f'{stack}.block.0.'
    for name in (n for n in weights if n.startswith(first)):
      keys = name.removeprefix(first).split('.')[2:-1]
      if keys[-1] == 'relative_attention_bias':
        continue
      stacked = np.stack(
        [
          weights[name.replace('block.0', f'block.{i}')]
          for i in range(m[f'{stack}_layers'])
        ]
      )
      if keys[-1] == 'layer_norm':
        # The norm of the sublayer with the same number.
        number = '.'.join(name.split('.')[:5])
        sublayer = next(
          n.split('.')[5]
          for n in weights
          if n.startswith(number) and 'layer_norm' not in n
        )
        layers[f'{places[sublayer]}_norm'] = {'scale': stacked}
      else:
        sublayer = layers.setdefault(places[keys[0]], {})
        sublayer[leaves[keys[1]]] = {'kernel': stacked.swapaxes(1, 2)}
    bias = weights[
      f'{first}layer.0.SelfAttention.relative_attention_bias.weight'
    ]
    stacked = {'layers': layers}
    if not m['scan']:
      stacked = {
        f'layer_{i}': jax.tree.map(lambda x, i=i: x[i], layers)
        for i in range(m[f'{stack}_layers'])
      }
    params[stack] = stacked | {
      'relative_bias': {'table': bias},
      'norm': {'scale': weights[f'{stack}.final_layer_norm.weight']},
    }
  return params


def peak_bytes():
  """Peak resident memory since the start or the last `forget_peak`."""
  status = Path('/proc/self/status').read_text()
  line = next(s for s in status.splitlines() if s.startswith('VmHWM'))
  return int(line.split()[1]) * 1024


def forget_peak():
  gc.collect()
  Path('/proc/self/clear_refs').write_text('5')


def work(name, setting):
  """A worker: one line in for a step, one line of JSON out."""
  replies = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)  # what libraries print goes to stderr

  def reply(**message):
    print(json.dumps(message), file=replies, flush=True)

  start = time.perf_counter()
  workers = {
    'torch': torch_worker,
    'flax': flax_worker,
    'treeline': treeline_worker,
  }
  step = workers[name](setting)
  versions = {}
  for package in ('torch', 'transformers', 'jax', 'jaxlib', 'flax', 'optax'):
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      versions[package] = importlib.metadata.version(package)
  reply(versions=versions, setup_seconds=time.perf_counter() - start)
  whole = 0
  for line in sys.stdin:
    match line.strip():
      case 'step':
        start, cpu = time.perf_counter(), time.process_time()
        result = step()
        result['seconds'] = time.perf_counter() - start
        reply(cpu=time.process_time() - cpu, **result)
      case 'forget':
        whole = peak_bytes()
        forget_peak()
        reply()
      case 'memory':
        peak = peak_bytes()
        reply(stepping=peak, whole=max(whole, peak))


if __name__ == '__main__':
  work(sys.argv[1], json.loads(sys.argv[2]))
