"""PaLM: "Scaling Language Modeling with Pathways" (Chowdhery et al. 2022).

`palm.py:SIZE` or `palm.py:size=SIZE,recipe=RECIPE[,heldout=CLUSTER]`. Sizes:
8b, 62b or 540b; `tiny` is ours, for a run in minutes.
Recipes: pretraining is the paper's. The others go on from its parameters, with
--init_from=RUN. ul2r is U-PaLM's (Tay et al. 2022, "Transcending Scaling Laws
with 0.1% Extra Compute"): UL2's denoisers on a decoder whose inputs see one
another. flan is Flan-PaLM's (Chung et al. 2022): instructions and answers, with
train.finetune, as configs/flan_t5.py says. Flan-U-PaLM begins with ul2r's
parameters and takes 30,000 steps.

Attention and MLP side by side after one norm, one head of keys and values,
SwiGLU, rotary positions, no biases. Batches double: 540b's after 50,000 and
115,000 of 255,000 steps, 8b's and 62b's once (5). "The smaller models followed
similar schedules": theirs double after 50,000 steps here.

Cost: 780B tokens (3); 540b on 6,144 TPU v4 chips at 46.2% of their peak (4.1).
Reached (540b): GSM8K 56.9 with 8 worked examples (6.3).
"""

from ml_collections import ConfigDict

from configs import arguments, common, instructions, paper, phases

ANCESTOR = 'gpt3:175b'

# size: layers, D, heads, rows of a batch. Table 1 and section 5. F is 4 D, H is
# 256. The heads of 540b together are narrower than D.
SIZES = {
  '8b': (32, 4096, 16, 512),
  '62b': (64, 8192, 32, 1024),
  '540b': (118, 18432, 48, 2048),
  'tiny': (2, 128, 8, 16),
}
# size: its TPU slice, and how it goes there (docs/pods.md).
SLICES = {
  '8b': {'topology': 'v4:4x8x8', 'remat': 'dots'},
  '62b': {'topology': 'v4:8x8x8'},
  '540b': {'topology': 'v4:12x16x16', 'slices': 2, 'data': 2, 'tensor': 12},
}
# The same of the recipes that go on, with 32 rows.
ADAPTED = {
  '8b': {'topology': 'v4:2x4x4', 'remat': 'dots'},
  '62b': {'topology': 'v4:4x4x8', 'tensor': 4, 'remat': 'dots'},
  '540b': {'topology': 'v4:8x8x8', 'tensor': 16, 'remat': 'dots'},
}
# Mode, rate, mean span (0: to the end), share: half S, a quarter each R and X.
# The names of the modes, and that X's two settings have equal shares: memory.
DENOISERS = (
  ('[S2S]', 0.0, 0.0, 0.5),
  ('[NLU]', 0.15, 3.0, 0.25),
  ('[NLG]', 0.15, 32.0, 0.125),
  ('[NLG]', 0.5, 3.0, 0.125),
)
# size: learning rate, dropout, steps of 32 rows. Chung et al. 2022, appendix E.
FLAN = {
  '8b': (3e-3, 0.05, 40_000),
  '62b': (3e-3, 0.05, 40_000),
  '540b': (1e-3, 0.1, 21_000),
  'tiny': (3e-3, 0.05, 200),
}


def get_config(arg: str = '') -> ConfigDict:
  chosen = arguments.parse(
    arg, size=SIZES, recipe=('pretraining', 'ul2r', 'flan'),
    heldout=instructions.HELDOUT,
  )  # fmt: skip
  size, recipe = chosen['size'], chosen['recipe']
  instructions.check_recipe(chosen['heldout'], recipe)
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

  if recipe == 'ul2r':
    _ul2r(c)
  if recipe == 'flan':
    _flan(c, *FLAN[size])

  if size == 'tiny':
    paper.tiny(c)
    if d.sentinels:
      d.sentinels = 30  # enough for these rows
      m.vocab_size += d.sentinels
    m.head_dim = m.rope_dim = 8  # 64 of D = 128, as 540b's are fewer
  else:
    slices = SLICES if recipe == 'pretraining' else ADAPTED
    paper.on_slice(c, **slices[size])
  if recipe == 'flan':
    instructions.mix(c, chosen['heldout'], size == 'tiny')
  return common.finish(c)


def _ul2r(c: ConfigDict) -> None:
  """Tay et al. 2022. 32 rows and 20,000 steps are 540b's, here every size's."""
  c.model.prefix = True
  # PaLM's pieces fill its table: the rows of the sentinels are new.
  c.data.sentinels = 256
  c.model.vocab_size += c.data.sentinels
  c.data.objective = 'ul2'
  c.data.denoisers = DENOISERS
  c.data.document_tokens = 65536  # T5's
  c.data.batch = c.data.streams = 32
  c.train.phases = ()
  c.schedule.name = 'cosine'  # from 1e-4 to 1e-6: memory
  c.schedule.learning_rate, c.schedule.end_fraction = 1e-4, 0.01
  c.schedule.warmup_steps = 0
  c.train.steps = 20_000


def _flan(c: ConfigDict, rate: float, dropout: float, steps: int) -> None:
  c.model.dropout = c.model.attention_dropout = dropout
  c.data.batch = 32
  c.train.phases = ()
  c.schedule.name = 'constant'
  c.schedule.learning_rate = rate
  c.schedule.warmup_steps = None
  c.train.steps = steps
