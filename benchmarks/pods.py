"""Every large published run on its TPU slice, compiled: docs/pods.md.

  python -m benchmarks.pods [--only=palm:540b,llama:7b] [--again] [--remat=dots]

Needs the extra `aot`, and no TPU. Each config that names a slice
(`sharding.topology`) is compiled for it by `python -m train.fit`, one after the
other. After each the results are written, so that the same command goes on
where it was stopped: rows whose `settings` are as they were are kept, unless
there is --again. A config that fails is a row that says why. With --remat the
configs whose row is there are compiled with other remat, which shows whether
their own is the fastest that fits. In the end the table in docs/pods.md is
written, and printed.
"""

import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from benchmarks import machine
from configs import tree
from configs.commands import command
from train.fitting import meshes
from train.fitting.chips import resolve
from train.parallel.mesh import mesh_shape

HERE = Path(__file__).resolve().parent
RESULTS = HERE / 'results' / 'pods.json'
PAGE = HERE.parent / 'docs' / 'pods.md'
# What else a size can be, where that has a slice of its own.
VARIANTS = {
  'bert': ('recipe=lamb',),
  't5': ('recipe=lm_adapted',),
  'ul2': ('variant=flan',),
  'palm': ('recipe=ul2r', 'recipe=flan'),
}
# What of a report is a row.
KEPT = (
  *('parameters', 'devices', 'peak', 'limit', 'executed_over_model'),
  *('step_seconds', 'compute_seconds', 'exposed_seconds', 'mfu'),
  *('tokens_per_second', 'compile_seconds'),
)
LIMIT = 3600  # seconds of one config
COLUMNS = (
  *('config', 'slice (chips)', 'mesh', 'remat', 'accumulate', 'parameters'),
  *('GiB a device', 'executed / model', 'step, s = compute + exposed', 'MFU'),
  'to compile, s',
  'with other remat, s',
)
BEGIN = '<!-- The table is written by python -m benchmarks.pods. -->'
END = '<!-- The end of the table. -->'


def configs() -> dict[str, ConfigDict]:
  """'NAME:ARG' -> the config, of all that name a slice; the oldest first."""
  found = {}
  for name in dict.fromkeys(key.partition(':')[0] for key in tree.SYSTEMS):
    for argument in _arguments(name):
      try:
        config = tree.config_of(f'{name}:{argument}')
      except ValueError:  # t5: version 1.0 was not adapted
        continue
      if config.sharding.topology:
        found[f'{name}:{argument}'] = config
  return found


def _arguments(name: str) -> Iterator[str]:
  """The sizes of a file, of each version, and what else they can be."""
  table = getattr(tree.module_of(name), 'SIZES', {})
  for number, (key, value) in enumerate(table.items()):
    sizes = [key]
    if isinstance(value, dict):  # of a version, the first of which is usual
      version = f',version={key}' if number else ''
      sizes = [f'{size}{version}' for size in value]
    for size in sizes:
      yield size
      yield from (f'{size},{other}' for other in VARIANTS.get(name, ()))


def settings(config: ConfigDict) -> dict[str, Any]:
  """Where a config runs, how, and how much of it at a time."""
  own = config.sharding
  slices = own.slices or 1
  devices = resolve(own.topology, 'sharding.topology')[2] * slices
  sizes = zip(meshes.AXES, mesh_shape(own.mesh, devices), strict=True)
  return {
    'topology': own.topology,
    'slices': slices,
    'mesh': {axis: n for axis, n in sizes if n > 1},
    'rules': own.rules,
    'microbatches': own.microbatches,
    'remat': config.model.remat,
    'accumulate': config.train.accumulate,
    'batch': config.data.batch,
    'length': config.data.length,
    'target_length': config.data.target_length,
  }


def names(parts: Sequence[str]) -> list[str]:
  """What is between the commas of --only -> configs, whose names have some too.

  >>> names(['palm:8b', 'recipe=flan', 'bert:large'])
  ['palm:8b,recipe=flan', 'bert:large']
  """
  found = []
  for part in parts:
    if ':' in part or not found:
      found.append(part)
    else:
      found[-1] += f',{part}'
  return found


def measure(name: str, config: ConfigDict, remat: str = '') -> dict[str, Any]:
  """A row: what `train.fit` finds, or 'error'. It has a process of its own."""
  file, _, argument = name.partition(':')
  found = settings(config)
  changed = [f'--config.model.remat={remat}'] if remat else []
  try:
    done = subprocess.run(
      [
        *(sys.executable, '-m', 'train.fit', '--json'),
        *(f'--config=configs/{file}.py:{argument}', *changed),
      ],
      cwd=HERE.parent, capture_output=True, text=True, timeout=LIMIT,
    )  # fmt: skip
  except subprocess.TimeoutExpired:
    return found | {'error': f'It took longer than {LIMIT} s.'}
  lines = done.stdout.strip().split('\n')
  if lines[-1].startswith('{'):
    report = json.loads(lines[-1])
    found |= {key: report[key] for key in KEPT if key in report}
    found['fits'] = report['fits']
  if done.returncode:
    said = done.stderr.strip().split('\n')[-1].removeprefix('Error: ')
    found['error'] = said or f'status {done.returncode}'
  return found


