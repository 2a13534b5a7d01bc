"""transformers' Marian, which is the Transformer of 2017, and our weights."""

import dataclasses
import types

import torch
import transformers
from flax.traverse_util import unflatten_dict

from configs import transformer
from models.config import TransformerConfig
from models.pretrained.arrays import build_leaf, leaf_shapes
from models.pretrained.mapping import Weight, dense, expand, norm
from tests.helpers import hf_reference as reference
from tests.helpers.hf_decoders import EAGER, T, V


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
