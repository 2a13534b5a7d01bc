"""Orbax's side of a checkpoint: its folders, and arrays read from them."""

import glob
import os
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from input_pipeline.sources import paths

Shapes = dict[str, tuple[int, ...]]  # by path, such as 'params/embed/table'


class Folder(type(epath.Path())):
  """A path whose own name is never a pattern, whatever brackets it has.

  Orbax looks for files with glob, and etils takes the folder's name as a part
  of the pattern. Every path made from this one is of this class too.
  """

  def glob(self, pattern: str) -> Iterator['Folder']:
    if paths.is_remote(os.fspath(self)):
      return super().glob(pattern)
    here = type(self)(glob.escape(os.fspath(self)))
    return map(type(self), glob.glob(os.fspath(here / pattern)))


def move(path: Folder, folder: Folder) -> Folder:
  """Moves a path into `folder`, as NAME_2 if NAME is taken; returns the new."""
  folder.mkdir(parents=True, exist_ok=True)
  target, number = folder / path.name, 1
  while target.exists():
    number += 1
    target = folder / f'{path.name}_{number}'
  path.rename(target)
  return target


def tree_shapes(tree: Any) -> Shapes:
  """The shapes of a tree's leaves, by path."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): tuple(x.shape)
    for path, x in leaves
  }


def read_tree(path: os.PathLike) -> Any:
  """The tree of a saved state, with the metadata of each array."""
  return _reader().metadata(path).item_metadata.tree


def read_part(path: os.PathLike, abstract: dict) -> dict:
  """A part of a saved state, laid out as the shardings in `abstract` say."""
  restore = ocp.checkpoint_utils.construct_restore_args(abstract)
  return _read(path, abstract, restore)


def read_arrays(path: os.PathLike, parts: tuple[str, ...] = ()) -> dict:
  """A saved state as nested dicts of NumPy arrays on this host.

  Only the named parts, such as ('params',); all of it if none is named.
  """
  tree = read_tree(path)
  tree = {name: tree[name] for name in parts or tree}
  as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
  return _read(path, tree, jax.tree.map(lambda _: as_numpy, tree))


def check_shapes(saved: Any, wanted: Any) -> None:
  """Raises ValueError unless two trees have the same arrays; names one."""
  saved, wanted = tree_shapes(saved), tree_shapes(wanted)
  for name in saved | wanted:
    there, here = saved.get(name, 'missing'), wanted.get(name, 'missing')
    if there != here:
      raise ValueError(
        f'{name} is {there} in the checkpoint and {here} in the model.'
      )


def _reader() -> ocp.Checkpointer:
  return ocp.Checkpointer(ocp.PyTreeCheckpointHandler())


def _read(path, item, restore_args):
  return _reader().restore(
    path,
    args=ocp.args.PyTreeRestore(
      item=item, restore_args=restore_args, partial_restore=True
    ),
  )
