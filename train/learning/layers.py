"""The layer that a parameter belongs to, in stacked and in single layers."""

from collections.abc import Callable
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

Path = tuple[str, ...]

_STACKED, _SINGLE = 'layers', 'layer_'  # of models/stack.py


def in_layer(path: Path) -> Path | None:
  """The path within its layer; None: it belongs to no layer.

  >>> in_layer(('encoder', 'layer_3', 'mlp', 'input', 'kernel'))
  ('mlp', 'input', 'kernel')
  """
  for i, part in enumerate(path):
    if part == _STACKED or part.startswith(_SINGLE):
      return path[i + 1 :]
  return None


def by_layer(
  params: dict,
  inside: Callable[[np.ndarray, int], np.ndarray],
  outside: Callable[[Path, int], Any],
) -> dict:
  """A number for every layer, in a tree that broadcasts to the parameters.

  Args:
    params: arrays or shapes.
    inside: layers int [n], L -> their numbers [n]; a stack has the layers 0,
      the lowest, to L - 1.
    outside: path, L -> the number of a parameter that belongs to no layer; L
      is that of the deepest stack.
  """
  flat = flatten_dict(params)
  depths = {}
  for path, x in flat.items():
    stack, number = _stack(path)
    if stack:
      count = x.shape[0] if number is None else number + 1
      depths[stack] = max(count, depths.get(stack, 0))

  numbers = {}
  for path, x in flat.items():
    stack, number = _stack(path)
    if not stack:
      numbers[path] = outside(path, max(depths.values(), default=0))
    elif number is None:
      found = inside(np.arange(depths[stack]), depths[stack])
      numbers[path] = found.reshape(-1, *(1,) * (len(x.shape) - 1))
    else:
      numbers[path] = inside(np.array([number]), depths[stack])[0]
  return unflatten_dict(numbers)


def _stack(path: Path) -> tuple[Path, int | None]:
  """The path of a parameter's stack, and its layer; None: it has all layers."""
  for i, part in enumerate(path):
    if part == _STACKED:
      return path[:i], None
    if part.startswith(_SINGLE):
      return path[:i], int(part.removeprefix(_SINGLE))
  return (), None
