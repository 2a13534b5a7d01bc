"""`python -m train.fingerprint --workdir=W [--step=N]`: a checkpoint's digests.

Prints JSON: the step and a sha256 each of parameters, their moving average if
the run keeps one, optimizer state, cursor and data. Two runs that print the
same are the same to the last bit, on whatever mesh they ran.
"""

from configs.commands import startup

if __name__ == '__main__':
  startup.begin()

import hashlib
import json
from typing import Any

import jax
import numpy as np
from absl import flags

from input_pipeline.sources import hashes
from train.runs import adapters, command
from train.runs.checkpoint import parse_step


def digest(tree: Any) -> str:
  """sha256 of a tree of arrays: paths, types, shapes and bytes, by path."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  named = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
  # Streamed: the arrays are never in memory as one string of bytes.
  result = hashlib.sha256()
  for path, leaf in sorted(named.items()):
    leaf = np.asarray(leaf)
    result.update(f'{path} {leaf.dtype} {leaf.shape}\n'.encode())
    result.update(np.ascontiguousarray(leaf).tobytes())
  return result.hexdigest()


def fingerprint(workdir: str, step: int | str | None = None) -> dict:
  """The step and the digests of a checkpoint.

  Raises CheckpointError if there is none, or it is damaged.
  """
  checkpoints = adapters.open_checkpoints(workdir, read_only=True)
  step = checkpoints.find(step)
  state = checkpoints.restore_arrays(step)
  data = json.dumps(checkpoints.run(step)['data'], sort_keys=True)
  return {
    'step': int(state['step']),
    'params': digest(state['params']),
    'optimizer': digest(state['opt_state']),
    **{name: digest(state[name]) for name in ('average',) if name in state},
    'cursor': digest(state['cursor']),
    'data': hashes.sha256(data.encode()),
  }


def main():
  folder = adapters.folder(_WORKDIR.value, _ADAPTER.value)
  print(json.dumps(fingerprint(folder, parse_step(_STEP.value)), indent=2))


if __name__ == '__main__':
  _WORKDIR = flags.DEFINE_string('workdir', None, 'Of the run.', required=True)
  _ADAPTER = adapters.define_flag()
  _STEP = flags.DEFINE_string(
    'step',
    '',
    "A number, 'best' or 'best:TASK'; default: the newest checkpoint.",
  )
  command.run(main)
