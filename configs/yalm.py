"""YaLM 100B (Yandex 2022); there is no paper, only its code and its weights.

`yalm.py:SIZE`: 100b. `tiny`, as in every file here, is not a published size: it
shows a run in minutes.

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

from configs import common

ANCESTOR = 'gpt3:175b'

# size: layers, D, heads, H, F, width of the tables; the published code's.
SIZES = {
  '100b': (80, 10240, 128, 80, 27308, 2048),
  'tiny': (2, 128, 8, 16, 344, 64),
}


def get_config(arg: str = '') -> ConfigDict:
  size = common.parse(arg, size=tuple(SIZES))['size']
  layers, embed_dim, heads, head_dim, mlp_dim, table_dim = SIZES[size]
  c = common.base()

  m = c.model  # all of it the published code's
  m.family = 'decoder'
  m.vocab_size = 128000  # pieces of the published vocabulary, about
  m.embed_dim, m.mlp_dim = embed_dim, mlp_dim
  m.heads = m.kv_heads = heads
  m.head_dim = head_dim
  m.decoder_layers = layers
  m.position = 'rope'
  m.rope_theta = 10_000.0
  m.rope_dim = head_dim
  m.norm = 'layer_norm'
  m.norm_epsilon = 1e-5
  m.norm_placement = 'pre'
  m.parallel = 'none'
  m.activation = 'gelu'  # exact
  m.gated = True
  m.bias = 'all'
  m.scale_attention = True
  m.table_dim = table_dim
  m.embed_norm = True
  m.scale_embed = False
  m.tie_embeddings = True
  m.scale_output = False
  m.output_transform = True
  m.output_bias = True
  m.head = 'lm'
  m.init = 'megatron'  # Megatron-LM's, on which the code builds
  m.init_std = 0.02
  m.dropout = m.attention_dropout = 0.0
  m.dropout_kind = 'residual'
  m.remat = 'full' if size == '100b' else 'none'

  d = c.data
  d.source = 'tfds:c4/en'  # for a quarter Pile, three quarters Russian text
  d.tokenizer_kind = 'unigram'  # not stated
  d.objective = 'causal'
  d.start = 'none'  # its code is Megatron-LM's: windows of T + 1 tokens
  d.length = 1024  # the published code's
  d.batch = 3072  # not stated, as all of the training: GPT-3's 3.1M tokens
  d.streams = 64

  tokens = d.batch * d.length
  c.optimizer.name = 'adamw'
  c.optimizer.clip = 1.0
  c.optimizer.b1 = 0.9
  c.optimizer.b2 = 0.95
  c.optimizer.epsilon = 1e-8
  c.optimizer.bias_correction = True
  c.optimizer.weight_decay = 0.1
  c.schedule.name = 'cosine'
  c.schedule.learning_rate = 6e-5
  c.schedule.warmup_steps = 375_000_000 // tokens
  c.schedule.decay_steps = 260_000_000_000 // tokens
  c.schedule.end_fraction = 0.1
  c.train.steps = 300_000_000_000 // tokens  # the model card's

  if size == '100b':
    c.sharding.rules = 'fsdp'
    c.sharding.mesh.data, c.sharding.mesh.fsdp = 1, -1
  c.eval.samples = 4  # texts that each evaluation continues
  if size == 'tiny':
    common.tiny(c)
    c.data.batch = 16
    c.schedule.learning_rate = 1e-3
    c.schedule.warmup_steps = 30
    c.schedule.decay_steps = 0
  return common.finish(c)
