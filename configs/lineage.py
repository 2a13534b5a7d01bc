"""Which system descends from which, and what differs between two.

A system is named by its file in this folder and an argument, if it takes one,
as in `--config=configs/FILE.py:ARG`.
"""

import difflib
import importlib
from types import ModuleType

from ml_collections import ConfigDict

from configs import common
from configs.differences import differences
from configs.systems import SYSTEMS


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


def edges() -> dict[str, str]:
  """The tree: child -> ancestor, keys of SYSTEMS."""
  ancestors = {key: ancestor_of(key) for key in SYSTEMS}
  return {key: key_of(found) for key, found in ancestors.items() if found}


def compared(reference: str) -> tuple[str, str]:
  """What a system is compared with, and the system: two 'NAME[:ARG]'.

  The first is its ancestor, in the same size if it has that size; '' for a
  root.
  """
  return _alike(ancestor_of(reference), reference), reference


def difference(old: ConfigDict, new: ConfigDict) -> dict[str, tuple]:
  """The keys in which two configs differ, by group: 'group.key': (old, new).

  None stands for a key that a config does not set.
  """
  groups = list(dict.fromkeys(key.split('.')[0] for key in common.KEYS))
  found = differences(old.to_dict(), new.to_dict())
  found.sort(key=lambda row: groups.index(row[0].split('.')[0]))
  return {key: (before, after) for key, before, after in found}


def sizes_of(key: str) -> str:
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


def shown(value: object) -> str:
  """A value of a config, for a reader."""
  if value is None:
    return '-'
  if isinstance(value, int) and not isinstance(value, bool):
    return f'{value:,}' if value > 9999 else str(value)
  if isinstance(value, float) and float(f'{value:g}') == value:
    return f'{value:g}'
  return str(value) or "''"


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
