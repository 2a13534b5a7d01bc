"""The traffic and the cycles of a compiled program, read from its text."""
# ruff: noqa: E501 (the lines of a program are long)

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import SingleDeviceSharding

from tests.helpers.slices import NEEDS_COMPILER
from train import fit
from train.fitting import program
from train.fitting.chips import chip_named
from train.fitting.program import Operation, operations

# A loop of 5 turns. Each reads a slice of a stack, multiplies, and writes the
# product into another stack; one array lies on the chip, in S(1).
TEXT = """HloModule jit_step

%fused_slice (param_0.1: f32[5,8,128], param_1.1: s32[]) -> f32[8,128] {
  %param_0.1 = f32[5,8,128]{2,1,0:T(8,128)} parameter(0)
  %param_1.1 = s32[]{:T(128)} parameter(1)
  %dynamic-slice.1 = f32[1,8,128]{2,1,0:T(8,128)} dynamic-slice(%param_0.1, %param_1.1), dynamic_slice_sizes={1,8,128}
  ROOT %bitcast.1 = f32[8,128]{1,0:T(8,128)} bitcast(%dynamic-slice.1)
}

%fused_update (param_0.2: bf16[5,8,128], param_1.2: f32[8,128], param_2.2: s32[]) -> bf16[5,8,128] {
  %param_0.2 = bf16[5,8,128]{2,1,0:T(8,128)(2,1)} parameter(0)
  %param_1.2 = f32[8,128]{1,0:T(8,128)S(1)} parameter(1)
  %param_2.2 = s32[]{:T(128)} parameter(2)
  %convert.1 = bf16[1,8,128]{2,1,0:T(8,128)(2,1)} convert(%param_1.2)
  ROOT %dynamic-update-slice.1 = bf16[5,8,128]{2,1,0:T(8,128)(2,1)} dynamic-update-slice(%param_0.2, %convert.1, %param_2.2)
}

%body (arg.1: (s32[], f32[5,8,128], bf16[5,8,128])) -> (s32[], f32[5,8,128], bf16[5,8,128]) {
  %arg.1 = (s32[]{:T(128)}, f32[5,8,128]{2,1,0:T(8,128)}, bf16[5,8,128]{2,1,0:T(8,128)(2,1)}) parameter(0)
  %gte.0 = s32[]{:T(128)} get-tuple-element(%arg.1), index=0
  %gte.1 = f32[5,8,128]{2,1,0:T(8,128)} get-tuple-element(%arg.1), index=1
  %gte.2 = bf16[5,8,128]{2,1,0:T(8,128)(2,1)} get-tuple-element(%arg.1), index=2
  %fusion.1 = f32[8,128]{1,0:T(8,128)S(1)} fusion(%gte.1, %gte.0), kind=kLoop, calls=%fused_slice, metadata={op_name="jit(step)/while/body/slice"}, backend_config={"window_config":{"estimated_cycles":"100"}}
  %kernel.1 = f32[8,128]{1,0:T(8,128)S(1)} custom-call(%fusion.1), custom_call_target="tpu_custom_call", metadata={op_name="jit(step)/while/body/kernel"}, backend_config={"custom_call_config":{"cost_estimate":{"flops":"3000"}}}
  ROOT %fusion.2 = bf16[5,8,128]{2,1,0:T(8,128)(2,1)} fusion(%gte.2, %kernel.1, %gte.0), kind=kLoop, calls=%fused_update, backend_config={"window_config":{"estimated_cycles":"7"}}
}

%cond (arg.2: (s32[], f32[5,8,128], bf16[5,8,128])) -> pred[] {
  %constant.1 = s32[]{:T(128)} constant(5)
  %arg.2 = (s32[]{:T(128)}, f32[5,8,128]{2,1,0:T(8,128)}, bf16[5,8,128]{2,1,0:T(8,128)(2,1)}) parameter(0)
  %gte.3 = s32[]{:T(128)} get-tuple-element(%arg.2), index=0
  ROOT %lt.1 = pred[]{:T(512)} compare(%gte.3, %constant.1), direction=LT
}

ENTRY %main (p.1: f32[5,8,128]) -> f32[5,8,128] {
  %p.1 = f32[5,8,128]{2,1,0:T(8,128)} parameter(0)
  %copy.1 = f32[5,8,128]{1,2,0:T(8,128)} copy(%p.1), metadata={op_name="jit(step)/copy"}
  %loop = (s32[]{:T(128)}, f32[5,8,128]{2,1,0:T(8,128)}, bf16[5,8,128]{2,1,0:T(8,128)(2,1)}) while(%p.1), condition=%cond, body=%body
}
"""
SLICE, STACK = 4 * 8 * 128, 5 * 4 * 8 * 128


def test_counts_loops_and_slices():
  copy, read, kernel, write = operations(TEXT)
  path = 'jit(step)/while/body/'
  assert copy == Operation(
    'jit(step)/copy', 'copy', 1, 2 * STACK, 0, 0, 'copy.1'
  )
  # 4 bytes are the loop's number, which the fusions read.
  assert read == Operation(
    f'{path}slice', 'fusion', 5, SLICE + 4, 100, 0, 'fusion.1'
  )
  assert kernel == Operation(
    f'{path}kernel', 'custom-call', 5, 0, 0, 3000, 'kernel.1'
  )
  assert write == Operation('', 'fusion', 5, SLICE // 2 + 4, 7, 0, 'fusion.2')


def test_seconds():
  def seconds(operation):
    return program.seconds(operation, chip_named('v5e'))

  copy, read, kernel, _ = operations(TEXT)
  assert seconds(copy) == pytest.approx(2 * STACK / 819e9)
  assert seconds(read) == pytest.approx(5 * 100 / 1.503e9)
  assert seconds(kernel) == pytest.approx(5 * 3000 / 197e12)


def test_a_loop_of_unknown_length_is_an_error():
  with pytest.raises(ValueError, match='does not count to a constant'):
    operations(TEXT.replace('direction=LT', 'direction=NE'))


def test_a_loop_that_begins_later():
  """As after a first turn that is peeled off."""
  text = TEXT.replace(
    'while(%p.1)',
    'while(%given)',
  ).replace(
    '  %loop = ',
    '  %first = s32[] constant(2)\n'
    '  %given = (s32[], f32[5,8,128], bf16[5,8,128]) tuple(%first, %p.1, %p.1)\n'
    '  %loop = ',
  )
  assert [x.times for x in operations(text)] == [1, 3, 3, 3]


@pytest.mark.slow
@NEEDS_COMPILER
def test_products_of_a_loop():
  """24 products of 2,048 x 2,048: their cycles are near those at the peak."""
  place = SingleDeviceSharding(fit.topology('v5e:2x2')[0])
  L, D = 24, 2048

  def step(x, weights):
    return jax.lax.scan(lambda x, w: (jnp.dot(x, w), None), x, weights)[0]

  x, weights = (
    jax.ShapeDtypeStruct((*n, D, D), 'bfloat16') for n in ((), (L,))
  )
  compiled = jax.jit(step, in_shardings=place).lower(x, weights).compile()
  (product,) = (
    x for x in operations(compiled.as_text()) if 'dot_general' in x.path
  )
  ideal = L * 2 * D**3 / 197e12
  seconds = program.seconds(product, chip_named('v5e'))
  assert ideal <= seconds < 1.2 * ideal
  assert product.times * product.bytes == L * 2 * D * D  # the weights, once
