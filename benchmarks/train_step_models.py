"""The models of benchmarks/train_step.py, and the weights that all begin with.

t5     T5-small 1.0, span corruption: 60 million parameters, Adafactor
bert   BERT-base uncased, masked tokens alone: 109 million, AdamW
gpt2   GPT-2 small: 124 million, AdamW
llama  LLaMA's choices at GPT-2's depth and width: 134 million, AdamW. 110
       million with one table for inputs and outputs, which Flax's cannot
"""

import json
import os

import flax.linen as nn
import jax

from configs import ablations, gpt2, llama, t5
from models import pretrained
from models.build import build
from models.config import TransformerConfig
from train.learning import state

NAMES = ('t5', 'bert', 'gpt2', 'llama')


def make_config(name, layers=0):
  """The config of a model in float32; `layers` of each stack, 0: its own."""
  match name:
    case 't5':
      config = t5.get_config('size=small,version=1.0')
    case 'bert':
      # Masked tokens alone: the next sentence would need a pooler.
      config = ablations.get_config('bert:base,objective=mlm')
    case 'gpt2':
      config = gpt2.get_config('small')
    case 'llama':
      config = llama.get_config('size=7b,version=1')
      m = config.model
      m.embed_dim, m.mlp_dim = 768, 2048
      m.heads = m.kv_heads = 12
      m.head_dim = m.rope_dim = 64
      m.decoder_layers = 12
      m.remat = 'none'
  config.model.dtype = 'float32'
  for stack in ('encoder_layers', 'decoder_layers'):
    if layers and config.model[stack]:
      config.model[stack] = layers
  if config.optimizer.name == 'adamw':
    # As torch's and optax's are: corrected, and without clipping.
    config.optimizer.bias_correction = True
    config.optimizer.clip = 0.0
  return config


def learning_rate(config):
  """A constant: T5's of its first 10,000 steps, the others' highest."""
  if config.schedule.name == 'inverse_sqrt':
    return config.schedule.warmup_steps**-0.5
  return config.schedule.learning_rate


def write_weights(config, dropout, folder):
  """Writes initial weights, which all three read; returns their number."""
  fields = config.model.to_dict()
  fields |= {'dropout': dropout, 'attention_dropout': dropout}
  fields['rope_scaling'] = tuple(fields['rope_scaling'])
  model_config = TransformerConfig(**fields)
  model = build(model_config)
  inputs = {name: jax.numpy.zeros((1, 1), 'int32') for name in model.INPUTS}
  params = nn.unbox(jax.jit(model.init)(jax.random.key(0), **inputs))['params']
  pretrained.save(model_config, params, folder)
  _suit_peers(os.path.join(folder, 'config.json'))
  return state.count_params(params)


def _suit_peers(path):
  """Sets the peers to their fastest equivalent functions."""
  with open(path, encoding='utf-8') as file:
    fields = json.load(file)
  for name in ('hidden_act', 'activation_function'):
    # The same function; torch has a kernel for it under this name only.
    if fields.get(name) == 'gelu_new':
      fields[name] = 'gelu_pytorch_tanh'
  fields['use_cache'] = False  # nothing is decoded
  with open(path, 'w', encoding='utf-8') as file:
    json.dump(fields, file)
