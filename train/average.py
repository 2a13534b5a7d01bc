"""`python -m train.average --workdir=W --to=NEW`: the mean of checkpoints.

The parameters of the newest checkpoints of a run, --last=5 of them, are
averaged, and NEW becomes a run with one checkpoint that has this mean: evaluate
it, generate with it, export it, fine-tune it. The Transformer was evaluated so,
with the last 5 checkpoints, the large one with 20 (Vaswani et al. 2017, 6.1).
`checkpoint.keep` says how many a run keeps.
"""

from configs.commands import startup

if __name__ == '__main__':
  startup.begin()

import contextlib
import functools
import os

import jax
import jax.numpy as jnp
from absl import flags

from input_pipeline.config import data_config
from input_pipeline.sources import paths
from train.parallel import processes
from train.runs import adapters, command, folders, history, opening, workdir
from train.runs.checkpoint import Checkpoints


def average(folder: str, to: str, last: int = 5) -> list[int]:
  """Makes a run whose parameters are the mean of a run's newest checkpoints.

  All else is that of the newest one. The sum is in float32.

  Args:
    folder: the run's workdir.
    to: the new one's.
    last: how many checkpoints; 2 or more.

  Returns:
    The steps of these checkpoints.

  Raises:
    ValueError: there are fewer, `to` holds a run already, or the run trains
      LoRA's factors.
    CheckpointError: a checkpoint is damaged.
  """
  if last < 2:
    raise ValueError(f'--last={last} must be at least 2.')
  config = workdir.read_config(folder)
  if config.tuning.train == 'lora':
    raise ValueError(
      f"{folder} trains LoRA's factors, whose mean is not that of the matrices "
      'which they make: it cannot be averaged.'
    )
  checkpoints = adapters.open_checkpoints(folder, read_only=True)
  steps = checkpoints.steps()[-last:]
  if len(steps) < last:
    raise ValueError(
      f'--last={last} is more than the checkpoints in {folder}; there are '
      f'{", ".join(map(str, steps)) or "none"}. checkpoint.keep='
      f'{config.checkpoint.keep} says how many are kept.'
    )
  begun = workdir.begun(to) or paths.exists(os.path.join(to, workdir.NAME))
  if begun and not folders.unfinished(to):  # one that was killed is replaced
    raise ValueError(f'--to={to} holds a run already: give a new folder.')
  for step in steps:
    checkpoints.find(step)  # whole, before anything is read
  setup, newest = opening.set_up_here(config), steps[-1]
  with contextlib.ExitStack() as stack:
    if jax.process_index() == 0:
      stack.enter_context(folders.made(to))
    processes.wait_for_all('folder')
    add = jax.jit(functools.partial(jax.tree.map, jnp.add))
    state = checkpoints.restore(setup.state, newest)
    total = state.params
    for step in steps[:-1]:
      own = checkpoints.restore_params(setup.state.params, step)
      total = add(total, own)
    mean = jax.jit(lambda x: jax.tree.map(lambda y: y / last, x))(total)
    saved = checkpoints.run(newest)
    entries = [
      *(history.read(folder) or saved.get('history', [])),
      history.entry('averaged', newest, steps=steps, workdir=folder),
    ]
    metadata = saved | {'history': entries, 'made_by': history.made_by()}
    with Checkpoints(to) as new:
      # A moving average would be evaluated in place of the mean.
      new.save(state.beginning(mean), newest, metadata)
    if jax.process_index() == 0:
      data = data_config(config)
      if data.source != 'synthetic':
        path = opening.tokenizer_path(folder, data)
        copy = os.path.join(to, os.path.basename(path))
        paths.write(copy, paths.read(path))
      history.write(to, entries)
      workdir.claim(to, config)
  return steps


def main():
  processes.join()
  steps = average(_WORKDIR.value, _TO.value, _LAST.value)
  if jax.process_index() == 0:
    print(
      f'Wrote the mean of the checkpoints {", ".join(map(str, steps))} of '
      f'{_WORKDIR.value} to {_TO.value}.'
    )


if __name__ == '__main__':
  _WORKDIR = flags.DEFINE_string('workdir', None, 'Of the run.', required=True)
  _TO = flags.DEFINE_string(
    'to', None, 'Workdir of the run that is made.', required=True
  )
  _LAST = flags.DEFINE_integer('last', 5, 'Checkpoints that are averaged.')
  processes.define_flags()
  command.run(main)
