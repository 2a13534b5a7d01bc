"""Training steps of Treeline beside the same steps of its peers.

  python -m benchmarks.train_step --flax_python=PEER/bin/python
    [--models=t5,bert,gpt2,llama] [--length=128] [--profile]

Models: see benchmarks/train_step_models.py. Peers: the torch models of
transformers, in this environment, and its last Flax ones, of 4.57.6, in an
environment of its own (jax 0.9 is the newest that they run on):

  python3.11 -m venv PEER
  PEER/bin/pip install transformers==4.57.6 jax==0.9.2 flax==0.12.6 \\
    optax==0.2.8 safetensors

One step is forward, backward and an update in float32 on one batch of full rows
without padding: of Adafactor for T5 (learning rate relative to the parameter's
scale, no momentum, update clipping 1), of AdamW for the others (matrices and
tables decay, gradients are not clipped); learning rates are constant. The peers
get no attention mask, torch its fused AdamW and its kernel for GELU, which
suits them best; Treeline, as in training, makes its masks from segments. BERT
predicts 15% of its tokens: Treeline computes logits only for these, as in
training. The peers compute all logits, because they cannot do otherwise, and
leave the rest out of the loss.

Each runs in a process that stays alive; the processes step in turn, one at a
time, starting with another one each round. All read the same weights, written
in Hugging Face layout, so without dropout the losses must agree, before the
first update and after it, which is checked.

Reported: the median and quartiles of the step's milliseconds, each peer's
median over Treeline's (above 1: Treeline is faster), and the peak resident
memory while stepping and from the start on (loading and compilation included).
With --profile also where the time of Treeline's and of Flax's step goes, by
operations, measured apart on one core (benchmarks/step_profile.py).

The results' file has an entry for each model; those of models that are not
measured this time stay as they are.
"""

import contextlib
import json
import math
import statistics
import sys
import tempfile
from pathlib import Path

import jax
from absl import app, flags

from benchmarks import machine, step_profile, train_step_models, workers
from configs.commands import command
from input_pipeline.sources import paths

HERE = Path(__file__).resolve()
NAMES = ('treeline', 'torch', 'flax')

_FLAX_PYTHON = flags.DEFINE_string(
  'flax_python', '', "Python of the Flax peer's environment; '' leaves it out."
)
_ONLY = flags.DEFINE_list('only', list(NAMES), 'Which of them to run.')
_MODELS = flags.DEFINE_list(
  'models', list(train_step_models.NAMES), 'Which models, one after the other.'
)
_LAYERS = flags.DEFINE_integer(
  'layers', 0, "Layers of each stack, for a quick try; 0: the model's own."
)
_BATCH = flags.DEFINE_integer('batch', 8, 'Rows.')
_LENGTH = flags.DEFINE_integer(
  'length', 512, "Tokens of a row, T5's of the encoder.", upper_bound=512
)
_TARGETS = flags.DEFINE_integer('targets', 114, "T5's decoder length.")
_SCAN = flags.DEFINE_bool(
  'scan', False, "Treeline's model.scan; the peers' layers are not looped over."
)
_DROPOUT = flags.DEFINE_list(
  'dropout',
  ['0', '0.1'],
  "Rates to measure, one after the other; LLaMA's only is 0.",
)
_WARMUP = flags.DEFINE_integer(
  'warmup', 3, 'Untimed steps of each.', lower_bound=1
)
_ROUNDS = flags.DEFINE_integer(
  'rounds', 12, 'Timed steps of each.', lower_bound=2
)
_PROFILE = flags.DEFINE_bool('profile', False, 'Say where the time goes.')
_OUT = flags.DEFINE_string(
  'out',
  str(HERE.parent / 'results' / 'train_step.json'),
  "JSON file of the results; '' writes none.",
)


def say(text):
  print(text, file=sys.stderr, flush=True)


def start(stack, name, setting):
  """Starts a worker, which ends with the stack -> its process and greeting."""
  python = _FLAX_PYTHON.value if name == 'flax' else sys.executable
  module = 'benchmarks.train_step_workers'
  return workers.start(stack, python, module, name, setting)


def measure(names, setting):
  """Steps of all workers in turn -> results by name."""
  results, processes = {}, {}
  with contextlib.ExitStack() as stack:
    for name in names:
      process, results[name] = start(stack, name, setting)
      processes[name] = process
      steps = [workers.ask(process, 'step') for _ in range(_WARMUP.value)]
      results[name]['first_step_seconds'] = steps[0]['seconds']
      results[name]['first_losses'] = [s['loss'] for s in steps]
      workers.ask(process, 'forget')
      say(f'{name}: {[round(s["seconds"], 2) for s in steps]} s to begin with')
    timed = {name: [] for name in names}
    for i in range(_ROUNDS.value):
      turn = i % len(names)
      for name in (*names[turn:], *names[:turn]):
        timed[name].append(workers.ask(processes[name], 'step'))
      seconds = ', '.join(f'{n} {timed[n][-1]["seconds"]:.2f} s' for n in names)
      say(f'round {i + 1} of {_ROUNDS.value}: {seconds}')
    for name in names:
      memory = workers.ask(processes[name], 'memory')
      results[name]['peak_bytes_stepping'] = memory['stepping']
      results[name]['peak_bytes_whole'] = memory['whole']
      for part in timed[name][0]:
        if part == 'loss':
          continue
        values = [1e3 * s[part] for s in timed[name]]
        results[name]['step' if part == 'seconds' else part] = {
          'median_ms': statistics.median(values),
          'quartiles_ms': statistics.quantiles(values, n=4)[::2],
          'min_ms': min(values),
        }
  return results


