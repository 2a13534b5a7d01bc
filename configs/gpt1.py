"""GPT-1: "Improving Language Understanding by Generative Pre-Training".

Radford et al. 2018. `gpt1.py:SIZE`: base, the one published size. `tiny`, as in
every file here, is not a published size: it shows a run in minutes.

The decoder of the Transformer without cross-attention, on whole rows of books.

Cost: a month on 8 GPUs, 0.96 petaflop/s-days (OpenAI's announcement); 63B
tokens (ELECTRA's FLOPs script), which are 100 epochs (4.1).
Reached, after fine-tuning: GLUE test without WNLI 75.1, MNLI 82.1, SST-2 91.3
(table 1 of Devlin et al. 2019).
"""

from ml_collections import ConfigDict

from configs import common

ANCESTOR = 'transformer'

# size: layers, D, heads, H. Section 4.1. F is 4 D.
SIZES = {
  'base': (12, 768, 12, 64),
  'tiny': (2, 128, 8, 16),
}


def get_config(arg: str = '') -> ConfigDict:
  size = common.parse(arg, size=tuple(SIZES))['size']
  layers, embed_dim, heads, head_dim = SIZES[size]
  c = common.base()

  m = c.model
  m.family = 'decoder'
  m.vocab_size = 40478  # 4.1: 40,000 merges; the published code's table
  m.embed_dim, m.mlp_dim = embed_dim, 4 * embed_dim  # 4.1: 3072
  m.heads = m.kv_heads = heads
  m.head_dim = head_dim
  m.decoder_layers = layers
  m.position = 'learned'  # 4.1
  m.max_length = 512
  m.norm = 'layer_norm'
  m.norm_epsilon = 1e-5  # the published code's
  m.norm_placement = 'post'
  m.parallel = 'none'
  m.activation = 'gelu_tanh'  # 4.1; approximated in the published code
  m.gated = False
  m.bias = 'all'
  m.scale_attention = True
  m.embed_norm = m.scale_embed = False
  m.tie_embeddings = True  # 3.1, equation 2
  m.scale_output = False
  m.output_transform = m.output_bias = False
  m.head = 'lm'
  m.init = 'normal'  # 4.1
  m.init_std = 0.02
  m.dropout = m.attention_dropout = 0.1  # 4.1
  m.dropout_kind = 'residual'

  d = c.data
  d.source = 'tfds:c4/en'  # for BooksCorpus (4.1)
  d.tokenizer_kind = (
    'bpe'  # 4.1; its own form of it, of words without capitals, is not here
  )
  d.objective = 'causal'
  d.start = 'none'  # not stated; windows, as GPT-2's
  d.length = 512  # 4.1
  d.batch = 64  # 4.1
  d.streams = 64

  c.optimizer.name = 'adamw'  # 4.1: Adam, "modified version of L2" = decoupled
  c.optimizer.clip = 1.0  # this and the next three are the published code's
  c.optimizer.b1 = 0.9
  c.optimizer.b2 = 0.999
  c.optimizer.epsilon = 1e-8
  c.optimizer.bias_correction = True
  c.optimizer.weight_decay = 0.01  # 4.1: all but biases and gains
  c.schedule.name = 'cosine'  # 4.1: to 0
  c.schedule.learning_rate = 2.5e-4
  c.schedule.warmup_steps = 2000
  c.schedule.end_fraction = 0.0
  # 4.1: 100 epochs. ELECTRA's FLOPs script counts 960,800 steps of 128 rows.
  c.train.steps = 960_800 * 128 // c.data.batch

  c.eval.samples = 4  # texts that each evaluation continues
  if size == 'tiny':
    common.tiny(c)
    c.model.max_length = 128
    c.data.batch = 16
    c.schedule.learning_rate = 1e-3
    c.schedule.warmup_steps = 30
  return common.finish(c)
