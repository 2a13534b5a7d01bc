"""Decoders of T5's blocks, out and in; their logits are those of torch's stack.

transformers has no class for them, but the decoder of its T5 skips
cross-attention where there is nothing to attend to.
"""

import dataclasses
import json

import jax
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5Stack

from configs import lamda
from models import pretrained
from models.build import build
from models.config import TransformerConfig
from train import applying
from train.learning.state import abstract_params

SIZES = {
  'vocab_size': 50,
  'embed_dim': 24,
  'mlp_dim': 40,
  'heads': 3,
  'kv_heads': 3,
  'head_dim': 10,
  'decoder_layers': 2,
  'relative_buckets': 8,
  'relative_max_distance': 20,
  'dtype': 'float32',
}
TIED = {'tie_embeddings': True, 'scale_output': True}
UNTIED = {'tie_embeddings': False, 'scale_output': False}
KINDS = {
  'lamda': TIED,
  '1.0': UNTIED | {'gated': False, 'activation': 'relu'},
  'prefix': UNTIED | {'prefix': True},
}


def made(kind):
  """A config, and parameters whose every part matters."""
  model = dict(lamda.get_config('tiny').model) | SIZES | KINDS[kind]
  config = TransformerConfig(**model)
  rng = np.random.default_rng(0)
  shapes, _ = abstract_params(build(config))
  params = jax.tree.map(
    lambda x: (0.3 * rng.standard_normal(x.shape)).astype('float32'), shapes
  )
  return config, params


@pytest.mark.parametrize('kind', KINDS)
def test_out_and_in(kind, tmp_path):
  config, params = made(kind)
  pretrained.save(config, params, str(tmp_path))
  back, read = pretrained.load(str(tmp_path))
  assert dataclasses.replace(
    back, **{k: getattr(config, k) for k in pretrained.layout.FREE}
  ) == dataclasses.replace(config)
  jax.tree.map(np.testing.assert_array_equal, read, params)
  fields = json.loads((tmp_path / 'config.json').read_text())
  assert fields['model_type'] == 't5_decoder'
  fields['relative_step'] = 3
  (tmp_path / 'config.json').write_text(json.dumps(fields))
  with pytest.raises(ValueError, match='relative_step'):
    pretrained.load(str(tmp_path))


@pytest.mark.parametrize('kind', ['lamda', '1.0'])
def test_logits_of_torchs_decoder(kind, tmp_path):
  config, params = made(kind)
  pretrained.save(config, params, str(tmp_path))
  stack = T5Stack(
    T5Config(
      vocab_size=50, d_model=24, d_kv=10, d_ff=40, num_heads=3, num_layers=2,
      relative_attention_num_buckets=8, relative_attention_max_distance=20,
      feed_forward_proj='gated-gelu' if config.gated else 'relu',
      is_decoder=True, is_encoder_decoder=False, use_cache=False,
      attn_implementation='eager',
    )
  ).eval()  # fmt: skip
  tensors = load_file(tmp_path / 'model.safetensors')
  table = torch.tensor(tensors['shared.weight'])
  own = {  # where cross-attention would be, theirs has a number more
    name.removeprefix('decoder.').replace('layer.1.', 'layer.2.'): x
    for name, x in tensors.items()
    if name.startswith('decoder.')
  }
  missing, unknown = stack.load_state_dict(
    {name: torch.tensor(x) for name, x in own.items()}, strict=False
  )
  assert not unknown
  assert all('.layer.1.' in x or 'embed_tokens' in x for x in missing)
  tokens = np.random.default_rng(1).integers(3, 50, (2, 12))
  with torch.no_grad():
    hidden = stack(inputs_embeds=table[torch.tensor(tokens)]).last_hidden_state
    if config.tie_embeddings:
      logits = hidden * 24**-0.5 @ table.T
    else:
      logits = hidden @ torch.tensor(tensors['lm_head.weight']).T
  model = build(config)
  ours = applying.apply(model, params, None, None, tokens.tolist())['logits']
  np.testing.assert_allclose(ours, logits, rtol=1e-4, atol=1e-4)
  reads = np.asarray(logits)
  assert np.abs(reads[0] - reads[1]).max() > 0.1
