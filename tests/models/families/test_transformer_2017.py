"""The Transformer of 2017 equals transformers' Marian, which is one."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from flax.traverse_util import unflatten_dict

from configs import transformer
from models.build import build
from models.config import TransformerConfig
from models.pretrained.arrays import build_leaf, leaf_shapes
from models.pretrained.mapping import Weight, dense, expand, norm
from tests.helpers import hf_reference as reference
from tests.helpers.hf_decoders import EAGER, T, V, make_batch


def marian_weights(config):
  """Our weights <-> Marian's, which has no layout in models/pretrained."""
  out = [Weight('embed/table', 'model.shared.weight')]
  names = {'query': 'q_proj', 'key': 'k_proj', 'value': 'v_proj'}
  names['output'] = 'out_proj'
  for stack in ('encoder', 'decoder'):
    layer = f'model.{stack}.layers.*.'
    kinds = {'attention': 'self_attn'}
    if stack == 'decoder':
      kinds['cross_attention'] = 'encoder_attn'
    for ours, theirs in kinds.items():
      for name, projection in names.items():
        both = dense(
          f'{stack}/*/{ours}/{name}', f'{layer}{theirs}.{projection}'
        )
        out += both if config.bias == 'all' else both[:1]
      out += norm(f'{stack}/*/{ours}_norm', f'{layer}{theirs}_layer_norm')
    out += dense(f'{stack}/*/mlp/input', f'{layer}fc1')
    out += dense(f'{stack}/*/mlp/output', f'{layer}fc2')
    out += norm(f'{stack}/*/mlp_norm', f'{layer}final_layer_norm')
  return out


MARIAN = types.SimpleNamespace(PREFIX='', weights=marian_weights)


def marian(bias):
  """A torch model, our config (the paper's in other sizes) and parameters."""
  model = transformers.MarianMTModel(
    transformers.MarianConfig(
      vocab_size=V,
      d_model=30,
      encoder_layers=2,
      decoder_layers=3,
      encoder_attention_heads=5,
      decoder_attention_heads=5,
      encoder_ffn_dim=44,
      decoder_ffn_dim=44,
      activation_function='relu',
      scale_embedding=True,
      max_position_embeddings=T,
      pad_token_id=1,
      eos_token_id=0,
      forced_eos_token_id=0,
      decoder_start_token_id=1,
      **EAGER,
    )
  )
  reference.randomise(model)
  for name, p in model.named_parameters():
    if bias == 'mlp' and '_proj.bias' in name:  # the paper has no such bias
      p.requires_grad_(False)
      p.zero_()
  with torch.no_grad():
    for stack in (model.model.encoder, model.model.decoder):
      stack.embed_positions.weight.copy_(stack.embed_positions.create_weight())
  config = TransformerConfig(**transformer.get_config('base').model)
  config = dataclasses.replace(
    config,
    vocab_size=V,
    embed_dim=30,
    mlp_dim=44,
    heads=5,
    kv_heads=5,
    head_dim=6,
    encoder_layers=2,
    decoder_layers=3,
    bias=bias,
    norm_epsilon=1e-5,
    dtype='float32',
  )
  shapes = leaf_shapes(config)
  pieces = expand(MARIAN.weights(config), config, shapes)
  state = {name: x.numpy() for name, x in model.state_dict().items()}
  flat = {
    leaf: build_leaf(
      [p for p in pieces if p.leaf == leaf], shape, state.get, None
    )
    for leaf, shape in shapes.items()
  }
  return model, config, unflatten_dict(flat, sep='/')


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
