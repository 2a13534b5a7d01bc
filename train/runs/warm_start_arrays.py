"""Which arrays a run takes from another one, and which are new."""

import json
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from input_pipeline.choices import LABELLED
from input_pipeline.sources.labelled import split_name
from train.learning.tuning import TRUNK, is_added
from train.runs.storage import Shapes

SHOWN = 20  # names in an error, at most
# On top of the trunk, but no part of what answers a task.
_KEPT = 'pooler', 'vocabulary'


def other_task(old: Mapping, new: ConfigDict) -> bool:
  """Whether both configs learn a labelled task, and not the same one.

  Tasks are the same if `data.source` is, up to '@SPLIT'.
  """
  tasks = [_task(config['data']) for config in (old, new)]
  return all(tasks) and tasks[0] != tasks[1]


def redrawn(
  there: Shapes, here: Shapes, old: Mapping, new: ConfigDict
) -> set[str]:
  """Names of a head's arrays that both runs have, but this one draws.

  A head's classes, their number and their order, belong to a task: the source's
  arrays are taken only if both runs learn the same task with the same head.
  What is below the head, such as the pooler, is taken.

  Args:
    there: shapes of the source, by path.
    here: shapes of the new run.
    old: the source's config.
    new: the new run's.
  """
  if not (_task(old['data']) and _task(new.data)):
    return set()
  same = old['model'].get('head') == new.model.head
  if same and not other_task(old, new):
    return set()
  return {name for name in here.keys() & there.keys() if answers(name)}


def _task(data: Mapping) -> str:
  """The task that a config's group `data` learns with a head, or ''."""
  if data.get('objective') not in LABELLED:
    return ''
  return split_name(data['source'])[0]


def answers(name: str) -> bool:
  """Whether an array of the state is a part of what answers a task."""
  first, *path = name.split('/')
  if first != 'params' or is_added(tuple(path)):
    return False
  return path[0] not in (*TRUNK, *_KEPT)


def compare(
  there: Shapes,
  here: Shapes,
  heads: bool,
  folder: str,
  old: Any,
  new: Any,
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
  """Names of the parameters that are taken, new and left: see `warm_start`.

  `heads` says whether a head's parameters may be new or left; `folder`, and the
  groups `model` of both runs, are for messages. Raises ValueError, which names
  it, if an array differs in shape, only one model has it, or the rows of a
  relative bias stand for other distances.
  """
  wrong = [
    f'  {name}: {_size(there[name])} there, {_size(here[name])} here'
    for name in here
    if name in there and there[name] != here[name]
  ]
  trunk = set(TRUNK)
  if (old.get('family'), new.get('family')) == ('electra', 'encoder'):
    trunk -= {'generator', 'generator_embed'}
  for name in sorted(here.keys() ^ there.keys()):
    part = name.split('/')[1]
    if name in here and is_added(tuple(name.split('/')[1:])):
      continue
    if not heads or part in trunk or not name.startswith('params/'):
      shapes = (_size(x.get(name)) for x in (there, here))
      wrong.append('  {}: {} there, {} here'.format(name, *shapes))
  if wrong:
    keys = [f'model.{key}' for key, *_ in differing(old, new)]
    differ = ', '.join(keys) or 'no key of the model'
    more = [f'  and {len(wrong) - SHOWN} more'] * (len(wrong) > SHOWN)
    raise ValueError(
      f'The checkpoint in {folder} does not fit the config:\n'
      + '\n'.join(wrong[:SHOWN] + more)
      + '\nArrays that both have must have the same shape (a table of learned '
      'positions cannot change its length). Only a head may be new or left '
      'out: if model.head or the labelled task differs, and --init_state is '
      f'not given. Different are: {differ}.'
    )
  if _both_ways(old) != _both_ways(new):
    count = {False: 'one direction', True: 'both directions'}
    raise ValueError(
      f'The relative bias of the checkpoint in {folder} has buckets of '
      f'{count[_both_ways(old)]}, and here of {count[_both_ways(new)]}: its '
      'rows would stand for other distances. A decoder with model.prefix=True '
      'has the buckets of one without if model.causal_bias=True.'
    )
  strip = len('params/')
  taken, fresh, left = (
    tuple(name[strip:] for name in sorted(names) if name.startswith('params/'))
    for names in (here.keys() & there, here.keys() - there, there.keys() - here)
  )
  return taken, fresh, left


def _both_ways(model):
  """Whether a decoder's relative bias has buckets of both directions."""
  relative = model.get('position') == 'relative_bias'
  prefix = model.get('prefix') and not model.get('causal_bias')
  return bool(relative and prefix)


def _size(shape: tuple[int, ...] | None) -> str:
  return 'missing' if shape is None else 'x'.join(map(str, shape)) or 'a number'


def differing(old: Any, new: Any) -> list[tuple[str, Any, Any]]:
  """(key, old, new) where two groups `model` differ, as JSON holds them."""
  values = json.loads(json.dumps(dict(new)))
  return [(k, old.get(k), x) for k, x in values.items() if old.get(k) != x]
