"""Which number of ours is which of theirs: declared once, used both ways."""

import dataclasses
from collections.abc import Callable

import numpy as np

from models.config import TransformerConfig

View = Callable[[np.ndarray], np.ndarray]


def whole(x: np.ndarray) -> np.ndarray:
  """All of it, as it is."""
  return x


def turned(x: np.ndarray) -> np.ndarray:
  """[out, in] <-> [in, out]: torch's Linear, our kernels."""
  return x.T


@dataclasses.dataclass(frozen=True)
class Weight:
  """One of our weights, and the tensor in which it lies.

  Reading copies `view(theirs)` to `place(ours)`, writing copies it back; the
  two have as many numbers, in the same order. Both must be views (slices,
  reshapes, transpositions): what is written into them has to arrive. Several
  of ours may share one of theirs (a fused projection), each with its `view`;
  and one of ours may be gathered from several, each with its `place`.

  ours: path in our tree; '*' stands for a layer, of the stack before it:
    'encoder/*/attention/query/kernel'. What `view` sees is that layer's alone.
  theirs: name of the tensor; '*' is the layer's number.
  view: the part of theirs.
  shape: of theirs; None where `view` is its own inverse (whole, turned).
  place: the part of ours.
  """

  ours: str
  theirs: str
  view: View = whole
  shape: tuple[int, ...] | None = None
  place: View = whole


def dense(ours: str, theirs: str) -> list[Weight]:
  """A linear layer with a bias."""
  return [
    Weight(f'{ours}/kernel', f'{theirs}.weight', turned),
    Weight(f'{ours}/bias', f'{theirs}.bias'),
  ]


def norm(ours: str, theirs: str) -> list[Weight]:
  """A layer norm."""
  return [
    Weight(f'{ours}/scale', f'{theirs}.weight'),
    Weight(f'{ours}/bias', f'{theirs}.bias'),
  ]


@dataclasses.dataclass(frozen=True)
class Spare:
  """A tensor that may stand in a file and is not needed: '*' is any number.

  equals: the tensor whose copy it is (tied weights); '' for a buffer that the
    code makes anew.
  """

  theirs: str
  equals: str = ''


@dataclasses.dataclass(frozen=True)
class Piece:
  """A Weight of one layer, with its shapes."""

  leaf: str  # path in our tree
  layer: int | None  # index into a stacked leaf
  theirs: str
  their_shape: tuple[int, ...]
  view: View
  place: View

  def copy_in(self, theirs: np.ndarray, ours: np.ndarray) -> int:
    """theirs -> ours (of this layer), in ours' dtype; how many numbers."""
    into = _view(self.place, ours, self)
    into[...] = self.view(theirs).reshape(into.shape)
    return into.size

  def copy_out(self, ours: np.ndarray, theirs: np.ndarray) -> int:
    """ours (of this layer) -> theirs, in theirs' dtype; how many numbers."""
    into = _view(self.view, theirs, self)
    into[...] = self.place(ours).reshape(into.shape)
    return into.size


def _view(view, array, piece):
  part = view(array)
  if not np.may_share_memory(part, array):
    raise ValueError(
      f'{piece.leaf} <-> {piece.theirs}: the mapping makes a copy, no view.'
    )
  return part


def expand(
  weights: list[Weight], config: TransformerConfig, shapes: dict[str, tuple]
) -> list[Piece]:
  """Every layer's pieces.

  Args:
    weights: of a layout.
    config: says how many layers there are and whether they are stacked.
    shapes: of our weights, by path.

  Raises:
    ValueError: the layout and the model disagree (a fault in the layout): a
      weight that the model does not have, or one that the layout leaves out.
  """
  pieces = []
  filled = dict.fromkeys(shapes, 0)
  for weight in weights:
    for leaf, layer, theirs in _layers(weight, config):
      if leaf not in shapes:
        raise ValueError(f'The layout has {leaf}, the model has not.')
      shape = shapes[leaf][1:] if layer is not None else shapes[leaf]
      ours = np.broadcast_to(np.float32(0), shape)
      their_shape = weight.shape or weight.view(ours).shape
      size = weight.place(ours).size
      found = weight.view(np.broadcast_to(np.float32(0), their_shape)).size
      if size != found:
        raise ValueError(
          f'{leaf} takes {size} numbers, the layout gives it {found} of '
          f'{theirs}, {their_shape}.'
        )
      filled[leaf] += size
      pieces.append(
        Piece(leaf, layer, theirs, their_shape, weight.view, weight.place)
      )
  for leaf, shape in shapes.items():
    if filled[leaf] != int(np.prod(shape)):
      raise ValueError(
        f'The layout fills {filled[leaf]} numbers of {leaf}, {shape}.'
      )
  return pieces


def _layers(weight, config):
  if '*' not in weight.ours:
    return [(weight.ours, None, weight.theirs)]
  stack, rest = weight.ours.split('/*/')
  decoder = stack.split('/')[-1] == 'decoder'
  layers = config.decoder_layers if decoder else config.encoder_layers
  return [
    (
      f'{stack}/layers/{rest}' if config.scan else f'{stack}/layer_{i}/{rest}',
      i if config.scan else None,
      weight.theirs.replace('*', str(i)),
    )
    for i in range(layers)
  ]
