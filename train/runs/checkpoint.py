"""Checkpoints: the state, and what it was trained on (Orbax, asynchronous)."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from configs.command import UserError
from train.learning.state import TrainState
from train.runs import checksums, folders, storage

FOLDER = 'checkpoints'
ITEMS = ('state', 'run')


class CheckpointError(UserError):
  """Nothing could be restored, or saving failed."""


class Checkpoints:
  """The checkpoints of one workdir.

  Each holds the state (cursor included) and, as JSON, the config and the data's
  fingerprint. Saving goes on in the background; a checkpoint that a kill cut
  short never counts as one. Checksums of the files lie in it as well.

  Args:
    workdir: of the run.
    keep: how many of the newest to keep.
    keep_every: keep those at multiples of it as well; 0: none.
    read_only: for programs that look at a run and change nothing.

  Attributes:
    best: a step that is kept as well, to be set by the caller; None: none.
  """

  def __init__(
    self,
    workdir: str,
    keep: int | None = None,
    keep_every: int = 0,
    read_only: bool = False,
  ):
    folders.check_name(workdir)
    self.folder = storage.Folder(os.path.abspath(workdir)) / FOLDER
    self.best = None
    self._keep, self._keep_every = keep, keep_every
    self._options = ocp.CheckpointManagerOptions(
      preservation_policy=self,
      cleanup_tmp_directories=not read_only,
      read_only=read_only,
      async_options=ocp.AsyncOptions(post_finalization_callback=self._sum_up),
    )
    self._saving = None  # the step last given to save
    self._whole = set()  # steps whose files have been checked
    self._manager = self._open()

  def _open(self) -> ocp.CheckpointManager:
    return ocp.CheckpointManager(
      self.folder, options=self._options, item_names=ITEMS
    )

  def should_preserve(self, checkpoints, *, context) -> list[bool]:
    """Orbax asks at each save which checkpoints are to stay."""
    del context
    steps = [checkpoint.step for checkpoint in checkpoints]
    newest = sorted(steps)[-self._keep :] if self._keep else steps
    return [
      step in newest
      or step == self.best
      or bool(self._keep_every and step % self._keep_every == 0)
      for step in steps
    ]

  def steps(self) -> list[int]:
    """The finished checkpoints, oldest first."""
    return sorted(self._manager.all_steps())

  def save(self, state: TrainState, step: int, run: dict) -> None:
    """Starts saving `state`; returns as soon as the state may be changed.

    Raises:
      CheckpointError: this or the save before it could not be written.
    """
    try:
      self._manager.wait_until_finished()  # as its save would do
      self._manager.check_for_errors()
      self._saving = step
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(state), run=ocp.args.JsonSave(run)
        ),
      )
    except Exception as error:
      raise self._unsaved(error) from error

  def check_saved(self) -> None:
    """Reports a failure of what was saved in the background; waits for nothing.

    Raises:
      CheckpointError: it could not be written.
    """
    if not self._manager.is_saving_in_progress():
      self.wait()

  def _unsaved(self, error: Exception) -> CheckpointError:
    steps = self.steps()
    there = (
      'The checkpoints already there are unharmed; make room and run the same '
      f'command again to go on from step {steps[-1]}.'
      if steps
      else 'There is no checkpoint yet: make room and run the same command '
      'again; it begins with the first step.'
    )
    return CheckpointError(
      f'A checkpoint could not be written to {self.folder}: '
      f'{_first_line(error)}. Is the disk full or read-only? {there}'
    )

  def _sum_up(self) -> None:
    """Writes the checksums of the checkpoint that is being saved.

    Orbax calls this in the first process, in the thread that saves, when all
    files are written and the folder is about to get its final name: a kill
    leaves either both or no checkpoint. One without checksums is therefore not
    one that was cut short, but an older program's, and as usable as ever.
    """
    folders = list(self.folder.glob(f'{self._saving}.*'))
    for folder in folders:
      checksums.write(os.fspath(folder), ITEMS)
    if not folders:
      raise OSError(
        f'{self.folder} has no folder {self._saving}.* to write checksums into.'
      )

  def wait(self) -> None:
    """Until everything that was saved lies on disk.

    Raises:
      CheckpointError: it could not be written, or has no checksums.
    """
    try:
      self._manager.wait_until_finished()
      self._manager.check_for_errors()
    except Exception as error:
      raise self._unsaved(error) from error

  def find(self, step: int | None = None) -> int:
    """The step asked for, or the newest one, its files looked at.

    Raises:
      CheckpointError: there is none, or it is damaged.
    """
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
    """Compares the files with their checksums; all processes agree on it.

    Everything that reads a checkpoint does so first; once is enough.
    """
    if step in self._whole:
      return
    folder = os.fspath(self.folder / str(step))
    found = checksums.damage(folder, jax.process_index(), jax.process_count())
    damaged = bool(found)
    if jax.process_count() > 1:
      damaged = multihost_utils.process_allgather(np.array(damaged)).any()
    if damaged:
      raise CheckpointError(found or 'another process found a damaged file')
    if not os.path.exists(os.path.join(folder, checksums.NAME)):
      _say(f'{folder} has no {checksums.NAME}: damage to it may go unnoticed.')
    self._whole.add(step)

  def run(self, step: int) -> dict:
    """What was saved beside the state: 'config' and 'data'.

    Raises:
      CheckpointError: it is damaged.
    """
    folder = self.folder / str(step) / 'run'
    self._check(step)
    try:
      run = self._manager.restore(
        step, args=ocp.args.Composite(run=ocp.args.JsonRestore())
      )['run']
    except Exception as error:  # Orbax has no one class for damage.
      raise CheckpointError(
        f'{folder} cannot be read: {_first_line(error)}'
      ) from error
    if not isinstance(run, dict) or not all(
      isinstance(run.get(key), dict) for key in ('config', 'data')
    ):
      raise CheckpointError(f"{folder} holds no 'config' and 'data'")
    return run

  @contextlib.contextmanager
  def _reading(self, step: int) -> Iterator[Any]:
    """Yields the folder of a state that is whole, whose errors it names.

    Raises:
      CheckpointError: it is damaged, or cannot be read.
    """
    self._check(step)
    path = self.folder / str(step) / 'state'
    try:
      yield path
    except Exception as error:  # Orbax has no one class for damage.
      raise CheckpointError(
        f'{path} cannot be read: {_first_line(error)}'
      ) from error

  def restore(self, abstract: Any, step: int) -> Any:
    """The state of a step, laid out as the shardings in `abstract` say.

    Raises:
      CheckpointError: it is damaged.
    """
    with self._reading(step):
      return self._manager.restore(
        step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
      )['state']

  def restore_params(self, abstract: Any, step: int) -> Any:
    """The parameters alone, laid out as the shardings in `abstract` say.

    Raises:
      CheckpointError: they cannot be read, or have other names or shapes.
    """
    path = self.folder / str(step) / 'state'
    self._check(step)
    reader = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
    try:
      _check_shapes(
        reader.metadata(path).item_metadata.tree['params'], abstract
      )
      return self._restore_some({'params': abstract}, step)['params']
    except Exception as error:
      raise CheckpointError(
        f'The parameters in {path} cannot be read into the model that the '
        f'config describes: {_first_line(error)}'
      ) from error

  def restore_some(self, abstract: dict, step: int) -> dict:
    """A part of the state's tree, laid out as the shardings in it say.

    Raises:
      CheckpointError: it cannot be read.
    """
    with self._reading(step):
      return self._restore_some(abstract, step)

  def _restore_some(self, abstract, step):
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler()).restore(
      self.folder / str(step) / 'state',
      args=ocp.args.PyTreeRestore(
        item=abstract,
        restore_args=ocp.checkpoint_utils.construct_restore_args(abstract),
        partial_restore=True,
      ),
    )

  def shapes(self, step: int) -> dict[str, tuple[int, ...]]:
    """The shape of every array of the state by path, 'params/embed/table'.

    Raises:
      CheckpointError: it is damaged.
    """
    with self._reading(step) as path:
      reader = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
      return tree_shapes(reader.metadata(path).item_metadata.tree)

  def restore_arrays(self, step: int, *parts: str) -> dict:
    """The state of a step as nested dicts of NumPy arrays on this host.

    Only the parts that are named ('params'), or, without a name, all of it.

    Raises:
      CheckpointError: it is damaged.
    """
    with self._reading(step) as path:
      reader = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
      tree = reader.metadata(path).item_metadata.tree
      tree = {name: tree[name] for name in parts or tree}
      as_numpy = jax.tree.map(
        lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree
      )
      return reader.restore(
        path,
        args=ocp.args.PyTreeRestore(
          item=tree, restore_args=as_numpy, partial_restore=True
        ),
      )

  def restore_newest(self, abstract: Any) -> tuple[Any, dict] | None:
    """The newest checkpoint that can be read, or None where there is none.

    A damaged one is said to be so and, once an older one has been read, put
    aside under another name: nothing is deleted, and the run can save that step
    again.

    Returns:
      The state and what was saved beside it.

    Raises:
      CheckpointError: there are checkpoints and none can be read.
    """
    damaged = []
    for step in reversed(self.steps()):
      try:
        found = self.restore(abstract, step), self.run(step)
      except Exception as error:  # Orbax has no one class for damage.
        _say(
          f'Checkpoint {self.folder / str(step)} cannot be read '
          f'({type(error).__name__}: {_first_line(error)}); trying the one '
          'before it.'
        )
        damaged.append(step)
        last = error
      else:
        self._put_aside(damaged)
        return found
    if damaged:
      raise CheckpointError(
        f'None of the checkpoints {sorted(damaged)} in {self.folder} can be '
        f'read; the last error was: {last}'
      ) from last
    return None

  def _put_aside(self, steps: list[int]) -> None:
    if not steps:
      return
    self._manager.close()
    if jax.process_index() == 0:
      aside = self.folder.parent / 'damaged_checkpoints'
      aside.mkdir(parents=True, exist_ok=True)
      for step in steps:
        target = aside / str(step)
        number = 1
        while target.exists():
          number += 1
          target = aside / f'{step}_{number}'
        (self.folder / str(step)).rename(target)
        _say(f'The damaged checkpoint now lies in {target}.')
    if jax.process_count() > 1:
      ocp.multihost.sync_global_processes('damaged checkpoint put aside')
    self._manager = self._open()

  def close(self) -> None:
    """Waits for what is being saved.

    Raises:
      CheckpointError: it could not be written.
    """
    try:
      self._manager.close()
    except Exception as error:
      raise self._unsaved(error) from error

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, kind, error, trace) -> None:
    try:
      self.close()
    except CheckpointError as failure:
      if error is None:
        raise
      _say(str(failure))  # and the error that came first is raised


def _check_shapes(saved: Any, wanted: Any) -> None:
  """Raises ValueError for a parameter that is not the same in both trees."""

  saved, wanted = tree_shapes(saved), tree_shapes(wanted)
  for name in saved | wanted:
    there, here = saved.get(name, 'missing'), wanted.get(name, 'missing')
    if there != here:
      raise ValueError(
        f'{name} is {there} in the checkpoint and {here} in the model.'
      )


def tree_shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  """The shapes of a tree's leaves by path."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): tuple(x.shape)
    for path, x in leaves
  }


def _say(message: str) -> None:
  print(f'Warning: {message}', file=sys.stderr, flush=True)


def _first_line(error: Exception) -> str:
  return str(error).split('\n')[0][:300]
