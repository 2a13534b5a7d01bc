"""Gopher: "Scaling Language Models: Methods, Analysis & Insights from Training
Gopher" (Rae et al. 2021).

`gopher.py:SIZE`: 44m, 117m, 417m, 1.4b, 7.1b or 280b; `tiny` is ours, for a
run in minutes.

GPT-2 with RMSNorm and Transformer-XL's relative positions. 280b's batch grows
from 3M tokens to 6M "during training" (3.2): in the middle, as Chinchilla's.
Left out: the bfloat16 weights of 7.1b and 280b with stochastic rounding: here
weights are float32.

Cost: 300B tokens each; 280b 920 hours on 4,096 TPUv3 chips, 6.31e23 FLOPs
(appendix, table A27).
Reached (280b): MMLU 60.0 with 5 examples, perplexity 7.75 on WikiText-103
(table 6 and section 4.2.1 of Hoffmann et al. 2022).
"""

from ml_collections import ConfigDict

from configs import arguments, common, paper, phases

ANCESTOR = 'gpt3:175b'

# size: layers, heads, H, D, learning rate, rows of a batch. Table 1, which has
# batches of 0.25M, 2M and 6M tokens. F is 4 D.
SIZES = {
  '44m': (8, 16, 32, 512, 6e-4, 128),
  '117m': (12, 12, 64, 768, 6e-4, 128),
  '417m': (12, 12, 128, 1536, 2e-4, 128),
  '1.4b': (24, 16, 128, 2048, 2e-4, 128),
  '7.1b': (32, 32, 128, 4096, 1.2e-4, 1024),
  '280b': (80, 128, 128, 16384, 4e-5, 3072),
  'tiny': (2, 8, 16, 128, 1e-3, 16),
}
# size: its TPU slice, and how it goes there (docs/pods.md).
SLICES = {
  '1.4b': {'topology': 'v4:4x4x4', 'remat': 'dots'},
  '7.1b': {'topology': 'v4:4x8x8'},
  '280b': {'topology': 'v4:8x16x16', 'tensor': 4, 'accumulate': 3},
}


def get_config(arg: str = '') -> ConfigDict:
  size = arguments.parse(arg, size=SIZES)['size']
  c = paper.start('decoder')

  m = c.model
  m.decoder_layers, m.heads, m.head_dim, m.embed_dim, peak, batch = SIZES[size]
  m.vocab_size = 32000  # 3.1
  m.kv_heads, m.mlp_dim = m.heads, 4 * m.embed_dim  # table 1
  m.position = 'transformer_xl'  # 3.1
  m.norm = 'rms_norm'  # 3.1
  m.norm_epsilon = 1e-5  # not stated
  m.norm_placement, m.parallel = 'pre', 'none'
  m.activation, m.gated = 'gelu_tanh', False  # GPT-2's, as what has no section
  m.bias = 'all'
  m.scale_attention = True
  m.embed_norm = m.scale_embed = False
  m.tie_embeddings = True  # table 1's totals hold one table
  m.scale_output = m.output_transform = m.output_bias = False
  m.head = 'lm'
  m.init, m.init_std = 'gpt2', 0.02
  m.dropout = m.attention_dropout = 0.0  # the paper names none
  m.dropout_kind = 'residual'

  d = c.data
  d.source = 'tfds:c4/en'  # for MassiveText
  d.tokenizer_kind = 'bpe'  # SentencePiece with byte fallback
  d.normalization = 'nfkc'  # Hoffmann et al. 2022, 4.1: Chinchilla's has none
  d.objective = 'causal'
  d.start = 'none'  # not stated; GPT-3's
  d.length = 2048  # 3.2
  d.batch = batch
  if size == '280b':
    c.train.phases = ((('tokens', 150e9), batch // 2, 0, 0, ''),)

  c.optimizer.name = 'adamw'  # 3.2: Adam
  c.optimizer.clip = 0.25 if size in ('7.1b', '280b') else 1.0  # 3.2
  c.optimizer.b1, c.optimizer.b2 = 0.9, 0.95  # these four are not stated
  c.optimizer.epsilon = 1e-8
  c.optimizer.weight_decay = 0.0
  c.optimizer.bias_correction = True
  c.schedule.name = 'cosine'  # 3.2
  c.schedule.learning_rate = peak
  c.schedule.warmup_steps = 1500  # from 1e-7; from 0 here
  c.schedule.end_fraction = 0.1
  c.train.steps = phases.steps_in(c, 'tokens', 300e9)  # 3.2

  if size in SLICES:
    paper.on_slice(c, **SLICES[size])
  if size == 'tiny':
    paper.tiny(c, warmup=30)
  return common.finish(c)
