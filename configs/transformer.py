"""Transformer: "Attention Is All You Need" (Vaswani et al. 2017).

`transformer.py:SIZE`: base or big; `tiny` is ours, for a run in minutes.

The model is the paper's, the data are not. The paper translates (WMT 2014,
English to German); here the model restores spans that are missing from a text.

Cost: one machine with 8 P100 GPUs; base 12 hours (100,000 steps of 0.4 s), big
3.5 days (section 5.2).
Reached: 28.4 BLEU from English to German, big (abstract).
"""

from ml_collections import ConfigDict

from configs import arguments, common, paper

ANCESTOR = ''

# size: layers of each stack, D, F, heads, H, dropout, steps. Table 3.
SIZES = {
  'tiny': (2, 128, 512, 8, 16, 0.1, 200),
  'base': (6, 512, 2048, 8, 64, 0.1, 100_000),
  'big': (6, 1024, 4096, 16, 64, 0.3, 300_000),
}


def get_config(arg: str = '') -> ConfigDict:
  size = arguments.parse(arg, size=('base', *SIZES))['size']
  c = paper.start('encoder_decoder')

  m = c.model
  layers, m.embed_dim, m.mlp_dim, m.heads, m.head_dim, *recipe = SIZES[size]
  m.encoder_layers = m.decoder_layers = layers
  m.vocab_size = 37_000  # 5.1: "about", shared by source and target
  m.kv_heads = m.heads
  m.position = 'sinusoidal'  # 3.5
  m.norm, m.norm_epsilon = 'layer_norm', 1e-6  # the published code's
  m.norm_placement = 'post'  # 3.1: LayerNorm(x + Sublayer(x))
  m.parallel = 'none'
  m.activation, m.gated = 'relu', False  # 3.3
  m.bias = 'mlp'  # 3.3 has biases, the projections of 3.2.2 have none
  m.scale_attention = True  # 3.2.1
  m.embed_norm = False
  m.scale_embed = m.tie_embeddings = True  # 3.4
  m.scale_output = m.output_transform = m.output_bias = False
  m.head = 'lm'
  m.init = 'glorot'  # the published code's
  m.dropout, c.train.steps = recipe  # 5.4: embeddings, residual branches; 5.2
  m.attention_dropout = 0.0
  m.dropout_kind = 'residual'

  d = c.data
  d.source = 'tfds:c4/en'
  d.sentinels = 100
  d.tokenizer_kind = 'bpe'  # 5.1: byte-pair encoding
  d.objective = 'span_corruption'
  d.noise_density, d.mean_span_length = 0.15, 3.0
  d.document_tokens = 65536
  d.length, d.batch = 256, 96  # 5.1: about 25,000 source tokens
  d.streams = 32

  c.optimizer.name = 'adamw'  # 5.3: Adam
  c.optimizer.b1, c.optimizer.b2 = 0.9, 0.98
  c.optimizer.epsilon = 1e-9
  c.optimizer.weight_decay = 0.0
  c.optimizer.bias_correction = True
  c.schedule.name = 'noam'  # 5.3
  c.schedule.learning_rate = m.embed_dim**-0.5
  c.schedule.warmup_steps = 4000
  c.train.label_smoothing = 0.1  # 5.4

  if size == 'tiny':
    # The highest rate is 1e-3.
    paper.tiny(c, c.train.steps, batch=32, warmup=100, rate=0.01)
  return common.finish(c)
