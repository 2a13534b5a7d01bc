"""The evolutionary tree of the systems here, and what differs between any two.

  python -m configs.tree
  python -m configs.tree --diff=llama            # beside its ancestor
  python -m configs.tree --diff gpt2:xl llama    # any two
  python -m configs.tree --diff=ablations:gpt2,position=rope
  python -m configs.tree --plot=tree.png

A system is named by its file in this folder and an argument, if it takes one,
as in `--config=configs/FILE.py:ARG`.
"""

import difflib
import importlib
import itertools
import os
import textwrap
from types import ModuleType

from absl import flags
from ml_collections import ConfigDict

from configs import common
from configs.commands import command
from configs.differences import differences
from configs.systems import DECODER, ENCODER, PAIR, SYSTEMS


def module_of(reference: str) -> ModuleType:
  """The module of 'NAME[:ARG]'.

  Raises:
    ValueError: there is none; the message names the nearest.
  """
  name = reference.partition(':')[0]
  names = list(dict.fromkeys(key.partition(':')[0] for key in SYSTEMS))
  if name not in (*names, 'ablations'):
    spelled = {SYSTEMS[n].name.lower(): n for n in names}
    spelled |= {n: n for n in names}
    near = difflib.get_close_matches(name.lower(), spelled, 1, cutoff=0.4)
    hint = f' Did you mean {spelled[near[0]]!r}?' if near else ''
    raise ValueError(
      f'system {name!r} is unknown.{hint} There are: {", ".join(names)}.'
    )
  return importlib.import_module(f'configs.{name}')


def config_of(reference: str) -> ConfigDict:
  """The config of 'NAME[:ARG]'.

  Raises:
    ValueError: no such system or size, or its config was never published.
  """
  return module_of(reference).get_config(reference.partition(':')[2])


def key_of(reference: str) -> str:
  """The key of SYSTEMS that 'NAME[:ARG]' belongs to."""
  reference = _changed(reference) or reference
  module_of(reference)
  name, _, arg = reference.partition(':')
  parts = arg.split(',')
  for key in reversed(_versions(name)):
    wanted = [x for x in key.partition(':')[2].split(',') if '=' in x]
    if all(x in parts for x in wanted):
      return key
  return name


def ancestor_of(reference: str) -> str:
  """'NAME[:ARG]' of the system that another descends from; '' for a root.

  The ancestor of an ablation is the system that it changes.
  """
  if system := _changed(reference):
    return system
  key = key_of(reference)
  versions = _versions(key.partition(':')[0])
  place = versions.index(key)
  return versions[place - 1] if place else module_of(reference).ANCESTOR


def difference(old: ConfigDict, new: ConfigDict) -> dict[str, tuple]:
  """The keys in which two configs differ, by group: 'group.key': (old, new).

  None stands for a key that a config does not set.
  """
  groups = list(dict.fromkeys(key.split('.')[0] for key in common.KEYS))
  found = differences(old.to_dict(), new.to_dict())
  found.sort(key=lambda row: groups.index(row[0].split('.')[0]))
  return {key: (before, after) for key, before, after in found}


def show_difference(first: str, second: str = '') -> str:
  """Two systems' configs side by side, the older on the left.

  Args:
    first: 'NAME[:ARG]'.
    second: the other one; '' is the ancestor of the first, in the same size if
      it has that size.

  Raises:
    ValueError: an unknown or undisclosed system, or a root without a second.
  """
  if not second:
    first, second = _alike(ancestor_of(first), first), first
  if not first:
    raise ValueError(
      f'{second!r} has no ancestor here: name another system to compare it '
      f'with, as in --diff {second} gpt2.'
    )
  old, new = sorted((first, second), key=_date)
  rows = difference(config_of(old), config_of(new))
  cells = [
    (key, *(textwrap.wrap(_shown(value), 40) for value in values))
    for key, values in rows.items()
  ]
  if not cells:
    return f'The configs of {old} and {new} are the same.'
  shown = [line for _, lines, _ in cells for line in lines]
  left = max(map(len, [old, *shown]))
  lines = [f'{_described(new)}, compared with {_described(old)}:']
  for group, members in itertools.groupby(cells, lambda c: c[0].split('.')[0]):
    lines += ['', f'{group:25} {old:{left}}  {new}']
    for key, *values in members:
      name = key.partition('.')[2] or key
      for before, after in itertools.zip_longest(*values, fillvalue=''):
        lines.append(f'  {name:23} {before:{left}}  {after}'.rstrip())
        name = ''
  return '\n'.join(lines)


