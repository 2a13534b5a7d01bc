"""YaLM 100B (Yandex 2022); there is no paper, only its code and its weights.

`yalm.py:SIZE`: 100b; `tiny` is ours, for a run in minutes.

GPT-2's block with rotary positions and a gated MLP, between narrow tables: 2048
wide, normalised, brought to the model's width, and back before the logits.

The code differs in two places that are not fields of the trunk: its first layer
has no norm before attention, and the matrix from the tables to the model is the
identity above zeros, fixed. Here the norm is there and the matrix is trained:
21M weights more, 0.02%.

Cost: 65 days on 800 A100 GPUs (README), 300B tokens (model card).
Reached: the README has no scores.
"""

from ml_collections import ConfigDict

from configs import arguments, common, paper

ANCESTOR = 'gpt3:175b'

# size: layers, D, heads, H, F, width of the tables; the published code's.
SIZES = {
  '100b': (80, 10240, 128, 80, 27308, 2048),
  'tiny': (2, 128, 8, 16, 344, 64),
}
# size: its TPU slice, and how it goes there (docs/pods.md).
SLICES = {
  '100b': {'topology': 'v4:8x8x16'},
}


def get_config(arg: str = '') -> ConfigDict:
  size = arguments.parse(arg, size=SIZES)['size']
  c = paper.start('decoder')

  m = c.model  # all of it the published code's
  m.decoder_layers, m.embed_dim, m.heads, m.head_dim, *widths = SIZES[size]
  m.mlp_dim, m.table_dim = widths
  m.vocab_size = 128000  # pieces of the published vocabulary, about
  m.kv_heads = m.heads
  m.position, m.rope_theta, m.rope_dim = 'rope', 10_000.0, m.head_dim
  m.norm, m.norm_epsilon = 'layer_norm', 1e-5
  m.norm_placement, m.parallel = 'pre', 'none'
  m.activation, m.gated = 'gelu', True  # exact
  m.bias = 'all'
  m.scale_attention = m.embed_norm = m.tie_embeddings = True
  m.scale_embed = m.scale_output = False
  m.output_transform = m.output_bias = True
  m.head = 'lm'
  m.init, m.init_std = 'megatron', 0.02  # Megatron-LM's: it is the base
  m.dropout = m.attention_dropout = 0.0
  m.dropout_kind = 'residual'

  d = c.data
  d.source = 'tfds:c4/en'  # for a quarter Pile, three quarters Russian text
  d.tokenizer_kind = 'unigram'  # not stated
  d.objective = 'causal'
  d.start = 'none'  # its code is Megatron-LM's: windows of T + 1 tokens
  d.length = 1024  # the published code's
  d.batch = 3072  # not stated, as all of the training: GPT-3's 3.1M tokens

  tokens = d.batch * d.length
  c.optimizer.name = 'adamw'
  c.optimizer.clip = 1.0
  c.optimizer.b1, c.optimizer.b2 = 0.9, 0.95
  c.optimizer.epsilon = 1e-8
  c.optimizer.bias_correction = True
  c.optimizer.weight_decay = 0.1
  c.schedule.name = 'cosine'
  c.schedule.learning_rate = 6e-5
  c.schedule.warmup_steps = 375_000_000 // tokens
  c.schedule.decay_steps = 260_000_000_000 // tokens
  c.schedule.end_fraction = 0.1
  c.train.steps = 300_000_000_000 // tokens  # the model card's

  if size in SLICES:
    paper.on_slice(c, **SLICES[size])
  if size == 'tiny':
    paper.tiny(c, rate=1e-3, warmup=30)
  return common.finish(c)
