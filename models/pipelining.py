"""A stack of layers as a pipeline: each stage of the mesh has some of them.

The rows of a batch are cut into M microbatches. In every turn each of the S
stages computes its layers for one microbatch and hands the result on (GPipe:
Huang et al. 2019, 2.3), so that M + S - 1 turns do the work of M. With R
repeats a stage has R groups of layers that do not follow one another, and the
microbatches go round R times, S of them together: R M + S - 1 turns, each an
R-th as long (the interleaved schedule of Narayanan et al. 2021, 2.2).

  turn      0  1  2  3  4  5  6  7  8       S = 2, M = 4, R = 2
  stage 0   a0 b0 a2 b2 c0 d0 c2 d2         microbatches a to d,
  stage 1      a1 b1 a3 b3 c1 d1 c3 d3      groups of layers 0 to 3

All devices run one program, which `jax.shard_map` cuts along the axes of rows
and stages, and the partitioner along the others. Autodiff gives the pipeline of
the backward pass. Weights are gathered once in a pass. Their gradients are
summed in float32 over the turns, and then, once, over devices.
"""

import contextlib
import contextvars
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core.scope import LazyRng
from jax.sharding import PartitionSpec

from models import row_keys
from models.staged_weights import brought, looped, read, regrouped, with_sums
from models.stages import Device, Plan, axes_of

Tree = Any

# Fields of `block.Context` that do not belong to rows, and those that go from
# stage to stage with their rows. Of all others each stage has all rows.
_ROWLESS, _TRAVELS = ('bias', 'distances'), ('source',)


@dataclasses.dataclass(frozen=True)
class Schedule:
  """How a batch goes through a pipeline.

  Attributes:
    microbatches: M; 0: as many as stages.
    repeats: R, how many groups of layers a stage has.
  """

  microbatches: int = 0
  repeats: int = 1


_SCHEDULE = contextvars.ContextVar('schedule')


@contextlib.contextmanager
def scheduled(schedule: Schedule) -> Iterator[None]:
  """Pipelines that are traced inside have this schedule."""
  token = _SCHEDULE.set(schedule)
  try:
    yield
  finally:
    _SCHEDULE.reset(token)


def stages() -> int:
  """S, into how many stages mesh and rules cut layers; 1 without them."""
  mesh = jax.sharding.get_abstract_mesh()
  axes = axes_of(dict(nn.get_logical_axis_rules()), 'layers')
  return 1 if mesh.empty or not axes else mesh.shape[axes[0]]


