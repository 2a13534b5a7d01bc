"""GPT-1: "Improving Language Understanding by Generative Pre-Training".

Radford et al. 2018. `gpt1.py:SIZE`: base, the one published size;
`tiny` is ours, for a run in minutes.

The decoder of the Transformer without cross-attention, on whole rows of books.

Cost: a month on 8 GPUs, 0.96 petaflop/s-days (OpenAI's announcement); 63B
tokens (ELECTRA's FLOPs script), which are 100 epochs (4.1).
Reached, after fine-tuning: GLUE test without WNLI 75.1, MNLI 82.1, SST-2 91.3
(table 1 of Devlin et al. 2019).
"""

from ml_collections import ConfigDict

from configs import arguments, common, paper

ANCESTOR = 'transformer'

# size: layers, D, heads, H. Section 4.1. F is 4 D.
SIZES = {
  'base': (12, 768, 12, 64),
  'tiny': (2, 128, 8, 16),
}


def get_config(arg: str = '') -> ConfigDict:
  size = arguments.parse(arg, size=SIZES)['size']
  c = paper.start('decoder')

  m = c.model
  m.decoder_layers, m.embed_dim, m.heads, m.head_dim = SIZES[size]
  m.vocab_size = 40478  # 4.1: 40,000 merges; the published code's table
  m.kv_heads, m.mlp_dim = m.heads, 4 * m.embed_dim  # 4.1: 3072
  m.position, m.max_length = 'learned', 512  # 4.1
  m.norm, m.norm_epsilon = 'layer_norm', 1e-5  # the published code's
  m.norm_placement, m.parallel = 'post', 'none'
  m.activation, m.gated = 'gelu_tanh', False  # 4.1; approximated in the code
  m.bias = 'all'
  m.scale_attention = True
  m.embed_norm = m.scale_embed = False
  m.tie_embeddings = True  # 3.1, equation 2
  m.scale_output = m.output_transform = m.output_bias = False
  m.head = 'lm'
  m.init, m.init_std = 'normal', 0.02  # 4.1
  m.dropout = m.attention_dropout = 0.1  # 4.1
  m.dropout_kind = 'residual'

  d = c.data
  d.source = 'tfds:c4/en'  # for BooksCorpus (4.1)
  # 4.1. Its own form of BPE, of words without capitals, is not here.
  d.tokenizer_kind = 'bpe'
  d.objective = 'causal'
  d.start = 'none'  # not stated; windows, as GPT-2's
  d.length = 512  # 4.1
  d.batch = 64  # 4.1

  c.optimizer.name = 'adamw'  # 4.1: Adam, "modified version of L2" = decoupled
  c.optimizer.clip = 1.0  # this and the next three are the published code's
  c.optimizer.b1, c.optimizer.b2 = 0.9, 0.999
  c.optimizer.epsilon = 1e-8
  c.optimizer.bias_correction = True
  c.optimizer.weight_decay = 0.01  # 4.1: all but biases and gains
  c.schedule.name = 'cosine'  # 4.1: to 0
  c.schedule.learning_rate = 2.5e-4
  c.schedule.warmup_steps = 2000
  c.schedule.end_fraction = 0.0
  # 4.1: 100 epochs. ELECTRA's FLOPs script counts 960,800 steps of 128 rows.
  c.train.steps = 960_800 * 128 // c.data.batch

  if size == 'tiny':
    paper.tiny(c, rate=1e-3, warmup=30)
    m.max_length = 128
  return common.finish(c)
