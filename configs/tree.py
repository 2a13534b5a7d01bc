"""The evolutionary tree of the systems here, and what separates any two.

  python -m configs.tree
  python -m configs.tree --diff=llama            # beside its ancestor
  python -m configs.tree --diff gpt2:xl llama    # any two
  python -m configs.tree --diff=ablations:gpt2,position=rope
  python -m configs.tree --plot=tree.png

A system is a file of this folder, with an argument where it has one, as in
`--config=configs/FILE.py:ARG`.
"""

import difflib
import importlib
import itertools
import os
import textwrap
from typing import NamedTuple

from absl import flags
from ml_collections import ConfigDict

from configs import command

ENCODER, PAIR = 'encoder-only', 'encoder-decoder'
DECODER, RECURRENT = 'decoder-only', 'recurrent'


class System(NamedTuple):
  """What no config says of a system."""

  name: str
  year: int  # of the paper, or of the announcement where there is none
  month: int
  organisation: str
  branch: str
  open: bool  # whether anyone may have weights
  paper: str


# NAME[:ARG] of each system, in the order of time. A file's first system
# descends from the file's ANCESTOR, a later one (with KEY=VALUE in its ARG)
# from the one before it.
# fmt: off
SYSTEMS = {
  'transformer': System(
    'Transformer', 2017, 6, 'Google', PAIR, True, 'arXiv:1706.03762'),
  'gpt1': System(
    'GPT-1', 2018, 6, 'OpenAI', DECODER, True, 'Radford et al. 2018'),
  'bert': System(
    'BERT', 2018, 10, 'Google', ENCODER, True, 'arXiv:1810.04805'),
  'gpt2': System(
    'GPT-2', 2019, 2, 'OpenAI', DECODER, True, 'Radford et al. 2019'),
  'roberta': System(
    'RoBERTa', 2019, 7, 'Facebook', ENCODER, True, 'arXiv:1907.11692'),
  't5': System(
    'T5', 2019, 10, 'Google', PAIR, True, 'arXiv:1910.10683'),
  'electra': System(
    'ELECTRA', 2020, 3, 'Stanford, Google', ENCODER, True, 'arXiv:2003.10555'),
  'gpt3': System(
    'GPT-3', 2020, 5, 'OpenAI', DECODER, False, 'arXiv:2005.14165'),
  'jurassic': System(
    'Jurassic-1', 2021, 8, 'AI21 Labs', DECODER, False, 'Lieber et al. 2021'),
  'gopher': System(
    'Gopher', 2021, 12, 'DeepMind', DECODER, False, 'arXiv:2112.11446'),
  'lamda': System(
    'LaMDA', 2022, 1, 'Google', DECODER, False, 'arXiv:2201.08239'),
  'mt_nlg': System(
    'MT-NLG', 2022, 1, 'Microsoft, NVIDIA', DECODER, False, 'arXiv:2201.11990'),
  'chinchilla': System(
    'Chinchilla', 2022, 3, 'DeepMind', DECODER, False, 'arXiv:2203.15556'),
  'palm': System(
    'PaLM', 2022, 4, 'Google', DECODER, False, 'arXiv:2204.02311'),
  'ul2': System(
    'UL2', 2022, 5, 'Google', PAIR, True, 'arXiv:2205.05131'),
  'yalm': System(
    'YaLM', 2022, 6, 'Yandex', DECODER, True, 'github.com/yandex/YaLM-100B'),
  'flan_t5': System(
    'FLAN-T5', 2022, 10, 'Google', PAIR, True, 'arXiv:2210.11416'),
  'bloom': System(
    'BLOOM', 2022, 11, 'BigScience', DECODER, True, 'arXiv:2211.05100'),
  'llama': System(
    'LLaMA', 2023, 2, 'Meta', DECODER, True, 'arXiv:2302.13971'),
  'ul2:variant=flan': System(
    'FLAN-UL2', 2023, 3, 'Google', PAIR, True, 'announcement'),
  'bard': System(
    'Bard', 2023, 3, 'Google', DECODER, False, 'announcement'),
  'gpt4': System(
    'GPT-4', 2023, 3, 'OpenAI', DECODER, False, 'arXiv:2303.08774'),
  'jurassic2': System(
    'Jurassic-2', 2023, 3, 'AI21 Labs', DECODER, False, 'announcement'),
  'palm2': System(
    'PaLM 2', 2023, 5, 'Google', DECODER, False, 'arXiv:2305.10403'),
  'rwkv': System(
    'RWKV-4', 2023, 5, 'RWKV Foundation', RECURRENT, True, 'arXiv:2305.13048'),
  'llama:version=2': System(
    'LLaMA 2', 2023, 7, 'Meta', DECODER, True, 'arXiv:2307.09288'),
  'llama:8b,version=3': System(
    'LLaMA 3', 2024, 4, 'Meta', DECODER, True, 'announcement'),
  'llama:8b,version=3.1': System(
    'LLaMA 3.1', 2024, 7, 'Meta', DECODER, True, 'arXiv:2407.21783'),
}
# fmt: on


