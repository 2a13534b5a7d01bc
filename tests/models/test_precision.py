"""With bfloat16, softmax, norms, logits and loss are still float32.

Each is compared with float64 of the same bfloat16 operands, much more closely
than bfloat16 rounds (2^-9), or its primitives are checked one by one.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.attention import attend
from models.build import build
from models.config import TransformerConfig
from models.heads import Vocabulary
from models.layers import Norm, gelu, linear
from models.positions import rope_angles, rotate
from tests.helpers.decoders import BASE, POSITIONS, tiny_decoder
from tests.helpers.jaxprs import equations
from tests.helpers.t5_reference import tiny_config
from tests.models.families import test_electra as electra
from tests.models.families.test_rwkv import FIELDS as RWKV
from train.learning.losses import weighted_cross_entropy
from train.learning.state import abstract_params

HALF = 'bfloat16'
ULP = 2.0**-8  # the relative distance between two bfloat16 numbers


def half(rng, *shape, scale=1.0, mean=0.0):
  return jnp.asarray(rng.normal(mean, scale, shape), HALF)


def wide(x):
  return np.asarray(x.astype('float32'), 'float64')


# What must not be computed in bfloat16.
SENSITIVE = {
  'exp', 'exp2', 'log', 'log1p', 'rsqrt', 'sqrt', 'reduce_sum', 'reduce_max',
  'cumsum', 'argmax', 'sin', 'cos', 'div',
}  # fmt: skip

FAMILIES = {
  **{f'decoder {name}': BASE | {'position': name} | own
     for name, own in POSITIONS.items()},
  'rms_norm': BASE | {'position': 'none', 'norm': 'rms_norm'},
  'post': BASE | {'position': 'none', 'norm_placement': 'post'},
  'encoder_decoder': dataclasses.asdict(tiny_config('1.1')),
  'encoder': electra.ENCODER | {'head': 'mlm_nsp'},
  'span': electra.ENCODER | {'head': 'span'},
  'tokens': electra.ENCODER | {'head': 'tokens', 'classes': 3},
  'electra': electra.FIELDS,
  'rwkv': RWKV,
}  # fmt: skip


@pytest.mark.parametrize('name', FAMILIES)
def test_what_is_computed_in_float32(name):
  config = TransformerConfig(**FAMILIES[name] | {'dtype': HALF})
  model = build(config)
  params, _ = abstract_params(model)
  assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype('float32')}
  ints = jax.ShapeDtypeStruct((2, 8), 'int32')
  batch = dict.fromkeys(model.INPUTS, ints)
  traced, out = jax.make_jaxpr(
    lambda p, batch: model.apply({'params': p}, **batch), return_shape=True
  )(params, batch)
  for x in jax.tree.leaves(out):
    assert x.dtype in ('float32', 'int32', 'bool')
  products = layers = 0
  for equation in equations(traced.jaxpr):
    dtypes = {x.aval.dtype for x in equation.invars if hasattr(x, 'aval')}
    if equation.primitive.name in SENSITIVE:
      assert jnp.dtype(HALF) not in dtypes, equation
    if equation.primitive.name == 'scan':
      before, after = (equation.params[f'num_{k}'] for k in ('consts', 'carry'))
      stream = {
        x.aval.dtype
        for x in equation.invars[before : before + after]
        if x.aval.shape == (2, 8, config.embed_dim)
      }
      layers += bool(stream)
      # What is not: the residual stream, operands of the layers' products.
      assert stream <= {jnp.dtype(HALF)}
      for inner in equations(equation.params['jaxpr'].jaxpr):
        if inner.primitive.name == 'dot_general':
          assert {x.aval.dtype for x in inner.invars} == {jnp.dtype(HALF)}
          products += 1
  assert layers
  assert products > 5


@pytest.mark.parametrize(
  'norm', ['layer_norm', 'layer_norm_no_bias', 'rms_norm']
)
def test_norms(norm):
  """Norms are rounded once, at the end, to about the nearest bfloat16."""
  rng = np.random.default_rng(0)
  x = half(rng, 8, 256, mean=20.0)
  scale, bias = rng.normal(1, 0.3, (2, 256)).astype('float32')
  params = {'scale': scale}
  y = wide(x)
  if norm != 'rms_norm':
    y = y - y.mean(-1, keepdims=True)
  y = y / np.sqrt((y**2).mean(-1, keepdims=True) + 0.3) * scale
  if norm == 'layer_norm':
    params['bias'] = bias
    y = y + bias
  config = tiny_decoder('none', norm=norm, norm_epsilon=0.3, dtype=HALF)
  ours = Norm(config).apply({'params': params}, x)
  assert ours.dtype == HALF
  nearest = wide(jnp.asarray(y, HALF))
  assert (wide(ours) == nearest).mean() > 0.99


def test_attention():
  """Logits are some tens, whose first decimal bfloat16 would lose."""
  rng = np.random.default_rng(1)
  q, k = half(rng, 2, 9, 3, 16, scale=3.0), half(rng, 2, 9, 3, 16, scale=3.0)
  v, d_out = half(rng, 2, 9, 3, 16), half(rng, 2, 9, 3, 16)
  bias = rng.normal(size=(3, 9, 9)).astype('float32')
  (out, back) = jax.vjp(lambda *x: attend(*x[:3], None, x[3]), q, k, v, bias)
  assert out.dtype == HALF
  d_q, d_k, d_v, d_bias = back(d_out)

  Q, K, V, G = (wide(x) for x in (q, k, v, d_out))
  logits = np.einsum('BTNH,BSNH->BNTS', Q, K) + bias
  weights = np.exp(logits - logits.max(-1, keepdims=True))
  weights /= weights.sum(-1, keepdims=True)
  d_weights = np.einsum('BTNH,BSNH->BNTS', G, V)
  # The mean of d_weights comes from the outputs, which are rounded.
  mean = np.einsum('BTNH,BTNH->BNT', G, wide(out))[..., None]
  d_logits = weights * (d_weights - mean)
  for ours, truth in (
    (out, np.einsum('BNTS,BSNH->BTNH', weights, V)),
    (d_v, np.einsum('BNTS,BTNH->BSNH', weights, G)),
    (d_q, np.einsum('BNTS,BSNH->BTNH', d_logits, K)),
    (d_k, np.einsum('BNTS,BTNH->BSNH', d_logits, Q)),
    (d_bias, d_logits.sum(0)),
  ):
    error = np.abs(wide(ours) - truth).max() / np.abs(truth).max()
    assert error < 1.5 * ULP
  assert d_bias.dtype == 'float32'


def test_rope():
  """Angles are float32, and what is turned is rounded once."""
  x = half(np.random.default_rng(5), 2, 40, 3, 10)
  at = jnp.tile(jnp.arange(100, 140), (2, 1))
  angles = rope_angles(tiny_decoder('rope', dtype=HALF), at)
  ours = rotate(x, angles)
  assert ours.dtype == HALF
  sin, cos = (f(wide(angles))[:, :, None] for f in (np.sin, np.cos))
  a, b = wide(x)[..., :3], wide(x)[..., 3:6]
  truth = np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
  nearest = wide(jnp.asarray(truth, HALF))
  assert (wide(ours)[..., :6] == nearest).mean() > 0.99


def test_logits():
  """The operands are rounded to bfloat16, the sums never."""
  config = tiny_decoder('none', dtype=HALF, tie_embeddings=False)
  rng = np.random.default_rng(2)
  x = half(rng, 2, 5, 24)
  kernel = rng.normal(size=(24, 50)).astype('float32')
  ours = Vocabulary(config).apply({'params': {'output': kernel}}, x, None)
  assert ours.dtype == 'float32'
  truth = wide(x) @ wide(jnp.asarray(kernel, HALF))
  np.testing.assert_allclose(ours, truth, rtol=1e-5, atol=1e-5)


def test_loss():
  rng = np.random.default_rng(3)
  logits = half(rng, 2, 5, 50, scale=5.0)
  targets = rng.integers(0, 50, (2, 5))
  ours = weighted_cross_entropy(logits, targets, np.ones((2, 5)), 1.0, 0.1)
  x = wide(logits)
  log_z = np.log(np.exp(x).sum(-1))
  picked = np.take_along_axis(x, targets[..., None], -1)[..., 0]
  loss = log_z - 0.9 * picked - 0.1 * x.mean(-1)
  assert ours['loss'] == pytest.approx(loss.sum(), rel=2e-6)
  assert ours['z_loss'] == pytest.approx((log_z**2).sum(), rel=2e-6)


@pytest.mark.parametrize(('inputs', 'outputs'), [(24, 40), (40, 24)])
def test_gradients_of_products(inputs, outputs):
  """Gradients are summed in float32 and rounded once."""
  rng = np.random.default_rng(4)
  x, kernel = half(rng, 2, 50, inputs), half(rng, inputs, outputs)
  dy = half(rng, 2, 50, outputs)
  _, back = jax.vjp(lambda x, w: linear(x, w, None), x, kernel)
  d_x, d_kernel = back(dy)
  for ours, truth in (
    (d_x, wide(dy) @ wide(kernel).T),
    (d_kernel, np.einsum('BTI,BTO->IO', wide(x), wide(dy))),
  ):
    assert ours.dtype == HALF
    assert (wide(ours) == wide(jnp.asarray(truth, HALF))).mean() > 0.98


@pytest.mark.parametrize('approximate', [False, True])
def test_gradient_of_gelu(approximate):
  """The float32 gradient, which test_layers checks, is rounded once."""
  x = jnp.linspace(-4, 4, 801).astype(HALF)
  slope = jax.vmap(jax.grad(lambda x: gelu(x, approximate)))
  truth = slope(x.astype('float32')).astype(HALF)
  assert (wide(slope(x)) == wide(truth)).mean() > 0.99
