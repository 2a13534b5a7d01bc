"""T5: "Exploring the Limits of Transfer Learning" (Raffel et al. 2020).

`t5.py:SIZE` or `t5.py:size=SIZE,version=VERSION,recipe=RECIPE`.

Sizes: small, base, large, 3b and 11b; `tiny` is ours, for a run in minutes.
Versions: 1.0 is the paper's. 1.1 is a later release with gated GELU, a separate
output projection and other sizes, pretrained on C4 alone without dropout.
Recipes: final is that of the released models (3.7). baseline is that of the
paper's ablations (3.1.2), which corrupts tokens one by one (3.1.4). Both here
read C4 alone; the paper's final models also learn supervised tasks. lm_adapted
goes on from version 1.1 as a language model: 100,000 steps of prefix language
modelling (Lester et al. 2021, 3.2), which made it easier to prompt. It begins
with 1.1's parameters and a new optimizer, with --init_from=RUN of 1.1 or from
the published ones (train.pretrained). To keep RUN's optimizer too, add
--init_state, schedule.first_step=0 and train.steps=1_100_000.

Cost: final, 1.05T tokens in 1M steps (3.7); baseline, 34B (3.1.2). In FLOPs
(table 2 of Chung et al. 2022, from small to 11b): 1.8e20, 6.6e20, 2.3e21, 9e21,
3.3e22. Number of TPUs and hours: no source at hand.
Reached, from small to 11b after fine-tuning (table 14): GLUE 77.4, 82.7, 86.4,
88.5, 90.3; SuperGLUE 63.3, 76.2, 82.3, 86.4, 88.9; SQuAD (exact match) 79.1,
85.4, 86.7, 88.5, 91.3. baseline, validation (table 1): GLUE 83.28, SuperGLUE
71.36, SQuAD 80.88.
"""

from ml_collections import ConfigDict

from configs import arguments, common, paper

ANCESTOR = 'transformer'

# version: size: layers of each stack, D, F, heads, H. 1.0: section 3.7 and
# table 13. 1.1: the release of its checkpoints.
SIZES = {
  '1.0': {
    'tiny': (2, 128, 512, 4, 32),
    'small': (6, 512, 2048, 8, 64),
    'base': (12, 768, 3072, 12, 64),
    'large': (24, 1024, 4096, 16, 64),
    '3b': (24, 1024, 16384, 32, 128),
    '11b': (24, 1024, 65536, 128, 128),
  },
  '1.1': {
    'tiny': (2, 128, 384, 4, 32),
    'small': (8, 512, 1024, 6, 64),
    'base': (12, 768, 2048, 12, 64),
    'large': (24, 1024, 2816, 16, 64),
    '3b': (24, 2048, 5120, 32, 64),
    '11b': (24, 4096, 10240, 64, 64),
  },
}
# size: its TPU slice, and how it goes there (docs/pods.md).
SLICES = {
  '3b': {'topology': 'v5e:8x8'},
  '11b': {'topology': 'v5p:4x4x4'},
}
# What a size of version 1.1 does otherwise: products are kept.
FASTER = {'11b': {'remat': 'dots'}}


def get_config(arg: str = '') -> ConfigDict:
  chosen = arguments.parse(
    arg,
    size=('base', *SIZES['1.0']),
    version=('1.0', '1.1'),
    recipe=('final', 'baseline', 'lm_adapted'),
  )
  size, v1 = chosen['size'], chosen['version'] == '1.0'
  adapted = chosen['recipe'] == 'lm_adapted'
  if adapted and v1:
    raise ValueError(
      'recipe=lm_adapted goes on from version 1.1: add version=1.1.'
    )
  c = paper.start('encoder_decoder')

  m = c.model
  sizes = SIZES[chosen['version']][size]
  layers, m.embed_dim, m.mlp_dim, m.heads, m.head_dim = sizes
  m.encoder_layers = m.decoder_layers = layers
  m.vocab_size = 32128  # 32,000 pieces and 100 sentinels, padded to 128s
  m.kv_heads = m.heads
  m.position = 'relative_bias'  # 2.1
  m.relative_buckets, m.relative_max_distance = 32, 128
  m.norm = 'rms_norm'  # 2.1: "simplified" layer norm, no bias
  m.norm_epsilon = 1e-6
  m.norm_placement, m.parallel = 'pre', 'none'
  m.activation = 'relu' if v1 else 'gelu_tanh'
  m.gated = not v1
  m.bias = 'none'
  m.scale_attention = False  # folded into the queries' initialisation
  m.embed_norm = m.scale_embed = False
  m.output_transform = m.output_bias = False
  m.tie_embeddings = m.scale_output = v1
  m.head = 'lm'
  m.init = 't5'
  # 3.1.2; 1.1: only in fine-tuning
  m.dropout = m.attention_dropout = 0.1 if v1 else 0.0
  m.dropout_kind = 't5'

  d = c.data
  d.source = 'tfds:c4/en'
  d.sentinels = 100  # 3.1.4
  d.objective = 'span_corruption'
  d.noise_density, d.mean_span_length = 0.15, 3.0  # 3.3.4
  d.length = 512  # 3.1.2
  d.document_tokens = 65536
  d.batch = 2048  # 3.7
  if chosen['recipe'] == 'baseline':
    d.objective = 'iid_spans'  # 3.1.4
    d.mean_span_length = 0.0
    d.target_length = 192  # the published code's
    d.batch = 128  # 3.1.2
  if adapted:  # length and batch are not stated: those of pretraining
    d.objective = 'prefix'  # Lester et al. 2021, 3.2; Raffel et al., 3.3.1
    d.noise_density = d.mean_span_length = 0.0
    d.sentinels = 0  # none are read; the vocabulary of 1.1 has them
    d.concatenate = False  # the published code's, for prefixes

  c.optimizer.name = 'adafactor'  # 3.1.2
  c.optimizer.decay_rate = 0.8
  c.optimizer.epsilon1, c.optimizer.epsilon2 = 1e-30, 1e-3
  c.optimizer.clip_threshold = 1.0
  c.optimizer.factor_from = 128
  c.optimizer.parameter_scale = True
  c.optimizer.b1 = c.optimizer.weight_decay = 0.0
  c.schedule.name = 'inverse_sqrt'  # 3.1.2: 1 / sqrt(max(n, 10^4))
  c.schedule.learning_rate = 1.0
  c.schedule.warmup_steps = 10_000
  c.train.steps = 1_000_000 if chosen['recipe'] == 'final' else 2**19
  if adapted:  # the model card; checkpoints of step 1,100,000
    c.train.steps, c.schedule.first_step = 100_000, 1_000_000
  c.train.z_loss = 1e-4  # the published code's, not in the paper

  if size in SLICES:
    faster = {} if v1 or adapted else FASTER.get(size, {})
    paper.on_slice(c, **SLICES[size] | faster)
  if size == 'large':
    m.remat, c.sharding.mesh.data, c.sharding.mesh.fsdp = 'full', 1, -1
  if size == 'tiny':
    paper.tiny(c, batch=32)
    m.dropout = m.attention_dropout = 0.0
    d.target_length //= 4
    if adapted:
      c.schedule.first_step = c.train.steps
  return common.finish(c)
