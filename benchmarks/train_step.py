"""A T5 training step of Treeline beside the same step of its peers.

  python -m benchmarks.train_step --flax_python=PEER/bin/python

Peers: the torch T5 of transformers, in this environment, and the last Flax T5,
of transformers 4.57.6, in an environment of its own (jax 0.9 is the newest
that it runs on):

  python3.11 -m venv PEER
  PEER/bin/pip install transformers==4.57.6 jax==0.9.2 flax==0.12.6 optax==0.2.8

One step is forward, backward and an Adafactor update (constant learning rate,
relative to the parameter's scale, no momentum, update clipping 1) in float32,
version 1.0, on one batch of full rows without padding. The peers get no
attention mask, which suits them best; Treeline, as in training, makes its own
from segments. Each runs in a process that stays alive; the processes step in
turn, one at a time, starting with another one each round. All begin from the
same weights, so without dropout their losses must agree, which is checked.

Reported: the median and quartiles of the step's milliseconds, each peer's
median over Treeline's (above 1: Treeline is faster), and the peak resident
memory while stepping and from the start on (compilation included).
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from absl import app, flags

from benchmarks import machine
from configs import t5

HERE = Path(__file__).resolve()
NAMES = ('treeline', 'torch', 'flax')

_FLAX_PYTHON = flags.DEFINE_string(
  'flax_python', '', "Python of the Flax peer's environment; '' leaves it out."
)
_ONLY = flags.DEFINE_list('only', list(NAMES), 'Which of them to run.')
_SIZE = flags.DEFINE_string('size', 'small', 'Size in configs/t5.py.')
_BATCH = flags.DEFINE_integer('batch', 8, 'Rows.')
_INPUTS = flags.DEFINE_integer('inputs', 512, 'Encoder length.')
_TARGETS = flags.DEFINE_integer('targets', 114, 'Decoder length.')
_SCAN = flags.DEFINE_bool(
  'scan', False, "Treeline's model.scan; the peers' layers are not looped over."
)
_DROPOUT = flags.DEFINE_list(
  'dropout', ['0', '0.1'], 'Rates to measure, one after the other.'
)
_WARMUP = flags.DEFINE_integer(
  'warmup', 3, 'Untimed steps of each.', lower_bound=1
)
_ROUNDS = flags.DEFINE_integer(
  'rounds', 12, 'Timed steps of each.', lower_bound=2
)
_OUT = flags.DEFINE_string(
  'out',
  str(HERE.parent / 'results' / 'train_step.json'),
  "JSON file of the results; '' writes none.",
)


def say(text):
  print(text, file=sys.stderr, flush=True)


def ask(process, question):
  """Sends a line to a worker and returns its answer.

  Raises:
    RuntimeError: the worker ended; its own message stands above.
  """
  if question:
    with contextlib.suppress(BrokenPipeError):
      print(question, file=process.stdin, flush=True)
  line = process.stdout.readline()
  if not line:
    raise RuntimeError(
      f'The worker of {process.args[3]} ended with status {process.wait()}.'
    )
  return json.loads(line)


def measure(names, setting):
  """Steps of all workers in turn -> results by name."""
  pythons = dict.fromkeys(NAMES, sys.executable)
  pythons['flax'] = _FLAX_PYTHON.value
  root = HERE.parent.parent
  environment = os.environ | {'JAX_PLATFORMS': 'cpu'}
  results, processes = {}, {}
  with contextlib.ExitStack() as stack:
    for name in names:
      process = subprocess.Popen(
        [
          pythons[name],
          '-m',
          'benchmarks.train_step_workers',
          name,
          json.dumps(setting),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=root,
        env=environment,
        text=True,
      )
      stack.callback(process.wait)
      stack.callback(process.kill)
      processes[name] = process
      results[name] = ask(process, '')
      steps = [ask(process, 'step') for _ in range(_WARMUP.value)]
      results[name]['first_step_seconds'] = steps[0]['seconds']
      results[name]['first_losses'] = [s['loss'] for s in steps]
      ask(process, 'forget')
      say(f'{name}: {[round(s["seconds"], 2) for s in steps]} s to begin with')
    timed = {name: [] for name in names}
    for i in range(_ROUNDS.value):
      turn = i % len(names)
      for name in (*names[turn:], *names[:turn]):
        timed[name].append(ask(processes[name], 'step'))
      seconds = ', '.join(f'{n} {timed[n][-1]["seconds"]:.2f} s' for n in names)
      say(f'round {i + 1} of {_ROUNDS.value}: {seconds}')
    for name in names:
      memory = ask(processes[name], 'memory')
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


def check_losses(results):
  """Without dropout the same weights must give the same loss.

  Raises:
    RuntimeError: they do not, so the steps are not the same computation.
  """
  losses = {name: r['first_losses'] for name, r in results.items()}
  first = [x[0] for x in losses.values()]
  if max(first) - min(first) > 1e-4 * max(first):
    raise RuntimeError(f'The losses differ from the first step on: {losses}.')


def report(case):
  print(f'dropout {case["dropout"]}')
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


def main(_):
  names = [n for n in _ONLY.value if n != 'flax' or _FLAX_PYTHON.value]
  if unknown := set(names) - set(NAMES):
    raise app.UsageError(f'--only: {unknown} is none of {NAMES}.')
  config = t5.get_config(f'size={_SIZE.value},version=1.0')
  model = config.model.to_dict() | {'dtype': 'float32', 'scan': _SCAN.value}
  setting = {
    'model': model,
    'optimizer': config.optimizer.to_dict(),
    'batch': _BATCH.value,
    'inputs': _INPUTS.value,
    'targets': _TARGETS.value,
  }
  cases = []
  for dropout in map(float, _DROPOUT.value):
    results = measure(names, setting | {'dropout': dropout})
    if not dropout:
      check_losses(results)
    ratios = {}
    if 'treeline' in results:
      ours = results['treeline']['step']['median_ms']
      ratios = {
        name: results[name]['step']['median_ms'] / ours
        for name in names
        if name != 'treeline'
      }
    case = {'dropout': dropout, 'results': results, 'times_treeline': ratios}
    report(case)
    cases.append(case)
  if _OUT.value:
    out = Path(_OUT.value)
    out.parent.mkdir(parents=True, exist_ok=True)
    rounds = {'warmup': _WARMUP.value, 'rounds': _ROUNDS.value}
    summary = machine.describe() | setting | rounds | {'cases': cases}
    temporary = out.with_suffix('.tmp')
    temporary.write_text(json.dumps(summary, indent=2) + '\n')
    os.replace(temporary, out)
    print(f'Wrote {out}')


if __name__ == '__main__':
  app.run(main)
