"""peft's files -> factors for a base."""

import dataclasses
import os

import jax.numpy as jnp
import numpy as np

from models.config import TransformerConfig
from models.pretrained import files, layout
from models.pretrained.arrays import leaf_shapes
from models.pretrained.peft.fields import CONFIG, Terms, terms
from models.pretrained.peft.modules import (
  LINEAR,
  OTHER,
  START,
  TABLE,
  TABLES,
  Flat,
  leaf_of,
  modules,
  place,
  places,
  whole_pieces,
)
from models.pretrained.peft.writing import BASE, WEIGHTS, fingerprint

BASE_LAYER = '.base_layer.weight'  # the end of the name of a base's matrix


@dataclasses.dataclass(frozen=True)
class Adapter:
  """What the files hold.

  Attributes:
    terms: rank, alpha, and what a user should know.
    factors: A [L,I,R] (or [I,R]) and B [L,R,O], by path.
    heads: weights that were trained whole, by path.
    same: matrices of the base that the files have too, by path: peft adds
      tables and output projections that have factors.
    base: `fingerprint` of the base, where Treeline wrote the files; or ''.
  """

  terms: Terms
  factors: Flat
  heads: Flat
  same: Flat
  base: str


def read(folder: str, config: TransformerConfig, model_type: str) -> Adapter:
  """Reads peft's files for a base.

  Args:
    folder: has the two files.
    config: of the base.
    model_type: of its layout.

  Raises:
    ValueError: a file is missing or damaged; a field asks for what LoRA here
      does not do; the factors are not those of this base.
  """
  path = os.path.join(folder, CONFIG)
  if not os.path.exists(path):
    raise ValueError(f'{folder} has no {CONFIG}: it holds no adapter of peft.')
  found = terms(files.read_json(path), path)
  theirs = modules(config, layout.named(model_type))
  with files.Tensors(folder, WEIGHTS) as tensors:
    pairs, heads = _sorted(folder, tensors, theirs)
    factors = {}
    for name, (a, b) in pairs.items():
      module = theirs[name]
      pair = tensors.read(a), tensors.read(b)
      if a.endswith(TABLE[0]) != module.table:
        raise ValueError(f'{folder}: {a} is not of a table; {OTHER}.')
      module.check(folder, a, *(x.shape for x in pair))
      _take(folder, found, module, *pair, factors)
    known = _known(config, layout.named(model_type), theirs)
    whole = _whole(folder, tensors, heads, config, known)
    same = {x: whole.pop(x) for x in [*whole] if _of_trunk(x)}
    base = tensors.metadata.get(BASE, '')
  shapes = leaf_shapes(config)
  out = {}
  for (leaf, factor), layers in factors.items():
    if None not in layers:
      count = shapes[leaf][0]
      if missing := sorted({*range(count)} - layers.keys()):
        raise ValueError(
          f'{folder} changes {leaf} in {len(layers)} of {count} layers, and '
          f'not in layer {missing[0]} (layers_to_transform): LoRA here changes '
          'a matrix in all layers.'
        )
      x = np.stack([layers[i] for i in range(count)])
    else:
      x = layers[None]
    out[f'{place(leaf)}/{factor}'] = x
  if not out:
    raise ValueError(f'{os.path.join(folder, WEIGHTS)} has no factors of LoRA.')
  return Adapter(found, out, whole, same, base)


def check_base(folder: str, adapter: Adapter, params: Flat) -> None:
  """Raises ValueError if the files name another base than `params`."""
  own = places(adapter.factors)
  same = (adapter.base == fingerprint(params, own, x) for x in (False, True))
  if adapter.base and not any(same):
    raise ValueError(
      f'{folder} was written beside other weights than these, of the same '
      f'shapes: {OTHER}. Give the base that they were trained on.'
    )
  for leaf, x in adapter.same.items():
    both = (np.asarray(y).astype(jnp.bfloat16) for y in (x, params[leaf]))
    if not np.array_equal(*both):
      raise ValueError(
        f'{folder} has {leaf} of its own, which differs from that of the base:'
        f' {OTHER}, or it was trained too.'
      )


