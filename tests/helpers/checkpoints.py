"""Checkpoint folders of a small BERT, and ways to damage them."""

import json
import os
import shutil

import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import load_file, save_file

from configs import t5
from models import pretrained
from models.config import TransformerConfig
from models.pretrained.arrays import leaf_shapes

BERT = {
  'family': 'encoder',
  'vocab_size': 60,
  'embed_dim': 12,
  'mlp_dim': 20,
  'heads': 2,
  'kv_heads': 2,
  'head_dim': 6,
  'encoder_layers': 3,
  'position': 'learned',
  'max_length': 10,
  'token_types': 2,
  'norm': 'layer_norm',
  'norm_epsilon': 1e-12,
  'norm_placement': 'post',
  'parallel': 'none',
  'activation': 'gelu',
  'gated': False,
  'bias': 'all',
  'scale_attention': True,
  'embed_norm': True,
  'scale_embed': False,
  'tie_embeddings': True,
  'scale_output': False,
  'output_transform': True,
  'output_bias': True,
  'head': 'mlm_nsp',
  'init': 'truncated_normal',
  'init_std': 0.02,
  'dropout': 0.1,
  'attention_dropout': 0.1,
  'dropout_kind': 'residual',
  'dtype': 'float32',
  'scan': True,
  'remat': 'none',
}

# A T5: these fields in place of BERT's.
T5 = {
  'family': 'encoder_decoder',
  'decoder_layers': 1,
  'encoder_layers': 2,
  'vocab_size': 64,
  'position': 'relative_bias',
  'max_length': 0,
  'relative_buckets': 8,
  'relative_max_distance': 20,
  'token_types': 0,
  'norm': 'rms_norm',
  'norm_placement': 'pre',
  'activation': 'relu',
  'bias': 'none',
  'scale_attention': False,
  'embed_norm': False,
  'scale_output': True,
  'output_transform': False,
  'output_bias': False,
  'head': 'lm',
  'init': 't5',
  'init_std': 0.0,
  'dropout_kind': 't5',
}

# An encoder for the classes of a task.
ENCODER = TransformerConfig(**BERT | {'head': 'sequence', 'classes': 3})
TABLE = 'bert.embeddings.word_embeddings.weight'


def make(**changes):
  """A BERT and random parameters."""
  config = TransformerConfig(**BERT | changes)
  rng = np.random.default_rng(0)
  flat = {
    leaf: rng.normal(size=shape).astype('float32')
    for leaf, shape in leaf_shapes(config).items()
  }
  return config, unflatten_dict(flat, sep='/')


def recipe(**data):
  """The config of a run that begins with the checkpoint T5."""
  config = t5.get_config('tiny')
  config.data.update({'batch': 8, 'length': 32, 'sentinels': 10} | data)
  config.train.steps = 10
  return config


def assert_equal(a, b):
  """Asserts that two trees of parameters are equal, bit for bit."""
  a, b = flatten_dict(a, sep='/'), flatten_dict(b, sep='/')
  assert a.keys() == b.keys()
  for name in a:
    np.testing.assert_array_equal(a[name], b[name], name)


def edit(folder, **fields):
  """Sets fields of config.json; None takes one out."""
  path = os.path.join(folder, 'config.json')
  with open(path) as file:
    new = json.load(file) | fields
  with open(path, 'w') as file:
    json.dump({k: x for k, x in new.items() if x is not None}, file)


def rewrite(folder, change):
  """Lets `change` change the dict of tensors in place."""
  path = os.path.join(folder, 'model.safetensors')
  tensors = load_file(path)
  change(tensors)
  save_file(tensors, path)


def shard(folder, shard_bytes=3000):
  """Rewrites a checkpoint in many files; returns their names."""
  config, params = pretrained.load(folder)
  shutil.rmtree(folder)
  pretrained.save(config, params, folder, shard_bytes=shard_bytes)
  return sorted(x for x in os.listdir(folder) if x.endswith('.safetensors'))


def refused(folder, message):
  with pytest.raises(ValueError, match=message):
    pretrained.load(folder)
