"""GPT-3: "Language Models are Few-Shot Learners" (Brown et al. 2020).

`gpt3.py:SIZE`: small, medium, large, xl, 2.7b, 6.7b, 13b or 175b; `tiny` is
ours, for a run in minutes.

GPT-2 with every second layer banded. The batch grows from 32k tokens over the
first 4 to 12 billion "depending on the model size" (appendix B): which size
took how many is not published. Batches are multiples of 16 rows: of 175b 375M
tokens take 5,593 steps, where a batch of any size would take 5,313.

Cost: 300B tokens each; 175b 3,640 petaflop/s-days, 3.14e23 FLOPs (appendix D),
on V100 GPUs (2.3). Number of GPUs and time: not published.
Reached (175b): LAMBADA accuracy 76.2 and HellaSwag 78.9 zero-shot (section 3);
MMLU 43.9 with 5 examples (table 6 of Hoffmann et al. 2022).
"""

from ml_collections import ConfigDict

from configs import arguments, common, paper, phases

ANCESTOR = 'gpt2:xl'

# size: layers, D, heads, H, rows of a batch, learning rate. Table 2.1. F is
# 4 D. The table's batches of 0.5M, 1M and 2M tokens are powers of two here, and
# that of 3.2M is 3.1M. Two rows of the table contradict its H = D / heads: xl
# prints 24 heads of 128 with D = 2048 (16 heads make 1.3B), and 13b prints
# D = 5140 with 40 heads of 128.
SIZES = {
  'small': (12, 768, 12, 64, 256, 6e-4),
  'medium': (24, 1024, 16, 64, 256, 3e-4),
  'large': (24, 1536, 16, 96, 256, 2.5e-4),
  'xl': (24, 2048, 16, 128, 512, 2e-4),
  '2.7b': (32, 2560, 32, 80, 512, 1.6e-4),
  '6.7b': (32, 4096, 32, 128, 1024, 1.2e-4),
  '13b': (40, 5120, 40, 128, 1024, 1e-4),
  '175b': (96, 12288, 96, 128, 1536, 6e-5),
  'tiny': (2, 128, 8, 16, 16, 1e-3),
}
# size: its TPU slice, and how it goes there (docs/pods.md).
SLICES = {
  'xl': {'topology': 'v4:2x2x4'},
  '2.7b': {'topology': 'v4:2x2x4'},
  '6.7b': {'topology': 'v5p:2x2x4'},
  '13b': {'topology': 'v5p:2x2x4'},
  '175b': {'topology': 'v4:8x8x16', 'tensor': 2},
}


# Rows of a batch -> the tokens over which it grows to them.
RAMP = {256: 4e9, 512: 6e9, 1024: 8e9, 1536: 12e9, 16: 4e9}


def get_config(arg: str = '') -> ConfigDict:
  size = arguments.parse(arg, size=SIZES)['size']
  c = paper.start('decoder')

  m = c.model
  m.decoder_layers, m.embed_dim, m.heads, m.head_dim, batch, peak = SIZES[size]
  m.vocab_size = 50257  # GPT-2's
  m.kv_heads, m.mlp_dim = m.heads, 4 * m.embed_dim  # 2.1
  m.max_length = 2048  # 2.1
  m.position = 'learned'  # this and what is not marked: 2.1, "as GPT-2"
  m.norm, m.norm_epsilon = 'layer_norm', 1e-5
  m.norm_placement, m.parallel = 'pre', 'none'
  m.activation, m.gated = 'gelu_tanh', False
  m.bias = 'all'
  m.scale_attention = m.tie_embeddings = True
  m.window = 256  # not stated in the paper; GPT-Neo's
  m.window_every = 2  # 2.1: "alternating dense and locally banded sparse"
  m.embed_norm = m.scale_embed = False
  m.scale_output = m.output_transform = m.output_bias = False
  m.head = 'lm'
  m.init, m.init_std = 'gpt2', 0.02
  m.dropout = m.attention_dropout = 0.0  # the paper names none
  m.dropout_kind = 'residual'

  d = c.data
  d.source = 'tfds:c4/en'  # for the mixture of table 2.2
  d.tokenizer_kind = 'byte_bpe'  # GPT-2's
  d.objective = 'causal'
  d.start = 'none'  # B: documents joined, the end of text between them
  d.length = 2048  # 2.1
  d.batch = batch

  c.train.phases = phases.line('tokens', RAMP[batch], 16, batch, 16)  # B

  c.optimizer.name = 'adamw'  # B
  c.optimizer.clip = 1.0
  c.optimizer.b1, c.optimizer.b2 = 0.9, 0.95
  c.optimizer.epsilon = 1e-8
  c.optimizer.bias_correction = True
  c.optimizer.weight_decay = 0.1
  c.schedule.name = 'cosine'  # B: down to a tenth over 260B tokens, then flat
  c.schedule.learning_rate = peak
  c.schedule.unit = 'tokens'
  c.schedule.warmup_steps = 375_000_000  # B
  c.schedule.decay_steps = 260_000_000_000
  c.schedule.end_fraction = 0.1
  c.train.steps = phases.steps_in(c, 'tokens', 300e9)  # 2.1

  if size in SLICES:
    paper.on_slice(c, **SLICES[size])
  if size == 'tiny':
    paper.tiny(c, warmup=30)
    m.max_length, m.window = 128, 16
  return common.finish(c)
