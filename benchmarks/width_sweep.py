"""Does the best learning rate stay put when a model becomes wider?

  python -m benchmarks.width_sweep [--only=decoder,encoder,encoder_decoder]

LLaMA's, BERT's and T5's blocks, two layers each (T5: one and one), are trained
on the embedded corpus by bytes, at several widths and rates, with muP
(model.base_dim) and without. Data, batches and steps are the same for all; no
row is read twice, so that the loss of the last steps is that of new text. AdamW
without weight decay, a tenth of the steps to warm up, then linear to zero.

Printed and written: the loss by width and rate, the best rate of each width (at
the lowest point of a parabola through the best of the rates and its neighbours,
in log2), and by how many powers of two it moves from the narrowest model to the
widest. The encoder has rotary positions and norms before its layers: as
published, it learns no more than how frequent bytes are in so few steps.
"""

import importlib
import time
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from benchmarks import machine
from configs.commands import command
from input_pipeline import pipeline
from input_pipeline.config import data_config
from models.build import build
from models.config import TransformerConfig
from train.learning.criteria import criterion_for
from train.learning.optimizer import make_optimizer
from train.learning.schedules import make_schedule
from train.learning.state import abstract_params

HERE = Path(__file__).resolve()
BRANCHES = {'decoder': 'llama', 'encoder': 'bert', 'encoder_decoder': 't5'}
WIDTHS = 32, 64, 128
BASE, HEAD = 32, 16
RATES = [2.0**n for n in range(-11, -3)]
STEPS, LAST = 500, 25
SETTINGS = {
  'model.vocab_size': 384,
  'model.encoder_layers': 0,
  'model.decoder_layers': 0,
  'model.dropout': 0.0,
  'model.attention_dropout': 0.0,
  'model.dtype': 'float32',
  'data.source': 'docs',
  'data.tokenizer': '',
  'data.tokenizer_kind': 'bytes',
  'data.batch': 8,
  'data.length': 64,
  'data.streams': 4,
  'data.lowercase': False,
  'train.phases': (),
  'train.steps': STEPS,
  'optimizer.name': 'adamw',
  'optimizer.clip': 0.0,
  'optimizer.b1': 0.9,
  'optimizer.b2': 0.95,
  'optimizer.epsilon': 1e-12,
  'optimizer.bias_correction': True,
  'optimizer.weight_decay': 0.0,
  'schedule.name': 'linear',
  'schedule.learning_rate': 1.0,
  'schedule.warmup_steps': STEPS // 10,
  'schedule.end_fraction': 0.0,
  'schedule.decay_steps': 0,
}
# T5's keys that AdamW does not use.
T5_ADAFACTOR = (
  *('optimizer.decay_rate', 'optimizer.epsilon1', 'optimizer.epsilon2'),
  'optimizer.clip_threshold',
)
OWN = {
  'decoder': {'model.decoder_layers': 2, 'model.rope_dim': HEAD},
  'encoder': {
    'model.encoder_layers': 2,
    'model.head': 'mlm',
    'model.token_types': 0,
    'model.position': 'rope',
    'model.rope_dim': HEAD,
    'model.rope_theta': 1000.0,
    'model.max_length': 0,
    'model.norm_placement': 'pre',
    'model.init_std': 0.08,
    'data.objective': 'mlm',
    'data.predictions': 10,
    'data.duplicates': 0,
    'data.short_share': 0.0,
  },
  'encoder_decoder': {
    'model.encoder_layers': 1,
    'model.decoder_layers': 1,
    'data.sentinels': 8,
    'optimizer.factor_from': 0,
    'optimizer.parameter_scale': False,
    **dict.fromkeys(T5_ADAFACTOR, 0.0),
  },
}

_ONLY = flags.DEFINE_list('only', [], f'Of {", ".join(BRANCHES)}; none: all.')
_OUT = flags.DEFINE_string(
  'out', str(HERE.parent / 'results' / 'width_sweep.json'), 'JSON of results.'
)


