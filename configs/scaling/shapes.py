"""Families of sizes: the shape of a model from its number of parameters.

  system      the system's own proportions: D to layers, F to D, H, K to N
  published   the sizes that the system was published in
  kaplan      Kaplan et al. 2020, 3.1
  chinchilla  Hoffmann et al. 2022, table A9

A rule gives many shapes, and the one whose number of parameters is nearest is
taken. All other choices (norms, positions, vocabulary, ...) are the system's.
"""

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from configs import arguments, chinchilla, tree
from configs.scaling import counts

RULES = 'system', 'published', 'kaplan', 'chinchilla'
COUNTED = 'total', 'non_embedding'
_STACKS = 'encoder_layers', 'decoder_layers'
_FIELDS = (  # of a published size
  *('embed_dim', 'mlp_dim', 'heads', 'kv_heads', 'head_dim', 'rope_dim'),
  *('table_dim', 'generator_divisor', *_STACKS),
)
# Kaplan et al. 2020, 3.1: the loss hardly depends on the shape. F is 4 D and a
# head has 64 units; D over layers between these, from memory of figure 5.
_KAPLAN_ASPECT = 64.0
_STRETCH = 1.5  # how far D over layers may be from the rule's
_ASPECT_COST = 0.2  # of being off by a factor e there, beside N's own


class Shape(NamedTuple):
  """A size of a family.

  Attributes:
    name: 'LAYERSxWIDTH', or that of a published size.
    keys: what it changes in the config, 'model.KEY': value.
    params: N.
    share: of all parameters, those of tables and the output projection.
  """

  name: str
  keys: dict[str, Any]
  params: int
  share: float


class Family:
  """The sizes of a system by a rule.

  Args:
    system: 'NAME[:ARG]' as in configs.tree.
    config: its config, with the keys that all runs share.
    rule: one of RULES.
    counted: what N counts, one of COUNTED.

  Raises:
    ValueError: an unknown rule, or one that the system has no size by.
  """

  def __init__(
    self, system: str, config: ConfigDict, rule: str, counted: str = 'total'
  ):
    for what, value, known in (
      ('rule', rule, RULES), ('count', counted, COUNTED),
    ):  # fmt: skip
      if value not in known:
        raise ValueError(arguments.unknown(what, value, known))
    self._model, self._counted = config.model.to_dict(), counted
    rows = {
      'system': lambda: _grid(config.model, _aspect(config.model), {}),
      'kaplan': lambda: _grid(config.model, _KAPLAN_ASPECT, _kaplan(config)),
      'chinchilla': lambda: _chinchilla(config.model),
      'published': lambda: _published(system, config.model),
    }[rule]()
    self.shapes = [self._shape(name, own, cost) for name, own, cost in rows]
    if not self.shapes:
      raise ValueError(f'{system} has no size by the rule {rule}.')

  def nearest(self, params: float) -> Shape:
    """The shape whose N is nearest, in proportion."""
    _, found = min(
      self.shapes,
      key=lambda row: abs(math.log(row[1].params / params)) + row[0],
    )
    return found

  def _shape(self, name, own, cost):
    model = SimpleNamespace(**self._model | own)
    total, tables = counts.params(model), counts.embedding_params(model)
    N = total - tables * (self._counted == 'non_embedding')
    keys = {f'model.{k}': x for k, x in own.items() if self._model[k] != x}
    return cost, Shape(name, keys, N, tables / total)


def _aspect(m) -> float:
  """D over the layers of a stack."""
  return m.embed_dim / max(m.encoder_layers, m.decoder_layers)


def _kaplan(config) -> dict[str, float]:
  """F over D; a gated MLP has a third matrix (Shazeer 2020, 2)."""
  return {'mlp': 8 / 3 if config.model.gated else 4.0, 'head': 64}


def _grid(m, aspect: float, fixed) -> Iterator[tuple[str, dict, float]]:
  """Shapes of nearly a fixed aspect: name, fields, and what that costs."""
  most = 2 * max(m.encoder_layers, m.decoder_layers)
  for layers in range(1, max(most, 96) + 1):
    low, high = aspect * layers / _STRETCH, aspect * layers * _STRETCH
    unit = 64 if low >= 512 else 32 if low >= 128 else 16
    for D in range(
      max(unit, math.ceil(low / unit) * unit), int(high) + 1, unit
    ):
      own = _fields(m, layers, D, fixed)
      if own:
        off = abs(math.log(D / layers / aspect))
        yield f'{layers}x{D}', own, _ASPECT_COST * off


def _fields(m, layers, D, fixed) -> dict[str, int] | None:
  """The fields of a shape; None if its heads do not fit."""
  own = _layers(m, layers) | {'embed_dim': D}
  F = D * fixed.get('mlp', m.mlp_dim / m.embed_dim)
  own['mlp_dim'] = max(16, round(F / 16) * 16)
  if m.table_dim:  # of ELECTRA small: half of D at most
    own['table_dim'] = max(16, D * m.table_dim // m.embed_dim)
  divisor = m.generator_divisor
  if divisor and D % divisor:
    return None
  if not m.heads:  # RWKV
    return own
  inner = 1.0 if fixed else m.heads * m.head_dim / m.embed_dim
  group = m.heads // m.kv_heads
  largest = fixed.get('head', m.head_dim)
  for H in dict.fromkeys((largest, 64, 32, 16)):
    heads = round(D * inner / H)
    fits = heads * H == round(D * inner) and heads % group == 0
    least = min(4, m.heads) if H > 16 else min(2, m.heads)  # narrow models
    if largest >= H and heads >= least and fits:
      rotated = m.rope_dim * H // m.head_dim // 2 * 2
      sizes = {'heads': heads, 'kv_heads': heads // group, 'head_dim': H}
      return own | sizes | {'rope_dim': rotated}
  return None


def _layers(m, layers):
  return {key: layers for key in _STACKS if m[key]}


def _chinchilla(m):
  """The rows of table A9; below them D is 64 times the layers, as in it."""
  rows = [row for row in chinchilla.SIZES.values() if row]
  rows += [(64 * n, 64 if n > 3 else 16, n if n > 3 else 4 * n, n)
           for n in range(1, 8)]  # fmt: skip
  for D, H, heads, layers in rows:
    own = _layers(m, layers) | {'embed_dim': D}
    own['mlp_dim'] = round(D * (8 / 3 if m.gated else 4) / 16) * 16
    if m.generator_divisor and D % m.generator_divisor:
      continue
    if m.table_dim:
      own['table_dim'] = D * m.table_dim // m.embed_dim
    if m.heads:
      most = m.heads // m.kv_heads  # the nearest group that divides the heads
      group = max(n for n in range(1, most + 1) if heads % n == 0)
      own |= {'heads': heads, 'kv_heads': heads // group, 'head_dim': H}
      own['rope_dim'] = m.rope_dim * H // m.head_dim // 2 * 2
    yield f'{layers}x{D}', own, 0.0


def _published(system, m):
  """The system's own sizes, without `tiny`."""
  name, _, arg = system.partition(':')
  module = tree.module_of(name)
  sizes = module.SIZES
  first = next(iter(sizes.values()), ())
  options = [x for x in arg.split(',') if '=' in x and x[:5] != 'size=']
  if isinstance(first, dict):  # version -> sizes
    version = dict(x.split('=') for x in options).get('version', '')
    sizes = sizes.get(version, first)
  for size in (*sizes, *getattr(module, 'GRID', ())):
    if size == 'tiny':
      continue
    own = module.get_config(','.join([size, *options])).model.to_dict()
    yield size, {key: own[key] for key in _FIELDS}, 0.0
