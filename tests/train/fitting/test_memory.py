"""A device's memory by category, and where its buffers are from."""

import functools
import tempfile

import jax
import jax.numpy as jnp
import pytest

from train.fitting import buffers, memory

# A temporary of 100 bytes holds two arrays that overlap in time, and one later
# at the same place; on the chip (color 1) lies another.
ASSIGNMENT = """BufferAssignment:
allocation 0: size 40, parameter 0, shape |f32[10]| at ShapeIndex {}, maybe-live-out:
 value: <1 p.0 @0> (size=40,offset=0): f32[10]{0}
allocation 1: size 4, constant:
 value: <2 constant.1 @0> (size=4,offset=0): s32[]
allocation 2: size 100, preallocated-temp:
 value: <3 first @0> (size=40,offset=0): f32[10]{0}
 value: <4 second{} @0> (size=8,offset=92): (f32[10]{0}, f32[2]{0})
 value: <5 second{0} @0> (size=40,offset=40): f32[10]{0}
 value: <6 loop{0} (phi) @0> (size=40,offset=40): f32[10]{0}
 value: <7 third @0> (size=40,offset=0): f32[10]{0}
allocation 3: size 640, color 1, preallocated-temp:
 value: <8 near @1> (size=640,offset=0): f32[160]{0:S(1)}
"""  # noqa: E501
RANGES = """HloLiveRange (max 9):
  InstructionSequence:
    0:p.0
    1:constant.1
    2:first
    3:second
    4:near
    5:loop
    6:third
  BufferLiveRange:
    p.0{}:0-9
    constant.1{}:0-9
    first{}:2-4
    second{}:3-4
    second{0}:3-4
    loop{0}:5-8
    third{}:6-6
    near{}:4-5
  Live ranges at 3 (peak):
    first: 40 bytes
"""


def test_an_assignment():
  found = buffers.assign(ASSIGNMENT, RANGES)
  assert found.total == 40 + 4 + 100
  assert found.order[2:4] == ('first', 'second')
  held = {x.names[0]: x for x in found.buffers if x.names}
  assert set(held) == {'constant', 'first', 'second{0}'}
  # A loop carries it on: it is one array, from 3 to 8.
  assert (held['second{0}'].start, held['second{0}'].end) == (3, 8)
  assert held['second{0}'].names == ('second{0}', 'loop{0}')
  assert [x.bytes for x in found.buffers if x.parameter == 0] == [40]
  assert found.gaps == 100 - 2 * 40


def test_buffers_that_overlap_count_once():
  text = ASSIGNMENT.replace('<5 second{0} @0> (size=40,offset=40)', 'none')
  text = text.replace(
    '<6 loop{0} (phi) @0> (size=40,offset=40)',
    '<6 second{0} @0> (size=60,offset=20)',
  )
  found = buffers.assign(text, RANGES)
  held = {x.names[0]: x.bytes for x in found.buffers if x.names}
  assert (held['second{0}'], held['first']) == (60, 20)
  assert found.gaps == 20


B, D, F, L = 64, 32, 128, 6


@functools.cache
def compiled(accumulate):
  """A stack of layers with an optimizer of two moments, on one device."""

  def layer(x, weights):
    up, down = weights
    return jnp.tanh(x @ up) @ down, None

  def loss(params, rows):
    x, _ = jax.lax.scan(layer, rows, params)
    return (x**2).sum()

  def step(state, batch):
    params, opt_state = state['params'], state['opt_state']
    if accumulate == 1:
      grads = jax.grad(loss)(params, batch)
    else:

      def add(total, part):
        grads = jax.grad(loss)(params, part)
        return jax.tree.map(jnp.add, total, grads), None

      zeros = jax.tree.map(jnp.zeros_like, params)
      parts = batch.reshape(accumulate, -1, D)
      grads, _ = jax.lax.scan(add, zeros, parts)
    moments = jax.tree.map(lambda m, g: 0.9 * m + g, opt_state, (grads, grads))
    params = jax.tree.map(lambda p, m: p - m, params, moments[0])
    return {'params': params, 'opt_state': moments}

  array = functools.partial(jax.ShapeDtypeStruct, dtype='float32')
  weights = array((L, D, F)), array((L, F, D))
  state = {'params': weights, 'opt_state': (weights, weights)}
  with tempfile.TemporaryDirectory() as folder:
    options = {'xla_dump_to': folder, 'xla_dump_hlo_as_text': True}
    jitted = jax.jit(step, donate_argnums=0)
    done = jitted.lower(state, array((B, D))).compile(options)
    found, text = buffers.read(folder)
  # A TrainState's attributes are named with dots.
  for name in state:
    text = text.replace(rf'state[\'{name}\']', f'state.{name}')
  return done, found, text


@pytest.mark.parametrize('accumulate', [1, 4])
def test_categories(accumulate):
  done, found, text = compiled(accumulate)
  held = memory.split(found, text)
  sizes = memory.sizes(found, held)
  assert sum(sizes.values()) == found.total
  totals = done.memory_analysis()
  # Every array of the program, but those that are one.
  made = totals.output_size_in_bytes - totals.alias_size_in_bytes
  expected = totals.argument_size_in_bytes + made + totals.temp_size_in_bytes
  assert found.total == pytest.approx(expected, rel=0.01)
  weights = 4 * 2 * L * D * F
  assert sizes['parameters'] == weights
  assert sizes['optimizer'] == 2 * weights
  assert sizes['batch'] == 4 * B * D
  # Of each layer its input, tanh and 1 - tanh are saved.
  saved = 4 * L * (B // accumulate) * (D + 2 * F)
  # And what a layer hands to the next is there, as it is in both passes.
  assert saved <= sizes['activations'] <= saved + 2 * 4 * B * D
  sums = 1 if accumulate == 1 else 2  # of the parts so far, and of this one
  assert sizes['gradients'] == pytest.approx(sums * weights, rel=0.2)


def test_largest_buffers_have_names_and_lines():
  _, found, text = compiled(1)
  largest = memory.split(found, text)
  first = next(x for x in largest if x.category == 'activations')
  assert first.type == f'f32[{L},{B},{F}]'
  assert first.name.startswith('forward: ')
  assert 'test_memory.py:' in first.source
  names = [x.name for x in largest if x.category == 'parameters']
  assert names == ['params/0', 'params/1']


def test_what_no_compiler_wrote(tmp_path):
  assert buffers.read(str(tmp_path)) is None
