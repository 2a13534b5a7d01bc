"""What devices send, counted in programs whose collectives are known."""
# ruff: noqa: E501 (the lines of a program are long)

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from train.fitting import collectives, hlo, timeline
from train.fitting.chips import Chip, chip_named

TURNS = 3


@pytest.fixture(scope='module')
def mesh():
  return Mesh(np.array(jax.devices()).reshape(4, 2), ('data', 'tensor'))


def simulated(text, mesh, chip=None):
  network = collectives.Network(mesh, chip)
  return timeline.simulate(hlo.parse(text), network, chip)


def test_a_program_of_three_kinds(mesh):
  """A sum over an axis, a gather in a loop and a ring step, by hand."""

  def step(x):  # [2,128] of [8,256]
    def turn(x, _):
      whole = jax.lax.all_gather(x, 'data', axis=0, tiled=True)
      x = x + whole.sum(0, keepdims=True) * 1e-3
      ring = [(n, (n + 1) % 4) for n in range(4)]
      back = [(m, n) for n, m in ring]  # on the same channel as the ring
      there = jax.lax.ppermute(x, 'data', ring)
      return jnp.tanh(there) + jax.lax.ppermute(x, 'data', back), None

    x, _ = jax.lax.scan(turn, x, None, length=TURNS)
    return jax.lax.psum(x, ('data', 'tensor'))

  place = NamedSharding(mesh, P('data', 'tensor'))
  x = jax.ShapeDtypeStruct((8, 256), 'float32', sharding=place)
  mapped = jax.shard_map(
    step, mesh=mesh, in_specs=P('data', 'tensor'), out_specs=P()
  )
  text = jax.jit(mapped).lower(x).compile().as_text()
  line = simulated(text, mesh)
  rows = {
    x.collective.kind: (x.times, x.collective) for x in line.exchanges.values()
  }
  kinds = [x.collective.kind for x in line.exchanges.values()]
  assert kinds.count('collective-permute') == 2
  part = 4 * 2 * 128  # bytes
  assert set(rows) == {'all-gather', 'collective-permute', 'all-reduce'}
  times, gather = rows['all-gather']
  assert (times, gather.axes, gather.devices) == (TURNS, 'data', 4)
  assert (gather.payload, gather.sent) == (4 * part, 3 * part)
  times, ring = rows['collective-permute']
  assert (times, ring.axes) == (TURNS, 'data')
  assert (ring.payload, ring.sent) == (part, part)
  times, total = rows['all-reduce']
  assert (times, total.axes, total.devices) == (1, 'data x tensor', 8)
  assert (total.payload, total.sent) == (part, 2 * part * 7 / 8)


@pytest.mark.parametrize(
  ('text', 'groups'),
  [
    ('{{0,2},{1,3}}', [[0, 2], [1, 3]]),
    ('{}', [[0, 1, 2, 3, 4, 5, 6, 7]]),
    ('[4,2]<=[8]', [[0, 1], [2, 3], [4, 5], [6, 7]]),
    ('[2,4]<=[4,2]T(1,0)', [[0, 2, 4, 6], [1, 3, 5, 7]]),
    ("mesh['a'=4,'b'=2] {'b'}", [[0, 1], [2, 3], [4, 5], [6, 7]]),
    ("mesh['a'=4,'b'=2] {'a'}", [[0, 2, 4, 6], [1, 3, 5, 7]]),
    ("mesh['a'=4,'b'=2] {'a','b'}", [[0, 1, 2, 3, 4, 5, 6, 7]]),
    ("mesh['a'=8] {'a':(1)2}", [[0, 4], [1, 5], [2, 6], [3, 7]]),
    ("mesh['a'=8] {'a':(4)2}", [[0, 1], [2, 3], [4, 5], [6, 7]]),
    (
      "mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'a'}",
      [[0, 1, 2, 3], [4, 5, 6, 7]],
    ),
    (
      "mesh['a'=2,'b'=4, device_ids=([8]<=[4,2]T(1,0))] {'b'}",
      [[0, 2, 4, 6], [1, 3, 5, 7]],
    ),
  ],
)
def test_groups(text, groups):
  assert sorted(map(sorted, collectives.groups_of(text, 8))) == groups


