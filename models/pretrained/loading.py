"""A checkpoint -> our parameters: checked by its headers, then read."""

import contextlib
import dataclasses
import os
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict

from models.choices import HEADS_OF
from models.config import TransformerConfig
from models.pretrained import checks, files, layout, pair, special
from models.pretrained.arrays import build_leaf, initial, leaf_shapes, put
from models.pretrained.fields import KEPT, Fields
from models.pretrained.mapping import Piece, expand

# What every checkpoint of a family has, whatever its head.
_BODY = ('embed', 'encoder', 'decoder')
_OURS = ('span_joint',)  # heads of encoders that no file has
_DECODERS = tuple(x for x in HEADS_OF['decoder'] if x != 'span')


def read_config(folder: str, **overrides: Any) -> TransformerConfig:
  """The config of a checkpoint; see `load`."""
  if pair.is_pair(folder):
    own = pair.check_overrides(folder, overrides)
    halves = (os.path.join(folder, name) for name in pair.NAMES)
    config = pair.join_config(
      folder, *(read_config(half, **own) for half in halves)
    )
    pair.check_size(folder, config)
    return config
  fields = files.read_config(folder)
  with files.Tensors(folder) as tensors:
    return _configs(folder, fields, tensors, overrides)[1]


def check(folder: str, **overrides: Any) -> list[str]:
  """All that `load` checks before it reads a tensor.

  Returns:
    The paths of the weights that the seed draws, sorted. Of ELECTRA's pair each
    begins with its half.

  Raises:
    ValueError: names the file, field or tensor, and what is wrong with it.
  """
  with contextlib.ExitStack() as stack:
    _, readings = _open(stack, folder, overrides)
    if len(readings) == 1:
      return sorted(readings[0].new)
    halves = zip(pair.NAMES, readings, strict=True)
    return sorted(f'{half}/{x}' for half, one in halves for x in one.new)


def load(
  folder: str, shardings: Any = None, seed: int = 0, **overrides: Any
) -> tuple[TransformerConfig, dict]:
  """Reads a checkpoint.

  The files' headers are enough for every check (see `check`) but one: copies of
  tied weights must be equal. So no tensor is read from a checkpoint that does
  not fit. Tensors are read one at a time: beside the result the host holds
  about one of them, and with shardings one layer of a stacked weight.

  Args:
    folder: config.json and safetensors, in one file or several. For ELECTRA's
      pair: a folder that holds two such folders, 'generator' and
      'discriminator'.
    shardings: tree of Sharding like the parameters (of `read_config`); None:
      NumPy arrays on this host.
    seed: of the weights of a new head and of adapters.
    **overrides: fields of TransformerConfig to set, such as dtype and scan.
      With another `head` than the file's, the body is kept, the file's head is
      left behind, and what the new head needs and the file lacks is newly
      initialised.

  Returns:
    The config and the parameters, float32.

  Raises:
    ValueError: names the file, field or tensor, and what is wrong with it.
  """
  with contextlib.ExitStack() as stack:
    config, readings = _open(stack, folder, overrides)
    for one in readings:
      checks.copies(one.tensors, one.twins)
    if len(readings) == 1:
      return config, readings[0].read(shardings, seed)
    places = (None, None) if shardings is None else pair.split(shardings)
    halves = [
      half.read(place, seed)
      for half, place in zip(readings, places, strict=True)
    ]
    return config, pair.join(*halves)


def kept_fields(folder: str) -> tuple[str, dict]:
  """A checkpoint's model_type, and the fields of its config.json that matter
  to other programs alone: names of classes, ids of special tokens.

  ELECTRA's pair: '' and no fields.
  """
  if pair.is_pair(folder):
    return '', {}
  fields = files.read_config(folder)
  found = {name: fields[name] for name in KEPT if fields.get(name) is not None}
  return fields['model_type'], found


def start_token(folder: str) -> int | None:
  """The id that a checkpoint's texts begin with.

  A decoder's first token in transformers' generation, or what the decoder of an
  encoder-decoder reads first. None if no file says it.

  Raises:
    ValueError: the field is not an id.
  """
  if pair.is_pair(folder):
    return None
  model_type = files.read_config(folder)['model_type']
  return special.start(folder, layout.named(model_type))


