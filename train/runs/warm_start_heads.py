"""Which arrays of a head a run does not take: those of another task."""

from collections.abc import Mapping

from ml_collections import ConfigDict

from input_pipeline.choices import LABELLED
from input_pipeline.sources.labelled import split_name
from train.learning.tuning import TRUNK, is_added
from train.runs.storage import Shapes

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
  """Names of a head's arrays that both runs have, but that learn anew.

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
  return {name for name in here.keys() & there.keys() if _answers(name)}


def _task(data: Mapping) -> str:
  """The task that a config's group `data` learns with a head, or ''."""
  if data.get('objective') not in LABELLED:
    return ''
  return split_name(data['source'])[0]


def _answers(name: str) -> bool:
  """Whether an array of the state is a part of what answers a task."""
  first, *path = name.split('/')
  if first != 'params' or is_added(tuple(path)):
    return False
  return path[0] not in (*TRUNK, *_KEPT)
