"""Jurassic-1: "Technical Details and Evaluation" (Lieber et al. 2021).

`jurassic.py:SIZE`: large (7.5B) or jumbo (178B); `tiny` is ours, for a run in
minutes.

GPT-3's block, wider and shallower by the rule of Levine et al. 2020, with a
vocabulary five times as large. The paper names no banded layers.

Cost: 300B tokens each. Hardware and time: no source at hand.
Reached: the paper compares each model with the GPT-3 of its size, in perplexity
and on tasks without or with few examples. Its scores: no source at hand.
"""

from ml_collections import ConfigDict

from configs import arguments, common, paper

ANCESTOR = 'gpt3:175b'

# size: layers, D, heads, H, learning rate, rows of a batch. Table 1, which has
# batches of 2M and 3.2M tokens; the second is 3.1M here. F is 4 D.
SIZES = {
  'large': (32, 4096, 32, 128, 1.2e-4, 1024),
  'jumbo': (76, 13824, 96, 144, 6e-5, 1536),
  'tiny': (2, 128, 8, 16, 1e-3, 16),
}
# size: its TPU slice, and how it goes there (docs/pods.md).
SLICES = {
  'large': {'topology': 'v5e:16x16'},
  'jumbo': {'topology': 'v4:8x8x16', 'tensor': 2},
}


def get_config(arg: str = '') -> ConfigDict:
  size = arguments.parse(arg, size=SIZES)['size']
  c = paper.start('decoder')

  m = c.model  # what is not marked is GPT-3's
  m.decoder_layers, m.embed_dim, m.heads, m.head_dim, peak, batch = SIZES[size]
  m.vocab_size = 256_000  # "256K", units of several words among them
  m.kv_heads, m.mlp_dim = m.heads, 4 * m.embed_dim  # table 1
  m.position, m.max_length = 'learned', 2048
  m.norm, m.norm_epsilon = 'layer_norm', 1e-5
  m.norm_placement, m.parallel = 'pre', 'none'
  m.activation, m.gated = 'gelu_tanh', False
  m.bias = 'all'
  m.scale_attention = m.tie_embeddings = True
  m.embed_norm = m.scale_embed = False
  m.scale_output = m.output_transform = m.output_bias = False
  m.head = 'lm'
  m.init, m.init_std = 'gpt2', 0.02
  m.dropout = m.attention_dropout = 0.0
  m.dropout_kind = 'residual'

  d = c.data
  d.source = 'tfds:c4/en'  # for "publicly available resources"
  d.tokenizer_kind = 'unigram'  # without the pieces of several words
  d.objective = 'causal'
  d.start = 'none'  # not stated; GPT-3's
  d.length = 2048  # GPT-3's
  d.batch = batch

  tokens = d.batch * d.length
  c.optimizer.name = 'adamw'  # not stated, as the schedule: GPT-3's
  c.optimizer.clip = 1.0
  c.optimizer.b1, c.optimizer.b2 = 0.9, 0.95
  c.optimizer.epsilon = 1e-8
  c.optimizer.bias_correction = True
  c.optimizer.weight_decay = 0.1
  c.schedule.name = 'cosine'
  c.schedule.learning_rate = peak
  c.schedule.warmup_steps = 375_000_000 // tokens
  c.schedule.decay_steps = 260_000_000_000 // tokens
  c.schedule.end_fraction = 0.1
  c.train.steps = 300_000_000_000 // tokens  # as GPT-3

  if size == 'tiny':
    paper.tiny(c, warmup=30)
    m.max_length = 128
  else:
    paper.on_slice(c, **SLICES[size])
  return common.finish(c)
