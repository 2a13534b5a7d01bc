"""MT-NLG: "Using DeepSpeed and Megatron to Train Megatron-Turing NLG 530B".

Smith et al. 2022. `mt_nlg.py:SIZE`: 530b; `tiny` is ours, for a run in
minutes.

GPT-2's block as Megatron-LM has it. The batch grows by 32 rows from 32 over the
first 12 billion tokens (3.2).

Cost: 270B tokens (3.2) on a cluster of 560 servers with 8 A100 GPUs each
(Microsoft's announcement). Time: no source at hand.
Reached: HellaSwag 80.2 with 1 example, 82.4 with several (section 5).
"""

from ml_collections import ConfigDict

from configs import arguments, common, paper, phases

ANCESTOR = 'gpt3:175b'

# size: layers, D, heads, H. Section 3.2. F is 4 D.
SIZES = {
  '530b': (105, 20480, 128, 160),
  'tiny': (2, 128, 8, 16),
}
# size: its TPU slice, and how it goes there (docs/pods.md).
SLICES = {
  '530b': {
    'topology': 'v5p:4x20x28',
    'fsdp': 1,
    'data': -1,
    'tensor': 8,
    'stage': 35,
    'microbatches': 240,
    'rules': 'zero1_tensor_stage',
  },
}


def get_config(arg: str = '') -> ConfigDict:
  size = arguments.parse(arg, size=SIZES)['size']
  c = paper.start('decoder')

  m = c.model
  m.decoder_layers, m.embed_dim, m.heads, m.head_dim = SIZES[size]
  m.vocab_size = 50257  # GPT-2's (3.1)
  m.kv_heads, m.mlp_dim = m.heads, 4 * m.embed_dim
  m.position, m.max_length = 'learned', 2048  # 3.2
  m.norm, m.norm_epsilon = 'layer_norm', 1e-5  # Megatron-LM's
  m.norm_placement, m.parallel = 'pre', 'none'
  m.activation, m.gated = 'gelu_tanh', False
  m.bias = 'all'
  m.scale_attention = m.tie_embeddings = True
  m.embed_norm = m.scale_embed = False
  m.scale_output = m.output_transform = m.output_bias = False
  m.head = 'lm'
  m.init = 'megatron'
  m.init_std = (1 / (3 * m.embed_dim)) ** 0.5  # 3.2; 0.004 for 530b
  m.dropout = m.attention_dropout = 0.0  # the paper names none
  m.dropout_kind = 'residual'

  d = c.data
  d.source = 'tfds:c4/en'  # for the Pile and more (3.1)
  d.tokenizer_kind = 'byte_bpe'  # GPT-2's
  d.objective = 'causal'
  d.start = 'none'  # Megatron-LM's windows of T + 1 tokens
  d.length = 2048  # 3.2
  d.batch = 1920  # 3.2
  c.train.phases = phases.ramp('tokens', 12e9, 32, d.batch, 32)  # 3.2

  c.optimizer.name = 'adamw'  # 3.2: Adam
  c.optimizer.clip = 1.0
  c.optimizer.b1, c.optimizer.b2 = 0.9, 0.95
  c.optimizer.epsilon = 1e-8
  c.optimizer.bias_correction = True
  c.optimizer.weight_decay = 0.1
  c.schedule.name = 'cosine'  # 3.2: to a tenth over 340B tokens
  c.schedule.learning_rate = 5e-5
  c.schedule.unit = 'tokens'
  c.schedule.warmup_steps = 1_000_000_000
  c.schedule.decay_steps = 340_000_000_000
  c.schedule.end_fraction = 0.1
  # 3.2: of the 339B it has
  c.train.steps = phases.steps_in(c, 'tokens', 270e9)

  if size in SLICES:
    paper.on_slice(c, **SLICES[size])
  if size == 'tiny':
    paper.tiny(c, rate=1e-3, warmup=30)
    m.max_length = 128
  return common.finish(c)
