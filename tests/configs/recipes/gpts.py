"""The tables of GPT-1 and systems close to it. See numbers.py."""

from tests.configs.recipes.numbers import (
  GPT3_ADAM,
  GPT_BLOCK,
  Recipe,
  gpt3,
  gpt3_schedule,
  growing,
  steps_in,
)

LAYERS = ('decoder_layers', 'embed_dim', 'heads', 'head_dim')
# Windows of T + 1 tokens, no token inserted: Megatron-LM's gpt_dataset.py.
WINDOWS = {'objective': 'causal', 'start': 'none'}
BYTES = WINDOWS | {'tokenizer_kind': 'byte_bpe'}
PIECES = WINDOWS | {'tokenizer_kind': 'unigram'}
# The shape of every tiny decoder, and its batch and warm-up.
SMALL = {'decoder_layers': 2, 'embed_dim': 128, 'heads': 8, 'head_dim': 16}
RUN = {'data.batch': 16, 'learning_rate': 1e-3, 'warmup_steps': 30}
DENSE = {'dropout': 0.0, 'attention_dropout': 0.0}
TO_THE_END = {'decay_steps': 0, 'schedule.unit': 'steps'}  # of the run


def widths(row: dict) -> dict:
  """F is 4 D; every head has its own keys and values."""
  return {'mlp_dim': 4 * row['embed_dim'], 'kv_heads': row['heads']}


# Radford et al. 2018, 4.1; openai/finetune-transformer-lm (train.py, opt.py).
GPT1 = Recipe(
  every={
    'model': GPT_BLOCK
    | {
      'vocab_size': 40478,  # 40,000 merges and the signs that they merge
      'position': 'learned',
      'max_length': 512,
      'norm_placement': 'post',
      'init': 'normal',
      'init_std': 0.02,
      'dropout': 0.1,
      'attention_dropout': 0.1,
    },
    'data': WINDOWS | {'tokenizer_kind': 'bpe', 'length': 512, 'batch': 64},
    'optimizer': {
      'name': 'adamw',
      'b1': 0.9,
      'b2': 0.999,
      'epsilon': 1e-8,
      'bias_correction': True,
      'weight_decay': 0.01,
      'clip': 1.0,
    },
    'schedule': {
      'name': 'cosine',
      'learning_rate': 2.5e-4,
      'warmup_steps': 2000,
      'end_fraction': 0.0,
    },
    # google-research/electra, flops_computation.py: 960,800 steps of 128 rows.
    'train': {'steps': 1_921_600},
  },
  columns=LAYERS,
  sizes={'base': (12, 768, 12, 64)},
  derived=widths,
  like='base',
  tiny=SMALL | RUN | {'max_length': 128},
)

# Radford et al. 2019, table 2 and 2.3; openai/gpt-2. The rest is GPT-3's for
# the same shapes (Brown et al. 2020, table 2.1 and B).
GPT2 = Recipe(
  every={
    'model': GPT_BLOCK
    | {
      'vocab_size': 50257,
      'position': 'learned',
      'max_length': 1024,
      'norm_placement': 'pre',
      'init': 'gpt2',
      'init_std': 0.02,
      'dropout': 0.1,  # GPT-1's
      'attention_dropout': 0.1,
    },
    'data': BYTES | {'length': 1024, 'batch': 512},
    'optimizer': GPT3_ADAM,
  },
  columns=(*LAYERS, 'learning_rate'),
  sizes={
    'small': (12, 768, 12, 64, 6e-4),
    'medium': (24, 1024, 16, 64, 3e-4),
    'large': (36, 1280, 20, 64, 2.5e-4),
    'xl': (48, 1600, 25, 64, 2e-4),
  },
  derived=lambda row: widths(row) | gpt3_schedule(512, 1024),
  like='small',
  tiny=SMALL | RUN | DENSE | TO_THE_END | {'max_length': 128},
)

# Brown et al. 2020, table 2.1; batches of 0.5M, 1M, 2M and 3.2M tokens in rows
# of 2048. In the table xl has 24 heads and 13b D = 5140: neither is consistent.
GPT3 = Recipe(
  every={
    'model': GPT_BLOCK
    | {
      'vocab_size': 50257,
      'position': 'learned',
      'max_length': 2048,
      'norm_placement': 'pre',
      'window': 256,  # GPT-Neo's
      'window_every': 2,  # 2.1
      'init': 'gpt2',
      'init_std': 0.02,
    },
    'data': BYTES | {'length': 2048},
    'optimizer': GPT3_ADAM,
  },
  columns=(*LAYERS, 'data.batch', 'learning_rate'),
  sizes={
    'small': (12, 768, 12, 64, 256, 6e-4),
    'medium': (24, 1024, 16, 64, 256, 3e-4),
    'large': (24, 1536, 16, 96, 256, 2.5e-4),
    'xl': (24, 2048, 16, 128, 512, 2e-4),
    '2.7b': (32, 2560, 32, 80, 512, 1.6e-4),
    '6.7b': (32, 4096, 32, 128, 1024, 1.2e-4),
    '13b': (40, 5120, 40, 128, 1024, 1e-4),
    '175b': (96, 12288, 96, 128, 1536, 0.6e-4),
  },
  derived=lambda row: widths(row) | gpt3(row['data.batch']),
  like='small',
  tiny=SMALL | RUN | TO_THE_END | {'max_length': 128, 'window': 16},
)

