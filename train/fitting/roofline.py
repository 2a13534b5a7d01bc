"""Where a step's time goes: by the parts of the model."""

import dataclasses
import re

from train.fitting.chips import Chip
from train.fitting.program import BACKGROUND, Operation, once, seconds

GROUPS = (
  *('attention scores', 'projections', 'MLP', 'vocabulary and loss'),
  *('dropout', 'norms and elementwise', 'optimizer', 'copies'),
)
_COPIES = {
  *('copy', 'reshape', 'transpose', 'slice', 'pad', 'broadcast', 'concatenate'),
  *('dynamic-slice', 'dynamic-update-slice', 'copy-start', 'convert'),
  *('slice-start', 'dynamic-slice-start'),
}
_MOVES = re.compile(r'dynamic_(update_)?(slice|index)|/(copy|squeeze)$')
_DROPOUT = re.compile(r'drop|random_bits|threefry|bernoulli|keep')
_PROJECTION = re.compile(r'/(query|key|value|output|receptance|gate)/')
_ATTENTION = re.compile(r'/(\w*attention|time_mix)[./]')
_MLP = re.compile(r'/(mlp|channel_mix|adapter)[./]')
_VOCABULARY = re.compile(r'/(vocabulary|embed|head|take_along_axis|\w*_head)\b')
# Marks of JAX's own around a module's name.
_WRAPPERS = re.compile(
  r'/(while|body|cond|branch_\d+_fun|closed_call|checkpoint|remat\w*|'
  r'rematted_computation|shard_map)(?=/|$)'
)


@dataclasses.dataclass(frozen=True)
class Group:
  """The operations of one part, in a step on one device.

  Attributes:
    name: of GROUPS.
    seconds: the estimate.
    flops, bytes: of products, and to and from the large memory.
    products, traffic: seconds that these take at the chip's peak.
  """

  name: str
  seconds: float
  flops: float
  bytes: float
  products: float
  traffic: float

  @property
  def bound(self) -> str:
    """Which of the two peaks is nearer: 'products' or 'memory'."""
    return 'products' if self.products >= self.traffic else 'memory'


def group_of(operation: Operation) -> str:
  """The part of the model that an operation belongs to, of GROUPS.

  The first that fits: copies and reads or writes of a stack without a product;
  dropout by its name; MLP, projections (to and from queries, keys and values)
  and the rest of attention by their modules; vocabulary, embedding, heads and
  the loss; the optimizer, which no pass contains; the rest.
  """
  path = _WRAPPERS.sub('', f'/{operation.path.partition("/")[2]}')
  if not operation.flops:
    if operation.code in _COPIES or not operation.path or _MOVES.search(path):
      return 'copies'
    if _DROPOUT.search(path):
      return 'dropout'
  if _MLP.search(path):
    return 'MLP'
  if _ATTENTION.search(path):
    inner = 'projections' if _PROJECTION.search(path) else 'attention scores'
    # A kernel's path may go on with words of its own.
    return 'attention scores' if 'pallas_call' in path else inner
  if _VOCABULARY.search(path):
    return 'vocabulary and loss'
  if 'jvp(' not in path:
    return 'optimizer'
  inside = re.sub(r'transpose|jvp|jit|vmap|[()]', '', path)
  if not re.search(r'(layers|encoder|decoder|generator)', inside.lower()):
    return 'vocabulary and loss'
  return 'norms and elementwise'


def groups(operations: list[Operation], chip: Chip) -> list[Group]:
  """The parts of a step that take time, in the order of GROUPS."""
  sums = {name: [0.0] * 3 for name in GROUPS}
  for operation in operations:
    own = sums[group_of(operation)]
    own[0] += seconds(operation, chip)
    own[1] += operation.times * operation.flops
    if operation.code not in BACKGROUND:
      own[2] += operation.times * operation.bytes
  return [
    Group(name, *own, own[1] / chip.flops, own[2] / chip.bandwidth)
    for name, own in sums.items()
    if own[0]
  ]


def estimated(operations: list[Operation], chip: Chip) -> float:
  """The share of the seconds that is the compiler's own estimate."""
  total = sum(seconds(x, chip) for x in operations)
  own = sum(
    seconds(x, chip)
    for x in operations
    if x.cycles and chip.clock and once(x, chip)
  )
  return own / total if total else 0.0