class Pipeline(nn.Module):
  """Applies a stack of layers whose stacked parameters have its name.

  `stack.repeat` creates them. Dropout has the bits that it has in a stack that
  is no pipeline.

  Attributes:
    block: the class of a layer, as for `stack.repeat`.
    fields: of the block.
    ready: makes of `shared` what a layer reads.
    policy: what a layer keeps for the backward pass, for `jax.checkpoint`;
      None: all.
    unroll: layers in a turn of the loop over those of a group.
  """

  block: type[nn.Module]
  fields: dict[str, Any]
  ready: Callable[[Tree], Tree]
  policy: Callable[..., bool] | None
  unroll: int

  def __call__(self, x: jax.Array, own: Tree, shared: Tree) -> jax.Array:
    """[B,T,D] -> [B,T,D]; `own` and `shared` are those of `stack.repeat`."""
    schedule = _SCHEDULE.get(Schedule())
    microbatches = schedule.microbatches or stages()
    plan = Plan.of(x.shape[0], microbatches, schedule.repeats)
    params = self.variables['params']
    names, counts = self._traced(x, own, shared)
    keys = self._keys(jax.tree.leaves(params)[0].shape[0])
    numbers = jnp.arange(x.shape[0], dtype='int32')
    travels, by_row, whole, join = _sorted(shared, x.shape[0])

    params, sums = with_sums(params)

    def compute(stage, params, sums, layers, inputs, by_row, whole):
      device = Device(plan, stage[0])

      def group(layers, repeat, inputs, by_row):
        (x, *travels), (numbers, *by_row) = inputs, by_row
        shared = join(travels, by_row, whole)
        layer = functools.partial(self._layer, counts, shared, numbers[0])
        return looped(layer, x, layers, repeat, self.policy, self.unroll)

      with nn.logical_axis_rules(plan.inside):
        layers = (
          brought(plan, device.stage, params, sums, names),
          jax.tree.map(lambda x: regrouped(plan, device.stage, x), layers),
        )
        return device.run(group, layers, inputs, by_row)

    stage, rows = PartitionSpec(plan.axis), PartitionSpec(plan.rows)
    weights = jax.tree.map(lambda _, x: plan.weight(x), params, names)
    compute = jax.shard_map(
      compute,
      in_specs=(
        *(stage, weights, weights, stage, plan.streams, rows),
        PartitionSpec(),
      ),
      out_specs=plan.streams,
      axis_names=plan.manual,
      check_vma=False,
    )
    inputs = [plan.entering(x) for x in (x, *travels)]
    x = compute(
      jnp.arange(plan.stages), params, sums, (own, keys), inputs,
      [numbers, *by_row], whole,
    )  # fmt: skip
    return plan.leaving(x)

  def _layer(self, counts, shared, first, x, layer):
    """One layer, for rows from the number `first` on: a step of `scan`."""
    pairs, (own, key) = layer
    rngs = {}
    if key is not None:
      root = self._root
      key = jax.random.wrap_key_data(key, impl=jax.random.key_impl(root.rng))
      rngs['dropout'] = LazyRng(row_keys.of_rows(key, first), root.suffix)
    block = self._block({'params': read(pairs)}, rngs)
    block.scope.rng_counters = _copied(counts)
    x, _ = block(x, None, own, self.ready(shared))
    return x, None

  def _block(self, variables, rngs):
    return self.block(**self.fields, parent=None).bind(variables, rngs=rngs)

  @property
  def _root(self):
    """The dropout key that all layers' keys come from, and the module's path.

    A layer's key is split from it before the path is folded in: as in nn.scan.
    """
    return LazyRng.create(self.scope.rngs['dropout'])

  def _keys(self, layers):
    """The data of each layer's dropout key; None: nothing is dropped."""
    if not self.has_rng('dropout'):
      return None
    key = jax.random.clone(self._root.rng)
    return jax.random.key_data(jax.random.split(key, layers))

  def _traced(self, x, own, shared):
    """Traces a layer for the names of its weights, and its counts of keys.

    The names are logical, one for each dimension. The counts are how many keys
    each module draws. `nn.scan` traces a layer twice, and the second trace
    makes the program: it counts on from the first one, and so must a pipeline.
    """
    counts = {}

    def trace(x, own, shared):
      own = jax.tree.map(lambda leaf: leaf[0], own)
      inputs = x, None, own, self.ready(shared)
      block = self.block(**self.fields, parent=None)
      variables = block.init(jax.random.key(0), *inputs)
      if self.has_rng('dropout'):
        rngs = {'dropout': jax.random.key(0)}
        block = self._block(nn.unbox(variables), rngs)
        block(*inputs)
        counts.update(block.scope.rng_counters)
      return variables['params']

    with nn.logical_axis_rules(()):  # the mesh need not divide all rows
      boxed = jax.eval_shape(trace, x, own, shared)
    specs = nn.get_partition_spec(boxed)
    names = jax.tree.map(
      tuple, specs, is_leaf=lambda x: isinstance(x, PartitionSpec)
    )
    return names, counts


def _copied(counts):
  """A copy of Flax's nested counters, which each trace raises.

  Their keys hold an object that Flax knows by its identity: `copy.deepcopy`
  would make another one.
  """
  return {
    key: _copied(x) if isinstance(x, dict) else x for key, x in counts.items()
  }


def _sorted(shared, rows):
  """Three lists of the leaves of `shared`, and a function that joins them.

  They are those that travel, those by row, and the others.
  """
  flat, tree = jax.tree_util.tree_flatten_with_path(shared)
  kinds = []
  for path, leaf in flat:
    field = getattr(path[0], 'name', '') if path else ''
    if field in _ROWLESS or leaf.shape[0] != rows:
      kinds.append(2)
    else:
      kinds.append(0 if field in _TRAVELS else 1)

  def join(*sorts):
    left = [iter(leaves) for leaves in sorts]
    return jax.tree.unflatten(tree, [next(left[kind]) for kind in kinds])

  def sort(wanted):
    pairs = zip(flat, kinds, strict=True)
    return [leaf for (_, leaf), kind in pairs if kind == wanted]

  return *map(sort, range(3)), join
