"""FLAN-T5: "Scaling Instruction-Finetuned Language Models" (Chung et al. 2022).

`flan_t5.py:SIZE` or `flan_t5.py:size=SIZE,heldout=CLUSTER`. Sizes: small, base,
large, xl or xxl; `tiny` is ours, for a run in minutes, on tasks that a program
makes. `heldout` names a cluster of tasks that is not learnt but evaluated, see
configs/instructions.py.

T5 1.1's models, adapted to language modelling (t5.py:recipe=lm_adapted) and
then trained on 1,836 tasks written as instructions. The recipe is that last
step's, which begins with the adapted parameters:

  python -m train.finetune --config=configs/flan_t5.py:base --from=RUN
    --workdir=W --config.data.task_folder=DATA

RUN is a workdir or the published checkpoint. The released checkpoints go on
counting at 1,100,000: small's is of step 1,198,000. The rate is constant, so
the count does not matter here. Of the tasks 33 are here, in words of our own
(docs/instructions.md), and of the chains of thought those of GSM8K.

Cost of the last step, from small to xxl, in FLOPs (table 2): 2.9e18, 9.1e18,
2.4e19, 5.6e19, 7.6e19; 1.6% to 0.2% of what pretraining took. Number of TPUs
and hours: no source at hand.
Reached: MMLU 45.1 (large, the paper's table of Flan-T5).
"""

from ml_collections import ConfigDict

from configs import arguments, common, instructions, paper

ANCESTOR = 't5:version=1.1'

# size: layers of each stack, D, F, heads, H, steps. T5 1.1's release; steps
# from Chung et al., appendix E.
SIZES = {
  'tiny': (2, 128, 384, 8, 16, 150),
  'small': (8, 512, 1024, 6, 64, 98_000),
  'base': (12, 768, 2048, 12, 64, 84_000),
  'large': (24, 1024, 2816, 16, 64, 64_000),
  'xl': (24, 2048, 5120, 32, 64, 38_000),
  'xxl': (24, 4096, 10240, 64, 64, 14_000),
}
# size: its TPU slice, and how it goes there (docs/pods.md).
SLICES = {
  'xl': {'topology': 'v5e:8x8', 'remat': 'dots'},
  'xxl': {'topology': 'v5e:8x8', 'remat': 'dots'},
}


def get_config(arg: str = '') -> ConfigDict:
  chosen = arguments.parse(
    arg, size=('base', *SIZES), heldout=instructions.HELDOUT
  )
  size, heldout = chosen['size'], chosen['heldout']
  c = paper.start('encoder_decoder')

  m = c.model
  layers, m.embed_dim, m.mlp_dim, m.heads, m.head_dim, steps = SIZES[size]
  m.encoder_layers = m.decoder_layers = layers
  m.vocab_size = 32128  # T5's
  m.kv_heads = m.heads
  m.position = 'relative_bias'
  m.relative_buckets, m.relative_max_distance = 32, 128
  m.norm, m.norm_epsilon = 'rms_norm', 1e-6
  m.norm_placement, m.parallel = 'pre', 'none'
  m.activation, m.gated = 'gelu_tanh', True
  m.bias = 'none'
  m.scale_attention = m.embed_norm = m.scale_embed = False
  m.tie_embeddings = False
  m.scale_output = m.output_transform = m.output_bias = False
  m.head = 'lm'
  m.init = 't5'
  m.dropout = m.attention_dropout = 0.05  # appendix E
  m.dropout_kind = 't5'

  d = c.data
  d.length = 2048  # near the 2056 of the FLAN collection's example
  d.target_length = 512  # that example's
  d.batch = 64  # appendix E

  c.optimizer.name = 'adafactor'  # appendix E; its numbers are T5's
  c.optimizer.decay_rate = 0.8
  c.optimizer.epsilon1, c.optimizer.epsilon2 = 1e-30, 1e-3
  c.optimizer.clip_threshold = 1.0
  c.optimizer.factor_from = 128
  c.optimizer.parameter_scale = True
  c.optimizer.b1 = c.optimizer.weight_decay = 0.0
  c.schedule.name = 'constant'  # appendix E
  c.schedule.learning_rate = 5e-4
  c.train.steps = steps
  c.train.z_loss = 1e-4  # T5's

  if size in SLICES:
    paper.on_slice(c, **SLICES[size])
  if size == 'large':
    m.remat, c.sharding.mesh.data, c.sharding.mesh.fsdp = 'full', 1, -1
  if size == 'tiny':
    paper.tiny(c, steps, rate=1e-2)  # trained from scratch
    d.target_length = 64
  instructions.mix(c, heldout, size == 'tiny')
  return common.finish(c)
