"""BERT (Devlin et al. 2019) and its miniatures (Turc et al. 2019).

`bert.py:SIZE` or
`bert.py:size=SIZE,vocabulary=VOCABULARY,length=LENGTH,recipe=RECIPE`.

Sizes: base and large are the paper's. mini, small, medium and LAYERSxWIDTH are
the 24 miniatures; the one published as BERT-Tiny is `2x128`. `tiny` is
ours, for a run in minutes.
Vocabularies: uncased, cased. Lengths: 512, where the first nine tenths of the
steps have rows of 128 tokens (A.2), and 128 throughout.
Recipes: paper, and lamb (You et al. 2020, "Large Batch Optimization for Deep
Learning: Training BERT in 76 minutes"): 32,768 rows, and the published rate and
warm-up of large. Its numbers are from memory. configs/papers/lamb.py has all
batches, and the 76 minutes, with 65,536 rows in the first phase.

Cost: 4 days on 16 TPU chips (base) or 64 (large); 1M steps of 256 rows (A.2).
Reached: GLUE test without WNLI 79.6 (base) and 82.1 (large, table 1); SQuAD 1.1
dev F1 88.5 and 90.9 (4.2). Miniatures: GLUE score 64.2 (2x128), 65.8 (mini),
71.2 (small), 73.5 (medium; README of the release).
"""

from ml_collections import ConfigDict

from configs import arguments, common, paper

ANCESTOR = 'transformer'

# size: layers, D, heads, H. Section 3; the miniatures: table 1 of Turc et al.
# F is 4 D.
SIZES = {
  'tiny': (2, 128, 8, 16),
  'mini': (4, 256, 4, 64),
  'small': (4, 512, 8, 64),
  'medium': (8, 512, 8, 64),
  'base': (12, 768, 12, 64),
  'large': (24, 1024, 16, 64),
}
# recipe: the TPU slice of large, and how it goes there (docs/pods.md).
SLICES = {
  'paper': {'topology': 'v5e:4x4', 'fsdp': 1, 'data': -1},
  'lamb': {'topology': 'v5e:16x16', 'fsdp': 1, 'data': -1, 'accumulate': 2},
}
GRID = {
  f'{layers}x{width}': (layers, width, width // 64, 64)
  for layers in (2, 4, 6, 8, 10, 12)
  for width in (128, 256, 512, 768)
}


def get_config(arg: str = '') -> ConfigDict:
  chosen = arguments.parse(
    arg,
    size=('base', *SIZES, *GRID),
    vocabulary=('uncased', 'cased'),
    length=('512', '128'),
    recipe=('paper', 'lamb'),
  )
  size = chosen['size']
  c = paper.start('encoder')

  m = c.model
  m.encoder_layers, m.embed_dim, m.heads, m.head_dim = (SIZES | GRID)[size]
  m.vocab_size = {'uncased': 30522, 'cased': 28996}[chosen['vocabulary']]
  m.kv_heads, m.mlp_dim = m.heads, 4 * m.embed_dim  # 3
  m.position, m.max_length = 'learned', 512
  m.token_types = 2  # 3: sentences A and B
  m.norm, m.norm_epsilon = 'layer_norm', 1e-12  # the published code's
  m.norm_placement, m.parallel = 'post', 'none'
  m.activation, m.gated = 'gelu_tanh', False  # A.2; approximated in the code
  m.bias = 'all'
  m.scale_attention = m.embed_norm = m.tie_embeddings = True
  m.scale_embed = m.scale_output = False
  m.output_transform = m.output_bias = True  # the published code's
  m.head = 'mlm_nsp'  # 3.1
  m.init, m.init_std = 'truncated_normal', 0.02  # the published code's
  m.dropout = m.attention_dropout = 0.1  # A.2
  m.dropout_kind = 'residual'

  d = c.data
  d.source = 'tfds:c4/en'  # for BooksCorpus and Wikipedia (3.1)
  d.tokenizer_kind = 'wordpiece'  # 3
  d.lowercase = chosen['vocabulary'] == 'uncased'
  d.objective = 'sentence_pairs'
  d.pack = False
  d.noise_density = 0.15  # 3.1
  d.masking = 'bert'
  d.masked_share, d.random_share = 0.8, 0.1  # 3.1
  d.duplicates, d.short_share = 10, 0.1  # the published code's
  d.length = int(chosen['length'])
  d.predictions = {512: 77, 128: 20}[d.length]  # the published code's
  if d.length == 512:
    # A.2: nine tenths of the steps
    c.train.phases = ((('steps', 900_000), 0, 128, 20, ''),)
  d.batch = 256  # A.2

  c.optimizer.name = 'adamw'  # A.2
  c.optimizer.clip = 1.0  # this and the next two are the published code's
  c.optimizer.bias_correction = False
  c.optimizer.epsilon = 1e-6
  c.optimizer.b1, c.optimizer.b2 = 0.9, 0.999
  c.optimizer.weight_decay = 0.01
  c.schedule.name = 'linear_from_start'  # A.2; the published code
  c.schedule.learning_rate = 1e-4
  c.schedule.warmup_steps = 10_000
  c.schedule.end_fraction = 0.0
  c.train.steps = 1_000_000
  if chosen['recipe'] == 'lamb':
    d.batch = 32_768  # table 1
    c.train.steps = 15_625
    if d.length == 512:
      c.train.phases = ((('steps', 14_062), 0, 128, 20, ''),)
    c.optimizer.name = 'lamb'
    c.optimizer.bias_correction = True  # algorithm 2
    c.schedule.learning_rate = 5e-3  # the appendix's table of rates
    c.schedule.warmup_steps = 3125  # a fifth of the steps

  if size == 'large':
    paper.on_slice(c, **SLICES[chosen['recipe']])
  if size == 'tiny':
    paper.tiny(c, batch=32, rate=1e-3, warmup=30)
    d.predictions, d.duplicates = 20, 2
    c.train.phases = ((('steps', 180), 0, 64, 10, ''),)
  return common.finish(c)
