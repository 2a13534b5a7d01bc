"""The workers of benchmarks/accelerator.py: one process measures one variant.

  python -m benchmarks.accelerator_workers treeline|torch|loop

A process imports what it needs, prints a line, reads a line of JSON that says
what to measure, prints a line of JSON and ends. So every peak of memory is a
variant's own.
"""

import json
import os
import runpy
import statistics
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np

from benchmarks import stand_ins

ROUNDS = 3


def timed(step, wait, least):
  """Steps in three rounds -> what is reported of their time.

  Args:
    step: starts a step; returns its loss, maybe not computed yet.
    wait: waits for the last step.
    least: seconds that all rounds take, at least one step each.
  """
  start = time.perf_counter()
  loss = float(step())
  wait()
  first = time.perf_counter() - start
  start = time.perf_counter()
  step()
  wait()
  one = time.perf_counter() - start
  count = max(1, min(100, round(least / ROUNDS / one)))
  rounds = []
  for _ in range(ROUNDS):
    start = time.perf_counter()
    for _ in range(count):
      step()
    wait()
    rounds.append(1e3 * (time.perf_counter() - start) / count)
  return {
    'ms': statistics.median(rounds),
    'rounds_ms': rounds,
    'steps_of_a_round': count,
    'first_loss': loss,
    'first_step_seconds': first,
  }


def peak_bytes():
  """The most memory of the accelerator that JAX has used, and whose it is.

  Of the process where the device does not say: a CPU.
  """
  import jax

  stats = jax.devices()[0].memory_stats() or {}
  if 'peak_bytes_in_use' in stats:
    return stats['peak_bytes_in_use'], 'device'
  from benchmarks.train_step_workers import peak_bytes as of_process

  return of_process(), 'process'


def described():
  """The device, or a RuntimeError where it is a CPU and not to be one."""
  import jax

  device = jax.devices()[0]
  return {'device': device.device_kind, 'platform': device.platform}


def treeline(setting):
  """Treeline's training step, or greedy decoding."""
  import jax
  from jax.sharding import NamedSharding, PartitionSpec

  from benchmarks import accelerator_models, kernel_times
  from train.learning.state import create_state
  from train.setup import set_up

  found = described()
  if found['platform'] == 'cpu' and not setting['tiny']:
    raise RuntimeError('JAX has no accelerator here.')
  fields = dict(setting['fields'])
  packed = fields.pop('pack', False)
  name, tiny = setting['model'], setting['tiny']
  config = accelerator_models.make_config(name, tiny, **fields)
  config.data.pack = packed
  setup = set_up(config, jax.devices()[:1])
  found['attention'] = f'{setup.model.config.attention}: {setup.attention}'
  cursor = np.zeros(setup.data.cursor_shape, np.int32)

  def begun():
    # Another generator than training's: initial values compile in less time.
    with jax.default_prng_impl('rbg'):
      return create_state(setup.model, setup.optimizer, setup.state, cursor, 0)

  if setting['what'] == 'decode':
    return found | decode_jax(setting, setup, begun().params)
  batch = accelerator_models.batch_of(config, cursor)
  needed = *setup.model.INPUTS, 'targets', 'weights', 'cursor'
  place = NamedSharding(setup.mesh, PartitionSpec())
  batch = jax.device_put({n: batch[n] for n in needed}, place)
  start = time.perf_counter()
  compiled = setup.compile_step(batch)
  found['compile_seconds'] = time.perf_counter() - start
  memory = compiled.memory_analysis()
  found['program_gib'] = gib(
    memory.argument_size_in_bytes + memory.temp_size_in_bytes
  )
  state = begun()

  def step():
    nonlocal state
    state, metrics = compiled(state, batch)
    return metrics['loss']

  def wait():
    jax.block_until_ready(state)

  found |= timed(step, wait, setting['seconds'])
  peak, whose = peak_bytes()
  found |= {'peak_gib': gib(peak), 'memory_of': whose}
  if setting['profile']:
    found['kernels'] = kernel_times.of_jax(step, wait)
  return found


def gib(size):
  return size / 2**30


