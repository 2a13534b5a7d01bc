"""LoRA: low-rank changes of frozen matrices (Hu et al. 2021, 4.1).

A matrix W [I,O] acts as W + alpha / R A B, where A [I,R] and B [R,O] are
trained and W is not. The two factors stand beside the model's parameters, under
the key 'lora':

  encoder/layers/attention/query/kernel         W, [L,I,O]
  lora/encoder/layers/attention/query/a, .../b  A, [L,I,R]; B, [L,R,O]
  embed/table                                   W, [V,E]
  lora/embed/table/a, .../b                     A, [V,R]; B, [R,E]

Models get the sums, from `merge`. So LoRA works for every family. Where the
base is kept in bfloat16, sums would round the change away, and take as much
memory as the base: there a layer gets its factors, from `attach`, and computes
x W + x A B. The paper's dropout of A's inputs is not a function of the
parameters, and is left out.
"""

import difflib
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from train.learning.axes import decays, own
from train.learning.layers import in_layer

KEY = 'lora'
KERNEL = 'kernel'  # of models/layers.py's Dense
TABLES = 'table', 'position', 'type'  # of models/embed.py


def matrices(
  axes: dict, parts: tuple[str, ...]
) -> dict[str, list[tuple[str, ...]]]:
  """The matrices that can have factors: name -> paths.

  A matrix of the blocks has one name in all layers and stacks, such as
  'attention/query'; another matrix is named by its path, such as
  'encoder/projection', 'embed/table' and 'vocabulary/output'.

  Args:
    axes: a tree like the model's parameters, a tuple of axis names for each.
    parts: the names at the top of the tree whose matrices count.
  """
  found = {}
  for path, names in flatten_dict(axes).items():
    matrix = len(own(names)) == 2 and decays(names, 'matrices')
    if path[0] in parts and matrix:
      name = '/'.join(place(in_layer(path) or path))
      found.setdefault(name, []).append(path)
  return found


def place(path: tuple[str, ...]) -> tuple[str, ...]:
  """Where the factors of the matrix at a path stand, below KEY.

  >>> place(('encoder', 'layers', 'mlp', 'input', 'kernel'))
  ('encoder', 'layers', 'mlp', 'input')
  >>> place(('embed', 'table'))
  ('embed', 'table')
  """
  return path[:-1] if path[-1] == KERNEL else path


def factors(
  params: dict,
  axes: dict,
  parts: tuple[str, ...],
  names: tuple[str, ...],
  rank: int,
) -> tuple[dict, dict]:
  """Shapes and axis names of the factors, without KEY.

  Args:
    params: shapes of the model's parameters.
    axes: a tuple of axis names for each.
    parts: see `matrices`.
    names: the chosen names of `matrices`.
    rank: R.

  Raises:
    ValueError: the model has no matrix with a name, or R is not below both
      sides of a matrix.
  """
  known = matrices(axes, parts)
  shapes, named = {}, {}
  params, axes = flatten_dict(params), flatten_dict(axes)
  for name in names:
    if name not in known:
      near = difflib.get_close_matches(name, known, 1, 0.4)
      hint = f' Did you mean {near[0]!r}?' if near else ''
      raise ValueError(
        f'tuning.matrices has {name!r}, which LoRA cannot change.{hint} '
        f'It can change: {", ".join(sorted(known))}.'
      )
    for path in known[name]:
      *outer, rows, columns = params[path].shape
      if rank >= min(rows, columns):
        raise ValueError(
          f'tuning.rank is {rank}; it must be below {min(rows, columns)}, the '
          f'smaller side of {name}: larger factors are not low-rank.'
        )
      *layers, row_axis, column_axis = axes[path]
      for factor, shape, own_axes in (
        ('a', (*outer, rows, rank), (*layers, row_axis, 'rank')),
        ('b', (*outer, rank, columns), (*layers, 'rank', column_axis)),
      ):
        key = (*place(path), factor)
        shapes[key] = jax.ShapeDtypeStruct(shape, 'float32')
        named[key] = own_axes
  return unflatten_dict(shapes), unflatten_dict(named)


def draw(shapes: dict, rng: jax.Array) -> dict:
  """New factors, as in peft and loralib; the model is at first unchanged.

  A is uniform in +-I^-1/2 and B is 0. (The paper's A is normal.) Of a table A
  is 0 and B is normal: a lookup in A reads few rows of it.

  Args:
    shapes: from `factors`.
    rng: decides A, or a table's B.
  """
  flat = flatten_dict(shapes)
  new = {}
  for number, (path, x) in enumerate(sorted(flat.items())):
    new[path] = jnp.zeros(x.shape, x.dtype)
    key, table = jax.random.fold_in(rng, number), path[-2] in TABLES
    if table and path[-1] == 'b':
      new[path] = jax.random.normal(key, x.shape, x.dtype)
    elif not table and path[-1] == 'a':
      bound = x.shape[-2] ** -0.5
      new[path] = jax.random.uniform(key, x.shape, x.dtype, -bound, bound)
  return unflatten_dict(new)


def merge(params: dict, scale: float) -> dict:
  """The model's parameters: W + scale A B for each W that has factors.

  Args:
    params: the model's parameters, and the factors under KEY.
    scale: alpha / R.
  """
  base, pairs = _parted(params)
  changed = _changed({path: base[path] for path in pairs}, pairs, scale)
  return unflatten_dict(base | changed)


def attach(params: dict, scale: float) -> dict:
  """The model's parameters: each layer with factors gets A and scale B.

  `models.layers.Dense` reads them beside its kernel. A matrix that no Dense has
  (a table, the output projection) is merged, in float32.

  Args:
    params, scale: as for `merge`.
  """
  base, pairs = _parted(params)
  others = {path: x for path, x in pairs.items() if path[-1] != KERNEL}
  changed = _changed({path: base[path] for path in others}, others, scale)
  for path, pair in pairs.items():
    if path not in others:
      changed[*path[:-1], 'a'] = pair['a']
      changed[*path[:-1], 'b'] = scale * pair['b']
  return unflatten_dict(base | changed)


def changes(params: dict) -> bool:
  """Whether the factors under KEY change a matrix: new ones do not.

  Of new factors one of each pair is 0; see `draw`.
  """
  pairs = {}
  for (*place, _), x in flatten_dict(params[KEY]).items():
    pairs.setdefault(tuple(place), []).append(bool(jnp.any(x)))
  return any(map(all, pairs.values()))


def _parted(params):
  """The model's parameters by path, and the factors of each matrix's path."""
  base = flatten_dict({k: x for k, x in params.items() if k != KEY})
  pairs = {}
  for (*beside, name), factor in flatten_dict(params[KEY]).items():
    kernel = *beside, KERNEL
    path = kernel if kernel in base else tuple(beside)
    pairs.setdefault(path, {})[name] = factor
  return base, pairs


@jax.jit
def _changed(kernels: dict, pairs: dict, scale: float) -> dict:
  def change(kernel: jax.Array, pair: dict[str, Any]) -> jax.Array:
    return kernel + scale * jnp.matmul(
      pair['a'], pair['b'], precision='highest'
    )

  return {path: change(x, pairs[path]) for path, x in kernels.items()}
