"""What `train.fit` prints: a page of a terminal."""

import textwrap
from typing import Any

from train.fitting import meshes

WIDTH = 88
_BAR = 24
# How each category of memory reads.
_NAMES = {
  'optimizer': 'optimizer state',
  'average': 'average of parameters',
  'activations': 'saved activations',
  'weights': 'weights cast, gathered',
  'other': 'constants, metrics',
  'gaps': 'gaps between buffers',
}
FORMULA = (
  'step = compute + exposed collectives; '
  'MFU = model FLOPs / (devices x peak x step).'
)
ASSUMED = (
  "Compute: the compiler's cycles ({share:.0%} of it), else products or "
  "traffic at the chip's peak. Collectives: bytes over the links' full rate, "
  'one at a time, hidden behind the work between start and end. Not counted: '
  'input, latency, the start of each operation.'
)


def gib(nbytes: float) -> str:
  """Bytes as '7.73 GiB', or '41.2 MiB' or '0.3 KiB' where they are few."""
  if abs(nbytes) >= 2**30 / 10:
    return f'{nbytes / 2**30:.2f} GiB'
  if abs(nbytes) >= 2**20 / 10:
    return f'{nbytes / 2**20:.1f} MiB'
  return f'{nbytes / 2**10:.1f} KiB'


def page(title: str, found: dict[str, Any]) -> str:
  """The whole report of one step."""
  parts = [_head(title, found), _memory(found)]
  if found['largest']:
    parts.append(_largest(found))
  if 'executed_flops' in found:
    parts.append(_flops(found))
  if 'groups' in found:
    parts.append(_groups(found))
  if found.get('collectives'):
    parts.append(_collectives(found))
  if 'step_seconds' in found:
    parts.append(_step(found))
  if 'least_seconds' in found:
    parts.append(_least(found))
  return '\n\n'.join('\n'.join(lines) for lines in parts)


def _wrapped(text, indent=''):
  return textwrap.wrap(
    text, WIDTH, subsequent_indent=indent, break_on_hyphens=False
  )


def _head(title, found):
  yield title
  yield from _wrapped(
    f'{found["parameters"]:,} parameters'
    + (
      f', {found["trained"]:,} of them trained'
      if found['trained'] != found['parameters']
      else ''
    )
    + f'; batch {found["batch"]:,} x {found["length"]:,}; mesh '
    f'{meshes.words(found["mesh"])} ({found["rules"]}); '
    f'attention {found["attention"]}, remat {found["remat"]}, accumulate '
    f'{found["accumulate"]}'
    + (
      f'; compiled in {found["compile_seconds"]:.0f} s'
      if 'compile_seconds' in found
      else ''
    )
  )


def verdict(found: dict[str, Any]) -> str:
  """One line: whether it fits, and by how much."""
  needs, limit = gib(found['peak']), found['limit']
  if not limit:
    return f'Needs {needs} a device; how much it has is not known.'
  if found['fits'] is None:
    return (
      f'May fit: state and gradients take {needs} of {gib(limit)} a device; '
      'what is computed is not known without a compiler.'
    )
  if found['fits']:
    return (
      f'Fits: {needs} of {gib(limit)} a device, '
      f'{gib(found["margin"])} ({found["margin"] / limit:.0%}) free.'
    )
  return (
    f'Does not fit: needs {needs} of {gib(limit)} a device, '
    f'{gib(-found["margin"])} too much.'
  )


def _memory(found):
  yield from _wrapped(verdict(found))
  total = max(found['peak'], 1)
  for category, nbytes in found['memory'].items():
    if nbytes:
      name = _NAMES.get(category, category)
      yield _row(name, gib(nbytes), nbytes / total)
  if found['kept']['frozen']:
    yield from _wrapped(f'  {_kept(found["kept"])}', '  ')
  if found['memory_from'] == 'totals':
    yield from _wrapped(
      '(The compiler wrote no buffer assignment: everything but the arguments '
      'counts as temporaries.)'
    )


def _kept(kept):
  """What is trained and what is frozen, in which types."""
  words = [
    f'{name} '
    + ' and '.join(f'{gib(size)} {dtype}' for dtype, size in sizes.items())
    for name, sizes in kept.items()
  ]
  return (
    f'Parameters: {"; ".join(words)}. Gradients and optimizer state are of '
    'what is trained alone.'
  )


def _row(name, value, share):
  bar = '#' * round(share * _BAR)
  return f'  {name:<24}{value:>11} {share:>5.0%}  {bar}'.rstrip()