# As TPU's compiler writes an asynchronous gather: its start, work beside it and
# its end are fusions that all contain it, on one channel. An all-reduce of
# which each device keeps a slice, and one that waits.
TEXT = """HloModule jit_step

%start (p.1: bf16[4096,1024]) -> (bf16[4096,1024], bf16[4096,4096]) {
  %p.1 = bf16[4096,1024]{1,0} parameter(0)
  %all-gather.1 = bf16[4096,4096]{1,0} all-gather(%p.1), channel_id=7, replica_groups=mesh['axis_0'=4,'axis_1'=2] {'axis_0'}, dimensions={1}, use_global_device_ids=true
  ROOT %custom-call.1 = (bf16[4096,1024]{1,0}, bf16[4096,4096]{1,0}) custom-call(%all-gather.1), custom_call_target="AsyncCollectiveStart"
}

%beside (p.2: bf16[4096,1024], p.3: bf16[64,64]) -> bf16[64,64] {
  %p.2 = bf16[4096,1024]{1,0} parameter(0)
  %p.3 = bf16[64,64]{1,0} parameter(1)
  %all-gather.2 = bf16[4096,4096]{1,0} all-gather(%p.2), channel_id=7, replica_groups=mesh['axis_0'=4,'axis_1'=2] {'axis_0'}, dimensions={1}, use_global_device_ids=true
  ROOT %convolution.1 = bf16[64,64]{1,0} convolution(%p.3, %p.3), dim_labels=bf_io->bf
}

%end (p.4: bf16[4096,1024]) -> bf16[4096,4096] {
  %p.4 = bf16[4096,1024]{1,0} parameter(0)
  %all-gather.3 = bf16[4096,4096]{1,0} all-gather(%p.4), channel_id=7, replica_groups=mesh['axis_0'=4,'axis_1'=2] {'axis_0'}, dimensions={1}, use_global_device_ids=true
  ROOT %custom-call.2 = bf16[4096,4096]{1,0} custom-call(%all-gather.3), custom_call_target="AsyncCollectiveDone"
}

%sum (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %add = f32[] add(%x, %y)
}

%all-reduce-scatter (p.5: f32[1024,1024]) -> f32[256,1024] {
  %p.5 = f32[1024,1024]{1,0} parameter(0)
  %all-reduce.1 = f32[1024,1024]{1,0} all-reduce(%p.5), channel_id=8, replica_groups={{0,2,4,6},{1,3,5,7}}, to_apply=%sum
  %constant.1 = s32[] constant(0)
  ROOT %dynamic-slice.1 = f32[256,1024]{1,0} dynamic-slice(%all-reduce.1, %constant.1, %constant.1), dynamic_slice_sizes={256,1024}
}

ENTRY %main (a: bf16[4096,1024], b: bf16[64,64], c: f32[1024,1024]) -> f32[1024,1024] {
  %a = bf16[4096,1024]{1,0} parameter(0)
  %b = bf16[64,64]{1,0} parameter(1)
  %c = f32[1024,1024]{1,0} parameter(2)
  %async-collective-start = (bf16[4096,1024]{1,0}, bf16[4096,4096]{1,0}) fusion(%a), kind=kCustom, calls=%start
  %work = bf16[64,64]{1,0} fusion(%a, %b), kind=kOutput, calls=%beside, metadata={op_name="jit(step)/jvp(Decoder)/decoder/layers/mlp/input/dot_general"}, backend_config={"window_config":{"estimated_cycles":"CYCLES"}}
  %async-collective-done = bf16[4096,4096]{1,0} fusion(%a), kind=kCustom, calls=%end
  %all-reduce-scatter.9 = f32[256,1024]{1,0} fusion(%c), kind=kCustom, calls=%all-reduce-scatter
  ROOT %all-reduce.2 = f32[1024,1024]{1,0} all-reduce(%c), channel_id=9, replica_groups=[4,2]<=[8], to_apply=%sum
}
"""
# No coordinates: each group is on one link of 1 GB/s.
CHIP = Chip('x', 'x', 1e12, 2**30, 1e12, 1e9, 1, 1e8, clock=1e9)
WHOLE = 2 * 4096**2


