"""PaLM: "Scaling Language Modeling with Pathways" (Chowdhery et al. 2022).

`palm.py:SIZE`: 8b, 62b or 540b; `tiny` is ours, for a run in minutes.

Attention and MLP side by side after one norm, one head of keys and values,
SwiGLU, rotary positions, no biases. Batches double: 540b's after 50,000 and
115,000 of 255,000 steps, 8b's and 62b's once (5). "The smaller models followed
similar schedules": theirs double after 50,000 steps here.

Cost: 780B tokens (3); 540b on 6,144 TPU v4 chips at 46.2% of their peak (4.1).
Reached (540b): GSM8K 56.9 with 8 worked examples (6.3).
"""

from ml_collections import ConfigDict

from configs import arguments, common, paper, phases

ANCESTOR = 'gpt3:175b'

# size: layers, D, heads, rows of a batch. Table 1 and section 5. F is 4 D, H is
# 256. The heads of 540b together are narrower than D.
SIZES = {
  '8b': (32, 4096, 16, 512),
  '62b': (64, 8192, 32, 1024),
  '540b': (118, 18432, 48, 2048),
  'tiny': (2, 128, 8, 16),
}


def get_config(arg: str = '') -> ConfigDict:
  size = arguments.parse(arg, size=SIZES)['size']
  c = paper.start('decoder')

  m = c.model
  m.decoder_layers, m.embed_dim, m.heads, batch = SIZES[size]
  m.vocab_size = 256_000  # 2
  m.mlp_dim = 4 * m.embed_dim  # table 1
  m.kv_heads = 1  # 2: multi-query
  m.head_dim = 256  # table 1
  m.position, m.rope_dim = 'rope', m.head_dim  # 2
  m.rope_theta = 10_000.0  # Su et al. 2021
  m.norm = 'layer_norm_no_bias'  # 2
  m.norm_epsilon = 1e-6  # not stated; T5X's
  m.norm_placement = 'pre'
  m.parallel = 'one_norm'  # 2
  m.activation, m.gated = 'silu', True  # 2: SwiGLU
  m.bias = 'none'  # 2
  m.scale_attention = True
  m.embed_norm = m.scale_embed = False
  m.tie_embeddings = True  # 2
  m.scale_output = True  # 5: logits times D^-1/2
  m.output_transform = m.output_bias = False
  m.head = 'lm'
  m.init = 'fan_in'  # 5
  m.dropout = m.attention_dropout = 0.0  # 5
  m.dropout_kind = 'residual'

  d = c.data
  d.source = 'tfds:c4/en'  # for the mixture of table 2
  d.tokenizer_kind = 'unigram'  # SentencePiece; its kind is not stated
  # 2: white space is kept, numbers are split into digits, and characters
  # outside the vocabulary into UTF-8 bytes.
  d.lossless = True
  d.objective = 'causal'
  d.start = 'pad'  # T5X's decoders read id 0 first
  d.length = 2048  # 5
  d.batch = batch
  if size == '540b':  # 5
    c.train.phases = (
      (('steps', 50_000), 512, 0, 0, ''),
      (('steps', 115_000), 1024, 0, 0, ''),
    )
  else:
    c.train.phases = ((('steps', 50_000), batch // 2, 0, 0, ''),)

  c.optimizer.name = 'adafactor'  # 5
  c.optimizer.clip = 1.0
  c.optimizer.factor_from = 0  # 5: "without factorization"
  c.optimizer.parameter_scale = True
  c.optimizer.b1 = 0.9
  c.optimizer.decay_rate = 0.8  # b2 = 1 - k^-0.8
  c.optimizer.weight_decay = 1.0  # times the squared learning rate
  # This and the next are Adafactor's own.
  c.optimizer.epsilon1, c.optimizer.epsilon2 = 1e-30, 1e-3
  c.optimizer.clip_threshold = 1.0
  c.schedule.name = 'inverse_sqrt'  # 5: 0.01 for 10,000 steps, then k^-1/2
  c.schedule.learning_rate = 1.0
  c.schedule.warmup_steps = 10_000
  c.train.z_loss = 1e-4  # 5
  c.train.steps = 255_000  # 5: 776B tokens, all of the data once
  if size != '540b':
    c.train.steps = phases.steps_in(c, 'tokens', 780e9)  # 3

  if size == 'tiny':
    paper.tiny(c)
    m.head_dim = m.rope_dim = 8  # 64 of D = 128, as 540b's are fewer
  else:
    paper.save_memory(c)
  return common.finish(c)
