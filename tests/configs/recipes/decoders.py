"""The tables of the other decoders and of RWKV. See numbers.py."""

from tests.configs.recipes.gpts import (
  BYTES,
  DENSE,
  LAYERS,
  PIECES,
  RUN,
  SMALL,
  TO_THE_END,
  widths,
)
from tests.configs.recipes.numbers import (
  ADAFACTOR,
  GPT3_ADAM,
  GPT_BLOCK,
  INVERSE_SQRT,
  T5_BLOCK,
  Recipe,
  growing,
  steps_in,
)

# Thoppilan et al. 2022, 3, with T5's parts; 2b and 8b have H and F / D of 137b.
# 432B tokens: 57.7 days of 1024 chips at 56.5% of 123 TFLOP/s, over 6 N.
LAMDA_TOKENS = 0.565 * 123e12 * 1024 * 57.7 * 86_400 / (6 * 137e9)
LAMDA = Recipe(
  every={
    'model': T5_BLOCK
    | {
      'family': 'decoder',
      'vocab_size': 32_000,
      'activation': 'gelu_tanh',
      'gated': True,
      'tie_embeddings': True,
      'scale_output': True,
    },
    'data': {
      'tokenizer_kind': 'bpe',
      'objective': 'causal',
      'length': 1024,
      'batch': 256,  # 256K tokens
    },
    'optimizer': ADAFACTOR,
    'schedule': INVERSE_SQRT,
    'train': {
      'steps': int(round(LAMDA_TOKENS, -9) // (256 * 1024)),
      'z_loss': 1e-4,
    },
  },
  columns=(*LAYERS, 'mlp_dim'),
  sizes={
    '2b': (10, 2560, 40, 128, 8 * 2560),
    '8b': (16, 4096, 64, 128, 8 * 4096),
    '137b': (64, 8192, 128, 128, 65536),
  },
  derived=lambda row: {'kv_heads': row['heads']},
  like='2b',
  tiny=SMALL | {'embed_dim': 64, 'mlp_dim': 512, 'data.batch': 16},
)

# Chowdhery et al. 2022, table 1, 2 and 5; 780B tokens (3).
PALM = Recipe(
  every={
    'model': {
      'family': 'decoder',
      'vocab_size': 256_000,
      'kv_heads': 1,
      'head_dim': 256,
      'position': 'rope',
      'rope_theta': 10_000.0,
      'rope_dim': 256,
      'norm': 'layer_norm_no_bias',
      'norm_epsilon': 1e-6,
      'norm_placement': 'pre',
      'parallel': 'one_norm',
      'activation': 'silu',
      'gated': True,
      'bias': 'none',
      'scale_attention': True,
      'tie_embeddings': True,
      'scale_output': True,
      'head': 'lm',
      'init': 'fan_in',
      'dropout_kind': 'residual',
    },
    'data': PIECES
    | {
      'start': 'pad',  # T5X's
      'length': 2048,
      'lossless': True,  # 4: white space kept, digits split, bytes
    },
    'optimizer': ADAFACTOR
    | {'factor_from': 0, 'b1': 0.9, 'weight_decay': 1.0, 'clip': 1.0},
    'schedule': INVERSE_SQRT,
    'train': {'z_loss': 1e-4},
  },
  columns=('decoder_layers', 'embed_dim', 'heads', 'data.batch'),
  sizes={
    '8b': (32, 4096, 16, 512),
    '62b': (64, 8192, 32, 1024),
    '540b': (118, 18432, 48, 2048),
  },
  derived=lambda row: {
    'mlp_dim': 4 * row['embed_dim'],
    # 5: batches of 540b double at steps 50,000 and 115,000, others' at 50,000
    # ("similar schedules").
    'train.steps': 255_000
    if (rows := row['data.batch']) == 2048
    else steps_in(780e9, 2048, [(0, rows // 2), (50_000 * rows * 1024, rows)]),
  },
  like='8b',
  # The heads together are narrower than D, as in 540b.
  tiny=SMALL | {'head_dim': 8, 'rope_dim': 8, 'data.batch': 16},
)

# BigScience 2022, table 3, and its scripts (train/tr11*).
BLOOM = Recipe(
  every={
    'model': GPT_BLOCK
    | {
      'vocab_size': 250_880,
      'position': 'alibi',
      'norm_placement': 'pre',
      'embed_norm': True,
      'init': 'megatron',
      'init_std': 0.0048,
      'dropout': 0.1,  # Megatron-LM's default
      'attention_dropout': 0.1,
    },
    'data': BYTES | {'length': 2048},
    'optimizer': GPT3_ADAM,
    'schedule': {'name': 'cosine', 'unit': 'rows'}
    | {'warmup_steps': 183_105, 'decay_steps': 200_000_000},
  },
  columns=(*LAYERS, 'learning_rate', 'last', 'data.batch', 'billions', 'by'),
  sizes={
    '560m': (24, 1024, 16, 64, 3e-4, 1e-5, 256, 341, 32),
    '1.1b': (24, 1536, 16, 96, 2.5e-4, 1e-5, 256, 341, 16),
    '1.7b': (24, 2048, 16, 128, 2e-4, 1e-5, 512, 341, 16),
    '3b': (30, 2560, 32, 80, 1.6e-4, 1e-5, 512, 341, 32),
    '7.1b': (30, 4096, 32, 128, 1.2e-4, 1e-5, 512, 341, 32),
    '176b': (70, 14336, 112, 128, 6e-5, 6e-6, 2048, 366, 16),
  },
  derived=lambda row: (
    widths(row)
    | {
      'end_fraction': row['last'] / row['learning_rate'],
      'train.steps': steps_in(
        row['billions'] * 1e9,
        2048,
        growing(192, row['data.batch'], row['by'], 9_765_625 * 2048),
      ),
    }
  ),
  like='560m',
  tiny=SMALL
  | RUN
  | DENSE
  | TO_THE_END
  | {'init_std': 0.02, 'end_fraction': 0.1},
)

# Touvron et al. 2023a, table 2 and 2.3; 2023b, table 1 and 2.2; Llama Team
# 2024, table 3 and 3.2; facebookresearch/llama, and the weights' params.json.
# The weights of 34b were not published: it has Code Llama's sizes.
LLAMA_EVERY = {
  'model': {
    'family': 'decoder',
    'position': 'rope',
    'norm': 'rms_norm',
    'norm_placement': 'pre',
    'parallel': 'none',
    'activation': 'silu',
    'gated': True,
    'bias': 'none',
    'scale_attention': True,
    'head': 'lm',
    'init': 'normal',  # not published
    'init_std': 0.02,
    'dropout_kind': 'residual',
  },
  'data': {'objective': 'causal', 'start': 'bos'},  # llama/generation.py
  'optimizer': GPT3_ADAM,
}
LLAMA_SIZES = {
  '1': {
    '7b': (32, 4096, 32, 32, 11008, 3e-4, 1000),
    '13b': (40, 5120, 40, 40, 13824, 3e-4, 1000),
    '33b': (60, 6656, 52, 52, 17920, 1.5e-4, 1400),
    '65b': (80, 8192, 64, 64, 22016, 1.5e-4, 1400),
  },
  '2': {
    '7b': (32, 4096, 32, 32, 11008, 3e-4, 2000),
    '13b': (40, 5120, 40, 40, 13824, 3e-4, 2000),
    '34b': (48, 8192, 64, 8, 22016, 1.5e-4, 2000),
    '70b': (80, 8192, 64, 8, 28672, 1.5e-4, 2000),
  },
  '3': {
    '8b': (32, 4096, 32, 8, 14336, 3e-4, 15_000),
    '70b': (80, 8192, 64, 8, 28672, 1.5e-4, 15_000),
    '405b': (126, 16384, 128, 8, 53248, 8e-5, 15_600),
  },
}
LLAMA_SIZES['3.1'] = {  # 3.4.2: 800B tokens after those of 3
  size: (*row[:-1], 800) for size, row in LLAMA_SIZES['3'].items()
}


def llama(row: dict) -> dict:
  version, size, new = row['version'], row['size'], row['version'][0] == '3'
  # Tokens in a row, and rows in a batch of 4M tokens (3: 16M).
  length, rows = {
    '1': (2048, 2048),
    '2': (4096, 1024),
    '3': (8192, 2048),
    '3.1': (131_072, 128),
  }[version]
  out = {
    'head_dim': 128,
    'rope_dim': 128,
    'vocab_size': 128_256 if new else 32_000,
    'tokenizer_kind': 'byte_bpe' if new else 'bpe',
    'concatenate': not new,  # 3: 3.2, documents do not see others
    'rope_theta': 500_000.0 if new else 10_000.0,
    'norm_epsilon': 1e-6 if version == '1' and size != '65b' else 1e-5,
    'optimizer.epsilon': 1e-8 if version == '1' else 1e-5,
    'data.length': length,
    'data.batch': rows,
    'train.steps': row['billions'] * 10**9 // (length * rows),
  }
  if (version, size) == ('3', '405b'):  # 3.4.1: 252M tokens in rows of 4,096
    before = 61 * 1024 * 4096
    batches = [(0, 1024), (2.87e12 - before, 2048)]
    out['train.steps'] = 61 + steps_in(15.6e12 - before, 8192, batches)
  if version == '3.1':  # its rate is not stated: it is the last one of 3
    return out | {
      'rope_scaling': (8.0, 1.0, 4.0, 8192.0),
      'schedule.name': 'constant',
      'learning_rate': row['peak'] * 0.01,
    }
  return out | {
    'schedule.name': 'cosine',
    'learning_rate': row['peak'],
    'warmup_steps': 8000 if new else 2000,
    'decay_steps': 1_200_000 if size == '405b' else 0,
    'end_fraction': 0.01 if new else 0.1,  # 3: 8e-7 of 8e-5
  }


LLAMA = Recipe(
  every=LLAMA_EVERY,
  columns=(
    *('decoder_layers', 'embed_dim', 'heads', 'kv_heads', 'mlp_dim'),
    *('peak', 'billions', 'size', 'version'),
  ),
  sizes={
    f'{size},version={version}': (*row, size, version)
    for version, table in LLAMA_SIZES.items()
    for size, row in table.items()
  },
  derived=llama,
  like='7b,version=1',
  # F is 8/3 D, to a multiple of 128.
  tiny=SMALL | RUN | {'rope_dim': 16, 'kv_heads': 8, 'mlp_dim': 384},
)
GROUPED = LLAMA.tiny | {'kv_heads': 2}
LLAMA_2 = LLAMA._replace(like='70b,version=2', tiny=GROUPED)
LLAMA_3 = LLAMA._replace(like='8b,version=3', tiny=GROUPED)
LLAMA_3_1 = LLAMA._replace(  # trained from scratch: 3's cosine
  like='8b,version=3.1',
  tiny=GROUPED
  | {
    'rope_scaling': (8.0, 1.0, 4.0, 32.0),
    'schedule.name': 'cosine',
    'end_fraction': 0.1,
  },
)

# Peng et al. 2023, the tables of models and of training; BlinkDL/RWKV-LM
# (RWKV-v4neo: src/model.py, src/trainer.py, train.py). A mini-epoch has 40,320
# rows, and the Pile 8043 of them.
RWKV = Recipe(
  every={
    'model': {
      'family': 'rwkv',
      'vocab_size': 50277,
      'position': 'none',
      'norm': 'layer_norm',
      'norm_epsilon': 1e-5,
      'norm_placement': 'pre',
      'parallel': 'none',
      'activation': 'squared_relu',
      'bias': 'none',
      'embed_norm': True,
      'head': 'lm',
      'init': 'rwkv',
      'dropout_kind': 'residual',
    },
    'data': BYTES | {'length': 1024, 'batch': 128},
    'optimizer': {
      'name': 'adamw',
      'b1': 0.9,
      'b2': 0.99,
      'epsilon': 1e-8,
      'bias_correction': True,
      'weight_decay': 0.0,
      'clip': 1.0,
      'multipliers.time_decay': 2.0,
      'multipliers.time_first': 3.0,
    },
    'schedule': {'name': 'exponential'},
    'train': {'steps': 8043 * 315, 'max_logit_loss': 1e-4},  # L2Wrap
  },
  columns=('decoder_layers', 'embed_dim', 'learning_rate', 'last', 'constant'),
  sizes={
    '169m': (12, 768, 6e-4, 1e-5, 361),
    '430m': (24, 1024, 4e-4, 1e-5, 411),
    '1.5b': (24, 2048, 3e-4, 1e-5, 443),
    '3b': (32, 2560, 1.5e-4, 1e-5, 451),
    '7b': (32, 4096, 1.5e-4, 1e-5, 465),
    '14b': (40, 5120, 1e-4, 7e-6, 544),
  },
  derived=lambda row: {
    'mlp_dim': 4 * row['embed_dim'],
    'constant_steps': row['constant'] * (40_320 // 128),
    'end_fraction': row['last'] / row['learning_rate'],
  },
  like='169m',
  tiny={
    'decoder_layers': 2,
    'embed_dim': 128,
    'data.batch': 16,
    'learning_rate': 1e-3,
    'end_fraction': 0.1,
    'constant_steps': 100,
  },
)

SYSTEMS = {
  'lamda': LAMDA,
  'palm': PALM,
  'bloom': BLOOM,
  'llama': LLAMA,
  'rwkv': RWKV,
}
# Variants with their own `tiny`: what follows 'tiny' in the argument.
VARIANTS = {
  ('llama', ',version=2'): LLAMA_2,
  ('llama', ',version=3'): LLAMA_3,
  ('llama', ',version=3.1'): LLAMA_3_1,
}
