"""Changes of a config that may let its step fit, the cheapest first.

What a variant needs is estimated from a step that was compiled: its state
shrinks with the devices that share it, its activations with the tokens of a
device's part and with what remat saves. Every compiled variant corrects the
estimates of the others.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

from ml_collections import ConfigDict

from models.kernels.choice import choose
from train.fitting import meshes
from train.setup import Setup

ROOM = 0.97  # of the memory that an estimate may take
# What a step takes longer with each, roughly; only the order matters.
_REMAT = {'none': 1.0, 'attention': 1.08, 'mlp': 1.1, 'dots': 1.12, 'full': 1.3}
# The share of what is saved without remat that is kept.
_KEPT = {'none': 1.0, 'attention': 0.7, 'mlp': 0.6, 'dots': 0.6, 'full': 0.1}
_ACCUMULATE, _TENSOR, _SEQUENCE = 1.05, 1.06, 1.04  # each doubling


@dataclasses.dataclass(frozen=True)
class Variant:
  """One change of a config.

  Attributes:
    changes: dotted keys -> values, the mesh left out.
    mesh: sizes of its axes; None: the config's own.
    cost: of a step's time, relative to the config's.
    state, computed: estimates of bytes a device: of what is there through the
      step, and of what it computes.
  """

  changes: dict[str, Any]
  mesh: dict[str, int] | None
  cost: float
  state: float
  computed: float

  def apply(self, config: ConfigDict) -> ConfigDict:
    """A copy of the config with the changes."""
    if self.mesh:
      changed = meshes.changed(config, self.mesh)
    else:
      changed = config.copy_and_resolve_references()
    changed.update_from_flattened_dict(self.changes)
    return changed

  def words(self) -> str:
    """In few words: 'remat=full accumulate=2 mesh fsdp=64,tensor=4'."""
    found = [
      f'{key.rpartition(".")[2]}={value}' for key, value in self.changes.items()
    ]
    if self.mesh:
      found.append(f'mesh {meshes.words(self.mesh)}')
    return ' '.join(found) or 'as it is'


def candidates(setup: Setup, found: dict[str, Any], slices: int = 1):
  """All variants of a config whose step took `found`, cheapest first."""
  config, c = setup.config, setup.model.config
  own = {axis: setup.mesh.shape[axis] for axis in meshes.AXES}
  rows = setup.data.batch
  options = [None]
  for sizes in meshes.usual(setup.mesh.size, c.heads, slices):
    if meshes.words(sizes) != meshes.words(own):
      options.append(sizes)
  before = {
    'model.attention': config.model.attention,
    'model.remat': c.remat,
    'train.accumulate': config.train.accumulate,
  }
  variants = []
  for attention in _attentions(setup):
    for remat in _remats(c.remat):
      for mesh in options:
        sizes = dict.fromkeys(meshes.AXES, 1) | (mesh or own)
        parts = sizes['data'] * sizes['fsdp']
        for accumulate in _counts(rows, parts, config.train.accumulate):
          changes = {
            'model.attention': attention,
            'model.remat': remat,
            'train.accumulate': accumulate,
          }
          kept = {k: x for k, x in changes.items() if x != before[k]}
          if kept or mesh:
            variants.append(_estimate(setup, found, kept, mesh, own))
  return sorted(variants, key=lambda x: (x.cost, len(x.changes)))


def _attentions(setup):
  """The config's, or 'auto' where that takes a kernel and the config's not."""
  own = setup.config.model.attention
  c = dataclasses.replace(setup.model.config, attention='auto')
  device = setup.mesh.devices.flat[0]
  capability = getattr(device, 'compute_capability', '')
  kernel, _ = choose(c, device.platform, capability, setup.data.pack)
  better = setup.model.config.attention == 'xla' and kernel != 'xla'
  return ['auto'] if better else [own]


def _remats(own):
  """The config's own, and what keeps less; none does if it is 'offload'."""
  return [own] + [x for x in ('dots', 'full') if _KEPT[x] < _KEPT.get(own, 0)]


def _counts(rows, parts, own):
  """The config's own number of parts, and more that divide a device's rows."""
  yield own
  count = 2 * own
  while rows % (parts * count) == 0:
    yield count
    count *= 2