def _largest(found):
  yield 'Largest buffers at the fullest moment:'
  alike = {}
  for x in found['largest']:
    alike.setdefault((x['category'], x['type'], x['bytes']), []).append(x)
  for (category, type_, nbytes), some in alike.items():
    count = f' x {len(some)}' if len(some) > 1 else ''
    yield f'  {gib(nbytes):>10}  {category:<12}{type_}{count}'
    for x in some[:3]:
      name = ', '.join(filter(None, (x['name'], x['source'])))
      yield f'{"":14}{name}'
    if len(some) > 3:
      yield f'{"":14}...'


def _flops(found):
  yield (
    f'FLOPs of a step: {_scaled(found["executed_flops"])} executed, '
    f"{_scaled(found['flops'])} of the model's: "
    f'{found["executed_over_model"]:.2f} times'
  )
  if count := found['unknown_loops']:
    yield f'({count} loops have no known length, and count as one turn.)'


def _scaled(number):
  for unit, size in (('E', 1e18), ('P', 1e15), ('T', 1e12)):
    if number >= size:
      return f'{number / size:.1f} {unit}FLOP'
  return f'{number / 1e9:.2f} GFLOP'


def _groups(found):
  step = found['step_seconds']
  yield f'  {"time of a device":<24}{"":>11}{"":>6}  {"":{_BAR}}  nearest peak'
  rows = [(x['name'], x['seconds'], x) for x in found['groups']]
  rows.append(('collectives, exposed', found['exposed_seconds'], None))
  for name, seconds, x in rows:
    start = f'{_row(name, _time(seconds), seconds / step):<{46 + _BAR}}'
    peak = ''
    if x and x['seconds']:
      part = max(x['products'], x['traffic']) / x['seconds']
      peak = f'{x["bound"]} {min(part, 9.99):.0%}'
    yield f'{start}  {peak}'.rstrip()


def _decimal(nbytes):
  for unit, size in (('GB', 1e9), ('MB', 1e6)):
    if nbytes >= size / 10:
      return f'{nbytes / size:,.2f} {unit}'
  return f'{nbytes / 1e3:.2f} kB'


def _time(seconds):
  if not seconds:
    return '-'
  return f'{seconds:.3f} s' if seconds >= 0.1 else f'{seconds * 1e3:.2f} ms'


def _collectives(found):
  timed = any(x['seconds'] for x in found['collectives'])
  yield (
    f'  {"collectives":<19}{"axes":<15}{"runs":>6}{"arrays":>10}{"sent":>10}'
    + (f'{"time":>11}{"exposed":>11}' if timed else '')
  )
  for x in found['collectives']:
    slow = ', slow network' if x['network'] == 'slow' else ''
    times = f'{_time(x["seconds"]):>11}{_time(x["exposed"]):>11}'
    axes = f'{x["axes"]}({x["devices"]})'
    yield (
      f'  {x["kind"]:<19}{axes:<15}{x["count"]:>6,}{_decimal(x["bytes"]):>10}'
      f'{_decimal(x["sent"]):>10}' + (times if timed else '')
    )
    kind = 'overlapped' if x['overlapped'] else 'not overlapped'
    yield f'    {kind}{slow}; most: {x["largest"]}'[:WIDTH]


def _step(found):
  yield (
    f'Step: {_time(found["step_seconds"])} = {_time(found["compute_seconds"])} '
    f'compute + {_time(found["exposed_seconds"])} exposed; MFU '
    f'{found["mfu"]:.1%}; {found["tokens_per_second"]:,.0f} tokens/s'
  )
  yield FORMULA
  yield from _wrapped(ASSUMED.format(share=found['estimated_by_compiler']))


def _least(found):
  yield from _wrapped(
    f'Step: at least {_time(found["least_seconds"])} (MFU at most '
    f'{found["mfu_at_most"]:.0%}): {_scaled(found["flops"])} at the peak, or '
    'the traffic of the update.'
  )
  yield from _wrapped(
    f'No compiler for {found["chip"]} is here: run this on such a machine '
    'without --topology for what the step computes and sends.'
  )


def table(rows: list[tuple[str, dict[str, Any] | str]]) -> str:
  """A row a mesh: what it takes, or why it cannot be."""
  wide = max([28, *(len(mesh) + 1 for mesh, _ in rows)])
  head = f'  {"mesh":<{wide}}{"fits":<6}{"needs":>11}{"step":>11}{"MFU":>8}'
  lines = [f'{head}{"exposed":>11}']
  for mesh, found in rows:
    if isinstance(found, str):
      lines += _wrapped(f'  {mesh:<{wide}}{found}', ' ' * (2 + wide))
      continue
    fits = {True: 'yes', False: 'no', None: '?'}[found['fits']]
    line = f'  {mesh:<{wide}}{fits:<6}{gib(found["peak"]):>11}'
    if 'step_seconds' in found:
      line += f'{_time(found["step_seconds"]):>11}{found["mfu"]:>8.1%}'
      line += f'{_time(found["exposed_seconds"]):>11}'
    lines.append(line)
  return '\n'.join(lines)
