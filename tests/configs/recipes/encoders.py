"""BERT, RoBERTa and ELECTRA: the tables. See numbers.py."""

from tests.configs.recipes.numbers import LAYER_NORM, Recipe

ENCODER = LAYER_NORM | {
  'norm_placement': 'post',
  'parallel': 'none',
  'position': 'learned',
  'embed_norm': True,
  'tie_embeddings': True,
  'output_transform': True,
  'output_bias': True,
  'init_std': 0.02,
  'dropout': 0.1,
  'attention_dropout': 0.1,
  'dropout_kind': 'residual',
}


def widths(row: dict) -> dict:
  """F is 4 D; every head has its own keys and values."""
  return {
    'mlp_dim': 4 * row['embed_dim'],
    'kv_heads': row['heads'],
    'head_dim': row['embed_dim'] // row['heads'],
  }


# Devlin et al. 2019 and google-research/bert; Turc et al. 2019, table 1.
BERT = Recipe(
  every={
    'model': ENCODER
    | {
      'family': 'encoder',
      'max_length': 512,
      'token_types': 2,
      'norm_epsilon': 1e-12,
      'activation': 'gelu_tanh',  # modeling.py, gelu
      'head': 'mlm_nsp',  # 3.1
      'init': 'truncated_normal',  # modeling.py, create_initializer
    },
    'data': {
      'tokenizer_kind': 'wordpiece',  # 3
      'objective': 'sentence_pairs',  # 3.1
      'pack': False,
      'masking': 'bert',
      'noise_density': 0.15,  # 3.1, like the next two: 80%, 10%, and 10% stay
      'masked_share': 0.8,
      'random_share': 0.1,
      'duplicates': 10,  # create_pretraining_data.py, dupe_factor
      'short_share': 0.1,  # short_seq_prob
      'batch': 256,  # A.2
    },
    'optimizer': {  # optimization.py
      'name': 'adamw',
      'b1': 0.9,
      'b2': 0.999,
      'epsilon': 1e-6,
      'bias_correction': False,
      'weight_decay': 0.01,
      'clip': 1.0,
    },
    'schedule': {  # A.2; optimization.py
      'name': 'linear_from_start',
      'learning_rate': 1e-4,
      'warmup_steps': 10_000,
      'end_fraction': 0.0,
    },
    'train': {'steps': 1_000_000},  # A.2
  },
  columns=(
    *('encoder_layers', 'embed_dim', 'heads', 'vocab_size'),
    *('data.length', 'lowercase'),
  ),
  sizes={
    'base': (12, 768, 12, 30522, 512, True),
    'large': (24, 1024, 16, 30522, 512, True),
    'base,vocabulary=cased': (12, 768, 12, 28996, 512, False),
    'large,length=128': (24, 1024, 16, 30522, 128, True),
    'mini': (4, 256, 4, 30522, 512, True),
    'small': (4, 512, 8, 30522, 512, True),
    'medium': (8, 512, 8, 30522, 512, True),
    **{
      f'{layers}x{width}': (layers, width, width // 64, 30522, 512, True)
      for layers in (2, 4, 6, 8, 10, 12)
      for width in (128, 256, 512, 768)
    },
  },
  # A.2: nine tenths of the steps at length 128. max_predictions_per_seq is 20
  # there and 77 at 512.
  derived=lambda row: (
    widths(row)
    | (
      {'predictions': 77} if row['data.length'] == 512 else {'predictions': 20}
    )
  ),
  like='base',
  tiny={
    'encoder_layers': 2,
    'embed_dim': 128,
    'heads': 8,
    'predictions': 20,
    'duplicates': 2,
    'data.batch': 32,
    'learning_rate': 1e-3,
    'warmup_steps': 30,
  },
)

# You et al. 2020, table 1 and the appendix: the largest batch that all steps
# have, of large; from memory.
BERT_LAMB = BERT._replace(
  every=BERT.every
  | {
    'data': BERT.every['data'] | {'batch': 32_768},
    'optimizer': BERT.every['optimizer']
    | {'name': 'lamb', 'bias_correction': True},
    'schedule': BERT.every['schedule']
    | {'learning_rate': 5e-3, 'warmup_steps': 15_625 // 5},
    'train': {'steps': 15_625},
  },
  sizes={f'{size},recipe=lamb': BERT.sizes[size] for size in ('base', 'large')},
  derived=lambda row: widths(row) | {'predictions': 77},
  like='base,recipe=lamb',
)

# Liu et al. 2019, table 9; fairseq (models/roberta, mask_tokens_dataset.py).
ROBERTA = Recipe(
  every={
    'model': ENCODER
    | {
      'family': 'encoder',
      'vocab_size': 50265,  # 4.4
      'max_length': 514,  # 512 from row 2 on
      'position_offset': 2,
      'norm_epsilon': 1e-5,
      'activation': 'gelu',
      'head': 'mlm',  # 4.2
      'init': 'normal',
      'pooler_dropout': True,  # RobertaClassificationHead
    },
    'data': {
      'tokenizer_kind': 'byte_bpe',  # 4.4
      'objective': 'full_sentences',  # 4.2
      'masking': 'roberta',
      'noise_density': 0.15,  # 2.1, like the next two
      'masked_share': 0.8,
      'random_share': 0.1,
      'length': 512,
      'predictions': 77,  # 15% of 512, rounded up
      'batch': 8192,  # "8K"
    },
    'optimizer': {
      'name': 'adamw',
      'b1': 0.9,
      'b2': 0.98,
      'epsilon': 1e-6,
      'bias_correction': True,
      'weight_decay': 0.01,
      'decay': 'all',  # optim/adam.py: one group
      'clip': 0.0,
    },
    'schedule': {'name': 'linear', 'end_fraction': 0.0},
    'train': {'steps': 500_000},
  },
  columns=(
    *('encoder_layers', 'embed_dim', 'heads'),
    *('learning_rate', 'warmup_steps'),
  ),
  sizes={
    'base': (12, 768, 12, 6e-4, 24_000),
    'large': (24, 1024, 16, 4e-4, 30_000),
  },
  derived=widths,
  like='base',
  tiny={
    'encoder_layers': 2,
    'embed_dim': 128,
    'heads': 8,
    'max_length': 136,  # 128, the first two rows, and up to a multiple of 8
    'predictions': 20,
    'data.batch': 32,
    'learning_rate': 1e-3,
    'warmup_steps': 30,
  },
)

# Clark et al. 2020, table 6; google-research/electra.
ELECTRA = Recipe(
  every={
    'model': ENCODER
    | {
      'family': 'electra',
      'vocab_size': 30522,
      'max_length': 512,
      'token_types': 2,
      'norm_epsilon': 1e-12,
      'activation': 'gelu',  # model/modeling.py: erf
      'head': 'rtd',
      'init': 'truncated_normal',
    },
    'data': {
      'tokenizer_kind': 'wordpiece',
      'lowercase': True,
      'objective': 'mlm',
      'concatenate': False,  # build_pretraining_dataset.py
      'masking': 'electra',
      'masked_share': 0.85,  # pretrain/pretrain_helpers.py
    },
    'optimizer': {  # model/optimization.py
      'name': 'adamw',
      'b1': 0.9,
      'b2': 0.999,
      'epsilon': 1e-6,
      'bias_correction': False,
      'weight_decay': 0.01,
      'clip': 1.0,
    },
    'schedule': {
      'name': 'linear_throughout',
      'warmup_steps': 10_000,
      'end_fraction': 0.0,
    },
  },
  columns=(
    *('encoder_layers', 'embed_dim', 'heads', 'table_dim'),
    *('generator_divisor', 'learning_rate', 'noise_density'),
    *('data.batch', 'data.length', 'train.steps'),
  ),
  sizes={
    'small': (12, 256, 4, 128, 4, 5e-4, 0.15, 128, 128, 1_000_000),
    'base': (12, 768, 12, 0, 3, 2e-4, 0.15, 256, 512, 766_000),
    'large': (24, 1024, 16, 0, 4, 2e-4, 0.25, 2048, 512, 400_000),
  },
  # configure_pretraining.py, max_predictions_per_seq.
  derived=lambda row: (
    widths(row)
    | {'predictions': int((row['noise_density'] + 0.005) * row['data.length'])}
  ),
  like='small',
  tiny={
    'encoder_layers': 2,
    'embed_dim': 128,
    'heads': 8,
    'table_dim': 64,  # half of D, as in small
    'generator_divisor': 2,
    'max_length': 128,
    'data.batch': 16,
    'learning_rate': 1e-3,
    'warmup_steps': 30,
  },
)

SYSTEMS = {'bert': BERT, 'roberta': ROBERTA, 'electra': ELECTRA}
# What follows a size or 'tiny' in the argument.
VARIANTS = {('bert', ',recipe=lamb'): BERT_LAMB}