def module_of(reference: str):
  """The module of 'NAME[:ARG]'; ValueError names the nearest one there is."""
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
    ValueError: there is no such system or size, or none was published.
  """
  return module_of(reference).get_config(reference.partition(':')[2])


def key_of(reference: str) -> str:
  """The row of SYSTEMS where 'NAME[:ARG]' stands."""
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

  An ablation's is the system that it changes.
  """
  if system := _changed(reference):
    return system
  key = key_of(reference)
  versions = _versions(key.partition(':')[0])
  place = versions.index(key)
  return versions[place - 1] if place else module_of(reference).ANCESTOR


def difference(old: ConfigDict, new: ConfigDict) -> dict[str, tuple]:
  """The keys in which two configs differ, 'group.key': (old, new).

  None stands for a key that a config does not set.
  """
  old, new = (dict(_flat(config)) for config in (old, new))
  keys = sorted(old | new, key=lambda key: _rank(key.split('.')[0]))
  return {
    key: (old.get(key), new.get(key))
    for key in keys
    if old.get(key) != new.get(key)
  }


def show_difference(first: str, second: str = '') -> str:
  """Two systems' configs side by side, the older on the left.

  Args:
    first: 'NAME[:ARG]'.
    second: the other one; '' is the ancestor of the first, in the same size
      where it has one.

  Raises:
    ValueError: an unknown or undisclosed system, or a root alone.
  """
  pair = (
    (first, second) if second else (_alike(ancestor_of(first), first), first)
  )
  if not pair[0]:
    raise ValueError(
      f'{first!r} has no ancestor here: name another system to compare it '
      f'with, as in --diff {first} gpt2.'
    )
  pair = sorted(pair, key=lambda r: _date(SYSTEMS[key_of(r)]))
  rows = difference(*map(config_of, pair))
  cells = [
    (key, *(textwrap.wrap(_shown(value), 40) for value in values))
    for key, values in rows.items()
  ]
  shown = [line for _, lines, _ in cells for line in lines]
  left = max(map(len, [pair[0], *shown]))
  lines = [
    f'{_described(pair[1])}, compared with {_described(pair[0])}:'
    if cells
    else f'The configs of {pair[0]} and {pair[1]} are the same.'
  ]
  group = None
  for key, *values in cells:
    if key.split('.')[0] != group:
      group = key.split('.')[0]
      lines += ['', f'{group:25} {pair[0]:{left}}  {pair[1]}']
    name = key.partition('.')[2] or key
    for old, new in itertools.zip_longest(*values, fillvalue=''):
      lines.append(f'  {name:23} {old:{left}}  {new}'.rstrip())
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


def _rank(group):
  order = ('model', 'data', 'optimizer', 'schedule', 'train')
  return order.index(group) if group in order else len(order)


def _changed(reference):
  """'NAME[:ARG]' of the system that an ablation changes; '' of a system."""
  name, _, arg = reference.partition(':')
  if name != 'ablations':
    return ''
  system = module_of(name).split(arg)[0]
  module_of(system)  # there is one
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


def _date(system):
  return system.year, system.month


def _described(reference):
  s = SYSTEMS[key_of(reference)]
  return f'{s.name} ({s.organisation} {s.year}, {s.paper})'


def _sizes(key):
  """The published sizes of a system, named as its config names them."""
  sizes = module_of(key).SIZES
  grid = list(getattr(module_of(key), 'GRID', ()))
  version = key.partition('version=')[2]
  nested = {k: v for k, v in sizes.items() if isinstance(v, dict)}
  if nested:
    sizes = nested[version] if version else next(iter(nested.values()))
  names = [size for size in sizes if size != 'tiny']
  if not names:
    return 'undisclosed'
  if len(names) > 12:
    names = [*names[:2], '...', names[-1], f'({len(names)} sizes)']
  if grid:
    names += [grid[0], '...', grid[-1], f'({len(grid)} sizes)']
  return ' '.join(names)


def _flat(config, prefix=''):
  for key, value in config.items():
    if isinstance(value, ConfigDict):
      yield from _flat(value, f'{prefix}{key}.')
    else:
      yield f'{prefix}{key}', value


def _shown(value):
  if value is None:
    return '-'
  if isinstance(value, int) and not isinstance(value, bool):
    return f'{value:,}' if value > 9999 else str(value)
  if isinstance(value, float) and float(f'{value:g}') == value:
    return f'{value:g}'
  return str(value) or "''"


if __name__ == '__main__':
  # Here alone: commands whose config imports this file have flags of their own.
  flags.DEFINE_string(
    'diff',
    None,
    'a system as NAME[:ARG]: the keys in which its config differs from '
    "another's, which may follow, and from its ancestor's if none does",
  )
  flags.DEFINE_string('plot', None, 'a .png, .pdf or .svg file to draw')
  flags.FLAGS.set_gnu_getopt()  # flags may follow the other system
  command.start(main)
