"""RWKV-4: "Reinventing RNNs for the Transformer Era" (Peng et al. 2023).

`rwkv.py:SIZE`: 169m, 430m, 1.5b, 3b, 7b or 14b; `tiny` is ours, for a run in
minutes.

A recurrent network that trains in parallel: it has no attention, and so no
heads and no positions. Its ancestors are not in this tree (the attention-free
transformer, Zhai et al. 2021).

`train.max_logit_loss` is L2Wrap of the published code, a gradient of 1e-4 times
each token's largest logit. The paper does not have it.

Cost: the Pile once, 332B tokens, at 3 x 2.6e8 (169m) to 3 x 2.8e10 (14b) FLOPs
each (the paper's table of models); 1.5b reads 106K tokens/s on 8 A100 GPUs
(README of the code). Hardware and time of the runs: no source at hand.
Reached: the paper has tables of zero-shot scores; they are not copied here.
"""

from ml_collections import ConfigDict

from configs import arguments, common, paper

ANCESTOR = ''

# size: layers, D, largest and last learning rate, mini-epochs of 40,320 rows at
# the largest rate. The paper's tables of models and of training.
SIZES = {
  'tiny': (2, 128, 1e-3, 1e-4, 0),
  '169m': (12, 768, 6e-4, 1e-5, 361),
  '430m': (24, 1024, 4e-4, 1e-5, 411),
  '1.5b': (24, 2048, 3e-4, 1e-5, 443),
  '3b': (32, 2560, 1.5e-4, 1e-5, 451),
  '7b': (32, 4096, 1.5e-4, 1e-5, 465),
  '14b': (40, 5120, 1e-4, 7e-6, 544),
}
# size: its TPU slice, and how it goes there (docs/pods.md).
SLICES = {
  '1.5b': {'topology': 'v5e:4x4', 'remat': 'dots'},
  '3b': {'topology': 'v5e:4x8', 'remat': 'dots'},
  '7b': {'topology': 'v5e:8x8', 'remat': 'dots'},
  '14b': {'topology': 'v5e:8x16', 'remat': 'dots'},
}


def get_config(arg: str = '') -> ConfigDict:
  size = arguments.parse(arg, size=('169m', *SIZES))['size']
  c = paper.start('rwkv')

  m = c.model
  m.decoder_layers, m.embed_dim, peak, last, constant = SIZES[size]
  m.vocab_size = 50277  # GPT-NeoX-20B's tokenizer
  m.mlp_dim = 4 * m.embed_dim
  m.heads = m.kv_heads = m.head_dim = 0
  m.position = 'none'
  m.norm, m.norm_epsilon = 'layer_norm', 1e-5  # the published code's
  m.norm_placement, m.parallel = 'pre', 'none'
  m.activation, m.gated = 'squared_relu', False  # of the channel mix
  m.bias = 'none'
  m.scale_attention = False
  m.embed_norm = True  # the first layer's ln0 in the published code
  m.scale_embed = m.tie_embeddings = False
  m.scale_output = m.output_transform = m.output_bias = False
  m.head = 'lm'
  m.init = 'rwkv'
  m.dropout = m.attention_dropout = 0.0
  m.dropout_kind = 'residual'

  d = c.data
  d.source = 'tfds:c4/en'  # for the Pile
  d.tokenizer_kind = 'byte_bpe'  # GPT-NeoX's
  d.objective = 'causal'
  d.start = 'none'  # the published code's windows of T + 1 tokens
  d.length = 1024
  d.batch = 128  # "128 or 256 sequences"

  mini_epoch = 40_320 // d.batch  # steps
  c.optimizer.name = 'adamw'  # Adam
  c.optimizer.clip = 1.0  # the published code's
  c.optimizer.b1, c.optimizer.b2 = 0.9, 0.99
  c.optimizer.epsilon = 1e-8
  c.optimizer.weight_decay = 0.0
  c.optimizer.bias_correction = True
  c.optimizer.multipliers.time_decay = 2.0  # the published code's
  c.optimizer.multipliers.time_first = 3.0
  c.schedule.name = 'exponential'
  c.schedule.learning_rate = peak
  c.schedule.constant_steps = constant * mini_epoch
  c.schedule.end_fraction = last / peak
  c.train.max_logit_loss = 1e-4  # the published code's
  c.train.steps = 8043 * mini_epoch  # the Pile once, 332e9 tokens

  if size in SLICES:
    paper.on_slice(c, **SLICES[size])
  if size == 'tiny':
    paper.tiny(c)
    c.schedule.constant_steps = 100
  return common.finish(c)
