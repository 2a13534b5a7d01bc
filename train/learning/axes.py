"""Logical axis names of a weight: which dimensions count, and does it decay."""

from typing import Any

import jax

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
