"""The kernels compile for TPUs, and hold no weight in memory."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import SingleDeviceSharding

from models.build import build
from models.kernels.flash import Kind, flash
from models.kernels.wkv import wkv_in_blocks
from tests.helpers import decoders
from tests.helpers.slices import NEEDS_COMPILER
from tests.models.families import test_rwkv
from train import fit
from train.learning.state import abstract_params

pytestmark = [pytest.mark.slow, NEEDS_COMPILER]
B, N, K, T = 2, 8, 4, 2048


@pytest.mark.parametrize(
  ('slice_', 'H'),
  [('v4:2x2x1', 128), ('v5e:2x2', 64), ('v5e:2x2', 128), ('v5p:2x2x1', 128)],
)
def test_compiles_without_weights(slice_, H):
  kind = Kind(causal=True, window=True, bias=True, learned=True, rate=0.1)
  place = SingleDeviceSharding(fit.topology(slice_)[0])

  def gradients(q, k, v, bias, segments, meta, probe):
    def attend(q, k, v, bias):
      return flash(kind, q, k, v, bias, segments, segments, segments, meta)

    return jax.vjp(attend, q, k, v, bias)[1](probe)

  def array(*shape, dtype='bfloat16'):
    return jax.ShapeDtypeStruct(shape, dtype)

  heads, keys = array(B, T, N, H), array(B, T, K, H)
  compiled = (
    jax.jit(gradients, in_shardings=place, out_shardings=place)
    .lower(
      *(heads, keys, keys, array(N, 2 * T - 1, dtype='float32')),
      *(array(B, T, dtype='int32'), array(6, dtype='int32'), heads),
    )
    .compile()
  )
  text = compiled.as_text()
  assert text.count('tpu_custom_call') >= 3
  if H == 128:  # heads are read where they lie
    assert '} transpose(' not in text
  # A byte for each weight would be more.
  assert compiled.memory_analysis().temp_size_in_bytes < B * N * T * T


@pytest.mark.parametrize('name', ['rope', 'rwkv'])
def test_remat_runs_no_kernel_again(name):
  """One forward and two backward, unless whole layers are recomputed."""
  config = test_rwkv.make_config(decoder_layers=1, scan=False)
  if name != 'rwkv':
    config = decoders.tiny_decoder(name, decoder_layers=1, scan=False)
  place = SingleDeviceSharding(fit.topology('v5e:2x2')[0])
  tokens = jax.ShapeDtypeStruct((2, 128), 'int32')

  def kernels(remat):
    fields = {'attention': 'flash', 'remat': remat, 'dtype': 'bfloat16'}
    model = build(dataclasses.replace(config, **fields))
    params, _ = abstract_params(model)

    def loss(params, tokens):
      return jnp.sum(model.apply({'params': params}, tokens, tokens))

    step = jax.jit(jax.grad(loss), in_shardings=place, out_shardings=place)
    text = step.lower(params, tokens).compile().as_text()
    return text.count('"tpu_custom_call"')

  found = {remat: kernels(remat) for remat in ('none', 'dots', 'full')}
  assert found == {'none': 3, 'dots': 3, 'full': 4}


def test_wkv_compiles():
  """RWKV-430M's: memory holds what is read and written, and no states."""
  place = SingleDeviceSharding(fit.topology('v5e:2x2')[0])
  rows = jax.ShapeDtypeStruct((4, 1000, 1024), 'float32')
  channels = jax.ShapeDtypeStruct((1024,), 'float32')
  starts = jax.ShapeDtypeStruct((4, 1000), 'bool')

  def gradients(k, v, decay, bonus, starts, probe):
    def mean(*numbers):
      return wkv_in_blocks(*numbers, starts)

    return jax.vjp(mean, k, v, decay, bonus)[1](probe)

  compiled = (
    jax.jit(gradients, in_shardings=place, out_shardings=place)
    .lower(rows, rows, channels, channels, starts, rows)
    .compile()
  )
  assert compiled.as_text().count('tpu_custom_call') >= 3
  # Whole rows of k, v, g, the mean and its denominator, and two gradients.
  array = 4 * rows.size
  assert compiled.memory_analysis().temp_size_in_bytes < 8 * array
