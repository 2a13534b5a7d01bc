"""LLaMA 1, 2 and 3 (Touvron et al. 2023a, 2023b; Llama Team 2024).

`llama.py:SIZE` or `llama.py:size=SIZE,version=VERSION`. Version 1: 7b, 13b, 33b
or 65b. Version 2: 7b, 13b, 34b or 70b. Versions 3 and 3.1: 8b, 70b or 405b. 3.1
is 3 with stretched rotary wavelengths; its recipe is the stage of training that
follows on 3, on long documents. Rows grow from 8K to 128K tokens in six steps
(3.4.2), whose lengths are not published: here all rows have the last length,
and train.phases takes others. `tiny` is ours, for a run in minutes.

RMSNorm, SwiGLU, rotary positions, no biases. The large models of version 2 and
all of version 3 have fewer heads of keys and values. 405b begins with 4M tokens
in rows of 4,096, and has 8M after 252M tokens and 16M after 2.87T (3.4.1 of its
paper); its rate falls over 1.2M steps, and its tokens take 1.1M.

Cost. 1: 65b about 21 days on 2,048 A100 GPUs for 1.4T tokens (2.4); 13b 135,168
GPU hours (table 15). 2: 184,320, 368,640, 1,038,336 and 1,720,320 A100 hours
for 2T tokens (2.2.1). 3: 8b 1.3M and 70b 6.4M H100 hours (model card); 405b
3.8e25 FLOPs on 16,384 H100 GPUs for 15.6T tokens (3).
Reached, MMLU with 5 examples (model cards). 1: 35.1, 46.9, 57.8, 63.4. 2: 45.3,
54.8 and, 70b, 68.9. 3: 66.6 and, 70b, 79.5.
"""

from ml_collections import ConfigDict

from configs import arguments, common, paper, phases

ANCESTOR = 'palm:62b'

# version: size: layers, D, heads, key and value heads, F, learning rate, tokens
# in billions. 1: table 2. 2: table 1 and 2.2; F was published with the weights.
# The weights of 34b were not: its numbers are those of Code Llama, which was
# made from it. 3: table 3 and 3.2; the tokens of 8b and 70b are from the model
# card.
SIZES = {
  '1': {
    '7b': (32, 4096, 32, 32, 11008, 3e-4, 1000),
    '13b': (40, 5120, 40, 40, 13824, 3e-4, 1000),
    '33b': (60, 6656, 52, 52, 17920, 1.5e-4, 1400),
    '65b': (80, 8192, 64, 64, 22016, 1.5e-4, 1400),
    'tiny': (2, 128, 8, 8, 384, 1e-3, 0),
  },
  '2': {
    '7b': (32, 4096, 32, 32, 11008, 3e-4, 2000),
    '13b': (40, 5120, 40, 40, 13824, 3e-4, 2000),
    '34b': (48, 8192, 64, 8, 22016, 1.5e-4, 2000),
    '70b': (80, 8192, 64, 8, 28672, 1.5e-4, 2000),
    'tiny': (2, 128, 8, 2, 384, 1e-3, 0),
  },
  '3': {
    '8b': (32, 4096, 32, 8, 14336, 3e-4, 15_000),
    '70b': (80, 8192, 64, 8, 28672, 1.5e-4, 15_000),
    '405b': (126, 16384, 128, 8, 53248, 8e-5, 15_600),
    'tiny': (2, 128, 8, 2, 384, 1e-3, 0),
  },
}
SIZES['3.1'] = SIZES['3']
# version: size: its TPU slice, and how it goes there (docs/pods.md).
SLICES = {
  '1': {
    '7b': {'topology': 'v5e:16x16'},
    '13b': {'topology': 'v5e:16x16'},
    '33b': {'topology': 'v4:8x8x8'},
    '65b': {'topology': 'v4:8x16x16', 'remat': 'mlp'},
  },
  '2': {
    '7b': {'topology': 'v5e:16x16'},
    '13b': {'topology': 'v5e:16x16'},
    '34b': {'topology': 'v4:8x8x8'},
    '70b': {'topology': 'v5p:8x8x8', 'remat': 'mlp'},
  },
  '3': {
    '8b': {'topology': 'v5p:8x8x8'},
    '70b': {'topology': 'v5p:8x8x16'},
    '405b': {'topology': 'v5p:16x16x16', 'tensor': 4},
  },
  '3.1': {
    '8b': {'topology': 'v5p:8x8x8', 'sequence': 4},
    '70b': {'topology': 'v5p:8x8x16', 'sequence': 8},
    '405b': {'topology': 'v5p:16x16x16', 'sequence': 32},
  },
}


