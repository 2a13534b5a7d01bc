"""What `train.evaluate --lm_eval` does.

The extra `lm_eval` is imported when it is needed.
"""

import os
from collections.abc import Callable

import jax
from absl import flags

from train.applying import Published
from train.parallel import processes
from train.runs import opening

# The flags of --lm_eval.
OWN = 'limit', 'shots', 'batch', 'include_path', 'out'


def score(
  opened: Callable[[], opening.Run | Published], window: int = 0
) -> None:
  """Prints the harness's table of --lm_eval, and a line of JSON for each.

  Args:
    opened: opens the model, after the flags have been checked.
    window: see harness_tasks.make_harness.

  Raises:
    ValueError: a flag does not fit, or the extra is missing.
  """
  own = {name: flags.FLAGS[name].value for name in ('lm_eval', *OWN)}
  for name, least in (('limit', 0), ('shots', 0), ('batch', 1)):
    if own[name] is not None and own[name] < least:
      raise ValueError(f'--{name}={own[name]} must be at least {least}.')
  folder = own['include_path']
  if folder and not os.path.isdir(folder):
    raise ValueError(f'--include_path={folder} is not a folder.')
  try:
    from train.evaluation import harness_tasks
  except ImportError as error:
    raise ValueError(str(error)) from error
  harness_tasks.check_out(own['out'])
  tasks = harness_tasks.Tasks(include_path=folder or None)
  tasks.found(own['lm_eval'])
  processes.join()
  found = harness_tasks.evaluate_tasks(
    opened(), own['lm_eval'], own['limit'], own['shots'], own['batch'],
    window, tasks,
  )  # fmt: skip
  if jax.process_index() == 0:
    print(harness_tasks.shown(found), flush=True)
    if own['out']:
      harness_tasks.write(found, own['out'])
