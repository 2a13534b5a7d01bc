"""The description of a transformer: sizes and published choices."""

import dataclasses

FAMILIES = ('encoder_decoder',)
POSITIONS = ('relative_bias',)
NORMS = ('rms_norm',)
ACTIVATIONS = ('relu', 'gelu', 'gelu_tanh', 'silu')
INITS = ('t5',)
REMATS = ('none', 'full', 'dots')
DTYPES = ('float32', 'bfloat16')


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig:
  """Everything that decides the mathematics of a model, and how it runs.

  Frozen and hashable, hence static under jit. There are no defaults: a paper's
  file in `configs/` states each choice.

  Raises:
    ValueError: a choice that does not exist or sizes that do not fit together,
      named by their config key.
  """

  # Topology and sizes.
  family: str
  vocab_size: int  # V, rows of the embedding table, padding included
  embed_dim: int  # D
  mlp_dim: int  # F
  heads: int  # N
  kv_heads: int  # K; N: multi-head, 1: multi-query, between: grouped-query
  head_dim: int  # H; need not be D / N
  encoder_layers: int
  decoder_layers: int

  # Published choices.
  position: str  # 'relative_bias': T5 (Raffel et al. 2020, 2.1)
  relative_buckets: int
  relative_max_distance: int
  norm: str  # 'rms_norm': scale only (Zhang & Sennrich 2019)
  norm_epsilon: float
  activation: str  # of the MLP; 'gelu_tanh' is the tanh approximation
  gated: bool  # act(x Wg) * (x Wi) (Shazeer 2020) instead of act(x Wi)
  scale_attention: bool  # queries times H^-1/2; False: folded into the init
  tie_embeddings: bool  # the output projection is the token table
  scale_output: bool  # decoder output times D^-1/2 before the projection
  init: str  # 't5': see layers.py, each weight where it is born
  dropout: float

  # How it runs; the results are the same up to rounding.
  dtype: str  # of activations; norms, softmax, logits and loss are float32
  scan: bool  # one compiled layer looped over stacked weights
  remat: str  # what the backward pass recomputes: 'none', 'full', 'dots'

  def __post_init__(self):
    for name, allowed in (
      ('family', FAMILIES),
      ('position', POSITIONS),
      ('norm', NORMS),
      ('activation', ACTIVATIONS),
      ('init', INITS),
      ('remat', REMATS),
      ('dtype', DTYPES),
    ):
      value = getattr(self, name)
      if value not in allowed:
        raise ValueError(
          f'model.{name} is {value!r}; it must be one of {", ".join(allowed)}.'
        )
    for name in (
      'vocab_size',
      'embed_dim',
      'mlp_dim',
      'heads',
      'kv_heads',
      'head_dim',
      'encoder_layers',
      'decoder_layers',
    ):
      if getattr(self, name) < 1:
        raise ValueError(
          f'model.{name} is {getattr(self, name)}; it must be at least 1.'
        )
    if self.heads % self.kv_heads:
      raise ValueError(
        f'model.kv_heads is {self.kv_heads}; it must divide model.heads, '
        f'which is {self.heads}.'
      )
    if not 0 <= self.dropout < 1:
      raise ValueError(
        f'model.dropout is {self.dropout}; it must be at least 0 and below 1.'
      )
    if self.norm_epsilon <= 0:
      raise ValueError(
        f'model.norm_epsilon is {self.norm_epsilon}; it must be above 0.'
      )
    if self.relative_buckets < 4 or self.relative_buckets % 4:
      raise ValueError(
        f'model.relative_buckets is {self.relative_buckets}; it must be a '
        'multiple of 4: two directions, each half exact and half logarithmic.'
      )
    if self.relative_max_distance <= self.relative_buckets // 2:
      raise ValueError(
        f'model.relative_max_distance is {self.relative_max_distance}; it '
        f'must exceed half of model.relative_buckets '
        f'({self.relative_buckets // 2}), where the buckets turn logarithmic.'
      )
