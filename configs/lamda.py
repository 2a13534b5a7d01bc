"""LaMDA: "Language Models for Dialog Applications" (Thoppilan et al. 2022).

`lamda.py:SIZE` or `lamda.py:size=SIZE,recipe=RECIPE[,heldout=CLUSTER]`. Sizes:
2b, 8b or 137b; `tiny` is ours, for a run in minutes. Recipes: pretraining is
the paper's; flan is the first FLAN's (Wei et al. 2022, 2.4), whose LaMDA-PT of
137B parameters goes on from a pretraining like this one, with train.finetune as
configs/flan_t5.py says. Its tasks are zero-shot and list their options. The
paper also takes at most 30,000 training examples of a data set (2.4, memory).
That is not done, since data.documents refuses a mixture with smaller ones: a
large one is read whole. Its rate is the same, since the cap of rates is lower.

A decoder of T5's parts: relative-position biases and gated GELU. The paper
leaves much open: a number without a section is T5's.

Cost: 137b 57.7 days on 1,024 TPUv3 chips at 56.5% of their peak (3). That
makes 432B tokens.
Reached: people rate its dialogs; there is no score of pretraining alone.
"""

from ml_collections import ConfigDict

from configs import arguments, common, instructions, paper

ANCESTOR = 'gpt3:175b'

# size: layers, D, heads, H, F. 137b: section 3. For the others the paper has
# the layers, D and heads. H = 128 and F = 8 D are those of 137b; they give the
# 2B and 8B of the names.
SIZES = {
  '2b': (10, 2560, 40, 128, 20480),
  '8b': (16, 4096, 64, 128, 32768),
  '137b': (64, 8192, 128, 128, 65536),
  'tiny': (2, 64, 8, 16, 512),
}
# size: its TPU slice, and how it goes there (docs/pods.md).
SLICES = {
  '2b': {'topology': 'v4:4x4x8', 'remat': 'dots'},
  '8b': {'topology': 'v4:4x4x8', 'remat': 'dots'},
  '137b': {'topology': 'v4:8x8x8', 'tensor': 2, 'remat': 'dots'},
}


def get_config(arg: str = '') -> ConfigDict:
  chosen = arguments.parse(
    arg, size=SIZES, recipe=('pretraining', 'flan'),
    heldout=instructions.HELDOUT,
  )  # fmt: skip
  size, recipe = chosen['size'], chosen['recipe']
  instructions.check_recipe(chosen['heldout'], recipe)
  c = paper.start('decoder')

  m = c.model
  m.decoder_layers, m.embed_dim, m.heads, m.head_dim, m.mlp_dim = SIZES[size]
  m.vocab_size = 32000  # 3: "32K"
  m.kv_heads = m.heads
  m.position = 'relative_bias'  # 3: "as described in T5"
  m.relative_buckets, m.relative_max_distance = 32, 128
  m.norm, m.norm_epsilon = 'rms_norm', 1e-6
  m.norm_placement, m.parallel = 'pre', 'none'
  m.activation = 'gelu_tanh'  # 3
  m.gated = True  # 3
  m.bias = 'none'
  m.scale_attention = m.embed_norm = m.scale_embed = False
  m.tie_embeddings = m.scale_output = True
  m.output_transform = m.output_bias = False
  m.head = 'lm'
  m.init = 't5'
  m.dropout = m.attention_dropout = 0.0  # as in T5 1.1's pretraining
  m.dropout_kind = 't5'

  d = c.data
  d.source = 'tfds:c4/en'  # for dialogs, documents and code (appendix E)
  d.tokenizer_kind = 'bpe'  # SentencePiece's BPE
  d.objective = 'causal'
  d.start = 'pad'  # not stated; PaLM's
  d.length = 1024  # not stated
  d.batch = 256  # 3: 256K tokens

  c.optimizer.name = 'adafactor'
  c.optimizer.decay_rate = 0.8
  c.optimizer.epsilon1, c.optimizer.epsilon2 = 1e-30, 1e-3
  c.optimizer.clip_threshold = 1.0
  c.optimizer.factor_from = 128
  c.optimizer.parameter_scale = True
  c.optimizer.b1 = c.optimizer.weight_decay = 0.0
  c.schedule.name = 'inverse_sqrt'
  c.schedule.learning_rate = 1.0
  c.schedule.warmup_steps = 10_000
  # 432B tokens, of the 2.81T in the data set (3). The paper says how long 137b
  # took: 57.7 days of 1024 chips at 56.5% of 123 TFLOP/s. That is 3.55e23
  # FLOPs, or 432B tokens at 6 FLOPs a parameter. Hoffmann et al. 2022 (table 1)
  # have 168B, without a source. That would be 39% of the compute, and less than
  # GPT-3's; but the paper says that it took more than GPT-3.
  c.train.steps = 432_000_000_000 // (d.batch * d.length)
  c.train.z_loss = 1e-4

  if size == 'tiny':
    paper.tiny(c)
  elif recipe == 'pretraining':
    paper.on_slice(c, **SLICES[size])
  if recipe == 'flan':
    _flan(c, chosen['heldout'], size == 'tiny')
  return common.finish(c)


def _flan(c: ConfigDict, heldout: str, tiny: bool) -> None:
  """Wei et al. 2022, 2.4 (memory, but for the cap: the published code)."""
  instructions.mix(c, heldout, tiny)
  c.data.rate_cap = 3000
  c.data.shots, c.data.shot_share = 0, 0.0
  c.data.option_share = 1.0  # 2.3: classification lists its options
  c.eval.ranked = heldout not in instructions.WRITTEN  # the published code
  c.schedule.name, c.schedule.warmup_steps = 'constant', None
  if not tiny:
    c.data.length = 1024 + 256  # inputs and targets
    c.data.batch = c.data.streams = 6  # nearest to 8,192 tokens
    c.schedule.learning_rate = 3e-5
    c.train.steps = 30_000
  else:
    c.schedule.learning_rate = 1e-2  # trained from scratch