def get_config(arg: str = '') -> ConfigDict:
  names = (size for sizes in SIZES.values() for size in sizes)
  chosen = arguments.parse(arg, size=tuple(names), version=SIZES)
  size, version = chosen['size'], chosen['version']
  sizes = SIZES[version]
  if size not in sizes:
    has = [v for v in SIZES if size in SIZES[v]]
    raise ValueError(
      f'LLaMA {version} has no size {size!r}; it has {", ".join(sizes)}. '
      f'Of version {" and ".join(has)}: llama.py:{size},version={has[0]}.'
    )
  c = paper.start('decoder')

  m = c.model
  m.decoder_layers, m.embed_dim, m.heads, m.kv_heads, *rest = sizes[size]
  m.mlp_dim, peak, billions = rest
  m.vocab_size = 128_256 if version[0] == '3' else 32_000  # 3: 3.2
  m.head_dim = m.embed_dim // m.heads
  m.position, m.rope_dim = 'rope', m.head_dim  # 1: 2.2
  m.rope_theta = 500_000.0 if version[0] == '3' else 10_000.0  # 3: table 3
  if version == '3.1':
    m.rope_scaling = (8.0, 1.0, 4.0, 8192.0)  # published with the weights
  m.norm = 'rms_norm'  # 1: 2.2
  # That of the published weights; 65b already has that of version 2.
  m.norm_epsilon = 1e-6 if version == '1' and size != '65b' else 1e-5
  m.norm_placement = 'pre'  # 1: 2.2
  m.parallel = 'none'
  m.activation, m.gated = 'silu', True  # 1: 2.2, SwiGLU
  m.bias = 'none'
  m.scale_attention = True
  m.embed_norm = m.scale_embed = m.tie_embeddings = False
  m.scale_output = m.output_transform = m.output_bias = False
  m.head = 'lm'
  m.init, m.init_std = 'normal', 0.02  # not published
  m.dropout = m.attention_dropout = 0.0
  m.dropout_kind = 'residual'

  d = c.data
  d.source = 'tfds:c4/en'  # for mixtures, of which C4 is 15% in 1
  # SentencePiece with byte fallback; version 3: tiktoken.
  d.tokenizer_kind = 'byte_bpe' if version[0] == '3' else 'bpe'
  d.objective = 'causal'
  d.start = 'bos'  # the published code's prompts begin with it
  # 1: 2.3; 2: 2.2; both 4M tokens. 3: 3.4.1, 16M; 3.1: 3.4.2.
  d.length = {'1': 2048, '2': 4096, '3': 8192, '3.1': 131_072}[version]
  d.batch = {'1': 2048, '2': 1024, '3': 2048, '3.1': 128}[version]
  d.concatenate = version[0] != '3'  # 3: 3.2, documents do not see others

  c.optimizer.name = 'adamw'  # 1: 2.3; 2: 2.2; 3 (3.4.1): the name alone
  c.optimizer.clip = 1.0
  c.optimizer.b1, c.optimizer.b2 = 0.9, 0.95
  c.optimizer.epsilon = 1e-8 if version == '1' else 1e-5  # 2: 2.2
  c.optimizer.bias_correction = True
  c.optimizer.weight_decay = 0.1
  c.schedule.name = 'cosine'
  c.schedule.learning_rate = peak
  c.schedule.warmup_steps = 8000 if version == '3' else 2000
  c.schedule.end_fraction = 0.01 if version == '3' else 0.1
  if (version, size) == ('3', '405b'):  # 3.4.1
    c.train.phases = (
      (('tokens', 252e6), 1024, 4096, 0, ''),
      (('tokens', 2.87e12), 1024, 0, 0, ''),
    )
    c.schedule.decay_steps = 1_200_000
  c.train.steps = phases.steps_in(c, 'tokens', billions * 1e9)
  if version == '3.1' and size != 'tiny':
    # It begins with the weights of 3 and takes 800B tokens (3.4.2). Its rate is
    # not stated: it is the last one of 3.
    c.schedule.name = 'constant'
    c.schedule.learning_rate = 0.01 * peak
    c.schedule.warmup_steps = c.schedule.end_fraction = None
    c.train.steps = phases.steps_in(c, 'tokens', 800e9)

  if size == 'tiny':
    paper.tiny(c, warmup=30)
    if m.rope_scaling:
      m.rope_scaling = (8.0, 1.0, 4.0, 32.0)
  else:
    paper.on_slice(c, **SLICES[version][size])
  return common.finish(c)
