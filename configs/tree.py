"""The evolutionary tree of the systems here, and what differs between any two.

  python -m configs.tree
  python -m configs.tree --diff=llama            # beside its ancestor
  python -m configs.tree --diff gpt2:xl llama    # any two
  python -m configs.tree --diff=ablations:gpt2,position=rope
  python -m configs.tree --plot                  # tree.html, .svg and .png
  python -m configs.tree --plot=tree.html        # a page to explore it
  python -m configs.tree --plot=tree.png         # or .svg, .pdf

A system is named by its file in this folder and an argument, if it takes one,
as in `--config=configs/FILE.py:ARG`.
"""

import itertools
import os
import sys
import textwrap

from absl import flags

from configs.commands import command
from configs.lineage import (
  ancestor_of,
  compared,
  config_of,
  difference,
  edges,
  key_of,
  module_of,
  shown,
  sizes_of,
)
from configs.systems import DECODER, ENCODER, PAIR, SYSTEMS

__all__ = [
  'SYSTEMS',
  'ancestor_of',
  'config_of',
  'difference',
  'key_of',
  'module_of',
  'show_difference',
  'show_tree',
]


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
    first, second = compared(first)
  if not first:
    raise ValueError(
      f'{second!r} has no ancestor here: name another system to compare it '
      f'with, as in --diff {second} gpt2.'
    )
  old, new = sorted((first, second), key=_date)
  rows = difference(config_of(old), config_of(new))
  cells = [
    (key, *(textwrap.wrap(shown(value), 40) for value in values))
    for key, values in rows.items()
  ]
  if not cells:
    return f'The configs of {old} and {new} are the same.'
  lefts = [line for _, lines, _ in cells for line in lines]
  left = max(map(len, [old, *lefts]))
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
  children, parents = {'': []}, edges()
  for key in SYSTEMS:
    children.setdefault(parents.get(key, ''), []).append(key)
  lines = []

  def visit(key, stem, rail):
    s, below = SYSTEMS[key], children.get(key, [])
    row = f'{stem + s.name:36}{s.year}-{s.month:02}  {s.organisation:19}'
    row += '●  ' if s.open else '○  '
    first, *rest = textwrap.wrap(sizes_of(key), width - len(row))
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
      from configs.plotting.write import write

      for path in [plot] if plot else ['tree.html', 'tree.svg', 'tree.png']:
        write(path)
        print(f'Drawn: {os.path.abspath(path)}')
    if diff is None and plot is None:
      print(show_tree())
  except (ValueError, OSError) as error:
    raise SystemExit(f'Error: {error}') from None


def _date(reference):
  s = SYSTEMS[key_of(reference)]
  return s.year, s.month


def _described(reference):
  s = SYSTEMS[key_of(reference)]
  return f'{s.name} ({s.organisation} {s.year}, {s.paper})'


if __name__ == '__main__':
  # Defined only here, since commands whose config imports this file have flags
  # of their own.
  flags.DEFINE_string(
    'diff',
    None,
    'a system as NAME[:ARG]: shows the keys in which its config differs from '
    'that of a second system, named after it, or from that of its ancestor',
  )
  flags.DEFINE_string(
    'plot',
    None,
    'draws the tree: a .png, .svg or .pdf picture, or a .html page on which a '
    'system shows its card and an edge the difference of two configs; without '
    'a file tree.html, tree.svg and tree.png',
  )
  if sys.argv[-1] == '--plot':
    sys.argv[-1] = '--plot='
  flags.FLAGS.set_gnu_getopt()  # flags may follow the other system
  command.start(main)
