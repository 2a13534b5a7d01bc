"""Factors -> peft's files."""

import dataclasses
import hashlib
import re
from types import ModuleType

import jax.numpy as jnp
import numpy as np

from models.config import TransformerConfig
from models.pretrained import files, layout
from models.pretrained.peft.fields import CONFIG, written
from models.pretrained.peft.modules import (
  LINEAR,
  START,
  TABLE,
  Flat,
  differs,
  leaf_of,
  modules,
  place,
  places,
  whole_pieces,
)

WEIGHTS = 'adapter_model.safetensors'
BASE = 'treeline_base'  # in the file's metadata: `fingerprint`
# In the paths of layers: stacked by model.scan, or apart.
_STACKED, _SINGLE = '/layers/', re.compile(r'/layer_(\d+)/')


def save(
  config: TransformerConfig,
  params: Flat,
  factors: Flat,
  folder: str,
  *,
  rank: int,
  alpha: float,
  heads: tuple[str, ...] = (),
  base: str = '',
  kept: dict | None = None,
  beside: dict[str, bytes] | None = None,
) -> None:
  """Writes factors as peft's files: all of them, or nothing.

  Args:
    config: of the model.
    params: its parameters by path, without the factors merged.
    factors: see `Adapter`.
    folder: a new or an empty folder.
    rank, alpha: of the factors.
    heads: the tops of paths, such as 'classes', of what was trained whole.
    base: the name or the folder of the base in transformers' layout, for peft;
      '': whoever loads the files names it.
    kept, beside: as for `models.pretrained.save`.

  Raises:
    ValueError: `check_save`'s.
  """
  module = check_save(config, folder, [*factors], kept)
  by_name = modules(_theirs(config), module)
  body_alone = config.head in ('none', 'pooler')
  prefix = module.PREFIX if body_alone else ''
  tensors, ranks, fan = {}, {}, False
  for name, one in by_name.items():
    if not any(f'{place(leaf)}/a' in factors for leaf in one.leaves):
      continue
    own, (a, b) = name.removeprefix(prefix), one.joined(factors, rank)
    for end, x in zip(TABLE if one.table else LINEAR, (a, b), strict=True):
      tensors[f'{START}{own}{end}'] = np.ascontiguousarray(x, 'float32')
    ranks[own] = len(a)
    fan |= one.turned and not one.table
  saved, whole = [], whole_pieces(_theirs(config), module)
  for weight, pieces in whole.items():
    if pieces[0].leaf.split('/')[0] in heads:
      out = np.empty(pieces[0].their_shape, 'float32')
      for piece in pieces:
        piece.copy_out(np.asarray(params[piece.leaf]), out)
      own = weight.removeprefix(prefix)
      tensors[f'{START}{own}'] = out
      saved.append(own.rpartition('.')[0])
  every = [x.rpartition('.')[0] for x in whole] + [*by_name]
  fields = written(
    ranks, [x.removeprefix(prefix) for x in every], rank, alpha,
    saved=sorted({*saved}), turned=fan, base=base, head=config.head,
    family=config.family,
  )  # fmt: skip
  own = places(factors)
  files.write(
    folder, fields, iter(tensors.items()), 2**62, beside or {},
    (CONFIG, WEIGHTS), {BASE: fingerprint(params, own)},
  )  # fmt: skip


def check_save(
  config: TransformerConfig,
  folder: str,
  factors: list[str],
  kept: dict | None = None,
) -> ModuleType:
  """All that `save` checks before it needs an array; returns the layout.

  Raises:
    ValueError: the folder is not empty, no layout expresses the model, or peft
      would compute something else.
  """
  files.check_free(folder)
  merged = 'Write it merged: leave --format out.'
  if config.family == 'electra':
    raise ValueError(
      "ELECTRA's pair is two models, and peft's files hold one adapter. "
      f'{merged}'
    )
  if config.shared_stacks:
    raise ValueError(
      'model.shared_stacks=True: transformers has two stacks, and peft would '
      f'train them apart. {merged}'
    )
  for name in places(factors):
    if differs(config, name):
      raise ValueError(
        f'tuning.matrices has {name!r}, which the model reads in more than one '
        'place, as the output projection (model.tie_embeddings) or in both '
        f'stacks: peft would change one of them alone. {merged}'
      )
  module, _ = layout.suiting(_theirs(config), '', kept)
  return module


def fingerprint(params: Flat, names: list[str], apart: bool = False) -> str:
  """sha256 of the base's matrices with factors, in bfloat16.

  So a base that was rounded to bfloat16 is the same base. It is the same
  whether layers are stacked (model.scan) or not: as of stacked ones, or with
  `apart` as of layers apart, which earlier files of such runs have.

  Args:
    params: of the base, by path.
    names: the places of the factors: 'decoder/layers/mlp/input'.
  """
  found = hashlib.sha256()
  for _, (leaf, x) in sorted(_matrices(params, names, apart).items()):
    x = np.stack([x[i] for i in sorted(x)]) if isinstance(x, dict) else x
    x = np.asarray(x)
    found.update(f'{leaf} {x.shape}\n'.encode())
    found.update(np.ascontiguousarray(x.astype(jnp.bfloat16)).tobytes())
  return found.hexdigest()


def _matrices(params, names, apart):
  """Place -> path and matrix, or matrices by the number of their layer."""
  found = {}
  for name in names:
    leaf = leaf_of(name, params)
    x, single = params[leaf], _SINGLE.search(name)
    if apart and _STACKED in name:
      for i, own in enumerate(np.asarray(x)):
        of_layer = f'/layer_{i}/'
        place = name.replace(_STACKED, of_layer)
        found[place] = leaf.replace(_STACKED, of_layer), own
    elif single and not apart:
      place, leaf = (_SINGLE.sub(_STACKED, path) for path in (name, leaf))
      found.setdefault(place, (leaf, {}))[1][int(single[1])] = x
    else:
      found[name] = leaf, x
  return found


def _theirs(config):
  """The config as transformers has it; see `saving`."""
  if config.family != 'encoder' or config.token_types:
    return config
  return dataclasses.replace(config, token_types=1)
