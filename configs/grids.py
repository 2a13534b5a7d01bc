"""The runs of a sweep: the points of a grid, or those a config file names.

`--grid model.position=rope,alibi --grid seed=0,1,2` has six. A choice that
`configs/ablations.py` knows brings along the keys that go with it: rope's theta
is set, and the length of learned positions cleared.

A file's own runs are what its function `sweep(ARG)` yields: flat dicts of
overrides, {'model.embed_dim': 128, 'train.steps': 1000}. With the key 'name' a
dict gives its run a name; else the name is made of the keys and values.
"""

import ast
import collections
import hashlib
import itertools
import json
import re
import runpy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from configs import arguments, common
from configs.commands import command

LONGEST = 150  # characters of a name


class Point(NamedTuple):
  """One run.

  Attributes:
    name: of its folder, such as 'learning_rate=2e-05,seed=1'.
    group: the name without the seed.
    keys: pairs of a config's key and its value, as a flag has it.
  """

  name: str
  group: str
  keys: tuple[tuple[str, str], ...]


class _Part(NamedTuple):
  """A value of one axis of the grid: its keys, and its name if it has one."""

  keys: tuple[tuple[str, str], ...]
  name: str = ''


def of_file(config: str) -> list[dict[str, Any]] | None:
  """What `sweep(ARG)` of FILE.py[:ARG] yields; None if the file has none.

  Raises ValueError if it yields no runs, or something else than dicts.
  """
  path, *argument = config.split(':', 1)
  found = runpy.run_path(path).get('sweep')
  if found is None:
    return None
  runs = list(found(*argument))
  if not runs or not all(isinstance(run, Mapping) for run in runs):
    raise ValueError(
      f'{path}: sweep() must yield dicts of overrides, one for each run, and '
      f'at least one; it yields {runs[:3]!r}.'
    )
  return [dict(run) for run in runs]


def points(
  grid: Sequence[str],
  own: Sequence[Mapping[str, Any]] = (),
  seeds: int = 0,
  word: str = 'sweep',
) -> list[Point]:
  """The runs of several --grid KEY=VALUE,VALUE; without any, one unchanged.

  Args:
    grid: the values of the flags. Commas within brackets divide nothing.
    own: the runs that the flag's value `word` stands for.
    seeds: the grid has these many seeds too, from 0; with 1 only if it has
      something else, and no seeds of its own.
    word: see `own`.

  Raises:
    ValueError: a grid that cannot be read; a key that is there twice; runs of
      the same name.

  >>> [p.name for p in points(['data.batch=16,32', 'seed=0,1'])][:3]
  ['batch=16,seed=0', 'batch=16,seed=1', 'batch=32,seed=0']
  """
  axes = [
    [_part(run) for run in own] if text == word else _axis(text, word)
    for text in grid
  ]
  known = [{key for part in axis for key, _ in part.keys} for axis in axes]
  seeded = any('seed' in keys for keys in known)
  if seeds > 1 or (seeds and axes and not seeded):
    axes.append([_Part((('seed', str(seed)),)) for seed in range(seeds)])
    known.append({'seed'})
  for key, count in collections.Counter(itertools.chain(*known)).items():
    if count > 1:
      raise ValueError(f'--grid has {key} twice: give all its values at once.')
  labels = _labels(set().union(*known))
  found = []
  for chosen in itertools.product(*axes):
    keys = sum((part.keys for part in chosen), ())
    words = [_name(part, labels) for part in chosen]
    others = [_name(part, labels, 'seed') for part in chosen]
    found.append(Point(*(_joined(x) for x in (words, others)), keys))
  names = collections.Counter(point.name for point in found)
  for name, count in names.items():
    if count > 1:
      raise ValueError(
        f'{count} runs of the sweep have the same name, {name!r}. Give each '
        "value of --grid once, and in sweep() a 'name' of its own to each run."
      )
  return found


def completed(config: ConfigDict, point: Point) -> Point:
  """The point, with the keys that go with its choices before its own.

  Raises what `configured` raises.
  """
  from configs import ablations  # it imports every system

  config = config.copy_and_resolve_references().unlock()
  own, added = dict(point.keys), {}
  for field, values in ablations.FIELDS.items():
    group = 'data' if field == 'objective' else 'model'
    key = f'{group}.{field}'
    if key in own and config[group][field] in values:
      value = _value(config, key, own[key])
      changes = ablations.change(config, field, value)
      config.update_from_flattened_dict(changes)
      added |= changes
  keys = tuple((key, str(x)) for key, x in added.items() if key not in own)
  return point._replace(keys=keys + point.keys)


