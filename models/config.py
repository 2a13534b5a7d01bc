"""The description of a transformer: sizes and published choices."""

import dataclasses

from models import config_checks, mup


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig:
  """Everything that decides a model's mathematics, and how it runs.

  Frozen and hashable, so that it can be static under jit. A paper's file in
  `configs/` states each choice; models/choices.py has a table of the values of
  each. A default of 0 (or empty) means "not used".

  Raises:
    ValueError: a choice that does not exist, or sizes that do not fit together;
      names the config key (models/config_checks.py).
  """

  # Topology and sizes.
  family: str
  vocab_size: int  # V, rows of the token table, padding included
  embed_dim: int  # D
  mlp_dim: int  # F
  heads: int  # N
  kv_heads: int  # K; N: multi-head, 1: multi-query, between: grouped-query
  head_dim: int  # H; need not be D / N
  encoder_layers: int = 0
  decoder_layers: int = 0
  shared_stacks: bool = False  # encoder and decoder have the same weights

  # muP's base model: models/mup.py.
  base_dim: int = 0  # its D; 0: there is none
  base_head_dim: int = 0  # its H; 0: that of this model

  # ELECTRA's generator: models/families/electra.py.
  generator: str = 'mlm'  # what it is, and how it learns
  generator_shares: str = 'tables'  # its weights that are the discriminator's
  generator_divisor: int = 0  # its width is D / this
  generator_dim: int = 0  # or this, which need not divide D
  generator_heads: int = 0  # 0: as many as are as wide together, at least one
  generator_layers: int = 0  # 0: as many as the discriminator's

  # Positions: models/positions.py.
  position: str
  max_length: int = 0  # learned: rows of the table
  position_offset: int = 0  # learned: the first row in use; RoBERTa, OPT: 2
  relative_buckets: int = 0  # relative_bias (T5)
  relative_max_distance: int = 0
  causal_bias: bool = False  # under a prefix, keys after a query: distance 0
  rope_theta: float = 0.0
  rope_dim: int = 0  # R, how many dimensions of each head rope turns
  # LLaMA 3.1's stretched wavelengths: factor, low and high frequency factor,
  # length before stretching.
  rope_scaling: tuple[float, ...] = ()

  # The block: models/block.py.
  norm: str
  norm_epsilon: float
  norm_placement: str  # 'pre': x + f(norm(x)); 'post': norm(x + f(x))
  parallel: str  # attention and MLP side by side, sharing a norm or with two
  activation: str  # of the MLP; 'gelu_tanh' is the tanh approximation
  gated: bool  # act(x Wg) * (x Wi) (Shazeer 2020) instead of act(x Wi)
  adapter_dim: int = 0  # width of an adapter after each MLP (T5, 3.5.1)
  bias: str  # which matrices of the blocks have one: none, the MLP's, all
  scale_attention: bool  # queries times H^-1/2; False: folded into the init
  window: int = 0  # how many keys a query sees in banded layers, with its own
  window_every: int = 0  # every this many layers one is banded; 2: alternating
  prefix: bool = False  # a decoder's inputs see one another (prefix LM)

  # Embeddings and heads: models/embed.py, models/heads.py.
  table_dim: int = 0  # width of the embedding tables where it is not D
  token_types: int = 0  # BERT's segments A and B
  input_dim: int = 0  # a vector of so many numbers is read in place of a token
  embed_norm: bool  # a norm right after the embeddings
  scale_embed: bool  # token embeddings times D^1/2
  tie_embeddings: bool  # the output projection is the token table
  scale_output: bool  # the last layer's output times D^-1/2 before it
  output_transform: bool  # dense layer, activation and norm before it
  output_bias: bool  # a bias on the logits
  head: str  # what the last layer's output is read for
  classes: int = 0  # C, of the heads 'sequence' and 'tokens'
  features: str = ''  # layers that an LSTM under the head reads
  pooler: bool = True  # 'sequence' has a dense layer before its classes
  pooler_dropout: bool = False  # 'sequence' drops before its dense layer too

  # Initialisation and regularisation: models/layers.py.
  init: str  # `initializer`
  init_std: float = 0.0
  dropout: float
  attention_dropout: float  # of the attention weights
  dropout_kind: str  # `Dropout`

  # How it runs; results are the same up to rounding.
  attention: str = 'auto'  # what computes it; 'auto' is 'xla' unless resolved
  dtype: str  # of activations; norms, softmax, logits and loss are float32
  scan: bool  # one compiled layer looped over stacked weights
  scan_unroll: int = 1  # layers in a turn of that loop
  remat: str  # what the backward pass recomputes; 'auto' is 'none', as above

  @property
  def widening(self) -> float:
    """How many times wider the model is than muP's base; 1: there is none."""
    return mup.widening(self)

  @property
  def table_width(self) -> int:
    """Width of the embedding tables."""
    return self.table_dim or self.embed_dim

  @property
  def generator_sizes(self) -> dict[str, int]:
    """ELECTRA: the generator's own values of the fields that size a stack.

    It has the heads that fit into its width, at least one (as in the released
    code), or `generator_heads`; and proportionally many of keys and values.
    """
    width = self.generator_dim or self.embed_dim // self.generator_divisor
    heads = self.generator_heads or self.heads * width // self.embed_dim
    heads = max(1, heads)
    return {
      'embed_dim': width,
      'mlp_dim': self.mlp_dim * width // self.embed_dim,
      'heads': heads,
      'kv_heads': max(1, self.kv_heads * heads // self.heads),
      'encoder_layers': self.generator_layers or self.encoder_layers,
    }

  @property
  def reads_positions(self) -> bool:
    """Whether the model takes positions as an input.

    The other schemes count places in the row.
    """
    return self.position in ('sinusoidal', 'learned', 'rope')

  def __post_init__(self):
    config_checks.check(self)
