"""The config of a recipe, as `train.fit` compiles it.

Recipes of `configs/finetune/` and `configs/align/` leave to their data what
`train.finetune` and `train.align` fill in. Where data are named they are asked
here too. Else what a step's memory does not depend on is made up.
"""

import contextlib
import sys
from collections.abc import Callable

from ml_collections import ConfigDict

from train.aligning import beginning, methods
from train.finetuning import adoption

STEPS = 1000  # of a run whose data are not named: any number will do


def resolve(config: ConfigDict, note: Callable[[str], None]) -> ConfigDict:
  """The config, with what a recipe leaves open filled in; others unchanged.

  `note` takes a line that says what was assumed.

  Raises:
    ValueError: data that are named cannot be read, or none are named and the
      shapes of the step are theirs to decide.
  """
  config = config.copy_and_resolve_references().unlock()
  own = config.train, config.eval, config.checkpoint
  whole = all((own[0].steps, own[1].every, own[2].every, config.data.length))
  aligned = config.align.method
  named = config.data.source or config.data.mixture
  recipe = aligned or not named or 'task:' in f'{named}'
  if not recipe or whole and not (own[0].epochs or methods.writes(config)):
    return config.lock()
  note(
    "The sizes of the model are the config's: for those of another --from set "
    '--config.model.*.'
  )
  if named and not methods.writes(config):
    made = beginning if aligned else adoption
    with contextlib.redirect_stdout(sys.stderr):  # what data say of themselves
      return made.resolve(config)
  if not (named or aligned):
    _check_decided(config)
  if not named:
    note('No data are named: lengths are those of the config.')
    tasks = config.data.objective == 'text_to_text'
    config.data.source = 'task:TASK' if tasks else 'preferences:FILE'
  for group, key in zip(own, ('steps', 'every', 'every'), strict=True):
    group[key] = group[key] or STEPS
  if config.train.warmup_share:
    config.schedule.warmup_steps = 0
  config.train.epochs = config.train.warmup_share = 0.0
  return config.lock()


def _check_decided(config: ConfigDict) -> None:
  """Raises ValueError where the task decides the shapes of a step."""
  if config.data.objective == 'text_to_text' and config.data.length:
    return
  raise ValueError(
    'data.source is not set, and the task decides the head and the length of '
    'rows: name it, --config=finetune/FILE.py:task=TASK.'
  )
