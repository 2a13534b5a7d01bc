"""Training steps with each kind of attention, compiled for TPU slices.

  python -m benchmarks.ahead_of_time [--only=bert:large,llama:7b]

Needs the extra `aot`, and no TPU. Each row is a published config on a slice,
compiled by the TPU compiler with attention as `xla` and as `flash`. Printed are
the peak of a device's memory; the traffic of its large memory in a step, and a
step's time, both with attention's part. Nothing runs: the time is what the
compiler estimates for the cycles of its operations, for a kernel a lower bound
(train/fitting/program.py). Collectives are left out. A step that does not fit
is a row with the compiler's words.
"""

import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks import machine
from configs.commands import command
from train import fit
from train.fitting import program
from train.fitting.chips import chip_of
from train.learning.step import DoesNotFitError
from train.reporting.flops import step_flops

# config -> slice, and what is changed in the config.
ROWS = {
  'gpt2:small': ('v5e:2x2', {'data.batch': 16, 'data.streams': 16}),
  'bert:large': ('v5e:4x4', {'model.remat': 'none'}),
  'electra:large': ('v5e:4x4', {'model.remat': 'none'}),
  'llama:7b': ('v5e:16x16', {}),
  't5:11b': ('v5p:4x4x4', {}),
}
KINDS = 'xla', 'flash'
# Scores, softmax, weighted means: what is in attention and in none of its
# products with weights.
ATTENTION = re.compile(r'attention/(?!query/|key/|value/|output/)')


def measure(name: str, kind: str) -> dict[str, Any]:
  """What the compiler says of a row's step, with `model.attention` = kind."""
  slice_, changes = ROWS[name]
  file, _, arg = name.partition(':')
  config = importlib.import_module(f'configs.{file}').get_config(arg)
  config.update_from_flattened_dict(changes | {'model.attention': kind})
  devices = fit.topology(slice_)
  found = {'slice': slice_, 'remat': config.model.remat}
  found['accumulate'] = config.train.accumulate
  try:
    setup, batch, compiled, seconds = fit.compiled_step(config, devices)
  except DoesNotFitError as error:
    return found | {'error': str(error).splitlines()[0]}
  chip = chip_of(devices[0].device_kind)
  memory = compiled.memory_analysis().peak_memory_in_bytes
  operations = program.operations(compiled.as_text())
  found['remat'] = setup.model.config.remat
  found |= {'compile_seconds': round(seconds, 1), 'peak_gib': memory / 2**30}
  parts = {
    'step': operations,
    'attention': [x for x in operations if ATTENTION.search(x.path)],
  }
  for part, some in parts.items():
    times = (program.seconds(x, chip) for x in some)
    found[f'{part}_seconds'] = sum(times)
    found[f'{part}_gb'] = sum(x.times * x.bytes for x in some) / 1e9
  flops = step_flops(setup.model.config, batch) / len(devices)
  return found | {'mfu': flops / chip.flops / found['step_seconds']}


def row(name: str, kind: str, found: dict[str, Any]) -> str:
  """A row of the table, as Markdown."""
  start = f'| {name}, {found["slice"]} | {kind} | {found["remat"]} |'
  if 'error' in found:
    return f'{start} does not fit: {found["error"]} |'
  return (
    f'{start} {found["peak_gib"]:.2f} | {found["step_gb"]:.0f} | '
    f'{found["attention_gb"]:.1f} | {found["step_seconds"]:.3f} | '
    f'{found["attention_seconds"]:.3f} | {found["mfu"]:.1%} | '
    f'{found["compile_seconds"]:.0f} |'
  )


def table(results: dict[str, dict[str, Any]]) -> str:
  """All rows, as Markdown."""
  names = (
    *('config, slice', 'attention', 'remat', 'peak GiB', 'traffic, GB'),
    *("attention's", 'seconds', "attention's", 'MFU', 'to compile, s'),
  )
  lines = [f'| {" | ".join(names)} |', '|---' * len(names) + '|']
  for name, kinds in results.items():
    lines.extend(row(name, kind, kinds[kind]) for kind in KINDS)
  return '\n'.join(lines)


def main(_: Sequence[str]) -> None:
  unknown = sorted(set(_ONLY.value) - set(ROWS))
  if unknown:
    raise SystemExit(
      f'Error: --only={",".join(unknown)}: there are {", ".join(ROWS)}.'
    )
  results = {}
  for name in _ONLY.value:
    results[name] = {}
    for kind in KINDS:
      results[name][kind] = measure(name, kind)
      print(row(name, kind, results[name][kind]), flush=True)
    machine.write(Path(_OUT.value), list(ROWS), results)
  print(table(results))


if __name__ == '__main__':
  here = Path(__file__).resolve().parent
  _ONLY = flags.DEFINE_list('only', list(ROWS), f'Of {", ".join(ROWS)}.')
  _OUT = flags.DEFINE_string(
    'out', str(here / 'results' / 'ahead_of_time.json'), 'JSON of the results.'
  )
  command.start(main)
