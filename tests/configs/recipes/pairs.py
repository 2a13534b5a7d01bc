"""The encoder-decoders' tables. See numbers.py."""

from tests.configs.recipes.numbers import (
  ADAFACTOR,
  INVERSE_SQRT,
  T5_BLOCK,
  Recipe,
)

LAYERS = ('encoder_layers', 'embed_dim', 'mlp_dim', 'heads', 'head_dim')


def both(row: dict) -> dict:
  """The same layers in both stacks; every head has its own keys and values."""
  return {
    'decoder_layers': row['encoder_layers'],
    'kv_heads': row['heads'],
  }


# Vaswani et al. 2017, table 3; tensor2tensor (models/transformer.py). The
# objective is not the paper's: T5's spans stand for translation.
TRANSFORMER = Recipe(
  every={
    'model': {
      'family': 'encoder_decoder',
      'vocab_size': 37_000,  # 5.1
      'position': 'sinusoidal',  # 3.5
      'norm': 'layer_norm',
      'norm_epsilon': 1e-6,
      'norm_placement': 'post',  # 3.1
      'parallel': 'none',
      'activation': 'relu',  # 3.3, as the biases
      'bias': 'mlp',
      'scale_attention': True,  # 3.2.1
      'scale_embed': True,  # 3.4
      'tie_embeddings': True,
      'head': 'lm',
      'init': 'glorot',
      'dropout_kind': 'residual',  # 5.4
    },
    'data': {
      'tokenizer_kind': 'bpe',  # 5.1
      'sentinels': 100,
      'objective': 'span_corruption',
      'noise_density': 0.15,
      'mean_span_length': 3.0,
      'document_tokens': 65536,
      'length': 256,
      'batch': 96,  # 5.1: 25,000 source tokens
    },
    'optimizer': {  # 5.3
      'name': 'adamw',
      'b1': 0.9,
      'b2': 0.98,
      'epsilon': 1e-9,
      'bias_correction': True,
      'weight_decay': 0.0,
    },
    'schedule': {'name': 'noam', 'warmup_steps': 4000},  # 5.3
    'train': {'label_smoothing': 0.1},  # 5.4
  },
  columns=(*LAYERS, 'dropout', 'train.steps'),
  sizes={
    'base': (6, 512, 2048, 8, 64, 0.1, 100_000),
    'big': (6, 1024, 4096, 16, 64, 0.3, 300_000),
  },
  derived=lambda row: both(row) | {'learning_rate': row['embed_dim'] ** -0.5},
  like='base',
  tiny={
    'encoder_layers': 2,
    'embed_dim': 128,
    'mlp_dim': 512,
    'heads': 8,
    'head_dim': 16,
    'data.batch': 32,
    'learning_rate': 0.01,
    'warmup_steps': 100,
  },
)

# Raffel et al. 2020; google-research/text-to-text-transfer-transformer (gin)
# and t5x. 1.1 is the later release: gated GELU, a separate output table.
V1_1 = {'gated': True, 'activation': 'gelu_tanh'}
FINAL = {'data.batch': 2048, 'train.steps': 1_000_000}  # 3.7
BASELINE = {  # 3.1.2; iid_15_u_u.gin
  'data.batch': 128,
  'train.steps': 2**19,
  'objective': 'iid_spans',
  'target_length': 192,
}
SPANS = {'objective': 'span_corruption', 'mean_span_length': 3.0}  # 3.3.4


# Lester et al. 2021, 3.2; the model card: 100,000 steps of prefix language
# modelling after 1M of 1.1; the published code's prefixes, 1.1's batch.
ADAPTED = {
  'data.batch': 2048,
  'train.steps': 100_000,
  'first_step': 1_000_000,
  'objective': 'prefix',
  'noise_density': 0.0,
  'sentinels': 0,
  'concatenate': False,
}


def t5(row: dict) -> dict:
  old = row['version'] == '1.0'
  own = {'activation': 'relu', 'tie_embeddings': True, 'scale_output': True}
  rate = {'dropout': 0.1, 'attention_dropout': 0.1}  # 3.1.2; 1.1 has none
  recipe = {
    'final': FINAL | SPANS,
    'baseline': BASELINE,
    'lm_adapted': ADAPTED,
  }
  return both(row) | (own | rate if old else V1_1) | recipe[row['recipe']]


