"""UL2: "Unifying Language Learning Paradigms" (Tay et al. 2022), and FLAN-UL2.

`ul2.py:SIZE` or `ul2.py:size=20b,variant=VARIANT,s_denoiser=FORM`. `tiny` is
ours, for a run in minutes.

Variants: ul2 is the paper's. flan is the release of 2023, trained further at
length 2048 and then on FLAN's instructions, which are learnt here with
train.finetune, as configs/flan_t5.py says; heldout=CLUSTER leaves some out. UL2
learns a mixture of seven denoisers (table 1); a mode token says which one a row
is for.
Forms of the S-denoiser: table is a quarter of the text behind a sentinel (table
1); code is prefix language modelling, which the appendix's code calls.

Cost: 1T tokens in 2M steps of 1,024 rows (model card). Hardware and time: no
source at hand.
Reached: better than GPT-3 (175B) on SuperGLUE without examples (abstract).
flan: 49.1 on average of its benchmarks, where Flan-PaLM 62B has 49.9
(announcement).
"""

from ml_collections import ConfigDict

from configs import arguments, common, instructions, paper

ANCESTOR = 't5:version=1.1'

# size: layers of each stack, D, F, heads, H. Section 4.3.1.
SIZES = {
  'tiny': (2, 128, 512, 8, 32),
  '20b': (32, 4096, 16384, 16, 256),
}
# variant: the TPU slice of 20b, and how it goes there (docs/pods.md).
SLICES = {
  'ul2': {'topology': 'v4:8x8x8', 'remat': 'dots'},
  'flan': {'topology': 'v4:4x4x4', 'remat': 'dots'},
}


# Mode, rate, mean span (0: one span, to the end), share of the examples. Table
# 1. The names of the modes [R], [S] and [X] are the released checkpoint's. The
# shares are not stated: here all are equal.
DENOISERS = (
  ('[NLU]', 0.15, 3.0, 1 / 7),
  ('[NLU]', 0.15, 8.0, 1 / 7),
  ('[S2S]', 0.25, 0.0, 1 / 7),
  ('[NLG]', 0.5, 3.0, 1 / 7),
  ('[NLG]', 0.5, 8.0, 1 / 7),
  ('[NLG]', 0.15, 64.0, 1 / 7),
  ('[NLG]', 0.5, 64.0, 1 / 7),
)


def get_config(arg: str = '') -> ConfigDict:
  chosen = arguments.parse(
    arg,
    size=('20b', 'tiny'),
    variant=('ul2', 'flan'),
    s_denoiser=('table', 'code'),
    heldout=instructions.HELDOUT,
  )
  instructions.check_recipe(chosen['heldout'], chosen['variant'], 'variant')
  size, flan = chosen['size'], chosen['variant'] == 'flan'
  prefix = chosen['s_denoiser'] == 'code'
  if flan and prefix:
    raise ValueError('variant=flan has no denoisers: leave s_denoiser out.')
  c = paper.start('encoder_decoder')

  m = c.model
  layers, m.embed_dim, m.mlp_dim, m.heads, m.head_dim = SIZES[size]
  m.encoder_layers = m.decoder_layers = layers
  m.vocab_size = 32128  # T5's
  m.kv_heads = m.heads
  m.position = 'relative_bias'
  m.relative_buckets, m.relative_max_distance = 32, 128
  m.norm, m.norm_epsilon = 'rms_norm', 1e-6
  m.norm_placement, m.parallel = 'pre', 'none'
  m.activation, m.gated = 'silu', True  # SwiGLU
  m.bias = 'none'
  m.scale_attention = m.embed_norm = m.scale_embed = False
  m.scale_output = m.output_transform = m.output_bias = False
  m.tie_embeddings = False  # the released checkpoint's
  m.head = 'lm'
  m.init = 't5'
  # No dropout in pretraining. That of the instructions is FLAN-T5's.
  m.dropout = m.attention_dropout = 0.05 if flan else 0.0
  m.dropout_kind = 't5'

  d = c.data
  d.source = 'tfds:c4/en'
  d.objective = 'ul2'
  if not flan:
    d.denoisers = tuple(
      (mode, 0.0 if prefix and not span else rate, span, share)
      for mode, rate, span, share in DENOISERS
    )
    # The fourth denoiser needs 128 in 512 tokens. The table has just as many
    # rows after T5's 32,000 pieces.
    d.sentinels = 128
  d.length = 2048 if flan else 512  # the releases' model cards
  d.document_tokens = 65536
  d.target_length = 512 if flan else 0  # FLAN-T5's
  d.batch = 64 if flan else 1024  # FLAN-T5's; the model card

  c.optimizer.name = 'adafactor'  # its numbers are T5's
  c.optimizer.decay_rate = 0.8
  c.optimizer.epsilon1, c.optimizer.epsilon2 = 1e-30, 1e-3
  c.optimizer.clip_threshold = 1.0
  c.optimizer.factor_from = 128
  c.optimizer.parameter_scale = True
  c.optimizer.b1 = c.optimizer.weight_decay = 0.0
  if flan:  # no recipe is published: this is FLAN-T5 XXL's
    c.schedule.name = 'constant'
    c.schedule.learning_rate = 5e-4
    c.train.steps = 14_000
  else:
    c.schedule.name = 'inverse_sqrt'  # as T5's
    c.schedule.learning_rate = 1.0
    c.schedule.warmup_steps = 10_000
    c.train.steps = 2_000_000  # the model card: 1T tokens
  c.train.z_loss = 1e-4  # T5's

  if size == '20b':
    paper.on_slice(c, **SLICES[chosen['variant']])
  if size == 'tiny':
    paper.tiny(c, steps=120)
    if d.denoisers:
      d.sentinels = 100  # T5's, enough for these rows
    d.target_length //= 8
  if flan:
    instructions.mix(c, chosen['heldout'], size == 'tiny')
  return common.finish(c)
