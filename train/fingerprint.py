"""`python -m train.fingerprint --workdir=W [--step=N]`: a checkpoint's digests.

Prints JSON: the step and a sha256 each of parameters, optimizer state, cursor
and data. Two runs that print the same are the same to the last bit, on
whatever mesh they ran.
"""

import hashlib
import json
from typing import Any

import jax
import numpy as np
from absl import app, flags
from absl import logging as absl_logging

from train.checkpoint import Checkpoints

_WORKDIR = flags.DEFINE_string('workdir', None, 'Of the run.', required=True)
_STEP = flags.DEFINE_integer('step', None, 'Default: the newest checkpoint.')


def digest(tree: Any) -> str:
  """sha256 of a tree of arrays: paths, types, shapes and bytes, by path."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  named = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
  result = hashlib.sha256()
  for path, leaf in sorted(named.items()):
    leaf = np.asarray(leaf)
    result.update(f'{path} {leaf.dtype} {leaf.shape}\n'.encode())
    result.update(np.ascontiguousarray(leaf).tobytes())
  return result.hexdigest()


def fingerprint(workdir: str, step: int | None = None) -> dict:
  """The step and the digests of a checkpoint.

  Raises:
    FileNotFoundError: no such checkpoint.
  """
  checkpoints = Checkpoints(workdir, read_only=True)
  steps = checkpoints.steps()
  if not steps or (step is not None and step not in steps):
    raise FileNotFoundError(
      f'No checkpoint {"" if step is None else f"of step {step} "}in '
      f'{checkpoints.folder}; there are: {steps or "none"}.'
    )
  step = steps[-1] if step is None else step
  state = checkpoints.restore_arrays(step)
  data = json.dumps(checkpoints.run(step)['data'], sort_keys=True)
  return {
    'step': int(state['step']),
    'params': digest(state['params']),
    'optimizer': digest(state['opt_state']),
    'cursor': digest(state['cursor']),
    'data': hashlib.sha256(data.encode()).hexdigest(),
  }


def main(_):
  absl_logging.set_verbosity(absl_logging.ERROR)
  try:
    print(json.dumps(fingerprint(_WORKDIR.value, _STEP.value), indent=2))
  except FileNotFoundError as error:
    raise SystemExit(f'Error: {error}') from None


if __name__ == '__main__':
  app.run(main)