def configured(config: ConfigDict, point: Point) -> ConfigDict:
  """The config with a point's keys.

  Raises:
    ValueError: an unknown key, a value of another type, or no value of those
      that the key can have.
  """
  config = config.copy_and_resolve_references().unlock()
  for key, text in point.keys:
    *groups, name = key.split('.')
    value = _value(config, key, text)
    group = config
    for part in groups:
      group = group[part]
    group[name] = value
  return config.lock()


def check_configs(configs: Mapping[Point, ConfigDict]) -> None:
  """Raises ValueError if two runs have the same config."""
  seen = {}
  for point, config in configs.items():
    text = config.to_json_best_effort(sort_keys=True)
    if text in seen:
      raise ValueError(
        f'The runs {seen[text]!r} and {point.name!r} have the same config: '
        'leave one of them out.'
      )
    seen[text] = point.name


def _axis(text: str, word: str) -> list[_Part]:
  key, equals, values = text.partition('=')
  found = _split(values)
  if not (key and equals) or '' in found:
    raise ValueError(f"--grid={text} must be KEY=VALUE,VALUE, or '{word}'.")
  return [_Part(((key, value),)) for value in found]


def _split(text: str) -> list[str]:
  """The text, divided at the commas that are not within brackets.

  >>> _split('(),((1, 2),)')
  ['()', '((1, 2),)']
  """
  found, depth = [''], 0
  for letter in text:
    depth += (letter in '([{') - (letter in ')]}')
    if letter == ',' and depth == 0:
      found.append('')
    else:
      found[-1] += letter
  return found


def _part(run: Mapping[str, Any]) -> _Part:
  """A dict that sweep() yields."""
  name = run.get('name', '')
  if not isinstance(name, str) or name != _as_file(name):
    raise ValueError(
      f'sweep() yields the name {name!r}; it becomes that of a folder, and can '
      'have letters, digits, and + - . , = @ ~ _'
    )
  keys = tuple((key, str(x)) for key, x in run.items() if key != 'name')
  if not (keys or name):
    raise ValueError("sweep() yields {}: a run without changes needs a 'name'.")
  return _Part(keys, name)


def _labels(keys: set[str]) -> dict[str, str]:
  """What a key is called in names: its last word, unless two share it."""
  last = {key: key.rpartition('.')[2] for key in keys}
  counts = collections.Counter(last.values())
  return {key: x if counts[x] == 1 else key for key, x in last.items()}


def _name(part: _Part, labels: Mapping[str, str], but: str = '') -> str:
  if part.name:
    return part.name
  words = [f'{labels[key]}={x}' for key, x in part.keys if key != but]
  return _as_file(','.join(words))


def _joined(words: Sequence[str]) -> str:
  """The name of a run; what is too long for a folder ends in a digest."""
  name = ','.join(filter(None, words))
  if len(name) <= LONGEST:
    return name
  digest = hashlib.sha256(name.encode()).hexdigest()[:8]
  return f'{name[: LONGEST - 9]}~{digest}'


def _as_file(text: str) -> str:
  """The text as a name of a file that needs no quotes in a shell.

  >>> _as_file("source=json:/data/*.gz,phases=((1, 'a'),)")
  'source=json__data_.gz,phases=1,a,'
  """
  text = re.sub(r'[()\[\]{}\'" *]', '', text)
  return re.sub(r'[^\w.+=,@~-]', '_', text, flags=re.ASCII).lstrip('.-')


def _value(config: ConfigDict, key: str, text: str) -> Any:
  """The value of a flag's text."""
  *groups, name = key.split('.')
  group = config
  for part in groups:
    group = group.get(part)
    if not isinstance(group, ConfigDict):
      break
  if not isinstance(group, ConfigDict) or name not in group:
    near = command.near_key(key, [*common.KEYS])
    hint = f' Did you mean {near}?' if near else ''
    raise ValueError(f'--grid={key}: the config has no key {key!r}.{hint}')
  kind = group.get_type(name)
  if kind is ConfigDict:
    raise ValueError(f'--grid={key} is a group of keys; take one of its keys.')
  try:
    if kind is bool:
      value = json.loads(text.lower())
    else:
      value = ast.literal_eval(text) if kind is tuple else kind(text)
  except (ValueError, TypeError, SyntaxError) as error:
    value = error
  if not isinstance(value, kind):
    raise ValueError(f'--grid={key}: {text!r} is not of type {kind.__name__}.')
  choices = common.KEYS[key].choices if key in common.KEYS else ()
  if choices and value not in choices:
    raise ValueError(f'--grid: {arguments.unknown(key, text, choices)}')
  return value
