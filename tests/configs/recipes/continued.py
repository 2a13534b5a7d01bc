"""The tables of recipes that go on from PaLM's parameters. See numbers.py."""

from tests.configs.recipes.decoders import LAMDA, PALM
from tests.configs.recipes.pairs import TINY_WORDED, WORDED

# Tay et al. 2022 ("Transcending Scaling Laws"): 20,000 steps of 32 rows. Rates
# and the modes' names are from memory.
UL2R_DENOISERS = (
  ('[S2S]', 0.0, 0.0, 0.5),
  ('[NLU]', 0.15, 3.0, 0.25),
  ('[NLG]', 0.15, 32.0, 0.125),
  ('[NLG]', 0.5, 3.0, 0.125),
)
U_PALM = PALM._replace(
  every=PALM.every
  | {
    'model': PALM.every['model'] | {'prefix': True, 'vocab_size': 256_256},
    'data': PALM.every['data']
    | {
      'objective': 'ul2',
      'denoisers': UL2R_DENOISERS,
      'sentinels': 256,
      'document_tokens': 65536,
    },
    'schedule': {
      'name': 'cosine',
      'learning_rate': 1e-4,
      'end_fraction': 0.01,
    },
  },
  sizes={
    f'{size},recipe=ul2r': (*row[:-1], 32) for size, row in PALM.sizes.items()
  },
  derived=lambda row: {
    'mlp_dim': 4 * row['embed_dim'],
    'train.steps': 20_000,
  },
  like='8b,recipe=ul2r',
  tiny=PALM.tiny | {'sentinels': 30, 'vocab_size': 4126},
)
# Chung et al. 2022, appendix E: steps, rate, dropout.
FLAN_PALM = PALM._replace(
  every=PALM.every
  | {
    'data': PALM.every['data'] | WORDED,
    'schedule': {'name': 'constant'},
  },
  columns=(*PALM.columns, 'train.steps', 'learning_rate', 'dropout'),
  sizes={
    f'{size},recipe=flan': (*PALM.sizes[size][:-1], 32, *own)
    for size, own in (
      ('8b', (40_000, 3e-3, 0.05)),
      ('62b', (40_000, 3e-3, 0.05)),
      ('540b', (21_000, 1e-3, 0.1)),
    )
  },
  derived=lambda row: {
    'mlp_dim': 4 * row['embed_dim'],
    'attention_dropout': row['dropout'],
  },
  like='8b,recipe=flan',
  tiny=PALM.tiny | TINY_WORDED,
)
# Wei et al. 2022, 2.2 to 2.4 (memory): zero-shot, with all options.
FLAN = LAMDA._replace(
  every=LAMDA.every
  | {
    'data': LAMDA.every['data']
    | WORDED
    | {
      'shots': 0,
      'shot_share': 0.0,
      'option_share': 1.0,
      'length': 1024 + 256,
      'batch': 8192 // (1024 + 256),
    },
    'schedule': {'name': 'constant', 'learning_rate': 3e-5},
    'train': {'steps': 30_000, 'z_loss': 1e-4},
    'eval': {'ranked': True},
  },
  sizes={f'{size},recipe=flan': row for size, row in LAMDA.sizes.items()},
  like='2b,recipe=flan',
  tiny=LAMDA.tiny | {'vocab_size': 352, 'learning_rate': 1e-2},
)

# What follows a size or 'tiny' in the argument.
VARIANTS = {
  ('palm', ',recipe=ul2r'): U_PALM,
  ('palm', ',recipe=flan'): FLAN_PALM,
  ('lamda', ',recipe=flan'): FLAN,
}