def show_tree(width: int = 96) -> str:
  """The tree as text, at most `width` columns wide."""
  children = {'': []}
  for key in SYSTEMS:
    ancestor = ancestor_of(key)
    parent = key_of(ancestor) if ancestor else ''
    children.setdefault(parent, []).append(key)
  lines = []

  def visit(key, stem, rail):
    s, below = SYSTEMS[key], children.get(key, [])
    row = f'{stem + s.name:36}{s.year}-{s.month:02}  {s.organisation:19}'
    row += '●  ' if s.open else '○  '
    first, *rest = textwrap.wrap(_sizes(key), width - len(row))
    lines.append(row + first)
    indent = f'{rail}{"│" if below else ""}'
    lines.extend(f'{indent:{len(row)}}{line}' for line in rest)
    branches = {SYSTEMS[child].branch for child in below}
    order = (PAIR, ENCODER, DECODER)
    below = sorted(below, key=lambda k: order.index(SYSTEMS[k].branch))
    headed = None
    for i, child in enumerate(below):
      branch = SYSTEMS[child].branch
      if len(branches) > 1 and branch != headed:
        headed = branch
        lines.extend((f'{rail}│', f'{rail}│  {branch}'))
      last = i == len(below) - 1
      corner, side = ('└─ ', '   ') if last else ('├─ ', '│  ')
      visit(child, rail + corner, rail + side)

  for root in children['']:
    if lines:
      lines.extend(('', SYSTEMS[root].branch))
    visit(root, '', '')
  lines += ['', '● weights are published   ○ they are not']
  return '\n'.join(lines)


def main(argv: list[str]) -> None:
  diff, plot = flags.FLAGS.diff, flags.FLAGS.plot
  others = argv[1:] if diff is None else argv[2:]
  try:
    if others:
      raise ValueError(f'unknown arguments: {" ".join(others)}. See --help.')
    if diff is not None:
      print(show_difference(diff, *argv[1:]))
    if plot is not None:
      from configs import tree_plot

      edges = {key: ancestor_of(key) for key in SYSTEMS}
      edges = {key: key_of(a) for key, a in edges.items() if a}
      tree_plot.draw(SYSTEMS, edges, plot)
      print(f'Drawn: {os.path.abspath(plot)}')
    if diff is None and plot is None:
      print(show_tree())
  except (ValueError, OSError) as error:
    raise SystemExit(f'Error: {error}') from None


def _changed(reference):
  """'NAME[:ARG]' of the system that an ablation changes; '' for a system."""
  name, _, arg = reference.partition(':')
  if name != 'ablations':
    return ''
  system = module_of(name).split(arg)[0]
  module_of(system)  # raises if there is none
  return system


def _alike(ancestor, reference):
  """The ancestor in the size of another reference, if it has that size."""
  size = reference.partition(':')[2].split(',')[0].removeprefix('size=')
  if not ancestor or not size or '=' in size or _changed(reference):
    return ancestor
  name, _, arg = ancestor.partition(':')
  version = [part for part in arg.split(',') if '=' in part]
  found = f'{name}:{",".join([size, *version])}'
  try:
    config_of(found)
  except ValueError:
    return ancestor
  return found


def _versions(name):
  return [key for key in SYSTEMS if key.partition(':')[0] == name]


def _date(reference):
  s = SYSTEMS[key_of(reference)]
  return s.year, s.month


def _described(reference):
  s = SYSTEMS[key_of(reference)]
  return f'{s.name} ({s.organisation} {s.year}, {s.paper})'


def _sizes(key):
  """The published sizes of a system, named as its config names them."""
  module = module_of(key)
  sizes, grid = module.SIZES, list(getattr(module, 'GRID', ()))
  first = next(iter(sizes.values()), ())
  if isinstance(first, dict):  # version -> sizes
    sizes = sizes.get(key.partition('version=')[2], first)
  names = [size for size in sizes if size != 'tiny']
  if not names:
    return 'undisclosed'
  if len(names) > 12:
    names = [*names[:2], '...', names[-1], f'({len(names)} sizes)']
  if grid:
    names += [grid[0], '...', grid[-1], f'({len(grid)} sizes)']
  return ' '.join(names)


def _shown(value):
  if value is None:
    return '-'
  if isinstance(value, int) and not isinstance(value, bool):
    return f'{value:,}' if value > 9999 else str(value)
  if isinstance(value, float) and float(f'{value:g}') == value:
    return f'{value:g}'
  return str(value) or "''"


if __name__ == '__main__':
  # Defined only here, since commands whose config imports this file have flags
  # of their own.
  flags.DEFINE_string(
    'diff',
    None,
    'a system as NAME[:ARG]: shows the keys in which its config differs from '
    'that of a second system, named after it, or from that of its ancestor',
  )
  flags.DEFINE_string('plot', None, 'a .png, .pdf or .svg file to draw')
  flags.FLAGS.set_gnu_getopt()  # flags may follow the other system
  command.start(main)
