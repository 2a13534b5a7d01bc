"""Training steps on the accelerator that is here, beside torch's.

  python -m benchmarks.accelerator [--minutes=8] [--profile] [--only=llama,t5]
  python -m benchmarks.accelerator --tiny   # the same on a CPU, tiny models

Models and sizes: benchmarks/accelerator_models.py. Variants of Treeline:
attention by xla or a flash kernel; remat none, dots, full or attention; layers
scanned or written out. torch is transformers' class with sdpa, plain and by
torch.compile (benchmarks/accelerator_torch.py). Then BERT and GPT-2 with their
papers' dropout, where a GPU has another kernel, T5-3B, RWKV and greedy
decoding of LLaMA, 8 rows of 128 tokens after 128; and `python -m train` on
synthetic data, whose time a step is compared with the bare step's.

It needs jax, torch, transformers, flax, optax, orbax and ml_collections, and no
TensorFlow. It runs from the folder of the repository; nothing is installed.

One GPU is used. Each variant has a process, one after the other; the next one
imports while this one runs. The most important come first, and all end within
--minutes; those that did not fit are listed. One that fails is a row with its
error.

Reported: the median of three rounds of steps, tokens that are read a second,
MFU (train/reporting/flops.py over the chip's peak, which --peak states where it
is not known), the peak memory of the device, and the first loss, which is the
same in all of Treeline's variants of a model. The results' file is written
after each variant; what this run did not measure stays in it. With --profile
the ten largest kernels of each variant are listed too.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from absl import flags

from benchmarks import accelerator_report as report
from benchmarks import machine
from configs.commands import command
from input_pipeline.sources import paths

HERE = Path(__file__).resolve()
LONGEST = 150.0  # seconds of one variant
LEAST = 20.0  # with fewer seconds left none is started
DECODE = 8, 128, 128  # rows, tokens of a prompt, tokens that are written
MODELS = ('llama', 'bert', 'gpt2', 't5')  # those with a peer
DROPOUT = ('bert_dropout', 'gpt2_dropout')  # on a GPU another kernel

_MINUTES = flags.DEFINE_float(
  'minutes', 0.0, 'All must end within this; 0: 8 minutes, 1 with --tiny.'
)
_ONLY = flags.DEFINE_list(
  'only', [], 'Only variants whose name has all the words of one of these.'
)
_SECONDS = flags.DEFINE_float('seconds', 3.0, 'Seconds that are timed of each.')
_PEAK = flags.DEFINE_float(
  'peak', 0.0, "The chip's peak, TFLOP/s of bfloat16; 0: the known one's."
)
_PROFILE = flags.DEFINE_bool('profile', False, 'List the largest kernels.')
_TINY = flags.DEFINE_bool('tiny', False, 'Tiny models, also on a CPU.')
_OUT = flags.DEFINE_string(
  'out',
  str(HERE.parent / 'results' / 'accelerator.json'),
  "JSON file of the results; '' writes none. --tiny writes none to this one.",
)


class Variant(NamedTuple):
  """One row: what one process measures."""

  model: str
  side: str  # 'treeline', 'torch' or 'loop': the worker
  fields: dict  # keys of the config's group `model`; of torch: compiled
  what: str = 'step'

  @property
  def name(self) -> str:
    """Words, of which the first is the model, or what is done with it."""
    words = ['treeline' if self.side == 'loop' else self.side]
    if self.side == 'torch' and self.what == 'step':
      words.append('compiled' if self.fields['compiled'] else 'sdpa')
    elif self.fields:
      words += [self.fields['attention'], self.fields['remat']]
      words.append('scanned' if self.fields['scan'] else 'unrolled')
      words += ['packed'] * self.fields.get('pack', False)
    first = self.model if self.what == 'step' else self.what
    return ' '.join([first, *words])


def treeline(model, attention, remat, scan=True, **fields):
  fields |= {'attention': attention, 'remat': remat, 'scan': scan}
  return Variant(model, 'treeline', fields)


def plan():
  """All variants, the most important first."""

  def torch(model, compiled):
    return Variant(model, 'torch', {'compiled': compiled})

  own = {'llama': 'full', 'bert': 'none', 'gpt2': 'full', 't5': 'full'}
  best = {'llama': 'dots', 'bert': 'none', 'gpt2': 'dots', 't5': 'dots'}
  for remat in own, best:
    remat |= {model: remat[model.removesuffix('_dropout')] for model in DROPOUT}
  found = []
  for model in MODELS:
    found += [treeline(model, 'flash', best[model]), torch(model, False)]
  found += [torch(model, True) for model in ('llama', 'bert', 'gpt2')]
  found += [treeline(model, 'xla', own[model]) for model in MODELS]
  for model in DROPOUT:
    found += [treeline(model, 'flash', best[model]), torch(model, False)]
  found += [treeline(model, 'xla', own[model]) for model in DROPOUT]
  found += [
    Variant('small', 'loop', {}, 'loop'),
    treeline('t5_3b', 'flash', 'dots'),
    treeline('rwkv', 'auto', 'none'),
    Variant('llama', 'treeline', {}, 'decode'),
    Variant('llama', 'torch', {}, 'decode'),
  ]
  for remat in ('none', 'dots', 'full', 'attention'):
    found += [treeline(model, 'flash', remat) for model in MODELS]
  found += [treeline(model, 'flash', best[model], False) for model in MODELS]
  found += [treeline('gpt2', 'flash', 'dots', pack=True), torch('t5', True)]
  found.append(treeline('rwkv', 'auto', 'full'))
  found.append(treeline('t5_3b', 'flash', 'full'))
  for remat in ('dots', 'attention'):
    found += [treeline(model, 'xla', remat) for model in MODELS]
  wanted = [{*words.split()} for words in _ONLY.value] or [set()]
  found = {variant.name: variant for variant in found}
  return [
    variant
    for name, variant in found.items()
    if any(words <= {*name.split()} for words in wanted)
  ]


class Process:
  """A worker, which imports at once and measures when it is asked."""

  def __init__(self, variant, folder):
    gpu = os.environ.get('CUDA_VISIBLE_DEVICES', '0').partition(',')[0]
    self.errors = tempfile.TemporaryFile('w+', dir=folder)  # noqa: SIM115
    self.process = subprocess.Popen(
      [sys.executable, '-m', 'benchmarks.accelerator_workers', variant.side],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=self.errors,
      cwd=HERE.parent.parent,
      env=os.environ
      | {
        # What variants share, as initial values, is compiled once.
        'JAX_COMPILATION_CACHE_DIR': f'{folder}/compiled',
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
        'XLA_PYTHON_CLIENT_MEM_FRACTION': '0.93',
        'CUDA_VISIBLE_DEVICES': gpu,
      },
      text=True,
      start_new_session=True,
    )
    self.setting = {
      'model': variant.model,
      'what': variant.what,
      'fields': variant.fields,
      'tiny': _TINY.value,
      'seconds': 0.1 if _TINY.value else _SECONDS.value,
      'profile': _PROFILE.value,
      'decode': (2, 8, 8) if _TINY.value else DECODE,
    }
    if _TINY.value and variant.side == 'treeline' and variant.fields:
      # A CPU has no kernel: the row says what was taken.
      fields = variant.fields | {'attention': 'auto'}
      self.setting['fields'] = fields

  def measure(self, seconds):
    """The row, with an error where there is none; None: it took too long."""
    try:
      out, _ = self.process.communicate(
        json.dumps(self.setting) + '\n', timeout=seconds
      )
    except subprocess.TimeoutExpired:
      return None
    finally:
      self.end()
    lines = [line for line in out.splitlines() if line.startswith('{')]
    if len(lines) == 2:
      return json.loads(lines[1])
    self.errors.seek(0)
    last = ' '.join(self.errors.read().splitlines()[-3:])[-400:]
    return {'error': f'ended with status {self.process.returncode}: {last}'}

  def end(self):
    """Ends the process and those that it started."""
    with contextlib.suppress(ProcessLookupError):
      os.killpg(self.process.pid, signal.SIGKILL)
    self.process.wait()


def run(variants, end, keep):
  """Measures variants in turn, until `end` -> names that did not fit.

  `keep` takes a variant and its row.
  """
  with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:

    def start(variant):
      process = Process(variant, folder)
      stack.callback(process.end)
      return process

    following = start(variants[0])
    for number, variant in enumerate(variants):
      left = end - time.monotonic()
      if left < (1 if _TINY.value else LEAST):
        return [v.name for v in variants[number:]]
      process = following
      if number + 1 < len(variants):
        following = start(variants[number + 1])
      began = time.monotonic()
      longest = left if _TINY.value else min(left, LONGEST)
      row = process.measure(longest)
      seconds = time.monotonic() - began
      if row is None and left <= longest:
        return [v.name for v in variants[number:]]
      if row is None:
        row = {'error': f'took more than {LONGEST:.0f} seconds'}
      keep(variant, row | {'seconds_in_all': seconds})
  return []


def main(_):
  began = time.monotonic()
  minutes = _MINUTES.value or (1.0 if _TINY.value else 8.0)
  out = Path(_OUT.value) if _OUT.value else None
  if _TINY.value and not flags.FLAGS['out'].present:
    out = None
  variants = plan()
  if not variants:
    raise SystemExit(f'Error: --only={_ONLY.value} names no variant.')
  known = json.loads(out.read_text())['rows'] if out and out.exists() else {}
  rows, ran_on = {}, machine.describe()

  def write(missing):
    if out:
      whole = ran_on | {'did_not_fit': missing, 'rows': known | rows}
      out.parent.mkdir(parents=True, exist_ok=True)
      paths.write(out, (json.dumps(whole, indent=2) + '\n').encode())

  def keep(variant, row):
    asked = variant._asdict() | {'date': ran_on['date']}
    peak = 1e12 * _PEAK.value
    row = report.rated(variant.model, _TINY.value, row, peak)
    rows[variant.name] = asked | row
    print(report.line(variant.name, row), flush=True)
    for ms, share, kernel in row.get('kernels', []):
      print(f'    {ms:8.2f} ms  {share:5.1%}  {kernel[:90]}', flush=True)
    write([v.name for v in variants if v.name not in rows])

  missing = run(variants, began + 60 * minutes, keep)
  write(missing)
  print('\n'.join(['', report.table(rows), '', *report.disagreeing(rows)]))
  if missing:
    print(f'Did not fit into {minutes:g} minutes: {", ".join(missing)}.')
  if out:
    print(f'Wrote {out}')
  if rows and all('error' in row for row in rows.values()):
    raise SystemExit('Error: no variant could be measured.')


if __name__ == '__main__':
  command.start(main)