@pytest.mark.parametrize(('work', 'hidden'), [(1.0, 1.0), (0.01, 0.01)])
def test_an_asynchronous_gather_hides_behind_work(mesh, work, hidden):
  text = TEXT.replace('CYCLES', str(int(work * 1e9)))
  line = simulated(text, mesh, CHIP)
  by_kind = {x.collective.kind: x for x in line.exchanges.values()}
  gather = by_kind['all-gather']
  assert (gather.times, gather.collective.axes) == (1, 'data')
  assert gather.collective.payload == WHOLE
  takes = WHOLE * 3 / 4 / 1e9
  assert gather.collective.seconds == pytest.approx(takes)
  assert gather.exposed == pytest.approx(max(takes - hidden, 0))
  assert gather.asynchronous
  assert gather.overlapped == (work == 1.0)
  # The fusion's own work is there; starts and ends are not work.
  assert [x.name for x in line.operations if x.cycles] == ['work']
  assert sum(x.flops for x in line.operations) == 2 * 64**3


def test_an_all_reduce_of_which_a_slice_is_kept(mesh):
  line = simulated(TEXT.replace('CYCLES', '5'), mesh, CHIP)
  by_kind = {x.collective.kind: x for x in line.exchanges.values()}
  scatter = by_kind['reduce-scatter'].collective
  assert (scatter.axes, scatter.payload) == ('data', 4 * 1024**2)
  assert scatter.sent == 4 * 1024**2 * 3 / 4
  whole = by_kind['all-reduce']
  assert (whole.collective.axes, whole.collective.devices) == ('tensor', 2)
  assert whole.collective.sent == 4 * 1024**2
  assert whole.exposed == pytest.approx(4 * 1024**2 / 1e9)
  assert not whole.overlapped


class Device:
  """A device of a slice that is not here."""

  def __init__(self, number, coords, slice_index=0):
    self.id, self.coords, self.slice_index = number, coords, slice_index


def network(shape, bounds, chip, slices=1):
  """A mesh of ('data', 'fsdp') over slices of these sizes."""
  devices = [
    Device(0, place, index)
    for index in range(slices)
    for place in np.ndindex(bounds)
  ]

  class Grid:
    axis_names = 'data', 'fsdp'
    devices = np.empty(shape, object)

  Grid.devices = np.array(devices, object).reshape(shape)
  return collectives.Network(Grid, chip_named(chip))


@pytest.mark.parametrize(
  ('shape', 'bounds', 'chip', 'links'),
  [
    ((1, 256), (16, 16), 'v5e', 4),  # two rings
    ((1, 16), (4, 4), 'v5e', 2),  # two lines
    ((4, 4), (4, 4), 'v5e', 1),
    ((1, 64), (4, 4, 4), 'v5p', 6),
    ((16, 4), (4, 4, 4), 'v5p', 2),
  ],
)
def test_links(shape, bounds, chip, links):
  groups = f"mesh['a'={shape[0]},'b'={shape[1]}]"
  line = hlo.Line(
    'x', 'f32[1024]', 'all-reduce', ('y',),
    f"%y), channel_id=1, replica_groups={groups} {{'b'}}", True,
  )  # fmt: skip
  given = hlo.Line('y', 'f32[1024]', 'parameter', (), '0)', False)
  program = hlo.Program({'main': {'x': line, 'y': given}}, 'main', {})
  found = network(shape, bounds, chip).read(program, line)
  rate = links * chip_named(chip).link
  assert found.seconds == pytest.approx(found.sent / rate)
  assert not found.slow


def test_between_slices():
  line = hlo.Line(
    'x', 'f32[1024]', 'all-reduce', ('y',),
    "%y), channel_id=1, replica_groups=mesh['a'=2,'b'=16] {'a'}", True,
  )  # fmt: skip
  given = hlo.Line('y', 'f32[1024]', 'parameter', (), '0)', False)
  program = hlo.Program({'main': {'x': line, 'y': given}}, 'main', {})
  found = network((2, 16), (4, 4), 'v5e', slices=2).read(program, line)
  assert (found.axes, found.slow) == ('data', True)
  assert found.seconds == pytest.approx(4096 / chip_named('v5e').slow)
