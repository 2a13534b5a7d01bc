"""Checkpoints: the state, and what it was trained on (Orbax, asynchronous)."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import jax
import orbax.checkpoint as ocp

from configs.commands import terminal
from configs.commands.command import UserError
from input_pipeline.sources import paths
from train.learning.state import TrainState
from train.parallel import processes
from train.runs import best, checksums, folders, storage

FOLDER = 'checkpoints'
ITEMS = ('state', 'run')
BEST = 'best'  # in place of a step: the one in best.json
TASK = f'{BEST}:'  # before a task: the step that is best for it


def parse_step(text: str) -> int | str | None:
  """The step of a flag --step: a number, 'best', or None for the newest.

  Of several tasks 'best:TASK' is the best one of a task. Raises ValueError for
  another text.
  """
  if text in ('', BEST) or (text.startswith(TASK) and text != TASK):
    return text or None
  if not text.isdecimal():
    raise ValueError(f"--step={text} must be a number, 'best', or 'best:TASK'.")
  return int(text)


class CheckpointError(UserError):
  """No checkpoint could be restored, or saving one failed."""


class Checkpoints:
  """The checkpoints of one workdir.

  Each holds the state (cursor included), the config and the data's fingerprint
  as JSON, and checksums of its files. Saving goes on in the background; a
  checkpoint that a kill cut short never counts as one. Every method that reads
  a checkpoint raises CheckpointError if it is damaged; every method that saves,
  or waits for a save, raises it if that failed.

  Args:
    workdir: the run's.
    keep: how many of the newest to keep; None: all.
    keep_every: keep those at its multiples as well; 0: none.
    keep_first: keep the first one, of step 0, as well.
    read_only: for programs that only read a run.
  """

  def __init__(
    self,
    workdir: str,
    keep: int | None = None,
    keep_every: int = 0,
    read_only: bool = False,
    keep_first: bool = False,
  ):
    folders.check_name(workdir)
    self.folder = storage.Folder(paths.absolute(workdir)) / FOLDER
    # The caller sets these: steps that are kept as well, and the step at or
    # before which one is kept, given the newest.
    self.best = frozenset()
    self.needs = lambda newest: None
    self._keep, self._keep_every = keep, keep_every
    self._keep_first = keep_first
    self._saving = None  # the step of the last save
    self._whole = set()  # steps whose files have been checked
    self._options = ocp.CheckpointManagerOptions(
      preservation_policy=self,
      cleanup_tmp_directories=not read_only,
      read_only=read_only,
      async_options=ocp.AsyncOptions(post_finalization_callback=self._sum_up),
    )
    self._manager = self._open()

  def _open(self) -> ocp.CheckpointManager:
    return ocp.CheckpointManager(
      self.folder, options=self._options, item_names=ITEMS
    )

  def should_preserve(self, checkpoints, *, context) -> list[bool]:
    """Which checkpoints to keep; Orbax asks at each save."""
    del context
    steps = [checkpoint.step for checkpoint in checkpoints]
    newest = sorted(steps)[-self._keep :] if self._keep else steps
    before = self.needs(max(steps)) if steps else None
    needed = None
    if before is not None:
      needed = max((x for x in steps if x <= before), default=min(steps))
    kept = {*newest, *self.best, needed, 0 if self._keep_first else None}
    return [
      step in kept or bool(self._keep_every and step % self._keep_every == 0)
      for step in steps
    ]

  def steps(self) -> list[int]:
    """The steps of the finished checkpoints, oldest first."""
    return sorted(self._manager.all_steps())

  # ---- Saving --------------------------------------------------------------

  def save(self, state: TrainState, step: int, run: dict) -> None:
    """Starts saving `state`; returns as soon as the state may be changed.

    `run` is JSON-able and saved beside it: 'config', 'data' and more.
    """
    self.wait()  # as Orbax's save would do
    self._saving = step
    with self._writing():
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(state), run=ocp.args.JsonSave(run)
        ),
      )

  def check_saved(self) -> None:
    """Reports a failure of a save in the background; waits for nothing."""
    if not self._manager.is_saving_in_progress():
      self.wait()

  def wait(self) -> None:
    """Waits until every save is on disk, with its checksums."""
    with self._writing():
      self._manager.wait_until_finished()
      self._manager.check_for_errors()

  @contextlib.contextmanager
  def _writing(self) -> Iterator[None]:
    """Turns an error inside into a CheckpointError that says what to do."""
    try:
      yield
    except Exception as error:
      steps = self.steps()
      there = (
        'The checkpoints already there are unharmed; make room and run the '
        f'same command again to resume from step {steps[-1]}.'
        if steps
        else 'There is no checkpoint yet: make room and run the same command '
        'again; it begins with the first step.'
      )
      raise CheckpointError(
        f'A checkpoint could not be written to {self.folder}: '
        f'{_first_line(error)}. Is the disk full or read-only? {there}'
      ) from error

  def remove_after(self, step: int) -> None:
    """Removes the checkpoints of later steps, the newest first."""
    self.wait()
    for later in reversed(self.steps()):
      if later > step:
        self._manager.delete(later)
        self._whole.discard(later)

  def _sum_up(self) -> None:
    """Writes the checksums of the checkpoint that is being saved.

    Orbax calls this in the first process, in the thread that saves: all files
    are written, and the folder does not have its final name yet, or in a bucket
    the file that finishes it. So a kill never leaves a checkpoint without
    checksums. One without them was saved by an older program, and can be used.
    """
    found = list(self.folder.glob(f'{self._saving}.*'))
    if paths.is_remote(os.fspath(self.folder)):
      found = [self.folder / str(self._saving)]
    for folder in found:
      checksums.write(os.fspath(folder), ITEMS)
    if not found:
      raise OSError(
        f'{self.folder} has no folder {self._saving}.* to write checksums into.'
      )

  def close(self) -> None:
    """Waits for the last save, and ends Orbax's threads."""
    with self._writing():
      self._manager.close()

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, kind, error, trace) -> None:
    try:
      self.close()
    except CheckpointError as failure:
      if error is None:
        raise
      terminal.warn(str(failure))  # the first error is raised

  # ---- Reading -------------------------------------------------------------

  def find(self, step: int | str | None = None) -> int:
    """The step to read, by default the newest, if it is there and undamaged.

    'best' is the best step by `checkpoint.best`, 'best:TASK' that of a task: a
    ValueError if there is none.
    """
    if isinstance(step, str):
      task = step.removeprefix(BEST).removeprefix(':')
      step = best.saved_step(os.fspath(self.folder.parent), task)
    steps = self.steps()
    there = f'there are: {", ".join(map(str, steps)) or "none"}'
    if not steps or step not in (None, *steps):
      raise CheckpointError(
        f'No checkpoint {"" if step is None else f"of step {step} "}in '
        f'{self.folder}; {there}.'
      )
    step = steps[-1] if step is None else step
    try:
      self._check(step)
    except CheckpointError as error:
      raise CheckpointError(
        f'Checkpoint {self.folder / str(step)} is damaged ({error}). Take '
        f'another --step; {there}.'
      ) from error
    return step

  def _check(self, step: int) -> None:
    """Compares the files with their checksums; all processes agree.

    Everything that reads a checkpoint calls this first; each step is checked
    once.
    """
    if step in self._whole:
      return
    folder = os.fspath(self.folder / str(step))
    found = checksums.damage(folder, jax.process_index(), jax.process_count())
    if not processes.everywhere(not found):
      raise CheckpointError(found or 'another process found a damaged file')
    if not paths.exists(os.path.join(folder, checksums.NAME)):
      terminal.warn(
        f'{folder} has no {checksums.NAME}: damage to it may go unnoticed.'
      )
    self._whole.add(step)

  @contextlib.contextmanager
  def _reading(self, step: int, item: str) -> Iterator[storage.Folder]:
    """Checks a checkpoint, then yields the folder of one of its ITEMS."""
    self._check(step)
    path = self.folder / str(step) / item
    try:
      yield path
    except Exception as error:  # Orbax has no class of its own for damage.
      raise CheckpointError(
        f'{path} cannot be read: {_first_line(error)}'
      ) from error

  def run(self, step: int) -> dict:
    """What was saved beside the state: 'config', 'data' and more."""
    with self._reading(step, 'run') as path:
      run = self._manager.restore(
        step, args=ocp.args.Composite(run=ocp.args.JsonRestore())
      )['run']
    if not isinstance(run, dict) or not all(
      isinstance(run.get(key), dict) for key in ('config', 'data')
    ):
      raise CheckpointError(f"{path} holds no 'config' and 'data'")
    return run

  def restore(self, abstract: Any, step: int) -> Any:
    """The state of a step, laid out as the shardings in `abstract` say."""
    with self._reading(step, 'state'):
      return self._manager.restore(
        step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
      )['state']

  def restore_params(
    self, abstract: Any, step: int, part: str = 'params'
  ) -> Any:
    """The parameters alone, laid out as the shardings in `abstract` say.

    `part` may be the 'average' of an AveragedState. Raises CheckpointError,
    too, if they have other names or shapes.
    """
    self._check(step)
    path = self.folder / str(step) / 'state'
    try:
      storage.check_shapes(storage.read_tree(path)[part], abstract)
      return storage.read_part(path, {part: abstract})[part]
    except Exception as error:
      raise CheckpointError(
        f'The parameters in {path} cannot be read into the model that the '
        f'config describes: {_first_line(error)}'
      ) from error

  def restore_some(self, abstract: dict, step: int) -> dict:
    """A part of the state's tree, laid out as its shardings say."""
    with self._reading(step, 'state') as path:
      return storage.read_part(path, abstract)

  def shapes(self, step: int) -> storage.Shapes:
    """The shapes of all arrays of the state, by path."""
    with self._reading(step, 'state') as path:
      return storage.tree_shapes(storage.read_tree(path))

  def restore_arrays(self, step: int, *parts: str) -> dict:
    """The state, or parts of it, on this host; see `storage.read_arrays`."""
    with self._reading(step, 'state') as path:
      return storage.read_arrays(path, parts)

  def restore_newest(self, abstract: Any) -> tuple[Any, dict] | None:
    """The newest state that can be read, and what was saved beside it.

    None if there is no checkpoint. A damaged one is reported. Once an older one
    has been read, the damaged one is moved to another folder: nothing is
    deleted, and the run can save that step again. Raises CheckpointError if
    there are checkpoints and none can be read.
    """
    damaged, last = [], None
    for step in reversed(self.steps()):
      try:
        found = self.restore(abstract, step), self.run(step)
      except Exception as error:  # Orbax has no class of its own for damage.
        terminal.warn(
          f'Checkpoint {self.folder / str(step)} cannot be read '
          f'({type(error).__name__}: {_first_line(error)}); trying the one '
          'before it.'
        )
        damaged.append(step)
        last = error
      else:
        if damaged:
          self._put_aside(damaged)
        return found
    if not damaged:
      return None
    raise CheckpointError(
      f'None of the checkpoints {sorted(damaged)} in {self.folder} can be '
      f'read; the last error was: {last}'
    ) from last

  def _put_aside(self, steps: list[int]) -> None:
    """Moves damaged checkpoints to WORKDIR/damaged_checkpoints."""
    self._manager.close()
    if jax.process_index() == 0:
      for step in steps:
        target = storage.move(
          self.folder / str(step), self.folder.parent / 'damaged_checkpoints'
        )
        terminal.warn(f'The damaged checkpoint is now in {target}.')
    processes.wait_for_all('damaged checkpoint put aside')
    self._manager = self._open()


def _first_line(error: Exception) -> str:
  return str(error).split('\n')[0][:300]