def _estimate(setup, found, changes, mesh, own):
  c, held = setup.model.config, found['memory']
  sizes = dict.fromkeys(meshes.AXES, 1) | (mesh or own)

  def cut(sizes):
    along = ('fsdp', 'sequence') if sizes['fsdp'] > 1 else ()
    return math.prod(sizes[x] for x in (*along, 'tensor', 'stage'))

  def tokens(sizes, accumulate):
    parts = sizes['data'] * sizes['fsdp'] * sizes['sequence'] * accumulate
    return 1 / parts / sizes['tensor'] ** 0.5

  before = setup.config.train.accumulate
  accumulate = changes.get('train.accumulate', before)
  remat = changes.get('model.remat', c.remat)
  share = cut(own) / cut(sizes)
  state = share * sum(
    held[x] for x in ('parameters', 'optimizer', 'average', 'gradients')
  )
  if accumulate > 1 and before == 1:  # the sum of the parts' gradients
    state += share * held['parameters']
  state += held['weights'] + held['other'] + held['batch']
  fewer = tokens(sizes, accumulate) / tokens(own, before)
  saved = held['activations']
  if c.remat in _KEPT:
    saved *= _KEPT[remat] / _KEPT[c.remat]
  working = held['temporaries']
  cost = _REMAT.get(remat, 1.0) / _REMAT.get(c.remat, 1.0)
  if 'model.attention' in changes:  # neither kept nor made whole
    cost *= 0.8
    saved, working = saved * 0.6, working * 0.7
  cost *= _ACCUMULATE ** math.log2(accumulate / before)
  cost *= _TENSOR ** math.log2(sizes['tensor'] / own['tensor'])
  cost *= _SEQUENCE ** math.log2(sizes['sequence'] / own['sequence'])
  if mesh:
    cost *= 1.01
  return Variant(changes, mesh, cost, state, fewer * (saved + working))


def search(
  variants: list[Variant],
  limit: int,
  most: int,
  attempt: Callable[[Variant, int, float], int | None],
) -> Variant | None:
  """The first variant that fits, of at most `most` that are compiled.

  Those whose estimate fits come first, the cheapest of them before the others;
  then those that need least.

  Args:
    variants: from `candidates`.
    limit: bytes of a device.
    most: how many to compile.
    attempt: compiles one, given its number from 1 and its estimate: the bytes
      that it needs, or None if it is refused, which does not count.
  """
  left, ratio, number = list(variants), 1.0, 0
  while left and number < most:

    def need(x, ratio=ratio):
      return x.state + ratio * x.computed

    fitting = [x for x in left if need(x) <= ROOM * limit]
    chosen = fitting[0] if fitting else min(left, key=need)
    left.remove(chosen)
    needed = attempt(chosen, number + 1, need(chosen))
    if needed is None:
      continue
    number += 1
    if needed <= limit:
      return chosen
    if chosen.computed:
      ratio = max((needed - chosen.state) / chosen.computed, ratio / 2)
  return None


def remedies(setup: Setup, found: dict[str, Any]) -> Iterator[str]:
  """What a config could still do to fit, as flags; the cheapest first."""
  c, config = setup.model.config, setup.config
  own = {axis: setup.mesh.shape[axis] for axis in meshes.AXES}
  held = found['memory']
  state = sum(held[x] for x in ('parameters', 'optimizer', 'gradients'))
  if _attentions(setup) != [config.model.attention]:
    yield '--config.model.attention=auto'
  for remat in _remats(c.remat)[1:]:
    yield f'--config.model.remat={remat}'
  counts = [*_counts(setup.data.batch, own['data'] * own['fsdp'], 1)]
  more = [n for n in counts if n > config.train.accumulate]
  if more:
    yield f'--config.train.accumulate={more[0]}'
  if own['data'] > 1 and state > 0.2 * max(found['limit'], 1):
    sizes = own | {'data': 1, 'fsdp': own['fsdp'] * own['data']}
    yield f'--mesh={meshes.words(sizes)}'
  elif own['fsdp'] > 2 and not more:
    tensor = 2 * own['tensor']
    if not c.heads or c.heads % tensor == 0:
      sizes = own | {'fsdp': own['fsdp'] // 2, 'tensor': tensor}
      yield f'--mesh={meshes.words(sizes)}'