def decode_jax(setting, setup, params):
  import jax
  import jax.numpy as jnp

  from models.decoding import decode

  rows, prompt, length = setting['decode']
  source = prompts(setting, setup.model.config.vocab_size)

  @jax.jit
  def written(params, source):
    return decode(
      params, source, jnp.ones_like(source), model=setup.model, length=length,
      eos=-1,
    ).tokens  # fmt: skip

  with setup.on_mesh():
    return tokens_per_second(
      lambda: np.asarray(written(params, source)), rows * length
    )


def prompts(setting, vocab_size):
  rows, prompt, _ = setting['decode']
  random = np.random.default_rng(1)
  return random.integers(3, vocab_size, (rows, prompt), np.int32)


def tokens_per_second(write, tokens):
  """Of greedy decoding: the median of three, and the first, with compiling."""
  seconds = []
  for _ in range(1 + ROUNDS):
    start = time.perf_counter()
    write()
    seconds.append(time.perf_counter() - start)
  return {
    'first_seconds': seconds[0],
    'tokens_per_second': tokens / statistics.median(seconds[1:]),
  }


def loop(setting):
  """`python -m train` on synthetic data, beside its bare step."""
  from benchmarks import accelerator_models

  found = described()
  if found['platform'] == 'cpu' and not setting['tiny']:
    raise RuntimeError('JAX has no accelerator here.')
  stand_ins.without_reports()
  config = accelerator_models.make_config(setting['model'], setting['tiny'])
  steps, every = (12, 3) if setting['tiny'] else (120, 20)
  keys = {
    'train.steps': steps,
    'train.log_every': every,
    'data.holdout': 100,
    'eval.every': 10 * steps,
    'eval.batches': 1,
    'eval.samples': 0,
    'checkpoint.every': 10 * steps,
    'schedule.warmup_steps': 2,
  }
  for group in 'model', 'data', 'sharding':
    keys |= flat(group, config[group].to_dict(), CHANGED[group])
  with tempfile.TemporaryDirectory() as folder:
    workdir = f'{folder}/run'
    sys.argv = [
      'train',
      '--config=configs/gpt2.py:small',
      f'--workdir={workdir}',
      *(f'--config.{key}={value}' for key, value in keys.items()),
    ]
    try:
      runpy.run_module('train', run_name='__main__', alter_sys=True)
    except SystemExit as end:
      if end.code:
        reason = end.__context__ or f'it ended with {end.code}'
        raise RuntimeError(f'python -m train: {reason}') from end
    lines = Path(workdir, 'metrics.jsonl').read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  paces = [r[PACE] for r in rows if PACE in r][1:]  # the first one compiles
  found['ms'] = 1e3 / statistics.median(paces)
  bare = treeline(setting | {'what': 'step', 'fields': {'pack': True}})
  found['bare_step_ms'] = bare['ms']
  found['loop_over_bare_step'] = found['ms'] / bare['ms']
  return found | {n: bare[n] for n in ('attention', 'peak_gib', 'memory_of')}


PACE = 'train/steps_per_second'
# Keys of GPT-2 small that the loop changes.
CHANGED = {
  'model': (
    *('vocab_size', 'embed_dim', 'mlp_dim', 'heads', 'kv_heads', 'head_dim'),
    *('decoder_layers', 'dropout', 'attention_dropout', 'dtype'),
  ),
  'data': ('source', 'batch', 'length', 'streams'),
  'sharding': ('rules',),
}


def flat(group, fields, names):
  return {f'{group}.{name}': fields[name] for name in names}


def main(kind):
  replies = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)  # what libraries print goes to stderr
  workers = {'treeline': treeline, 'loop': loop}
  if kind == 'torch':
    from benchmarks import accelerator_torch

    workers['torch'] = accelerator_torch.measure
  else:
    import train.setup  # noqa: F401
  print('{}', file=replies, flush=True)
  line = sys.stdin.readline()
  if not line:
    return
  try:
    found = workers[kind](json.loads(line))
  except Exception as error:  # a row of the table; the others go on
    text = ' '.join(f'{type(error).__name__}: {error}'.split())
    found = {'error': text[:400]}
    traceback.print_exc()
  if stand_ins.MISSING:
    found['stand_ins'] = stand_ins.MISSING
  print(json.dumps(found), file=replies, flush=True)


if __name__ == '__main__':
  main(sys.argv[1])