def config_of(branch, width, mup):
  """The config of a branch at a width, with muP's base or without."""
  config = importlib.import_module(f'configs.{BRANCHES[branch]}')
  config = config.get_config('tiny')
  config.update_from_flattened_dict(SETTINGS | OWN[branch])
  m = config.model
  m.embed_dim, m.mlp_dim, m.head_dim = width, 4 * width, HEAD
  m.heads = m.kv_heads = width // HEAD
  m.base_dim = BASE if mup else 0
  return config


def batches_of(config):
  """The batches of a run, which all runs read."""
  data = pipeline.open_data(
    data_config(config),
    config.seed,
    config.model.vocab_size,
    family=config.model.family,
  )
  rows = np.arange(config.data.batch)
  batches = data.batches(data.start(), rows)
  batches = [next(batches) for _ in range(STEPS)]
  return [
    {name: x for name, x in batch.items() if name != 'cursor'}
    for batch in batches
  ]


def losses(config, batches):
  """The losses of all steps at all RATES, float [RATES, STEPS]."""
  described = TransformerConfig(**config.model)
  model, criterion = build(described), criterion_for(described)
  schedule = make_schedule(config.schedule, STEPS)
  _, axes = abstract_params(model)

  def optimizer_of(rate):  # one program for all rates
    return make_optimizer(
      config.optimizer, lambda n: rate * schedule(n), axes, described.widening
    )

  def loss(params, batch):
    sums = criterion.sums(model, params, batch)
    return criterion.means(sums | criterion.weights(batch))['loss']

  @jax.jit
  def step(params, state, rate, batch):
    value, grads = jax.value_and_grad(loss)(params, batch)
    updates, state = optimizer_of(rate).update(grads, state, params)
    return optax.apply_updates(params, updates), state, value

  @jax.jit
  def start(key):
    one = {name: batches[0][name][:1, :1] for name in model.INPUTS}
    params = nn.unbox(model.init(key, **one))['params']
    return params, optimizer_of(1.0).init(params)

  found, first = [], start(jax.random.key(config.seed))
  for rate in RATES:
    (params, state), values = first, []
    for batch in batches:
      params, state, value = step(params, state, jnp.float32(rate), batch)
      values.append(value)
    found.append(np.asarray(jnp.stack(values)))
  return np.stack(found)


def best(found):
  """log2 of the best rate: a parabola's lowest point around the least loss."""
  found = [x if np.isfinite(x) else 1e9 for x in found]
  i = int(np.argmin(found))
  at = np.log2(RATES[i])
  if 0 < i < len(found) - 1:
    a, b, c = found[i - 1 : i + 2]
    at += (a - c) / (2 * (a - 2 * b + c))
  return float(at)


def sweep(branch):
  """By 'muP' and 'standard': losses by width and rate, and the best rates."""
  result = {'rates': RATES, 'steps': STEPS, 'base_dim': BASE}
  batches = batches_of(config_of(branch, BASE, False))
  for name, mup in (('standard', False), ('muP', True)):
    own = result[name] = {'losses': {}, 'log2_best_rate': {}}
    for width in WIDTHS:
      clock = time.process_time()
      found = losses(config_of(branch, width, mup), batches)
      found = found[:, -LAST:].mean(axis=1)
      own['losses'][width] = [round(float(x), 4) for x in found]
      own['log2_best_rate'][width] = round(best(found), 2)
      numbers = ' '.join(f'{x:6.3f}' for x in found)
      print(
        f'{branch:16} {name:9} {width:4} {numbers}  2^{best(found):.2f}  '
        f'{time.process_time() - clock:.0f} CPU seconds',
        flush=True,
      )
    at = own['log2_best_rate']
    own['moved'] = round(at[WIDTHS[-1]] - at[WIDTHS[0]], 2)
    print(f'{branch:16} {name:9} moved by {own["moved"]} powers of two')
  return result


def main(argv):
  del argv
  clock = time.process_time()
  results = {name: sweep(name) for name in _ONLY.value or BRANCHES}
  machine.write(Path(_OUT.value), [*BRANCHES], results)
  print(f'{time.process_time() - clock:.0f} CPU seconds in all')


if __name__ == '__main__':
  command.start(main)
