"""The mapping between our weights and a published checkpoint's tensors.

It is declared once, and used to read and to write.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from models.config import TransformerConfig

View = Callable[[np.ndarray], np.ndarray]


def whole(x: np.ndarray) -> np.ndarray:
  """All of an array."""
  return x


def turned(x: np.ndarray) -> np.ndarray:
  """[out, in] <-> [in, out]: torch's Linear and our kernels."""
  return x.T


@dataclasses.dataclass(frozen=True)
class Weight:
  """One of our weights, and the tensor of theirs that holds it.

  Reading copies `view(theirs)` to `place(ours)`; writing copies it back. Both
  parts have the same numbers in the same order. Both must be NumPy views
  (slices, reshapes, transpositions), so that writing to them changes the array.
  Several of our weights may share one tensor, each with its own `view` (a fused
  projection). One weight may come from several tensors, each with its own
  `place`.

  ours: path in our tree; '*' stands for a layer of the stack before it:
    'encoder/*/attention/query/kernel'.
  theirs: name of the tensor; '*' is the layer's number.
  view: the part of theirs.
  shape: of theirs; None where `view` is its own inverse (whole, turned).
  place: the part of ours, of one layer.
  """

  ours: str
  theirs: str
  view: View = whole
  shape: tuple[int, ...] | None = None
  place: View = whole


def dense(ours: str, theirs: str, bias: bool = True) -> list[Weight]:
  """A linear layer."""
  kernel = Weight(f'{ours}/kernel', f'{theirs}.weight', turned)
  return [kernel, _bias(ours, theirs)] if bias else [kernel]


def norm(ours: str, theirs: str, bias: bool = True) -> list[Weight]:
  """A layer norm; without its bias an RMS norm."""
  scale = Weight(f'{ours}/scale', f'{theirs}.weight')
  return [scale, _bias(ours, theirs)] if bias else [scale]


def _bias(ours, theirs):
  return Weight(f'{ours}/bias', f'{theirs}.bias')


def parts(
  names: dict[str, str], ours: str, theirs: str, bias: bool = True
) -> list[Weight]:
  """Norms ('..._norm') and linear layers: our names -> theirs.

  `ours` and `theirs` are what the names begin with.
  """
  out = []
  for name, their in names.items():
    part = norm if name.endswith('norm') else dense
    out += part(ours + name, theirs + their, bias)
  return out


@dataclasses.dataclass(frozen=True)
class Spare:
  """A tensor that a file may hold but no model needs: '*' is any number.

  equals: the tensor that it copies (tied weights); '' for a buffer that code
    can compute.
  """

  theirs: str
  equals: str = ''


@dataclasses.dataclass(frozen=True)
class Piece:
  """A Weight of one layer, with the shape of its tensor."""

  leaf: str  # path in our tree
  layer: int | None  # index into a stacked leaf
  theirs: str
  their_shape: tuple[int, ...]
  view: View
  place: View

  def copy_in(self, theirs: np.ndarray, ours: np.ndarray) -> int:
    """theirs -> ours (of this layer), in our dtype; returns how many."""
    into = _view(self.place, ours, self)
    into[...] = self.view(theirs).reshape(into.shape)
    return into.size

  def copy_out(self, ours: np.ndarray, theirs: np.ndarray) -> int:
    """ours (of this layer) -> theirs, in their dtype; returns how many."""
    into = _view(self.view, theirs, self)
    into[...] = self.place(ours).reshape(into.shape)
    return into.size


def _view(view, array, piece):
  part = view(array)
  if not np.may_share_memory(part, array):
    raise ValueError(
      f'{piece.leaf} <-> {piece.theirs}: the mapping makes a copy, not a view.'
    )
  return part


def expand(
  weights: list[Weight], config: TransformerConfig, shapes: dict[str, tuple]
) -> list[Piece]:
  """The pieces of all layers; `shapes` are those of our weights, by path.

  Raises:
    ValueError: the layout is wrong: it has a weight that the model does not
      have, or leaves one out.
  """
  pieces = []
  filled = dict.fromkeys(shapes, 0)
  for weight in weights:
    for leaf, layer, theirs in _layers(weight, config):
      if leaf not in shapes:
        raise ValueError(f'The layout has {leaf}, which the model does not.')
      shape = shapes[leaf] if layer is None else shapes[leaf][1:]
      ours = np.broadcast_to(np.float32(0), shape)
      their_shape = weight.shape or weight.view(ours).shape
      size = weight.place(ours).size
      found = weight.view(np.broadcast_to(np.float32(0), their_shape)).size
      if size != found:
        raise ValueError(
          f'{leaf} takes {size} numbers, but the layout gives it {found} of '
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