V1_0_SIZES = {
  'small': (6, 512, 2048, 8, 64),
  'base': (12, 768, 3072, 12, 64),
  'large': (24, 1024, 4096, 16, 64),
  '3b': (24, 1024, 16384, 32, 128),
  '11b': (24, 1024, 65536, 128, 128),
}
V1_1_SIZES = {
  'small': (8, 512, 1024, 6, 64),
  'base': (12, 768, 2048, 12, 64),
  'large': (24, 1024, 2816, 16, 64),
  '3b': (24, 2048, 5120, 32, 64),
  '11b': (24, 4096, 10240, 64, 64),
}
T5_EVERY = {
  'model': T5_BLOCK | {'family': 'encoder_decoder', 'vocab_size': 32128},
  'data': {
    'tokenizer_kind': 'unigram',  # SentencePiece's
    'sentinels': 100,
    'noise_density': 0.15,
    'length': 512,
    'document_tokens': 65536,  # select_random_chunk
  },
  'optimizer': ADAFACTOR,
  'schedule': INVERSE_SQRT,
  'train': {'z_loss': 1e-4},  # Mesh TensorFlow's, T5X's
}
T5 = Recipe(
  every=T5_EVERY,
  columns=(*LAYERS, 'version', 'recipe'),
  sizes={
    f'{size},version={version}{arg}': (*row, version, recipe)
    for version, table in (('1.0', V1_0_SIZES), ('1.1', V1_1_SIZES))
    for size, row in table.items()
    for arg, recipe in (
      ('', 'final'),
      (',recipe=baseline', 'baseline'),
      (',recipe=lm_adapted', 'lm_adapted'),
    )
    if (version, recipe) != ('1.0', 'lm_adapted')
  },
  derived=t5,
  like='base,version=1.0',
  tiny={
    'encoder_layers': 2,
    'embed_dim': 128,
    'mlp_dim': 512,
    'heads': 4,
    'head_dim': 32,
    'dropout': 0.0,
    'attention_dropout': 0.0,
    'data.batch': 32,
  },
)
T5_1_1 = T5._replace(  # its tiny; F is 3 D, not 4 D, since the MLP is gated
  sizes={'base,version=1.1': (*V1_1_SIZES['base'], '1.1', 'final')},
  like='base,version=1.1',
  tiny=T5.tiny | {'mlp_dim': 384},
)
T5_ADAPTED = T5._replace(  # its tiny, after 200 steps of 1.1's
  sizes={'base,version=1.1': (*V1_1_SIZES['base'], '1.1', 'lm_adapted')},
  like='base,version=1.1',
  tiny=T5_1_1.tiny | {'first_step': 200},
)
T5_BASELINE = T5._replace(  # its tiny; a quarter of the length
  sizes={
    'base,recipe=baseline': (*V1_0_SIZES['base'], '1.0', 'baseline'),
  },
  like='base,recipe=baseline',
  tiny=T5.tiny | {'target_length': 48},
)

# Chung et al. 2022, appendix E; the sizes are T5 1.1's.
FLAN_STEPS = {
  'small': 98_000,
  'base': 84_000,
  'large': 64_000,
  'xl': 38_000,
  'xxl': 14_000,
}
FLAN_SIZES = V1_1_SIZES | {'xl': V1_1_SIZES['3b'], 'xxl': V1_1_SIZES['11b']}
# The FLAN collection's code: a quarter of the examples each with worked ones
# or without, with their options or without; 30% are turned round.
WORDED = {
  'objective': 'text_to_text',
  'shots': 5,
  'shot_share': 0.5,
  'option_share': 0.5,
  'inverted_share': 0.3,
}
# The words of tasks that a program makes have so many pieces.
TINY_WORDED = {'vocab_size': 352, 'shots': 2}
FLAN_RECIPE = WORDED | {'length': 2048, 'target_length': 512, 'batch': 64}
FLAN_SCHEDULE = {'name': 'constant', 'learning_rate': 5e-4}
FLAN_T5 = Recipe(
  every={
    'model': T5_EVERY['model']
    | V1_1
    | {'dropout': 0.05, 'attention_dropout': 0.05},
    'data': FLAN_RECIPE | {'tokenizer_kind': 'unigram'},
    'optimizer': ADAFACTOR,
    'schedule': FLAN_SCHEDULE,
    'train': {'z_loss': 1e-4},
  },
  columns=(*LAYERS, 'train.steps'),
  sizes={
    size: (*FLAN_SIZES[size], steps) for size, steps in FLAN_STEPS.items()
  },
  derived=both,
  like='base',
  tiny={
    'encoder_layers': 2,
    'embed_dim': 128,
    'mlp_dim': 384,
    'heads': 8,
    'head_dim': 16,
    'data.batch': 16,
    'learning_rate': 1e-2,
    'train.steps': 150,
    'target_length': 64,
    **TINY_WORDED,
  },
)

