"""The models of benchmarks/accelerator.py, in the sizes that are compared.

llama  1.10 billion: 16 layers, 2,048 wide, 8 heads of keys and values. AdamW
bert   BERT-large, masked tokens alone, 77 predicted. AdamW
gpt2   GPT-2 large, 774 million. AdamW
t5     T5 1.1 large. Adafactor
t5_3b  T5 1.1 3b. Adafactor
rwkv   RWKV-4 430m. AdamW
small  GPT-2 small, for the whole training loop. AdamW

bert_dropout and gpt2_dropout have their papers' dropout, the others none.
bfloat16 computes, float32 stays; rows are full of random tokens.
"""

import numpy as np
from ml_collections import ConfigDict

from benchmarks import stand_ins  # noqa: F401
from benchmarks.train_step_workers import make_batch, treeline_batch
from configs import ablations, gpt2, llama, rwkv, t5
from input_pipeline import pipeline
from input_pipeline.config import data_config
from models.config import TransformerConfig
from train.reporting.flops import step_flops

# Rows and their length.
ROWS = {
  'llama': (8, 2048),
  'bert': (32, 512),
  'gpt2': (8, 1024),
  't5': (32, 512),
  't5_3b': (16, 512),
  'rwkv': (8, 1024),
  'small': (16, 1024),
  'bert_dropout': (32, 512),
  'gpt2_dropout': (8, 1024),
}
TINY = {'vocab_size': 512, 'embed_dim': 32, 'mlp_dim': 64}
TINY_HEADS = {'heads': 4, 'kv_heads': 2, 'head_dim': 8}


def make_config(name: str, tiny: bool, **changes) -> ConfigDict:
  """The config of a model; `changes` are keys of its group `model`."""
  match name.removesuffix('_dropout'):
    case 'llama':
      config = llama.get_config('size=7b,version=1')
      config.model.update(
        embed_dim=2048, mlp_dim=8192, heads=32, kv_heads=8, head_dim=64,
        rope_dim=64, decoder_layers=16,
      )  # fmt: skip
    case 'bert':
      config = ablations.get_config('bert:large,objective=mlm')
      config.train.phases, config.data.predictions = (), 77
    case 'gpt2' | 'small' as size:
      config = gpt2.get_config({'gpt2': 'large'}.get(size, size))
    case 't5' | 't5_3b':
      size = {'t5': 'large', 't5_3b': '3b'}[name]
      config = t5.get_config(f'size={size},version=1.1')
    case 'rwkv':
      config = rwkv.get_config('430m')
  config.data.batch, config.data.length = ROWS[name]
  if tiny:
    _shrink(config)
  model, data = config.model, config.data
  data.streams = data.batch
  data.source, data.pack = 'synthetic', False
  if not name.endswith('_dropout'):
    model.dropout = model.attention_dropout = 0.0
  model.dtype = 'bfloat16'
  model.update(changes)
  config.sharding.rules = 'replicated'
  config.sharding.mesh.data, config.sharding.mesh.fsdp = 1, 1
  return config


def _shrink(config):
  """Two layers of 32, two rows of 32 tokens."""
  model, data = config.model, config.data
  model.update(TINY)
  if model.heads:
    kv_heads = model.heads if model.heads == model.kv_heads else 2
    model.update(TINY_HEADS | {'kv_heads': min(kv_heads, 4)})
  if model.rope_dim:
    model.rope_dim = 8
  for layers in ('encoder_layers', 'decoder_layers'):
    model[layers] = min(model[layers], 2)
  data.batch, data.length = 2, 32
  if data.predictions:
    data.predictions = 5


def _setting(config):
  """What `make_batch` and the torch side must know."""
  data = data_config(config)
  shapes = pipeline.batch_shapes(data, config.model.family)
  family = config.model.family
  return {
    'model': {'encoder': 'bert', 'encoder_decoder': 't5'}.get(family, ''),
    'vocab_size': config.model.vocab_size,
    'batch': data.batch,
    'length': data.length,
    'targets': shapes['targets'][0][0],
    'predictions': data.predictions,
  }


def tokens(config: ConfigDict) -> dict[str, np.ndarray]:
  """Random tokens, as `make_batch` of benchmarks/train_step.py gives them."""
  return make_batch(_setting(config))


def batch_of(config: ConfigDict, cursor: np.ndarray) -> dict[str, np.ndarray]:
  """The same as Treeline's batch: one segment a row, or two if packed.

  `cursor` is where its rows end, int [streams,C].
  """
  batch = treeline_batch(tokens(config)) | {'cursor': cursor}
  if config.data.pack:
    for name in batch:
      if name.endswith('segments'):
        batch[name] = batch[name].copy()
        batch[name][:, batch[name].shape[1] // 2 :] = 2
  return batch


def flops(config: ConfigDict) -> float:
  """Floating-point operations of a step: train/reporting/flops.py."""
  fields = config.model.to_dict()
  fields['rope_scaling'] = tuple(fields['rope_scaling'])
  batch = treeline_batch(tokens(config))
  return step_flops(TransformerConfig(**fields), batch)