# Lieber et al. 2021, table 1; the rest is GPT-3's. Batches of 2M and 3.2M.
JURASSIC = Recipe(
  every={
    'model': GPT_BLOCK
    | {
      'vocab_size': 256_000,
      'position': 'learned',
      'max_length': 2048,
      'norm_placement': 'pre',
      'init': 'gpt2',
      'init_std': 0.02,
    },
    'data': PIECES | {'length': 2048},
    'optimizer': GPT3_ADAM,
  },
  columns=(*LAYERS, 'data.batch', 'learning_rate'),
  sizes={
    'large': (32, 4096, 32, 128, 1024, 1.2e-4),
    'jumbo': (76, 13824, 96, 144, 1536, 0.6e-4),
  },
  derived=lambda row: widths(row) | gpt3_schedule(row['data.batch'], 2048),
  like='large',
  tiny=SMALL | RUN | TO_THE_END | {'max_length': 128},
)

# Rae et al. 2021, table 1, 3.1 and 3.2; 0.25M, 2M and 6M tokens a batch.
GOPHER = Recipe(
  every={
    'model': GPT_BLOCK
    | {
      'vocab_size': 32_000,
      'position': 'transformer_xl',
      'norm': 'rms_norm',
      'norm_placement': 'pre',
      'init': 'gpt2',
      'init_std': 0.02,
    },
    'data': WINDOWS
    | {
      'tokenizer_kind': 'bpe',
      'length': 2048,
      'normalization': 'nfkc',  # Chinchilla's has none (Hoffmann et al., 4.1)
    },
    # The betas are not stated, nor is a decay.
    'optimizer': GPT3_ADAM | {'weight_decay': 0.0},
    'schedule': {
      'name': 'cosine',
      'warmup_steps': 1500,
      'end_fraction': 0.1,
    },
  },
  columns=(*LAYERS, 'learning_rate', 'data.batch', 'clip'),
  sizes={
    '44m': (8, 512, 16, 32, 6e-4, 128, 1.0),
    '117m': (12, 768, 12, 64, 6e-4, 128, 1.0),
    '417m': (12, 1536, 12, 128, 2e-4, 128, 1.0),
    '1.4b': (24, 2048, 16, 128, 2e-4, 128, 1.0),
    '7.1b': (32, 4096, 32, 128, 1.2e-4, 1024, 0.25),
    '280b': (80, 16384, 128, 128, 4e-5, 3072, 0.25),
  },
  # 300B tokens.
  derived=lambda row: (
    # 3.2: 280b's batch doubles 'during training'; in the middle here.
    widths(row)
    | {
      'train.steps': steps_in(
        300e9,
        2048,
        [(0, 1536), (150e9, 3072)]
        if row['data.batch'] == 3072
        else [(0, row['data.batch'])],
      )
    }
  ),
  like='44m',
  tiny=SMALL | RUN,
)

# Hoffmann et al. 2022, table A9: millions, D, H, heads, layers.
A9 = """
   44  512  64  8  8      57  576  64  9  9      74  640  64 10 10
   90  640  64 10 13     106  640  64 10 16     117  768  64 12 12
  140  768  64 12 15     163  768  64 12 18     175  896  64 14 14
  196  896  64 14 16     217  896  64 14 18     251 1024  64 16 16
  278 1024  64 16 18     306 1024  64 16 20     425 1280 128 10 18
  489 1280 128 10 21     509 1408 128 11 18     552 1280 128 10 24
  587 1408 128 11 21     632 1536 128 12 19     664 1408 128 11 24
  724 1536 128 12 22     816 1536 128 12 25     893 1792 128 14 20
 1018 1792 128 14 23    1143 1792 128 14 26    1266 2048 128 16 22
 1424 2176 128 17 22    1429 2048 128 16 25    1593 2048 128 16 28
 1609 2176 128 17 25    1731 2304 128 18 24    1794 2176 128 17 28
 2007 2304 128 18 28    2283 2304 128 18 32    2298 2560 128 20 26
 2639 2560 128 20 30    2980 2560 128 20 34    3530 2688 128 22 36
 3802 2816 128 22 36    4084 2944 128 22 36    4516 3072 128 24 36
 6796 3584 128 28 40    9293 4096 128 32 42   11452 4352 128 32 47
12295 4608 128 36 44   12569 4608 128 32 47   13735 4864 128 32 47
14940 4992 128 32 49   16183 5120 128 40 47
"""
_NUMBERS = list(map(int, A9.split()))
_ROWS = [_NUMBERS[i : i + 5] for i in range(0, len(_NUMBERS), 5)]


