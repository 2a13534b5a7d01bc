"""Going back from a spike of the loss, and skipping batches: `runs.spikes`."""

import math
from collections.abc import Iterator

import jax

from train.beginning import first_state
from train.learning.state import TrainState
from train.learning.step import place
from train.parallel import processes
from train.recording import Recorder, TrainingError
from train.runs import history, spikes


def go_back(recorder: Recorder, spike: spikes.Spike) -> tuple[TrainState, int]:
  """The state to go on from, and its step.

  The checkpoints after it are removed, then the rewind is written into the
  history. So a run that is killed at any moment resumes to the same end: as
  long as the history lacks the rewind, the same steps have the same spike.

  Raises:
    TrainingError: there were several rewinds at this place already, or no
      checkpoint is old enough.
  """
  processes.doing(f'going back from step {spike.step}')
  checkpoints, guard = recorder.checkpoints, recorder.guard
  recorder.time.mark(spike.step)
  found = guard.rewind(spike)
  if spike.limit < spike.loss < math.inf:
    what = (
      f'The loss of step {spike.step:,} is {spike.loss:.4g}, above '
      f'{spike.limit:.4g}, train.spike_factor times the median of the steps '
      'before'
    )
  else:
    what = f'The loss of step {spike.step:,}, or its gradient, is not finite'
  if found is None:
    raise TrainingError(
      f'{what}. The run went back from spikes at this place {spikes.MOST} '
      'times, and skipped other batches each time: they are not the reason. '
      'Lower schedule.learning_rate or optimizer.clip, or raise '
      'train.spike_factor, and resume with --accept_changed_config. The '
      f'checkpoints of steps {", ".join(map(str, checkpoints.steps()))} are '
      'kept.'
    )
  with recorder.time.part('rewind'):
    entries = recorder.metadata['history']
    old = [step for step in checkpoints.steps() if step <= found.step]
    if not old and history.source(entries):
      raise TrainingError(
        f'{what}, but there is no checkpoint of step {found.step:,} or before '
        'to go back to: those of this run, which did not begin with its seed, '
        'were removed. Begin another one, in another --workdir.'
      )
    first = max(old, default=0)
    checkpoints.remove_after(first)
    numbers = guard.numbers(found)
    new = spikes.entry(found, spike, first, numbers)
    recorder.metadata['history'] = [*entries, new]
    if jax.process_index() == 0:
      history.write(recorder.folder, recorder.metadata['history'])
    setup, data = recorder.setup, recorder.data
    restored = checkpoints.restore_newest(setup.state)
    state, saved = restored or first_state(setup, data, None)
    step = int(state.step)
    recorder.go_on(saved, step)
  recorder.progress.note(
    f'{what}. Going back to step {found.step:,}, from the checkpoint of step '
    f'{first:,}, and skipping batches {numbers[0]:,} to {numbers[1]:,} there.'
  )
  return state, step


def skip(
  recorder: Recorder,
  state: TrainState,
  step: int,
  batches: Iterator[dict[str, jax.Array]],
) -> TrainState:
  """The state with the cursors after the batches that are skipped at a step."""
  count = recorder.guard.skips(step)
  if not count:
    return state
  with recorder.time.part('rewind'):
    cursor = state.cursor
    move = jax.jit(place, out_shardings=cursor.sharding)
    for number in range(count):
      processes.doing(f'skipping batch {number + 1} after step {step}')
      batch = next(batches)
      cursor = move(cursor, batch['cursor'], batch.get('last_of'))
    return state.replace(cursor=cursor)
