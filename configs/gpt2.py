"""GPT-2: "Language Models are Unsupervised Multitask Learners".

Radford et al. 2019. `gpt2.py:SIZE`: small, medium, large or xl (124M to
1.5B); `tiny` is ours, for a run in minutes.

GPT-1 with norms before the branches, one more norm at the end, and smaller
initial weights where branches add to the residual stream. How it was trained
was not published: a number without a section is GPT-3's for the same shapes.

Cost: not published; WebText has 40 GB of text (2.1).
Reached without training for the task, from small to xl (table 3): LAMBADA
accuracy 46.0, 55.5, 60.1, 63.2; perplexity on WikiText-103 37.5, 26.4, 22.1,
17.5.
"""

from ml_collections import ConfigDict

from configs import arguments, common, paper

ANCESTOR = 'gpt1'

# size: layers, D, heads, H, learning rate. Table 2; the heads are those of the
# published checkpoints, the rates those of GPT-3's table 2.1. F is 4 D.
SIZES = {
  'small': (12, 768, 12, 64, 6e-4),
  'medium': (24, 1024, 16, 64, 3e-4),
  'large': (36, 1280, 20, 64, 2.5e-4),
  'xl': (48, 1600, 25, 64, 2e-4),
  'tiny': (2, 128, 8, 16, 1e-3),
}
# size: its TPU slice, and how it goes there (docs/pods.md).
SLICES = {
  'xl': {'topology': 'v5e:4x4'},
}


def get_config(arg: str = '') -> ConfigDict:
  size = arguments.parse(arg, size=SIZES)['size']
  c = paper.start('decoder')

  m = c.model
  m.decoder_layers, m.embed_dim, m.heads, m.head_dim, peak = SIZES[size]
  m.vocab_size = 50257  # 2.3: 256 bytes, 50,000 merges and the end of text
  m.kv_heads, m.mlp_dim = m.heads, 4 * m.embed_dim
  m.position, m.max_length = 'learned', 1024  # 2.3
  m.norm, m.norm_epsilon = 'layer_norm', 1e-5  # the published code's
  m.norm_placement = 'pre'  # 2.3
  m.parallel = 'none'
  m.activation, m.gated = 'gelu_tanh', False  # the published code's
  m.bias = 'all'
  m.scale_attention = m.tie_embeddings = True
  m.embed_norm = m.scale_embed = False
  m.scale_output = m.output_transform = m.output_bias = False
  m.head = 'lm'
  m.init = 'gpt2'  # 2.3: residual outputs by 1 / sqrt(residual layers)
  m.init_std = 0.02  # the published code's
  m.dropout = m.attention_dropout = 0.1  # GPT-1's
  m.dropout_kind = 'residual'

  d = c.data
  d.source = 'tfds:c4/en'  # for WebText (2.1)
  d.tokenizer_kind = 'byte_bpe'  # 2.2
  d.objective = 'causal'
  d.start = 'none'  # windows of T + 1 tokens, nothing inserted, as GPT-3's
  d.length = 1024  # 2.3
  d.batch = 512  # 2.3

  tokens = d.batch * d.length  # 0.5M a step, as in GPT-3's table 2.1
  c.optimizer.name = 'adamw'
  c.optimizer.clip = 1.0
  c.optimizer.b1, c.optimizer.b2 = 0.9, 0.95
  c.optimizer.epsilon = 1e-8
  c.optimizer.bias_correction = True
  c.optimizer.weight_decay = 0.1
  c.schedule.name = 'cosine'
  c.schedule.learning_rate = peak
  c.schedule.warmup_steps = 375_000_000 // tokens
  c.schedule.decay_steps = 260_000_000_000 // tokens  # then flat
  c.schedule.end_fraction = 0.1
  c.train.steps = 300_000_000_000 // tokens

  if size in SLICES:
    paper.on_slice(c, **SLICES[size])
  if size == 'tiny':
    paper.tiny(c, warmup=30)
    m.max_length = 128
    m.dropout = m.attention_dropout = 0.0
  return common.finish(c)