def merged(adapter: Adapter, params: Flat) -> Flat:
  """The parameters, by path, with an adapter merged into them: NumPy arrays."""
  out, scale = {**params, **adapter.heads}, adapter.terms.scale
  for name in places(adapter.factors):
    leaf = leaf_of(name, params)
    a, b = (adapter.factors[f'{name}/{x}'] for x in 'ab')
    out[leaf] = params[leaf] + scale * (a @ b)
  return out


def _take(folder, found, module, a, b, factors):
  """Their A and B -> factors[leaf, 'a' or 'b'][layer], in place."""
  a, b = (np.asarray(x, 'float32') for x in (a, b))
  R, several = found.rank, len(module.leaves) > 1
  apart = several and len(a) == R * len(module.leaves)

  def refuse(leaf):
    raise ValueError(
      f'{folder}: the factors of {leaf} have rank {len(a)}, others {R} '
      '(rank_pattern): LoRA here has one tuning.rank.'
    )

  if len(a) != R and not apart:
    refuse(module.leaves[0])
  for number, leaf in enumerate(module.leaves):
    block = slice(number * R, (number + 1) * R) if apart else slice(None)
    own_a = np.zeros((module.shapes[leaf][0], R), 'float32')
    own_b = np.zeros((R, module.shapes[leaf][1]), 'float32')
    for piece, way in zip(module.pieces, module.ways, strict=True):
      if piece.leaf != leaf:
        continue
      own_in, own_out, their_in, their_out, _ = way
      own_a[own_in] = a[block, their_in].T
      own_b[:, own_out] = b[their_out, block].T
      if apart and b[their_out].any(0).sum() > b[their_out, block].any(0).sum():
        refuse(leaf)  # B joins it to a block of another
      layer = piece.layer
    if apart and not (own_a.any() or own_b.any()):
      continue  # it has none
    for name, x in (('a', own_a), ('b', own_b)):
      factors.setdefault((leaf, name), {})[layer] = x


def _sorted(folder, tensors, modules):
  """The names of A and B by module, and those of weights that are whole."""
  pairs, whole = {}, []
  prefixes = {x.partition('.')[0] + '.' for x in modules}
  for name in tensors.shapes:
    own = name.removeprefix(START)
    end = next((x for x in (*LINEAR, *TABLE) if own.endswith(x)), None)
    if end is None:
      whole.append(name)
      continue
    own = own.removesuffix(end)
    places = [x for x in ('', *prefixes) if x + own in modules]
    if not places:
      raise ValueError(
        f'{folder} has factors of {own}, which the base does not have as a '
        f'matrix of its own (or ties to another): {OTHER}, or they change what '
        'LoRA here cannot.'
      )
    number = end in (LINEAR[1], TABLE[1])
    pairs.setdefault(places[0] + own, [None, None])[number] = name
  for name, pair in pairs.items():
    if None in pair:
      raise ValueError(
        f'{folder} has one of the two factors of {name}: copy it again.'
      )
  return pairs, whole


def _known(config, module, theirs):
  """The pieces of weights that may be in the files whole, by their names."""
  known = whole_pieces(config, module)
  for name, own in theirs.items():
    if _of_trunk(own.leaves[0]):
      known[f'{name}{BASE_LAYER}'] = own.pieces
  return known | {x.removeprefix(module.PREFIX): y for x, y in known.items()}


def _of_trunk(leaf):
  """Whether a weight is of the base, and not of a task's head."""
  return leaf in (*TABLES, 'vocabulary/output')


def _whole(folder, tensors, names, config, known):
  """Weights that the files have whole, by our paths."""
  out = {}
  for name in names:
    own = name.removeprefix(START)
    if own not in known:
      raise ValueError(
        f'{folder} holds {name}, which is no factor of LoRA and no weight of '
        f"a task's head of the base (model.head={config.head!r}): merge it "
        "with peft's merge_and_unload, and read that."
      )
    for piece in known[own]:
      shape = leaf_shapes(config)[piece.leaf]
      if tensors.shapes[name] != piece.their_shape:
        raise ValueError(
          f'{folder}: {name} is {tensors.shapes[name]}, and of the base '
          f'{piece.their_shape}: {OTHER}.'
        )
      piece.copy_in(
        tensors.read(name),
        out.setdefault(piece.leaf, np.empty(shape, 'float32')),
      )
  return out