# Tay et al. 2022, table 1: rate, mean span, with the modes of the released
# checkpoint's card. The shares are not stated: all are equal.
DENOISERS = (
  ('[NLU]', 0.15, 3.0, 1 / 7),
  ('[NLU]', 0.15, 8.0, 1 / 7),
  ('[S2S]', 0.25, 0.0, 1 / 7),
  ('[NLG]', 0.5, 3.0, 1 / 7),
  ('[NLG]', 0.5, 8.0, 1 / 7),
  ('[NLG]', 0.15, 64.0, 1 / 7),
  ('[NLG]', 0.5, 64.0, 1 / 7),
)
# The appendix's code: prefix language modelling.
CODE = tuple(
  (mode, 0.0 if mode == '[S2S]' else rate, span, share)
  for mode, rate, span, share in DENOISERS
)
UL2_MODEL = T5_EVERY['model'] | {'gated': True, 'activation': 'silu'}
UL2 = Recipe(
  every={
    'model': UL2_MODEL,
    'data': {
      'tokenizer_kind': 'unigram',
      'objective': 'ul2',
      'sentinels': 128,  # the fourth denoiser needs them in 512 tokens
      'length': 512,  # the model card, like the next
      'document_tokens': 65536,
      'batch': 1024,
    },
    'optimizer': ADAFACTOR,
    'schedule': INVERSE_SQRT,
    'train': {'steps': 2_000_000, 'z_loss': 1e-4},  # the model card
  },
  columns=(*LAYERS, 'denoisers'),  # 4.3.1
  sizes={
    '20b': (32, 4096, 16384, 16, 256, DENOISERS),
    '20b,s_denoiser=code': (32, 4096, 16384, 16, 256, CODE),
  },
  derived=both,
  like='20b',
  tiny={
    'encoder_layers': 2,
    'embed_dim': 128,
    'mlp_dim': 512,
    'heads': 8,
    'head_dim': 32,
    'sentinels': 100,
    'data.batch': 16,
    'train.steps': 120,
  },
)
# Its recipe is not published: this is FLAN-T5 XXL's. 2048 tokens: model card.
FLAN_UL2 = Recipe(
  every=FLAN_T5.every
  | {'model': UL2_MODEL | {'dropout': 0.05, 'attention_dropout': 0.05}},
  columns=(*LAYERS, 'train.steps'),
  sizes={'20b,variant=flan': (32, 4096, 16384, 16, 256, 14_000)},
  derived=both,
  like='20b,variant=flan',
  tiny={key: value for key, value in UL2.tiny.items() if key != 'sentinels'}
  | {'target_length': 64}
  | TINY_WORDED,
)

SYSTEMS = {
  'transformer': TRANSFORMER,
  't5': T5,
  'flan_t5': FLAN_T5,
  'ul2': UL2,
}
# Variants with their own `tiny`: what follows 'tiny' in the argument.
VARIANTS = {
  ('t5', ',version=1.1'): T5_1_1,
  ('t5', ',version=1.1,recipe=lm_adapted'): T5_ADAPTED,
  ('t5', ',recipe=baseline'): T5_BASELINE,
  ('ul2', ',variant=flan'): FLAN_UL2,
}