def profile(name, setting):
  """Where the time of a step of Treeline's or Flax's goes, on one core.

  With more of them an operation's threads share its work unseen, and what it
  took by the clock is not what it cost.
  """
  say(f'{name}: profile on one core')
  with contextlib.ExitStack() as stack:
    process, _ = start(stack, name, setting | {'one_core': True})
    workers.ask(process, 'step')
    return workers.ask(process, 'profile')


def check_losses(results):
  """Without dropout the same weights must give the same losses.

  The first loss tests the model, the second gradients and optimizer.

  Raises:
    RuntimeError: they do not, so the steps are not the same computation.
  """
  losses = {name: r['first_losses'] for name, r in results.items()}
  for i, tolerance in enumerate((1e-5, 1e-3)[: _WARMUP.value]):
    own = [x[i] for x in losses.values()]
    if max(own) - min(own) > tolerance * max(own):
      raise RuntimeError(f'The losses differ in step {i + 1}: {losses}.')


def report(model, case):
  print(f'{model}, dropout {case["dropout"]}')
  for name, r in case['results'].items():
    step = r['step']
    low, high = step['quartiles_ms']
    print(
      f'  {name:9} {step["median_ms"]:8.1f} ms/step ({low:.1f} to {high:.1f})'
      f'  peak {r["peak_bytes_stepping"] / 2**30:.2f} GiB stepping,'
      f' {r["peak_bytes_whole"] / 2**30:.2f} GiB in all'
      f'  first losses {[round(x, 4) for x in r["first_losses"]]}'
    )
    parts = [
      f'{part} {r[part]["median_ms"]:.1f}'
      for part in ('forward', 'backward', 'optimizer')
      if part in r
    ]
    if parts:
      print(f'            of which {", ".join(parts)}')
  for name, ratio in case['times_treeline'].items():
    print(f'  {name} takes {ratio:.2f} times as long as treeline')
  for name, r in case['results'].items():
    if 'profile' in r:
      step_profile.report(name, r['profile'])


def compare(model, names):
  """Measures all sides of one model -> its entry in the results."""
  config = train_step_models.make_config(model, _LAYERS.value)
  setting = {
    'model': model,
    'vocab_size': config.model.vocab_size,
    'optimizer': config.optimizer.to_dict(),
    'learning_rate': train_step_models.learning_rate(config),
    'scan': _SCAN.value,
    'batch': _BATCH.value,
    'length': _LENGTH.value,
  }
  if model == 't5':
    setting['targets'] = _TARGETS.value
  elif model == 'bert':
    setting['predictions'] = math.ceil(0.15 * _LENGTH.value)
  rates = sorted(map(float, _DROPOUT.value))
  if model == 'llama':
    rates = [0.0]
  cases = []
  for rate in rates:
    with tempfile.TemporaryDirectory() as folder:
      parameters = train_step_models.write_weights(config, rate, folder)
      say(f'{model}: {parameters:,} parameters, dropout {rate}')
      results = measure(names, setting | {'folder': folder})
      for name in ('treeline', 'flax'):
        if _PROFILE.value and name in names:
          own = setting | {'folder': folder}
          results[name]['profile'] = profile(name, own)
    if not rate:
      check_losses(results)
    ratios = {}
    if 'treeline' in results:
      ours = results['treeline']['step']['median_ms']
      ratios = {
        name: results[name]['step']['median_ms'] / ours
        for name in names
        if name != 'treeline'
      }
    case = {'dropout': rate, 'results': results, 'times_treeline': ratios}
    report(model, case)
    cases.append(case)
  return (
    machine.describe()
    | setting
    | {
      'parameters': parameters,
      'layers': _LAYERS.value or "the model's own",
      'warmup': _WARMUP.value,
      'rounds': _ROUNDS.value,
      'cases': cases,
    }
  )


def write(path, model, entry):
  """Puts an entry into the results' file, beside those of other models."""
  path.parent.mkdir(parents=True, exist_ok=True)
  old = json.loads(path.read_text()) if path.exists() else {}
  entries = {
    name: entry if name == model else old[name]
    for name in train_step_models.NAMES
    if name == model or name in old
  }
  paths.write(path, (json.dumps(entries, indent=2) + '\n').encode())
  print(f'Wrote {path}')


def main(_):
  names = [n for n in _ONLY.value if n != 'flax' or _FLAX_PYTHON.value]
  for flag, given, known in (
    ('only', names, NAMES),
    ('models', _MODELS.value, train_step_models.NAMES),
  ):
    if unknown := set(given) - set(known):
      raise app.UsageError(f'--{flag}: {unknown} is not among {known}.')
  jax.config.update('jax_platforms', 'cpu')
  for model in _MODELS.value:
    entry = compare(model, names)
    if _OUT.value:
      write(Path(_OUT.value), model, entry)


if __name__ == '__main__':
  command.start(main)
