"""BLOOM: "A 176B-Parameter Open-Access Multilingual Language Model".

BigScience Workshop 2022. `bloom.py:SIZE`: 560m, 1.1b, 1.7b, 3b, 7.1b or 176b;
`tiny` is ours, for a run in minutes.

GPT-2's block with ALiBi and a norm after the embeddings. The batch grows from
192 rows over the first 9,765,625 (the published scripts).

Cost: 176b 3.5 months on 384 A100 GPUs, 1.08M GPU hours (announcements of
BigScience and GENCI), 366B tokens (table 3).
Reached (176b): perplexity 7.045 at the end of training (model card).
"""

from ml_collections import ConfigDict

from configs import arguments, common, paper, phases

ANCESTOR = 'gpt3:175b'

# size: layers, D, heads, H, largest and last learning rate, rows of a batch, by
# how many it grows. Table 3 and the published scripts. F is 4 D.
SIZES = {
  '560m': (24, 1024, 16, 64, 3e-4, 1e-5, 256, 32),
  '1.1b': (24, 1536, 16, 96, 2.5e-4, 1e-5, 256, 16),
  '1.7b': (24, 2048, 16, 128, 2e-4, 1e-5, 512, 16),
  '3b': (30, 2560, 32, 80, 1.6e-4, 1e-5, 512, 32),
  '7.1b': (30, 4096, 32, 128, 1.2e-4, 1e-5, 512, 32),
  '176b': (70, 14336, 112, 128, 6e-5, 6e-6, 2048, 16),
  'tiny': (2, 128, 8, 16, 1e-3, 1e-4, 16, 0),
}
# size: its TPU slice, and how it goes there (docs/pods.md).
SLICES = {
  '1.1b': {'topology': 'v5e:8x16'},
  '1.7b': {'topology': 'v5e:8x16'},
  '3b': {'topology': 'v5e:8x16'},
  '7.1b': {'topology': 'v5e:8x16'},
  '176b': {'topology': 'v4:8x8x8', 'tensor': 8, 'accumulate': 2},
}


def get_config(arg: str = '') -> ConfigDict:
  size = arguments.parse(arg, size=SIZES)['size']
  c = paper.start('decoder')

  m = c.model
  m.decoder_layers, m.embed_dim, m.heads, m.head_dim, *recipe = SIZES[size]
  peak, last, batch, growth = recipe
  m.vocab_size = 250_880  # 3.3: 250,680, padded
  m.kv_heads, m.mlp_dim = m.heads, 4 * m.embed_dim
  m.position = 'alibi'  # 3.2.3
  m.norm, m.norm_epsilon = 'layer_norm', 1e-5  # the published configuration's
  m.norm_placement, m.parallel = 'pre', 'none'
  m.activation, m.gated = 'gelu_tanh', False  # table 3
  m.bias = 'all'
  m.scale_attention = True
  m.embed_norm = True  # 3.2.3
  m.scale_embed = False
  m.tie_embeddings = True  # table 3
  m.scale_output = m.output_transform = m.output_bias = False
  m.head = 'lm'
  m.init = 'megatron'
  m.init_std = 0.0048  # (3 * 14336)^-1/2 for every size: the scripts
  # Megatron-LM's default, which the scripts keep. The configurations of the
  # published weights are for using them and say 0.
  m.dropout = m.attention_dropout = 0.1
  m.dropout_kind = 'residual'

  d = c.data
  d.source = 'tfds:c4/en'  # for ROOTS (3.1)
  d.tokenizer_kind = 'byte_bpe'  # 3.2
  d.objective = 'causal'
  d.start = 'none'  # Megatron-LM's windows of T + 1 tokens
  d.length = 2048  # table 3
  d.batch = batch
  if growth:
    c.train.phases = phases.ramp('rows', 9_765_625, 192, batch, growth)

  c.optimizer.name = 'adamw'  # table 3
  c.optimizer.clip = 1.0
  c.optimizer.b1, c.optimizer.b2 = 0.9, 0.95
  c.optimizer.epsilon = 1e-8
  c.optimizer.bias_correction = True
  c.optimizer.weight_decay = 0.1
  c.schedule.name = 'cosine'
  c.schedule.learning_rate = peak
  c.schedule.unit = 'rows'
  c.schedule.warmup_steps = 183_105  # 375M tokens
  c.schedule.decay_steps = 200_000_000  # 410B tokens
  c.schedule.end_fraction = last / peak
  # ROOTS once is 341B tokens; 176b read 25B more (3.5).
  tokens = 366e9 if size == '176b' else 341e9
  c.train.steps = phases.steps_in(c, 'tokens', tokens)

  if size in SLICES:
    paper.on_slice(c, **SLICES[size])
  if size == 'tiny':
    paper.tiny(c, warmup=30)
    m.init_std = 0.02
    m.dropout = m.attention_dropout = 0.0
  return common.finish(c)
