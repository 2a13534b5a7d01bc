"""The linear layers and tables of theirs that can have factors.

peft keeps A as lora_A [R,I] and B as lora_B [O,R] for each module, whichever
way round the module's own matrix is.

One matrix of theirs may hold several of ours: GPT-2's c_attn has query, key and
value. Read, each of ours gets a copy of their A and its own part of B. Written,
their rank is the sum of the ranks: the A of all are stacked, and B is 0 where
it would join two of them. Such a file is read as it was written.
"""

import dataclasses
import functools
from types import ModuleType

import numpy as np

from models.config import TransformerConfig
from models.pretrained.arrays import leaf_shapes
from models.pretrained.mapping import Piece, expand

# The ends of the names of A and B: of a linear layer, and of a table.
LINEAR = '.lora_A.weight', '.lora_B.weight'
TABLE = '.lora_embedding_A', '.lora_embedding_B'
TABLES = 'embed/table', 'embed/position', 'embed/type'
START = 'base_model.model.'  # of every name in their files
OTHER = 'these are adapters of another base'  # an error's words
_BODY = 'embed', 'encoder', 'decoder', 'vocabulary'

Flat = dict[str, np.ndarray]  # by path, 'decoder/layers/mlp/input/a'


def place(leaf: str) -> str:
  """Where the factors of a matrix stand; see `train.learning.lora.place`."""
  return leaf.removesuffix('/kernel')


def places(factors: Flat) -> list[str]:
  """The places of all factors, sorted."""
  return sorted({name.rpartition('/')[0] for name in factors})


def differs(config: TransformerConfig, leaf: str) -> bool:
  """Whether peft, where it changes a table, computes something else than we do.

  A tied table is the output projection too, which peft leaves as it is. The
  stacks of an encoder-decoder share one, and so do positions with an offset the
  rows of their padding.
  """
  tied = config.tie_embeddings and config.head in ('lm', 'mlm', 'mlm_nsp')
  return leaf in TABLES and (
    config.family == 'encoder_decoder'
    or (leaf == 'embed/table' and tied)
    or (leaf == 'embed/position' and config.position_offset > 0)
  )


def leaf_of(place: str, params: Flat) -> str:
  """The path of the matrix whose factors stand there."""
  return f'{place}/kernel' if f'{place}/kernel' in params else place


@dataclasses.dataclass(frozen=True)
class Module:
  """A linear layer or a table of theirs, and the matrices of ours in it."""

  pieces: tuple[Piece, ...]
  shapes: dict  # of our matrices within their layers, by leaf

  @functools.cached_property
  def leaves(self) -> list[str]:
    return [*dict.fromkeys(piece.leaf for piece in self.pieces)]

  @property
  def table(self) -> bool:
    return self.leaves[0] in TABLES

  @functools.cached_property
  def ways(self) -> list:
    """For each piece what `_ways` says of it."""
    return [
      _ways(x.view, x.place, x.their_shape, self.shapes[x.leaf])
      for x in self.pieces
    ]

  @property
  def turned(self) -> bool:
    """Whether their matrix is [in, out], as ours."""
    return self.ways[0][-1]

  @property
  def size(self) -> tuple[int, int]:
    """(in, out) of theirs."""
    shape = self.pieces[0].their_shape
    return shape if self.turned else shape[::-1]

  def check(self, folder, name, a, b) -> None:
    """Raises ValueError unless A and B, by their shapes, are of this one."""
    if (a[1], b[0]) != self.size or a[0] != b[1]:
      raise ValueError(
        f'{folder}: {name} is {a[0]}x{a[1]} and its B {b[0]}x{b[1]}, but '
        f'{self.leaves[0]} of the base goes from {self.size[0]} to '
        f'{self.size[1]}: {OTHER}.'
      )

  def joined(self, factors: Flat, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Our factors of all leaves -> their A [R',I] and B [O,R']."""
    width, height = self.size
    total = rank * len(self.leaves)
    a, b = np.zeros((total, width)), np.zeros((height, total))
    for piece, way in zip(self.pieces, self.ways, strict=True):
      if f'{place(piece.leaf)}/a' not in factors:
        continue
      ours = [factors[f'{place(piece.leaf)}/{x}'] for x in 'ab']
      if piece.layer is not None:
        ours = [x[piece.layer] for x in ours]
      at = self.leaves.index(piece.leaf) * rank
      block = slice(at, at + rank)
      own_in, own_out, their_in, their_out, _ = way
      a[block, their_in] = np.asarray(ours[0])[own_in].T
      b[their_out, block] = np.asarray(ours[1])[:, own_out].T
    return a, b


@functools.lru_cache(maxsize=64)
def _ways(view, place, their_shape, shape):
  """Indices of a piece's inputs and outputs in our matrix, then in theirs.

  Last comes whether their matrix is [in, out], as ours, which is `shape` [I,O].
  """
  rows, columns = (_numbers(shape, axis) for axis in (0, 1))
  own_rows, own_columns = place(rows), place(columns)
  size = own_rows.shape[0], -1

  def theirs(axis):
    x = view(_numbers(their_shape, axis))
    return x.reshape(own_rows.shape).reshape(size)

  own_in = own_rows.reshape(size)[:, 0]
  own_out = own_columns.reshape(size)[0]
  first, second = theirs(0), theirs(1)
  if first[0, 0] != first[-1, 0]:  # their rows are inputs
    return own_in, own_out, first[:, 0], second[0], True
  return own_in, own_out, second[:, 0], first[0], False


def _numbers(shape, axis):
  """An array whose entries are their own row or column; it takes no memory."""
  index = np.arange(shape[axis], dtype='int32')
  return np.broadcast_to(index[:, None] if axis == 0 else index, shape)


def modules(config: TransformerConfig, layout: ModuleType) -> dict[str, Module]:
  """The modules that can have factors, by name."""
  shapes, found = leaf_shapes(config), {}
  for piece in expand(layout.weights(config), config, shapes):
    leaf = piece.leaf
    known = leaf.endswith('/kernel') or leaf in (*TABLES, 'vocabulary/output')
    if known and leaf.split('/')[0] in _BODY and not differs(config, leaf):
      name = piece.theirs.removesuffix('.weight')
      found.setdefault(name, []).append(piece)
  return {
    name: Module(tuple(pieces), {x.leaf: shapes[x.leaf][-2:] for x in pieces})
    for name, pieces in found.items()
  }


def whole_pieces(
  config: TransformerConfig, layout: ModuleType
) -> dict[str, list[Piece]]:
  """The pieces of weights that a task's head has, by the name of theirs."""
  found = {}
  for piece in expand(layout.weights(config), config, leaf_shapes(config)):
    if piece.leaf.split('/')[0] not in _BODY:
      found.setdefault(piece.theirs, []).append(piece)
  return found
