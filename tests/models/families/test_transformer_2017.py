"""The Transformer of 2017 equals transformers' Marian, which is one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from models.build import build
from tests.helpers import hf_reference as reference
from tests.helpers.hf_decoders import T, V, make_batch
from tests.helpers.marian import MARIAN, marian


class Learned:
  """A torch model's weights without its constants: sinusoids and zeros."""

  def __init__(self, model):
    self._model = model

  def named_parameters(self):
    return (x for x in self._model.named_parameters() if x[1].requires_grad)


@pytest.mark.parametrize('bias', ['mlp', 'all'])
def test_logits_gradients_and_cached_steps_equal_torch(bias):
  model, config, params = marian(bias)
  target = make_batch()
  source = np.random.default_rng(2).integers(2, V, (4, T - 4)).astype('int32')
  source_mask = np.ones_like(source)
  source_mask[0, 13:] = 0
  source_mask[1, :6] = 0
  inputs = {
    'encoder_inputs': source,
    'encoder_segments': source_mask,
    'inputs': target['inputs'],
    'segments': target['segments'],
  }
  theirs = model(
    input_ids=torch.from_numpy(source).long(),
    attention_mask=torch.from_numpy(source_mask),
    decoder_input_ids=torch.from_numpy(target['inputs']).long(),
    decoder_attention_mask=torch.from_numpy(target['segments']),
  ).logits
  real = target['segments'] > 0
  factor = reference.projection(theirs.shape, real=real)
  logits, grads = reference.outputs_and_gradients(
    config, params, inputs, lambda x: jnp.sum(x * factor)
  )
  worst = reference.close(logits, theirs, real)
  (theirs * torch.from_numpy(factor)).sum().backward()
  worst_grad = reference.gradients_close(config, grads, Learned(model), MARIAN)
  print(f'\nLARGEST Marian: logits {worst:.1e}, gradients {worst_grad:.1e}')

  if bias == 'mlp':
    check_cached(config, params, inputs, theirs[:1])


def check_cached(config, params, inputs, theirs):
  """The logits of the first row, token by token."""
  own = build(config)
  source, source_mask = (
    inputs[key][:1] for key in ('encoder_inputs', 'encoder_segments')
  )

  @jax.jit
  def step(tokens, cache, index, encoded=None):
    return own.apply(
      {'params': params},
      tokens,
      cache,
      index,
      source_mask,
      encoded,
      method='decode_step',
    )

  found = []
  with jax.default_matmul_precision('highest'):
    encode = jax.jit(own.apply, static_argnames='method')
    encoded = encode({'params': params}, source, source_mask, method='encode')
    cache = own.start_cache(1, T)
    for i in range(T):
      first = (encoded,) if i == 0 else ()
      new, cache = step(
        inputs['inputs'][:1, i : i + 1], cache, np.int32(i), *first
      )
      found.append(new)
  reference.close(np.concatenate(found, axis=1), theirs)
