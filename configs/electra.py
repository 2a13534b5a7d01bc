"""ELECTRA (Clark et al. 2020): which of these tokens were replaced?

`electra.py:SIZE`: small, base or large; `tiny` is ours, for a run in minutes.

One run trains two encoders. A generator fills masked positions. A
discriminator, the model that is kept, finds the tokens that the generator
changed. They share their tables (3.2); the discriminator's loss counts 50 times
(A).

What the paper compares with this is a few keys away (3.2, table 5, F):
`model.head` (what the discriminator learns), `model.generator` (what fills the
masks), `model.generator_shares`, `model.generator_dim` and so on (its size) and
`tuning.train='two_stage'`. `python -m configs.papers electra.table5` and the
tables beside it have the commands.

Documents are cut into pieces as they come, no piece has two documents, and
short pieces share a row. Left out: the published code's pieces of two segments,
of shorter ones (5%) and of one segment (10%). No loss depends on the segments.

Cost: small 4 days on one V100 GPU, base 4 days on 16 TPUv3 (table 1); large
3.1e21 FLOPs for 1.75M steps (table 8).
Reached, GLUE dev: small 79.9, base 85.1 (table 1), large 89.0 after 400,000
steps and 89.5 after 1.75M (table 2). SQuAD 2.0 dev F1: base 83.3, large 89.6
and 90.6.
"""

from ml_collections import ConfigDict

from configs import arguments, common, paper

ANCESTOR = 'bert'

# size: layers, D, heads, H, width of the tables (0: D), divisor of the
# generator's widths, learning rate, mask rate, batch, length, steps. Table 6.
# large is ELECTRA-400K; ELECTRA-1.75M takes 1,750,000 steps.
SIZES = {
  'tiny': (2, 128, 8, 16, 64, 2, 1e-3, 0.15, 16, 128, 200),
  'small': (12, 256, 4, 64, 128, 4, 5e-4, 0.15, 128, 128, 1_000_000),
  'base': (12, 768, 12, 64, 0, 3, 2e-4, 0.15, 256, 512, 766_000),
  'large': (24, 1024, 16, 64, 0, 4, 2e-4, 0.25, 2048, 512, 400_000),
}
# size: its TPU slice, and how it goes there (docs/pods.md).
SLICES = {
  'large': {'topology': 'v5e:4x4', 'fsdp': 1, 'data': -1},
}


def get_config(arg: str = '') -> ConfigDict:
  size = arguments.parse(arg, size=('base', *SIZES))['size']
  c = paper.start('electra')

  m, d = c.model, c.data
  m.encoder_layers, m.embed_dim, m.heads, m.head_dim, *others = SIZES[size]
  m.table_dim, m.generator_divisor, *recipe = others
  peak, d.noise_density, d.batch, d.length, c.train.steps = recipe
  m.vocab_size = 30522  # BERT's, uncased
  m.kv_heads, m.mlp_dim = m.heads, 4 * m.embed_dim  # table 6
  m.position, m.max_length = 'learned', 512
  m.token_types = 2
  m.norm, m.norm_epsilon = 'layer_norm', 1e-12  # the published code's
  m.norm_placement, m.parallel = 'post', 'none'
  m.activation, m.gated = 'gelu', False  # exact, in the published code
  m.bias = 'all'
  m.scale_attention = m.embed_norm = m.tie_embeddings = True
  m.scale_embed = m.scale_output = False
  m.output_transform = m.output_bias = True  # of the generator
  m.head = 'rtd'  # 3.1
  m.init, m.init_std = 'truncated_normal', 0.02  # the published code's
  m.dropout = m.attention_dropout = 0.1  # table 6
  m.dropout_kind = 'residual'

  d.source = 'tfds:c4/en'  # for BERT's corpora; large: XLNet's (3.1)
  d.tokenizer_kind = 'wordpiece'  # the published code's: BERT's, uncased
  d.lowercase = True
  d.objective = 'mlm'
  d.concatenate = False  # the published code's
  d.masking = 'electra'
  d.masked_share = 0.85  # the published code's; the rest stays
  # The published code's: room for half a percent of the row more.
  d.predictions = int((d.noise_density + 0.005) * d.length)

  c.optimizer.name = 'adamw'  # table 6
  c.optimizer.clip = 1.0  # this and the next are the published code's
  c.optimizer.bias_correction = False
  c.optimizer.b1, c.optimizer.b2 = 0.9, 0.999
  c.optimizer.epsilon = 1e-6
  c.optimizer.weight_decay = 0.01
  c.schedule.name = 'linear_throughout'  # the published code
  c.schedule.learning_rate = peak
  c.schedule.warmup_steps = 10_000
  c.schedule.end_fraction = 0.0

  if size == 'large':
    paper.on_slice(c, **SLICES[size])
  if size == 'tiny':
    paper.tiny(c, c.train.steps, warmup=30)
    m.max_length = 128
  return common.finish(c)