def _open(stack, folder, overrides):
  """The config, and what is to be read, all checked: of a pair both halves."""
  if pair.is_pair(folder):
    config = read_config(folder, **overrides)  # they must be a pair
    own = pair.check_overrides(folder, overrides)
    first = os.path.join(folder, pair.NAMES[0])
    checks.vocabulary(folder, config.vocab_size, first)
    halves = [
      _open(stack, os.path.join(folder, name), own) for name in pair.NAMES
    ]
    return config, [half for _, (half,) in halves]
  fields = files.read_config(folder)
  tensors = stack.enter_context(files.Tensors(folder))
  module, config, published = _configs(folder, fields, tensors, overrides)
  return config, [_match(folder, module, config, published, tensors)]


def _configs(folder, fields, tensors, overrides):
  """The layout, and the config with and without the overrides."""
  module = layout.named(fields['model_type'])
  where = os.path.join(folder, files.CONFIG)
  published = module.read(Fields(fields, where), set(tensors.shapes))
  unknown = overrides.keys() - {
    field.name for field in dataclasses.fields(TransformerConfig)
  }
  if unknown:
    raise ValueError(f'model.{min(unknown)} is not a field of a config.')
  heads = HEADS_OF | {'decoder': _DECODERS}
  heads = getattr(module, 'HEADS', heads[published.family])
  head = overrides.get('head', published.head)
  if 'none' in heads and published.family == 'encoder':
    heads = *heads, *_OURS
  if head not in heads:
    raise ValueError(
      f'model.head is {head!r}; {folder} is a {module.MODEL_TYPES[0]} '
      f'checkpoint, which has no place for it: set model.head to one of '
      f'{", ".join(heads)}.'
    )
  if published.family == 'decoder' and overrides.get('features'):
    raise ValueError(
      f'model.features={overrides["features"]!r}: a published decoder takes no '
      'LSTM when it is read; make a run of it first (python -m '
      f'models.pretrained --from={folder} --workdir=RUN) and start from that.'
    )
  return module, dataclasses.replace(published, **overrides), published


@dataclasses.dataclass(frozen=True)
class Reading:
  """A checkpoint that has all its model needs; its tensors are not read yet."""

  config: TransformerConfig
  tensors: files.Tensors
  names: dict[str, str]  # the layout's name of a tensor -> the file's
  pieces: list[Piece]  # what is read
  new: list[str]  # paths of new heads' and adapters' weights
  twins: list[tuple[str, str]]  # copies of tied weights, in the file's names

  def read(self, shardings: Any, seed: int) -> dict:
    """The parameters; see `models.pretrained.load`."""
    places = flatten_dict(shardings or {}, sep='/')
    params = initial(self.config, self.new, seed) if self.new else {}
    if places:
      params = {leaf: put(x, places[leaf]) for leaf, x in params.items()}
    by_leaf = {}
    for piece in self.pieces:
      by_leaf.setdefault(piece.leaf, []).append(piece)

    def read(name):
      return self.tensors.read(self.names[name])

    for leaf, shape in leaf_shapes(self.config).items():
      if leaf in by_leaf:
        params[leaf] = build_leaf(by_leaf[leaf], shape, read, places.get(leaf))
    return unflatten_dict(params, sep='/')


def _match(folder, module, config, published, tensors) -> Reading:
  """Finds a tensor for every weight, or raises ValueError.

  `published` is the config without overrides.
  """
  own = {'adapter_dim': 0}  # no file has adapters
  if config.features or config.head in _OURS:
    own |= {'features': '', 'head': 'none', 'classes': 0}
  bare = dataclasses.replace(config, **own)
  new = [x for x in leaf_shapes(config) if x not in leaf_shapes(bare)]
  pieces = expand(module.weights(bare), bare, leaf_shapes(bare))
  names = checks.find_names(module, tensors, pieces)
  absent = [p for p in pieces if p.theirs not in names]
  if config.head != published.head:
    leaves = {piece.leaf for piece in absent}
    new += sorted(x for x in leaves if x.split('/')[0] not in _BODY)
    absent = [p for p in absent if p.leaf not in new]
    pieces = [p for p in pieces if p.leaf not in new]
  checks.present(folder, module, absent, pieces)
  checks.shapes(bare, tensors, names, pieces)
  twins = checks.spares(module, bare, published, tensors, names, pieces)
  checks.vocabulary(folder, config.vocab_size, folder)
  return Reading(config, tensors, names, pieces, new, twins)
