"""RoBERTa: "A Robustly Optimized BERT Pretraining Approach" (Liu et al. 2019).

`roberta.py:SIZE`: base or large; `tiny` is ours, for a run in minutes.

BERT's model with a byte-level vocabulary. There are no sentence pairs, masks
are drawn again at every visit, and there is more text in larger batches.

Cost: large, about a day on 1,024 V100 GPUs for the first 100,000 steps (5); the
release took 500,000 steps of 8K rows (table 4).
Reached (base, large; dev, README of the release): MNLI 87.6, 90.2; QNLI 92.8,
94.7; SST-2 94.8, 96.4; RTE 78.7, 86.6. Large: SQuAD 1.1 F1 94.6.
"""

from ml_collections import ConfigDict

from configs import arguments, common, paper

ANCESTOR = 'bert'

# size: layers, D, heads, H, peak learning rate, warmup. Table 9.
SIZES = {
  'tiny': (2, 128, 8, 16, 1e-3, 30),
  'base': (12, 768, 12, 64, 6e-4, 24_000),
  'large': (24, 1024, 16, 64, 4e-4, 30_000),
}


def get_config(arg: str = '') -> ConfigDict:
  size = arguments.parse(arg, size=('base', *SIZES))['size']
  c = paper.start('encoder')

  m = c.model
  m.encoder_layers, m.embed_dim, m.heads, m.head_dim, peak, warmup = SIZES[size]
  m.vocab_size = 50265  # 4.4: GPT-2's 50,257 and special tokens
  m.kv_heads, m.mlp_dim = m.heads, 4 * m.embed_dim  # table 9
  m.position, m.position_offset = 'learned', 2  # the published code's
  m.max_length = 514  # 512, counted from 2
  m.norm, m.norm_epsilon = 'layer_norm', 1e-5  # the published code's
  m.norm_placement, m.parallel = 'post', 'none'
  m.activation, m.gated = 'gelu', False  # exact, in the published code
  m.bias = 'all'
  m.scale_attention = m.embed_norm = m.tie_embeddings = True
  m.scale_embed = m.scale_output = False
  m.output_transform = m.output_bias = True
  m.head = 'mlm'  # 4.2: no next-sentence prediction
  m.init, m.init_std = 'normal', 0.02  # the published code's
  m.dropout = m.attention_dropout = 0.1  # table 9
  m.dropout_kind = 'residual'
  m.pooler_dropout = True  # of a classifier, in the published code

  d = c.data
  d.source = 'tfds:c4/en'  # for the 160 GB of 3.2
  d.tokenizer_kind = 'byte_bpe'  # 4.4: GPT-2's vocabulary
  d.objective = 'full_sentences'  # 4.2; masks drawn at every visit (4.1)
  d.noise_density = 0.15
  d.masking = 'roberta'
  d.masked_share, d.random_share = 0.8, 0.1  # 2.1
  d.length = 512
  d.predictions = 77
  d.batch = 8192  # table 9: "8k"

  c.optimizer.name = 'adamw'  # table 9
  c.optimizer.clip = 0.0
  c.optimizer.b1, c.optimizer.b2 = 0.9, 0.98
  c.optimizer.epsilon = 1e-6
  c.optimizer.weight_decay = 0.01
  c.optimizer.decay = 'all'  # biases and gains too, in the published code
  c.optimizer.bias_correction = True
  c.schedule.name = 'linear'
  c.schedule.learning_rate = peak
  c.schedule.warmup_steps = warmup
  c.schedule.end_fraction = 0.0
  c.train.steps = 500_000

  if size == 'tiny':
    paper.tiny(c, batch=32)
    m.max_length = 136  # 128 in use, from row 2 on; a multiple of 8
    d.predictions = 20
  return common.finish(c)
