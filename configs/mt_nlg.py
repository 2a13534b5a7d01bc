"""MT-NLG: "Using DeepSpeed and Megatron to Train Megatron-Turing NLG 530B".

Smith et al. 2022. `mt_nlg.py:SIZE`: 530b. `tiny`, as in every file here, is not
a published size: it shows a run in minutes.

GPT-2's block as Megatron-LM has it. Left out: the batch that grows by 32 rows
from 32 over the first 12 billion tokens (3.2).

Cost: 270B tokens (3.2) on a cluster of 560 servers with 8 A100 GPUs each
(Microsoft's announcement). Time: no source at hand.
Reached: HellaSwag 80.2 with 1 example, 82.4 with several (section 5).
"""

from ml_collections import ConfigDict

from configs import common

ANCESTOR = 'gpt3:175b'

# size: layers, D, heads, H. Section 3.2. F is 4 D.
SIZES = {
  '530b': (105, 20480, 128, 160),
  'tiny': (2, 128, 8, 16),
}


def get_config(arg: str = '') -> ConfigDict:
  size = common.parse(arg, size=tuple(SIZES))['size']
  layers, embed_dim, heads, head_dim = SIZES[size]
  c = common.base()

  m = c.model
  m.family = 'decoder'
  m.vocab_size = 50257  # GPT-2's (3.1)
  m.embed_dim, m.mlp_dim = embed_dim, 4 * embed_dim
  m.heads = m.kv_heads = heads
  m.head_dim = head_dim
  m.decoder_layers = layers
  m.position = 'learned'
  m.max_length = 2048  # 3.2
  m.norm = 'layer_norm'
  m.norm_epsilon = 1e-5  # Megatron-LM's
  m.norm_placement = 'pre'
  m.parallel = 'none'
  m.activation = 'gelu_tanh'
  m.gated = False
  m.bias = 'all'
  m.scale_attention = True
  m.embed_norm = m.scale_embed = False
  m.tie_embeddings = True
  m.scale_output = False
  m.output_transform = m.output_bias = False
  m.head = 'lm'
  m.init = 'megatron'
  m.init_std = (1 / (3 * embed_dim)) ** 0.5  # 3.2; 0.004 for 530b
  m.dropout = m.attention_dropout = 0.0  # the paper names none
  m.dropout_kind = 'residual'
  m.remat = 'full' if size == '530b' else 'none'

  d = c.data
  d.source = 'tfds:c4/en'  # for the Pile and more (3.1)
  d.tokenizer_kind = 'byte_bpe'  # GPT-2's
  d.objective = 'causal'
  d.start = 'none'  # Megatron-LM's windows of T + 1 tokens
  d.length = 2048  # 3.2
  d.batch = 1920  # 3.2
  d.streams = 64

  tokens = d.batch * d.length
  c.optimizer.name = 'adamw'  # 3.2: Adam
  c.optimizer.clip = 1.0
  c.optimizer.b1 = 0.9
  c.optimizer.b2 = 0.95
  c.optimizer.epsilon = 1e-8
  c.optimizer.bias_correction = True
  c.optimizer.weight_decay = 0.1
  c.schedule.name = 'cosine'  # 3.2: to a tenth over 340B tokens
  c.schedule.learning_rate = 5e-5
  c.schedule.warmup_steps = 1_000_000_000 // tokens
  c.schedule.decay_steps = 340_000_000_000 // tokens
  c.schedule.end_fraction = 0.1
  c.train.steps = 270_000_000_000 // tokens  # 3.2: of the 339B it has

  if size == '530b':
    c.sharding.rules = 'fsdp'
    c.sharding.mesh.data, c.sharding.mesh.fsdp = 1, -1
  c.eval.samples = 4  # texts that each evaluation continues
  if size == 'tiny':
    common.tiny(c)
    c.model.max_length = 128
    c.data.batch = 16
    c.schedule.learning_rate = 1e-3
    c.schedule.warmup_steps = 30
    c.schedule.decay_steps = 0
  return common.finish(c)
