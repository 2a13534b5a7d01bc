"""Products counted in programs, beside closed forms."""

import jax
import jax.numpy as jnp
import pytest

from train.fitting.program import operations


def counted(function, *shapes):
  given = [jax.ShapeDtypeStruct(x, 'float32') for x in shapes]
  text = jax.jit(function).lower(*given).compile().as_text()
  return sum(x.times * x.flops for x in operations(text))


def test_loops_of_products():
  """A loop in a loop, forward and backward."""
  B, D, L, turns = 8, 64, 5, 3

  def loss(weights, x):
    def layer(x, w):
      return jnp.tanh(x @ w), None

    def turn(x, _):
      return jax.lax.scan(layer, x, weights)[0], None

    return jax.lax.scan(turn, x, None, length=turns)[0].sum()

  product = 2 * B * D * D
  assert counted(loss, (L, D, D), (B, D)) == turns * L * product
  assert counted(jax.grad(loss), (L, D, D), (B, D)) == 3 * turns * L * product


def test_a_batch_of_products():
  assert counted(jnp.matmul, (6, 8, 16), (6, 16, 32)) == 2 * 6 * 8 * 16 * 32


def test_the_branch_with_most_products_counts():
  def step(x, w):
    return jax.lax.cond(x[0, 0] > 0, lambda: x @ w, lambda: x @ w @ w)

  assert counted(step, (8, 64), (64, 64)) == 2 * 2 * 8 * 64 * 64


# TPU's compiler writes products as convolutions: plain, with a batch of rows as
# a window that reads all of them, and with heads as a padded window whose
# places meet once each.
TEXT = """HloModule jit_step

ENTRY %main (a: f32[8,64,32], b: f32[8,32,16], k: f32[32,16]) -> f32[8,64,16] {{
  %a = f32[{left}] parameter(0)
  %b = f32[{kernel}] parameter(1)
  ROOT %convolution.1 = f32[{out}]{{2,1,0}} convolution(%a, %b), {how}
}}
"""


@pytest.mark.parametrize(
  ('left', 'kernel', 'out', 'how', 'expected'),
  [
    ('64,32', '32,16', '64,16', 'dim_labels=bf_io->bf', 2 * 64 * 32 * 16),
    (
      '8,64,32', '8,64,16', '32,16,1',
      'window={size=8}, dim_labels=0fb_0io->bf0', 2 * 8 * 64 * 32 * 16,
    ),
    (
      '8,64,32', '1,32,16', '8,64,16',
      'window={size=1}, dim_labels=0bf_0io->0bf', 2 * 8 * 64 * 32 * 16,
    ),
    (  # 8 heads: out[h] = left[h] x kernel[h]; a place meets its own alone
      '8,64,32', '8,32,16', '8,64,16',
      'window={size=8 stride=7 pad=7_7 lhs_dilate=8}, dim_labels=0bf_0io->0bf',
      2 * 8 * 64 * 32 * 16,
    ),
    (  # a picture of 4 x 4, a kernel of 3 x 3, padded: 10 meetings a side
      '2,4,4,3', '3,3,3,5', '2,4,4,5',
      'window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f',
      2 * 2 * 10 * 10 * 3 * 5,
    ),
  ],
)  # fmt: skip
def test_convolutions(left, kernel, out, how, expected):
  text = TEXT.format(left=left, kernel=kernel, out=out, how=how)
  (product,) = (x for x in operations(text) if x.code == 'convolution')
  assert product.flops == expected