def chinchilla(row: dict) -> dict:
  """Twenty tokens for each parameter (table 3).

  Rates from 2e-4 (smallest) to 1.25e-4 (largest); Gopher's batches.
  """
  millions = row['millions']
  rate, rows, batches = 2e-4, 128 if millions < 1500 else 1024, []
  if millions > 7000:
    rate = 1.25e-4
  if millions == 70_000:  # table 4: 1e-4, 3M tokens a batch, 1.4T in all
    rate, rows, batches = 1e-4, 1536, [(0, 768)]  # 1.5M in the first half
  return widths(row) | {
    'learning_rate': rate,
    'data.batch': rows,
    'train.steps': steps_in(
      20e6 * millions, 2048, [*batches, (10e6 * millions * len(batches), rows)]
    ),
  }


CHINCHILLA = Recipe(
  every=GOPHER.every
  | {
    'data': GOPHER.every['data'] | {'normalization': ''},  # 4.1
    'optimizer': GPT3_ADAM,  # AdamW (4.1)
  },
  columns=('millions', 'embed_dim', 'head_dim', 'heads', 'decoder_layers'),
  sizes={'70b': (70_000, 8192, 128, 64, 80)}
  | {f'{row[0]}m': tuple(row) for row in _ROWS},
  derived=chinchilla,
  like='44m',
  tiny=GOPHER.tiny,
)

# Smith et al. 2022, 3.2.
MT_NLG = Recipe(
  every={
    'model': GPT_BLOCK
    | {
      'vocab_size': 50257,
      'position': 'learned',
      'max_length': 2048,
      'norm_placement': 'pre',
      'init': 'megatron',
    },
    'data': BYTES | {'length': 2048, 'batch': 1920},
    'optimizer': GPT3_ADAM,
    'schedule': {
      'name': 'cosine',
      'learning_rate': 5e-5,
      'unit': 'tokens',
      'warmup_steps': 10**9,
      'decay_steps': 340 * 10**9,
      'end_fraction': 0.1,
    },
    'train': {'steps': steps_in(270e9, 2048, growing(32, 1920, 32, 12e9))},
  },
  columns=LAYERS,
  sizes={'530b': (105, 20480, 128, 160)},
  derived=lambda row: (
    widths(row) | {'init_std': (1 / (3 * row['embed_dim'])) ** 0.5}
  ),
  like='530b',
  tiny=SMALL | RUN | TO_THE_END | {'max_length': 128},
)

# yandex/YaLM-100B (megatron_lm/megatron/model). Its training is not published:
# this is GPT-3's, with 3.1M tokens a batch.
YALM = Recipe(
  every={
    'model': GPT_BLOCK
    | {
      'vocab_size': 128_000,
      'position': 'rope',
      'rope_theta': 10_000.0,
      'norm_placement': 'pre',
      'activation': 'gelu',  # transformer.py: F.gelu
      'gated': True,
      'embed_norm': True,
      'output_transform': True,
      'output_bias': True,
      'init': 'megatron',
      'init_std': 0.02,
    },
    'data': PIECES | {'length': 1024, 'batch': 3072},
    'optimizer': GPT3_ADAM,
    'schedule': {'learning_rate': 6e-5},
  },
  columns=(*LAYERS, 'mlp_dim', 'table_dim'),
  sizes={'100b': (80, 10240, 128, 80, 27308, 2048)},
  derived=lambda row: (
    {'kv_heads': row['heads'], 'rope_dim': row['head_dim']}
    | gpt3_schedule(3072, 1024)
  ),
  like='100b',
  # F is 8/3 D, for GEGLU; tables are half as wide as D, not a fifth.
  tiny=SMALL | RUN | TO_THE_END | {'mlp_dim': 344, 'table_dim': 64},
)

SYSTEMS = {
  'gpt1': GPT1,
  'gpt2': GPT2,
  'gpt3': GPT3,
  'jurassic': JURASSIC,
  'gopher': GOPHER,
  'chinchilla': CHINCHILLA,
  'mt_nlg': MT_NLG,
  'yalm': YALM,
}
