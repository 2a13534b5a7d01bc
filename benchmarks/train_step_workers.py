"""The workers of benchmarks/train_step.py: a model and its training step each.

Each is one process, which makes a step when its standard input asks for one.
The Flax peer runs in another environment, where Treeline is not installed.
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

# Classes of transformers; Flax's have 'Flax' in front.
PEERS = {
  't5': 'T5ForConditionalGeneration',
  'bert': 'BertForMaskedLM',
  'gpt2': 'GPT2LMHeadModel',
  'llama': 'LlamaForCausalLM',
}
NOT_PREDICTED = -100  # a label that the peers leave out of the loss


def make_batch(setting):
  """Tokens of one batch, full rows of random ones; int32.

  Returns:
    'inputs' [B,S or T]; 'labels' [B,T], what the logits at each place are to
    predict, or NOT_PREDICTED. T5 also has 'decoder_inputs' [B,T], BERT
    'predict_at' [B,P].
  """
  random = np.random.default_rng(1)
  rows, T = setting['batch'], setting['length']
  low, high = 3, setting['vocab_size'] - 100  # nothing special
  inputs = random.integers(low, high, (rows, T), np.int32)
  labels = np.full_like(inputs, NOT_PREDICTED)
  match setting['model']:
    case 't5':
      shape = rows, setting['targets']
      labels = random.integers(low, high, shape, np.int32)
      start = np.zeros_like(labels[:, :1])
      return {
        'inputs': inputs,
        'labels': labels,
        'decoder_inputs': np.concatenate([start, labels[:, :-1]], axis=1),
      }
    case 'bert':
      P = setting['predictions']
      every = np.tile(np.arange(T, dtype=np.int32), (rows, 1))
      at = np.sort(random.permuted(every, axis=1)[:, :P], axis=1)
      masked = np.take_along_axis(inputs, at, axis=1)
      np.put_along_axis(labels, at, masked, axis=1)
      np.put_along_axis(inputs, at, 103, axis=1)  # [MASK]
      return {'inputs': inputs, 'labels': labels, 'predict_at': at}
  labels[:, :-1] = inputs[:, 1:]
  return {'inputs': inputs, 'labels': labels}


# Each of the three loads its model and returns a function that makes one step
# and returns the loss before it, as a dict with times of its parts if known;
# and, of the two that are compiled, the step's program, else None.


def torch_worker(setting):
  import torch
  import transformers
  from transformers.optimization import Adafactor

  kind = getattr(transformers, PEERS[setting['model']])
  model = kind.from_pretrained(setting['folder'], dtype=torch.float32).train()
  batch = {k: torch.from_numpy(x) for k, x in make_batch(setting).items()}
  inputs = {
    'input_ids': batch['inputs'].long(),
    'labels': batch['labels'].long(),
  }
  if setting['model'] == 't5':
    inputs['decoder_input_ids'] = batch['decoder_inputs'].long()
  elif setting['model'] != 'bert':
    inputs['labels'] = inputs['input_ids']  # it shifts them itself
  o = setting['optimizer']
  if o['name'] == 'adafactor':
    optimizer = Adafactor(
      model.parameters(),
      lr=setting['learning_rate'],
      scale_parameter=True,
      relative_step=False,
      warmup_init=False,
    )
  else:
    parameters = list(model.parameters())
    vectors = [p for p in parameters if p.ndim < 2]
    optimizer = torch.optim.AdamW(
      [
        {'params': [p for p in parameters if p.ndim >= 2]},
        {'params': vectors, 'weight_decay': 0.0},
      ],
      lr=setting['learning_rate'],
      betas=(o['b1'], o['b2']),
      eps=o['epsilon'],
      weight_decay=o['weight_decay'],
      fused=True,
    )

  def step():
    start = time.perf_counter()
    loss = model(**inputs).loss
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

  return step, None


def flax_worker(setting):
  import jax
  import jax.numpy as jnp
  import optax
  import transformers

  kind = getattr(transformers, f'Flax{PEERS[setting["model"]]}')
  # Loading makes the parameters twice, and the loaded model would keep them.
  loaded = kind.from_pretrained(setting['folder'])
  params = jax.device_put(loaded.params)
  model = kind(loaded.config, _do_init=False)
  del loaded
  batch = make_batch(setting)
  o = setting['optimizer']
  if o['name'] == 'adafactor':
    optimizer = optax.adafactor(setting['learning_rate'])
  else:
    optimizer = optax.adamw(
      setting['learning_rate'],
      b1=o['b1'],
      b2=o['b2'],
      eps=o['epsilon'],
      weight_decay=o['weight_decay'],
      mask=lambda params: jax.tree.map(lambda p: p.ndim >= 2, params),
    )

  def train_step(params, opt_state, batch, rng):
    inputs = {'input_ids': batch['inputs']}
    if 'decoder_inputs' in batch:
      inputs['decoder_input_ids'] = batch['decoder_inputs']

    def loss_of(params):
      logits = model(
        **inputs, params=params, dropout_rng=rng, train=True
      ).logits
      predicted = batch['labels'] != NOT_PREDICTED
      losses = optax.softmax_cross_entropy_with_integer_labels(
        logits, jnp.where(predicted, batch['labels'], 0)
      )
      return jnp.sum(losses * predicted) / jnp.sum(predicted)

    loss, grads = jax.value_and_grad(loss_of)(params)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, loss

  state = [params, jax.jit(optimizer.init)(params)]
  del params
  rng = jax.random.key(0)
  compiled = (
    jax.jit(train_step, donate_argnums=(0, 1))
    .lower(*state, batch, rng)
    .compile()
  )
  count = 0

  def step():
    nonlocal count
    count += 1
    key = jax.random.fold_in(rng, count)
    *state[:], loss = jax.block_until_ready(compiled(*state, batch, key))
    return {'loss': float(loss)}

  return step, compiled


def treeline_worker(setting):
  import dataclasses

  import jax
  from jax.sharding import NamedSharding, PartitionSpec

  from benchmarks import train_step_models
  from configs import common
  from models import pretrained
  from train.learning.state import create_state
  from train.setup import set_up

  rows, own = setting['batch'], {'dtype': 'float32', 'scan': setting['scan']}
  config = train_step_models.make_config(setting['model'])
  with config.ignore_type():
    config.model.update(
      dataclasses.asdict(pretrained.read_config(setting['folder'], **own))
    )
    for key in config.schedule:
      default = common.KEYS[f'schedule.{key}'].default
      config.schedule[key] = None if isinstance(default, type) else default
  config.data.batch = config.data.streams = rows
  config.train.phases = ()
  config.schedule.name = 'constant'
  config.schedule.learning_rate = setting['learning_rate']
  setup = set_up(config, jax.devices()[:1])
  cursor = np.zeros((rows, 4), np.int32)
  params = pretrained.load(setting['folder'], setup.places.params, **own)[1]
  now = create_state(
    setup.model, setup.optimizer, setup.state, cursor, 0, params
  )
  del params
  batch = treeline_batch(make_batch(setting))
  needed = *setup.model.INPUTS, 'targets', 'weights'
  batch = {name: batch[name] for name in needed} | {'cursor': cursor}
  batch = jax.device_put(batch, NamedSharding(setup.mesh, PartitionSpec()))
  compiled = setup.compile_step(batch)

  def step():
    nonlocal now
    now, metrics = jax.block_until_ready(compiled(now, batch))
    return {'loss': float(metrics['loss'])}

  return step, compiled


def treeline_batch(batch):
  """The batch of `make_batch` as Treeline's pipeline would make it."""

  def positions(x):
    return np.broadcast_to(np.arange(x.shape[1], dtype=np.int32), x.shape)

  inputs, targets = batch['inputs'], batch['labels']
  out = {'inputs': inputs}
  if 'predict_at' in batch:
    out['types'] = np.zeros_like(inputs)
    out['predict_at'] = batch['predict_at']
    targets = np.take_along_axis(targets, batch['predict_at'], axis=1)
  elif 'decoder_inputs' in batch:
    out['inputs'] = batch['decoder_inputs']
    out['encoder_inputs'] = inputs
    out['encoder_positions'] = positions(inputs)
    out['encoder_segments'] = np.ones_like(inputs)
  predicted = targets != NOT_PREDICTED
  return out | {
    'positions': positions(out['inputs']),
    'segments': np.ones_like(out['inputs']),
    'targets': np.where(predicted, targets, 0),
    'weights': predicted.astype(np.float32),
  }


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

  if setting.get('one_core'):  # before JAX counts them
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
  start = time.perf_counter()
  workers = {
    'torch': torch_worker,
    'flax': flax_worker,
    'treeline': treeline_worker,
  }
  step, compiled = workers[name](setting)
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
      case 'profile':
        from benchmarks import step_profile

        reply(**step_profile.profile(step, compiled))


if __name__ == '__main__':
  work(sys.argv[1], json.loads(sys.argv[2]))
