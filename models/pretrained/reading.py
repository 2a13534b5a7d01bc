"""The tensors of a checkpoint: checked by headers of files, then read."""

import dataclasses
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict

from models.config import TransformerConfig
from models.pretrained import checks, files
from models.pretrained.arrays import born, build_leaf, leaf_shapes, put
from models.pretrained.mapping import Piece, expand

_BODY = ('embed', 'encoder', 'decoder')


@dataclasses.dataclass(frozen=True)
class Reading:
  """A checkpoint that holds what its model needs, not read yet."""

  config: TransformerConfig
  tensors: files.Tensors
  names: dict[str, str]  # a tensor's name -> as the file has it
  pieces: list[Piece]  # what is read
  new: list[str]  # paths of what a new head needs and the file lacks
  twins: list[tuple[str, str]]  # copies of tied weights, in the file's names

  def check_copies(self) -> None:
    """Raises ValueError if a copy of a tied weight is none."""
    checks.copies(self.tensors, self.twins)

  def read(self, shardings: Any, seed: int) -> dict:
    """The parameters; see `models.pretrained.load`."""
    flat_shardings = {}
    if shardings is not None:
      flat_shardings = flatten_dict(shardings, sep='/')
    params = {}
    if self.new:
      for leaf, x in born(self.config, self.new, seed).items():
        place = flat_shardings.get(leaf)
        params[leaf] = x if place is None else put(x, place)
    by_leaf = {}
    for piece in self.pieces:
      by_leaf.setdefault(piece.leaf, []).append(piece)
    shapes = leaf_shapes(self.config)
    for leaf, own in by_leaf.items():
      params[leaf] = build_leaf(
        own,
        shapes[leaf],
        lambda name: self.tensors.read(self.names[name]),
        flat_shardings.get(leaf),
      )
    return unflatten_dict(params, sep='/')


def check(folder, layout, config, published, tensors) -> Reading:
  """Matches tensors and weights; `published` is the config without overrides.

  Raises:
    ValueError: a weight that is missing, has no place or another shape.
  """
  pieces = expand(layout.weights(config), config, leaf_shapes(config))
  names = checks.find_names(layout, config, tensors, pieces)
  absent = [p for p in pieces if p.theirs not in names]
  other_head = config.head != published.head
  new = []
  if other_head:
    leaves = {piece.leaf for piece in absent}
    new = sorted(x for x in leaves if x.split('/')[0] not in _BODY)
    absent = [p for p in absent if p.leaf not in new]
    pieces = [p for p in pieces if p.leaf not in new]
  checks.present(folder, layout, absent, pieces)
  checks.shapes(config, tensors, names, pieces)
  twins = checks.spares(
    layout, config, published, tensors, names, pieces, other_head
  )
  checks.vocabulary(folder, config.vocab_size, folder)
  return Reading(config, tensors, names, pieces, new, twins)
