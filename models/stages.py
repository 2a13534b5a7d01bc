"""The turns of a pipeline, as one device computes them: see pipelining.py.

Its weights are in staged_weights.py.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from models.sharding import Axes, axes_in, fitting, parts_of

Tree = Any
Names = tuple[str, ...]
Rules = tuple[tuple[str, Axes], ...]


def turns(stages: int, microbatches: int, repeats: int = 1) -> int:
  """How many turns a pipeline takes. In M R of them a stage has work."""
  if repeats > 1:  # S microbatches go round together
    microbatches = -(-microbatches // stages) * stages
  return repeats * microbatches + stages - 1


def axes_of(rules: dict[str, Any], name: str | None) -> tuple[str, ...]:
  """The mesh axes of a rule."""
  return axes_in(rules.get(name))


@dataclasses.dataclass(frozen=True)
class Plan:
  """Sizes and axes of a pipeline, for a batch: the same on all devices.

  Attributes:
    stages, microbatches, repeats: S, M, R.
    own: the rows of a device.
    each: the rows of a microbatch.
    axis: the mesh axis of the stages.
    rows: the mesh axes along which the batch is cut beside it.
    manual: all mesh axes that the program of a device names.
    rules: logical axis name -> mesh axes, outside of the program.
  """

  stages: int
  microbatches: int
  repeats: int
  own: int
  each: int
  axis: str
  rows: tuple[str, ...]
  manual: frozenset[str]
  rules: Rules

  @classmethod
  def of(cls, batch: int, microbatches: int, repeats: int) -> 'Plan':
    """The plan for a batch on the mesh, by the rules, of where it is called.

    If the microbatches do not divide the rows, there may be fewer of them, and
    the last one may end in rows of zeros.
    """
    mesh, rules = jax.sharding.get_abstract_mesh(), nn.get_logical_axis_rules()
    table = dict(rules)
    (axis,) = axes_of(table, 'layers')
    beside = tuple(x for x in axes_of(table, 'act_batch') if x != axis)
    rows = fitting(mesh, beside, batch)
    own = batch // parts_of(mesh, rows)
    each = -(-own // microbatches)
    return cls(
      stages=mesh.shape[axis],
      microbatches=-(-own // each),
      repeats=repeats,
      own=own,
      each=each,
      axis=axis,
      rows=rows,
      manual=frozenset((*beside, axis)),
      rules=tuple(rules),
    )

  @property
  def inside(self) -> Rules:
    """The rules for what the program of a device computes."""
    table = dict(self.rules)

    def left(name):
      axes = axes_of(table, name)
      return tuple(x for x in axes if x not in self.manual) or None

    return tuple((name, left(name)) for name in table)

  @property
  def even(self) -> bool:
    """Whether all stages keep equally many microbatches.

    If so, those of a stage are neighbours. If not, neighbouring microbatches
    are kept by neighbouring stages.
    """
    return self.microbatches % self.stages == 0

  @property
  def groups(self) -> int:
    """K, how many times S microbatches enter."""
    return -(-self.microbatches // self.stages)

  @property
  def turns(self) -> int:
    return turns(self.stages, self.microbatches, self.repeats)

  @property
  def streams(self) -> PartitionSpec:
    """How what `entering` returns is cut."""
    return PartitionSpec(self.rows or None, None, self.axis)

  def entering(self, x: jax.Array) -> jax.Array:
    """[B,...] -> [P,K,S,each,...], for P parts of rows.

    Microbatch k S + s is in [:,k,s]. Some of the last may be zeros.
    """
    S, K, tail = self.stages, self.groups, x.shape[1:]
    parts = parts_of(jax.sharding.get_abstract_mesh(), self.rows)
    x = x.reshape(parts, self.own, *tail)
    if self.even:
      x = _longer(x, 1, self.microbatches * self.each)
      return x.reshape(parts, S, K, self.each, *tail).swapaxes(1, 2)
    x = _longer(x, 1, K * S * self.each)
    return x.reshape(parts, K, S, self.each, *tail)

  def leaving(self, x: jax.Array) -> jax.Array:
    """What `entering` made of [B,...] -> [B,...]."""
    if self.even:
      x = x.swapaxes(1, 2)
    x = x.reshape(x.shape[0], -1, *x.shape[4:])[:, : self.own]
    return x.reshape(-1, *x.shape[2:])

  def by_microbatch(self, x: jax.Array) -> jax.Array:
    """A device's rows [own,...] -> [M,each,...]."""
    x = _longer(x, 0, self.microbatches * self.each)
    return x.reshape(self.microbatches, self.each, *x.shape[1:])

  def gathered(self, names: Names) -> tuple[tuple[str, ...], ...]:
    """The axes that the program gathers each dimension of a weight from."""
    table = dict(self.rules)
    return tuple(
      tuple(x for x in axes_of(table, name) if x in self.manual)
      for name in names
    )

  def weight(self, names: Names) -> PartitionSpec:
    """How stacked weights [L,...] reach the program."""
    return PartitionSpec(self.axis, *(x or None for x in self.gathered(names)))