def row(name: str, found: dict[str, Any]) -> str:
  """A row of the table, as Markdown."""
  mesh = meshes.words(found['mesh'])
  if found['rules'] != 'auto':
    mesh += f' ({found["rules"]})'
  if found['microbatches']:
    mesh += f'; {found["microbatches"]} microbatches'
  slices = f'{found["slices"]} x ' if found['slices'] > 1 else ''
  slices += f'{found["topology"]} ({_devices(found):,})'
  start = f'`{name}`', slices, f'`{mesh}`', found['remat'], found['accumulate']
  if 'error' in found or 'step_seconds' not in found:
    said = found.get('error', 'not compiled yet')
    cells = (*start, said, *[''] * (len(COLUMNS) - len(start) - 1))
    return f'| {" | ".join(map(str, cells))} |'
  gib = 2**30
  step, compute, exposed = (
    found[f'{part}_seconds'] for part in ('step', 'compute', 'exposed')
  )
  cells = (
    *start,
    _billions(found['parameters']),
    f'{found["peak"] / gib:.1f} of {found["limit"] / gib:.2f}',
    f'{found["executed_over_model"]:.2f}',
    f'{step:.2f} = {compute:.2f} + {exposed:.2f}',
    f'{found["mfu"]:.0%}',
    f'{found["compile_seconds"]:.0f}',
    '; '.join(
      f'{remat} {other["step_seconds"]:.2f}'
      if other
      else f'{remat} does not fit'
      for remat, other in found.get('others', {}).items()
    ),
  )
  return f'| {" | ".join(map(str, cells))} |'


def _devices(found):
  return math.prod(found['mesh'].values())


def _billions(count):
  return f'{count / 1e9:.1f}B' if count >= 1e9 else f'{count / 1e6:.0f}M'


def table(
  known: dict[str, ConfigDict], results: dict[str, dict[str, Any]]
) -> str:
  """All rows, as Markdown, and what compiled them."""
  lines = [f'| {" | ".join(COLUMNS)} |', '|---' * len(COLUMNS) + '|']
  for name, config in known.items():
    lines.append(row(name, results.get(name) or settings(config)))
  machines = [found['machine'] for found in results.values()]
  dates = sorted({x['date'] for x in machines})
  versions = sorted({x['versions']['jax'] for x in machines})
  when = ' to '.join(dict.fromkeys((dates[0], dates[-1])))
  lines += ['', f'jax {" and ".join(versions)}, {when}.']
  return '\n'.join(lines)


def page(
  text: str,
  known: dict[str, ConfigDict],
  results: dict[str, dict[str, Any]],
) -> str:
  """docs/pods.md with the table of these results."""
  before, _, rest = text.partition(BEGIN)
  _, _, after = rest.partition(END)
  return f'{before}{BEGIN}\n\n{table(known, results)}\n\n{END}{after}'


def kept(
  known: dict[str, ConfigDict], results: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
  """The results of configs that are still the same, in their order."""
  found = {}
  for name, config in known.items():
    old = results.get(name)
    if old and old | settings(config) == old:
      found[name] = old
  return found


def with_other(
  found: dict[str, Any], remat: str, other: dict[str, Any]
) -> dict[str, Any]:
  """A row, with what another remat takes; {} for one that does not fit.

  Raises:
    SystemExit: it failed for another reason.
  """
  if 'error' in other and 'fits' not in other:
    raise SystemExit(f'Error: with remat {remat}: {other["error"]}')
  kept = ('peak', 'step_seconds')
  what = {} if 'error' in other else {key: other[key] for key in kept}
  return found | {'others': found.get('others', {}) | {remat: what}}


def main(_: Sequence[str]) -> None:
  known = configs()
  only = names(_ONLY.value)
  unknown = sorted(set(only) - set(known))
  if unknown:
    raise SystemExit(
      f'Error: --only={",".join(unknown)}: there are {"; ".join(known)}.'
    )
  out = Path(_OUT.value)
  results = kept(known, json.loads(out.read_text()) if out.exists() else {})
  wanted = only or [*known]
  todo = [
    (name, '')
    for name in wanted
    if _AGAIN.value or 'error' in results.get(name, {'error': ''})
  ]
  todo += [
    (name, remat)
    for name in wanted
    for remat in _REMAT.value
    if remat != known[name].model.remat
    and remat not in results.get(name, {}).get('others', {})
  ]
  for number, (name, remat) in enumerate(todo, 1):
    clock = time.perf_counter()
    print(f'{number}/{len(todo)} {name} {remat} ...', flush=True)
    found = measure(name, known[name], remat)
    if remat:
      found = with_other(results[name], remat, found)
    results[name] = found
    print(f'{row(name, found)} {time.perf_counter() - clock:.0f} s', flush=True)
    machine.write(out, [*known], {name: found})
  results = kept(known, json.loads(out.read_text()))
  print(table(known, results))
  if out == RESULTS:
    PAGE.write_text(page(PAGE.read_text(), known, results))
  failed = [name for name in wanted if 'error' in results[name]]
  if failed:
    raise SystemExit(f'Error: these failed: {", ".join(failed)}.')


if __name__ == '__main__':
  _ONLY = flags.DEFINE_list('only', [], 'Some of the configs; none: all.')
  _AGAIN = flags.DEFINE_bool(
    'again', False, 'Compile those that are there too.'
  )
  _REMAT = flags.DEFINE_list('remat', [], 'Compile with these remats too.')
  _OUT = flags.DEFINE_string('out', str(RESULTS), 'JSON of the results.')
  command.start(main)
