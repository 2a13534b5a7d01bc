"""The description of a transformer: sizes and published choices."""

import dataclasses

# What each choice may be, and the fields that it alone reads: they are set
# where it is made, and 0 (or empty) everywhere else.
CHOICES = {
  'family': {
    'encoder': ('encoder_layers',),
    'decoder': ('decoder_layers',),
    'encoder_decoder': ('encoder_layers', 'decoder_layers'),
    'electra': ('encoder_layers', 'generator_divisor'),
    'rwkv': ('decoder_layers',),
  },
  'position': {
    'none': (),
    'sinusoidal': (),
    'learned': ('max_length',),
    'relative_bias': ('relative_buckets', 'relative_max_distance'),
    'transformer_xl': (),
    'rope': ('rope_theta', 'rope_dim'),
    'alibi': (),
  },
  'norm': dict.fromkeys(('layer_norm', 'layer_norm_no_bias', 'rms_norm'), ()),
  'norm_placement': dict.fromkeys(('pre', 'post'), ()),
  'parallel': dict.fromkeys(('none', 'one_norm', 'two_norms'), ()),
  'activation': dict.fromkeys(
    ('relu', 'gelu', 'gelu_tanh', 'silu', 'squared_relu'), ()
  ),
  'bias': dict.fromkeys(('none', 'mlp', 'all'), ()),
  'init': {
    't5': (),
    'fan_in': (),
    'glorot': (),
    'rwkv': (),
    'normal': ('init_std',),
    'truncated_normal': ('init_std',),
    'gpt2': ('init_std',),
    'megatron': ('init_std',),
  },
  'dropout_kind': dict.fromkeys(('t5', 'residual'), ()),
  'head': {
    'lm': (),
    'mlm': (),
    'mlm_nsp': (),
    'rtd': (),
    'sequence': ('classes',),
    'tokens': ('classes',),
    'span': (),
    'pooler': (),
    'none': (),
  },
  'remat': dict.fromkeys(('none', 'full', 'dots'), ()),
  'dtype': dict.fromkeys(('float32', 'bfloat16'), ()),
}
HEADS = {
  'encoder': (
    'mlm',
    'mlm_nsp',
    'rtd',
    'sequence',
    'tokens',
    'span',
    'pooler',
    'none',
  ),
  'decoder': ('lm', 'sequence', 'tokens'),
  'encoder_decoder': ('lm',),
  'electra': ('rtd',),
  'rwkv': ('lm',),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig:
  """Everything that decides the mathematics of a model, and how it runs.

  Frozen and hashable, hence static under jit. A paper's file in `configs/`
  states each choice; a default of 0 stands for "not used" and is right only
  where no other choice reads the field.

  Raises:
    ValueError: a choice that does not exist or sizes that do not fit together,
      named by their config key.
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
  generator_divisor: int = 0  # ELECTRA: the generator is D / this wide

  # Where a token stands: models/positions.py.
  position: str
  max_length: int = 0  # rows of the table of learned positions
  position_offset: int = 0  # its first row in use; RoBERTa, OPT: 2
  relative_buckets: int = 0  # T5
  relative_max_distance: int = 0
  rope_theta: float = 0.0
  rope_dim: int = 0  # how much of each head is turned
  # LLaMA 3.1's stretched wavelengths: factor, low and high frequency factor,
  # length before stretching.
  rope_scaling: tuple[float, ...] = ()

  # The block.
  norm: str
  norm_epsilon: float
  norm_placement: str  # 'pre': x + f(norm(x)); 'post': norm(x + f(x))
  parallel: (
    str  # attention and MLP side by side, after one norm or each its own
  )
  activation: str  # of the MLP; 'gelu_tanh' is the tanh approximation
  gated: bool  # act(x Wg) * (x Wi) (Shazeer 2020) instead of act(x Wi)
  bias: str  # of the matrices in the blocks: none, those of the MLP, all
  scale_attention: bool  # queries times H^-1/2; False: folded into the init
  window: int = 0  # keys a query sees in banded layers, itself included
  window_every: int = 0  # every so many layers one is banded; 2: alternating
  prefix: bool = False  # a decoder's inputs see one another (prefix LM)

  # Embeddings and heads: models/embed.py, models/heads.py.
  table_dim: int = 0  # width of the tables where it is not D
  token_types: int = 0  # BERT's segments A and B
  embed_norm: bool  # a norm right after the embeddings
  scale_embed: bool  # token embeddings times D^1/2
  tie_embeddings: bool  # the output projection is the token table
  scale_output: bool  # the last layer's output times D^-1/2 before it
  output_transform: bool  # dense, activation and norm before it
  output_bias: bool  # a bias on the logits
  head: str  # what the last layer's output is read for
  classes: int = 0  # of the heads 'sequence' and 'tokens'
  pooler_dropout: bool = False  # 'sequence' drops before its dense layer too

  # Birth and regularisation.
  init: str  # layers.py, `initializer`
  init_std: float = 0.0
  dropout: float
  attention_dropout: float  # of the attention weights
  dropout_kind: str  # layers.py, `Dropout`

  # How it runs; the results are the same up to rounding.
  dtype: str  # of activations; norms, softmax, logits and loss are float32
  scan: bool  # one compiled layer looped over stacked weights
  remat: str  # what the backward pass recomputes

  @property
  def table_width(self) -> int:
    """Width of the embedding tables."""
    return self.table_dim or self.embed_dim

  @property
  def reads_positions(self) -> bool:
    """Whether positions are an input; the others count by place in the row."""
    return self.position in ('sinusoidal', 'learned', 'rope')

  def __post_init__(self):
    if self.family == 'rwkv':
      self._check_rwkv()  # before what other choices would need
    self._check_choices()
    self._check_sizes()
    self._check_combinations()

  def _check_rwkv(self):
    _refuse(
      self.heads
      or self.kv_heads
      or self.head_dim
      or self.attention_dropout
      or self.scale_attention
      or self.position != 'none',
      "model.family='rwkv' has no attention: model.heads, kv_heads, head_dim "
      'and attention_dropout must be 0, scale_attention False and position '
      "'none'.",
    )
    _refuse(
      self.norm_placement != 'pre'
      or self.parallel != 'none'
      or self.bias != 'none'
      or self.gated
      or self.table_dim,
      "model.family='rwkv' has a block of its own: model.norm_placement must "
      "be 'pre', parallel and bias 'none', gated False and table_dim 0.",
    )
    _refuse(
      self.init != 'rwkv',
      f'model.init={self.init!r} says nothing of the decays of RWKV: '
      "model.family='rwkv' needs 'rwkv'.",
    )

  def _check_choices(self):
    """Each choice exists; the fields it reads are set, and no others."""
    read = {}  # field -> choices of this config that read it
    optional = {'position_offset': 'learned', 'rope_scaling': 'rope'}
    for name, choices in CHOICES.items():
      value = getattr(self, name)
      if value not in choices:
        raise ValueError(
          f'model.{name} is {value!r}; it must be one of {", ".join(choices)}.'
        )
      for field in choices[value]:
        read[field] = f'model.{name}={value!r}'
        if not getattr(self, field) > 0:
          raise ValueError(
            f'{read[field]} needs model.{field}, which is '
            f'{getattr(self, field)}; it must be above 0.'
          )
    for name, choices in CHOICES.items():
      for field in dict.fromkeys(f for own in choices.values() for f in own):
        if field not in read and getattr(self, field):
          raise ValueError(
            f'model.{field} is {getattr(self, field)}, but model.{name}='
            f'{getattr(self, name)!r} does not read it: set it to 0.'
          )
    for field, position in optional.items():
      if getattr(self, field) and self.position != position:
        raise ValueError(
          f'model.{field} is {getattr(self, field)}, but model.position='
          f'{self.position!r} does not read it: leave it out.'
        )
    if self.head not in HEADS[self.family]:
      raise ValueError(
        f'model.head is {self.head!r}; model.family={self.family!r} has '
        f'{", ".join(HEADS[self.family])}.'
      )

  def _check_sizes(self):
    sizes = ['vocab_size', 'embed_dim', 'mlp_dim']
    if self.family != 'rwkv':
      sizes += ['heads', 'kv_heads', 'head_dim']
    for name in sizes:
      if getattr(self, name) < 1:
        raise ValueError(
          f'model.{name} is {getattr(self, name)}; it must be at least 1.'
        )
    if self.family != 'rwkv' and self.heads % self.kv_heads:
      raise ValueError(
        f'model.kv_heads is {self.kv_heads}; it must divide model.heads, '
        f'which is {self.heads}.'
      )
    for name in ('dropout', 'attention_dropout'):
      if not 0 <= getattr(self, name) < 1:
        raise ValueError(
          f'model.{name} is {getattr(self, name)}; it must be at least 0 and '
          'below 1.'
        )
    if not 0 < self.norm_epsilon < 1:
      raise ValueError(
        f'model.norm_epsilon is {self.norm_epsilon}; it must be above 0 and '
        'below 1.'
      )
    for name in ('table_dim', 'token_types', 'window', 'position_offset'):
      if getattr(self, name) < 0:
        raise ValueError(
          f'model.{name} is {getattr(self, name)}; it must be at least 0.'
        )
    if self.position == 'relative_bias':
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
    if self.position == 'rope' and (
      self.rope_dim % 2 or self.rope_dim > self.head_dim
    ):
      raise ValueError(
        f'model.rope_dim is {self.rope_dim}; it must be even and at most '
        f'model.head_dim, which is {self.head_dim}.'
      )
    numbers = all(isinstance(x, int | float) for x in self.rope_scaling)
    if len(self.rope_scaling) not in (0, 4) or not numbers:
      raise ValueError(
        f'model.rope_scaling is {self.rope_scaling}; it must be empty or four '
        'numbers: factor, low and high frequency factor, former length.'
      )
    if self.rope_scaling:
      factor, low, high, former = self.rope_scaling
      if not (factor >= 1 and 0 < low < high and former > 0):
        raise ValueError(
          f'model.rope_scaling is {self.rope_scaling}: the factor must be at '
          'least 1, the low frequency factor above 0 and below the high one, '
          'the former length above 0.'
        )
    sinusoids = {
      'sinusoidal': ('embeddings', self.table_width),
      'transformer_xl': ('model', self.embed_dim),
    }
    what, width = sinusoids.get(self.position, ('', 0))
    if width % 2:
      raise ValueError(
        f'model.position={self.position!r} pairs sines and cosines: the width '
        f'of the {what}, {width}, must be even.'
      )
    if self.family == 'electra':
      for name in ('embed_dim', 'mlp_dim'):
        if getattr(self, name) % self.generator_divisor:
          raise ValueError(
            f'model.generator_divisor is {self.generator_divisor}; it must '
            f'divide model.{name}, which is {getattr(self, name)}.'
          )
      heads, kv_heads = (
        max(1, n // self.generator_divisor) for n in (self.heads, self.kv_heads)
      )
      if heads % kv_heads:
        raise ValueError(
          f'model.generator_divisor={self.generator_divisor} leaves the '
          f'generator {heads} of model.heads and {kv_heads} of model.kv_heads; '
          'the second must divide the first.'
        )

  def _check_combinations(self):
    """What cannot go together, and why."""
    _refuse(
      self.parallel != 'none' and self.norm_placement == 'post',
      f"model.parallel={self.parallel!r} needs model.norm_placement='pre': "
      'norms after the sum have no place where both branches meet.',
    )
    _refuse(
      self.parallel != 'none' and self.family == 'encoder_decoder',
      f'model.parallel={self.parallel!r} has no place for cross-attention: '
      "model.family='encoder_decoder' needs 'none'.",
    )
    _refuse(
      bool(self.window) != bool(self.window_every),
      f'model.window={self.window} and model.window_every='
      f'{self.window_every} go together: set both, or neither.',
    )
    _refuse(
      self.window and not 1 <= self.window_every <= self.decoder_layers,
      f'model.window_every={self.window_every} leaves no layer banded: it must '
      f'lie between 1 and model.decoder_layers={self.decoder_layers}.',
    )
    _refuse(
      self.window and self.family != 'decoder',
      f'model.window={self.window} bands causal attention: it needs '
      f"model.family='decoder', not {self.family!r}.",
    )
    _refuse(
      self.prefix and (self.family != 'decoder' or self.head != 'lm'),
      'model.prefix=True lets the inputs of a decoder see one another: it '
      f"needs model.family='decoder' with head 'lm', not {self.family!r} with "
      f'{self.head!r}.',
    )
    _refuse(
      self.table_dim
      and self.tie_embeddings
      and not self.output_transform
      and self.head in ('lm', 'mlm', 'mlm_nsp'),
      f'model.tie_embeddings with a table of width model.table_dim='
      f'{self.table_dim} needs model.output_transform to bring the last '
      "layer's output to that width.",
    )
    _refuse(
      self.position_offset and self.position_offset >= self.max_length,
      f'model.position_offset is {self.position_offset}; it must be below '
      f'model.max_length, which is {self.max_length}.',
    )
    _refuse(
      self.token_types and self.family not in ('encoder', 'electra'),
      f'model.token_types={self.token_types}: model.family={self.family!r} '
      'reads no token types; set it to 0.',
    )
    _refuse(
      self.pooler_dropout and self.family != 'encoder',
      'model.pooler_dropout=True is of the head of an encoder: model.family='
      f'{self.family!r} has no such layer.',
    )
    _refuse(
      self.init == 'rwkv' and self.family != 'rwkv',
      "model.init='rwkv' describes RWKV's own weights, not those of "
      f'model.family={self.family!r}.',
    )


def _refuse(refused, reason):
  if refused:
    raise ValueError(reason)
