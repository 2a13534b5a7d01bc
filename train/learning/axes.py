"""Logical axis names of a weight: which dimensions count, and does it decay."""

from typing import Any

import jax
from ml_collections import ConfigDict

from input_pipeline.choices import unknown

Names = tuple[str, ...]  # one a dimension, such as ('layers', 'embed', 'mlp')


def is_names(x: Any) -> bool:
  """Whether it is a leaf of a tree of axis names."""
  return isinstance(x, tuple)


def check_names(array: jax.Array, names: Names) -> None:
  """Raises ValueError unless there is one name per dimension."""
  if len(names) != array.ndim:
    raise ValueError(
      f'An array of shape {array.shape} needs {array.ndim} axis names, not '
      f'{names}.'
    )


def own(names: Names) -> tuple[int, ...]:
  """The dimensions of a weight within its layer: all but 'layers'.

  >>> own(('layers', 'embed', 'mlp'))
  (1, 2)
  """
  return tuple(i for i, name in enumerate(names) if name != 'layers')


def without(i: int, items: tuple) -> tuple:
  """The items but the i-th."""
  return (*items[:i], *items[i + 1 :])


def decays(names: Names, which: str) -> bool:
  """Whether a weight decays under `optimizer.decay` = `which`.

  'matrices' are kernels and embeddings, which have two dimensions or more
  within their layer. Biases, scales and the tables of relative-position biases
  decay only with 'all'.
  """
  kept = [names[i] for i in own(names)]
  # transformer_xl's two biases have a number for each of a head's dimensions.
  bias = kept == ['heads', 'head_dim']
  matrix = len(kept) >= 2 and 'buckets' not in kept and not bias
  return matrix or which == 'all'


def decaying(optimizer: ConfigDict, axes: Any) -> Any:
  """Whether each weight decays, as a tree like that of their axis names.

  It does if `decays` says so and no name of `optimizer.decay_except` is a part
  of its path: 'embed' is in embed/table, 'bias' in every bias, 'mlp/output' in
  decoder/layers/mlp/output/kernel.

  Raises:
    ValueError: no parameter has a name, or those that have it do not decay.
  """
  names, used, known = optimizer.decay_except, set(), set()

  def shrinks(path, own_names):
    parts = [key.key for key in path]
    known.update(parts)
    found = decays(own_names, optimizer.decay)
    spared = {x for x in names if f'/{x}/' in f'/{"/".join(parts)}/'}
    if found:
      used.update(spared)
    return found and not spared

  tree = jax.tree_util.tree_map_with_path(shrinks, axes, is_leaf=is_names)
  for name in names:
    if name in used:
      continue
    if not {*name.split('/')} <= known:
      wrong = unknown('the name', name, sorted(known))
      raise ValueError(f'optimizer.decay_except: {wrong}')
    raise ValueError(
      f'optimizer.decay_except has {name!r}, but with optimizer.decay='
      f'{optimizer.decay!r} no parameter of that name decays: leave it out.'
    )
  return tree
