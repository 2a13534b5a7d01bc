"""How a published recipe is written down, for tests of `configs/`.

The tables (encoders.py, pairs.py, gpts.py and decoders.py) are typed from the
papers and their authors' code, never from the configs. A key of a recipe that
no table names must be off: 0, '', False, empty or unset.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

GROUPS = ('model', 'data', 'optimizer', 'schedule', 'train')
# These decide how a run goes, not what it learns. The number of documents in a
# chunk is tested with the rows.
NOT_OF_A_RECIPE = {
  *('model.attention', 'model.dtype', 'model.scan', 'model.remat'),
  *('data.source', 'data.mixture', 'data.documents', 'data.epochs'),
  *('data.tokenizer', 'data.streams', 'data.holdout', 'data.block'),
  *('data.max_bad_share', 'data.threads', 'data.text_field'),
  *('data.bos', 'data.task_folder', 'data.chat_template'),
  # Of mixtures, which no pretraining recipe is.
  *('data.rates', 'data.rate_cap', 'data.rate_temperature'),
  *('train.log_every', 'train.accumulate', 'train.loss_chunk'),
  'model.scan_unroll',
  'train.phases',  # tests/configs/test_phases.py has those of all systems
}
# On by default, where no table says otherwise.
ON = {
  'model.pooler': True,  # read by the heads of tasks alone
  'model.generator': 'mlm',  # this and the next by ELECTRA alone
  'model.generator_shares': 'tables',
  'data.concatenate': True,
  'data.pack': True,
  'data.start': 'pad',
  'optimizer.decay': 'matrices',
  'optimizer.moments_dtype': 'float32',
  'schedule.unit': 'steps',
  'train.accumulate_dtype': 'float32',
}


class Recipe(NamedTuple):
  """A system's recipe.

  `every` has the values that all sizes share, by group: {'model': {...}, ...}.
  `sizes` is the table: argument of the config -> a value for each of the
  `columns`. Columns are names of keys, with their group if two groups have the
  name. `derived` computes further keys from a row (column -> value). `tiny` is
  what the argument `tiny` changes in the size `like`: widths and lengths become
  small, the rest of the recipe stays.
  """

  every: dict[str, dict[str, Any]]
  columns: tuple[str, ...]
  sizes: dict[str, tuple]
  derived: Callable[[dict], dict] = lambda row: {}
  like: str = ''
  tiny: dict[str, Any] | None = None


# ---- What several systems share ---------------------------------------------

LAYER_NORM = {'norm': 'layer_norm', 'bias': 'all', 'scale_attention': True}
# GPT-1's block as far as its successors keep it: GPT-2's and GPT-3's papers
# and openai/gpt-2 (src/model.py).
GPT_BLOCK = LAYER_NORM | {
  'family': 'decoder',
  'parallel': 'none',
  'activation': 'gelu_tanh',
  'tie_embeddings': True,
  'head': 'lm',
  'dropout_kind': 'residual',
  'norm_epsilon': 1e-5,
}
# T5 (Raffel et al. 2020, 2.1), Mesh TensorFlow and T5X (network.py).
T5_BLOCK = {
  'norm': 'rms_norm',
  'norm_epsilon': 1e-6,
  'norm_placement': 'pre',
  'parallel': 'none',
  'bias': 'none',
  'scale_attention': False,  # folded into the queries' initialisation
  'position': 'relative_bias',
  'relative_buckets': 32,
  'relative_max_distance': 128,
  'head': 'lm',
  'init': 't5',
  'dropout_kind': 't5',
}
# T5's, 3.1.2; the numbers are Mesh TensorFlow's and T5X's.
ADAFACTOR = {
  'name': 'adafactor',
  'decay_rate': 0.8,
  'epsilon1': 1e-30,
  'epsilon2': 1e-3,
  'clip_threshold': 1.0,
  'factor_from': 128,
  'parameter_scale': True,
  'b1': 0.0,
  'weight_decay': 0.0,
}
# T5, 3.1.2: 1 / sqrt(max(n, 10^4)).
INVERSE_SQRT = {
  'name': 'inverse_sqrt',
  'learning_rate': 1.0,
  'warmup_steps': 10_000,
}
# GPT-3 (Brown et al. 2020), appendix B.
GPT3_ADAM = {
  'name': 'adamw',
  'b1': 0.9,
  'b2': 0.95,
  'epsilon': 1e-8,
  'bias_correction': True,
  'weight_decay': 0.1,
  'clip': 1.0,
}


def gpt3_schedule(rows: int, length: int) -> dict[str, Any]:
  """GPT-3, B: 375M tokens up, down to a tenth over 260B; 300B in all (2.1)."""
  tokens = rows * length
  return {
    'schedule.name': 'cosine',
    'schedule.warmup_steps': int(375e6 // tokens),
    'schedule.decay_steps': int(260e9 // tokens),
    'schedule.end_fraction': 0.1,
    'train.steps': int(300e9 // tokens),
  }


Batches = list[tuple[float, int]]  # (tokens read before, rows), rising


def growing(first: int, last: int, by: int, until: float) -> Batches:
  """Batches of `first` rows and more, each for an equal share of the tokens."""
  sizes = range(first, last + 1, by)
  return [(until * n / (len(sizes) - 1), rows) for n, rows in enumerate(sizes)]


def nearest(first: int, last: int, by: int, until: float) -> Batches:
  """Batches next to a line from `first` rows to `last` rows at `until`."""
  sizes = range(first, last + 1, by)
  return [
    (max(0, until * (n - 0.5) / max(len(sizes) - 1, 1)), rows)
    for n, rows in enumerate(sizes)
  ]


def steps_in(tokens: float, length: int, batches: Batches) -> int:
  """The steps that read so many tokens, one after the other."""
  read = steps = 0
  for n, (_, rows) in enumerate(batches):
    end = batches[n + 1][0] if n + 1 < len(batches) else tokens
    more = (end - read) / (rows * length)
    more = math.floor(more) if end == tokens else math.ceil(more)
    read, steps = read + more * rows * length, steps + more
  return steps


def gpt3(rows: int) -> dict[str, Any]:
  """GPT-3, B: tokens are counted; batches grow over the first 4 to 12 billion.

  How many for which size is not published: 4, 6, 8 and 12 for batches of
  0.5M, 1M, 2M and 3.2M.
  """
  until = {256: 4e9, 512: 6e9, 1024: 8e9, 1536: 12e9}.get(rows, 0)
  return {
    'schedule.name': 'cosine',
    'schedule.unit': 'tokens',
    'schedule.warmup_steps': 375_000_000,
    'schedule.decay_steps': 260_000_000_000,
    'schedule.end_fraction': 0.1,
    'train.steps': steps_in(300e9, 2048, nearest(16, rows, 16, until)),
  }


# ---- Tiny -------------------------------------------------------------------

# What the tiny sizes of all systems have, unless their table says otherwise.
TINY = {'model.vocab_size': 4096, 'data.length': 128, 'train.steps': 200}