class Device:
  """What the device of a stage does.

  A microbatch is a run of neighbouring rows of the device. Number m = k S + s
  is kept by stage s, in column k of its stream. It enters stage 0 in turn
  k S R + s, and comes back to it from the last stage S R turns later. From
  there the results take the places that the inputs have left.
  """

  def __init__(self, plan: Plan, stage: jax.Array):
    self.plan, self.stage = plan, stage

  def run(
    self,
    group: Callable,
    layers: Tree,
    inputs: list[jax.Array],
    by_row: list[jax.Array],
  ) -> jax.Array:
    """The pipeline, from the device's inputs to its part of the results.

    Args:
      group: layers, repeat, the inputs and the `by_row` of a microbatch -> its
        result, like the first input.
      layers: of all repeats.
      inputs: the device's part of what `plan.entering` makes; the first is
        what the layers change.
      by_row: [n,...] of all rows of the device.
    """
    plan = self.plan
    streams = [x[0, :, 0] for x in inputs]
    by_row = [plan.by_microbatch(x) for x in by_row]
    empty = [jnp.zeros_like(x[0]) for x in streams]

    def turn(carry, number):
      state, feed, results = self._exchange(streams, carry, number)
      microbatch, repeat = self._place(number)
      rows = [_at(x, self._run_of_rows(microbatch)) for x in by_row]
      x = group(layers, repeat, state, rows)
      state = self._sent([x, *state[1:]], 1)
      return (state, self._sent(feed, -1), results), None

    carry = empty, empty, jnp.zeros_like(streams[0])
    carry, _ = jax.lax.scan(turn, carry, jnp.arange(plan.turns))
    _, feed, results = self._exchange(streams, carry, plan.turns)
    # The last results are on their way to the stages that keep them.
    (last,) = self._sent(feed[:1], plan.turns % plan.stages)
    results = results.at[plan.groups - 1].set(last)
    return results[None, :, None]

  def _run_of_rows(self, microbatch):
    """The place of a microbatch's rows among the runs of the device's rows."""
    S, K = self.plan.stages, self.plan.groups
    if not self.plan.even:
      return microbatch
    return microbatch % S * K + microbatch // S

  def _place(self, number):
    """The microbatch and the repeat that the stage computes in a turn."""
    S, R, M = self.plan.stages, self.plan.repeats, self.plan.microbatches
    number = jnp.maximum(number - self.stage, 0)
    microbatch = number // (S * R) * S + number % S
    return jnp.minimum(microbatch, M - 1), number // S % R

  def _exchange(self, streams, carry, number):
    """What is done before a turn: new inputs for results.

    Args:
      streams: of the inputs, [K,b,...] each.
      carry: the state, what the stage computes next; the feed, S microbatches
        on their way to stage 0, or their results on the way back; and the
        stream of results.
      number: of the turn.
    """
    (x, *state), feed, results = carry
    S, R, K = self.plan.stages, self.plan.repeats, self.plan.groups
    k, i = number // (S * R), number % (S * R)
    # A feed begins. The one before it has the results of the one before that.
    done = jnp.maximum(k - 2, 0)
    kept = jax.lax.select((i == 0) & (k > 1), feed[0], _at(results, done))
    results = jax.lax.dynamic_update_index_in_dim(results, kept, done, 0)
    feed = [
      jax.lax.select(i == 0, _at(new, jnp.minimum(k, K - 1)), old)
      for new, old in zip(streams, feed, strict=True)
    ]
    enters = (self.stage == 0) & (i < S)
    state = [
      jax.lax.select(enters, new, old)
      for new, old in zip(feed, [x, *state], strict=True)
    ]
    feed[0] = jax.lax.select(enters, x, feed[0])
    return state, feed, results

  def _sent(self, arrays, steps):
    """The arrays of the stage that is so many steps before this one."""
    S = self.plan.stages
    way = [(s, (s + steps) % S) for s in range(S)]
    return [jax.lax.ppermute(x, self.plan.axis, way) for x in arrays]


def _at(x, index):
  return jax.lax.dynamic_index_in_dim(x, index, keepdims=False)


def _longer(x, axis, size):
  """x, filled up with zeros to a size."""
  pads = [(0, 0)] * x.ndim
  pads[axis] = 0, size - x.shape[axis]
  return jnp.pad(x, pads)
