"""Floating-point operations of training, by three conventions.

6nd: six for each parameter and token (Kaplan et al. 2020, 2.1; Hoffmann et al.
2022 fit with all parameters), C = 6 N D. The tokens of a row are its length.
palm: the products of matrices that a step makes, once forward and twice
backward (Chowdhery et al. 2022, appendix B). What remat computes again does not
count; masked attention counts in full; lookups are free.
exact: as palm, with lookups as the products that they could be, and the softmax
of attention as three operations an entry (Hoffmann et al. 2022, appendix F).

A model is anything with the fields of config.model: a ConfigDict, or
models.config.TransformerConfig.
"""

from typing import Any, NamedTuple

from configs.scaling import counts

CONVENTIONS = '6nd', 'palm', 'exact'


class Shape(NamedTuple):
  """A batch.

  Attributes:
    rows: B.
    length: T, tokens of a row of the stack that predicts.
    predicted: tokens of a row whose logits are computed.
    sources: S, tokens of a row of an encoder-decoder's inputs.
  """

  rows: int
  length: int
  predicted: int
  sources: int = 0


def products(model: Any, shape: Shape, learner: str = '') -> float:
  """FLOPs of one training step, by the convention palm.

  Args:
    model: see above.
    shape: of the batch.
    learner: the part of ELECTRA that is trained, generator or discriminator;
      '': both.
  """
  c, (B, T, predicted, S) = model, shape
  predicted *= B
  head = c  # the config of the stack that predicts tokens
  match c.family:
    case 'encoder_decoder':
      queries, keys, pairs = _attention(c)
      cross = T * queries + S * keys + T * S * pairs
      forward = _stack(c, c.encoder_layers, B, S, causal=False)
      forward += _stack(c, c.decoder_layers, B, T, causal=True)
      forward += B * c.decoder_layers * cross
    case 'electra':
      forward = _stack(c, c.encoder_layers, B, T, causal=False)
      forward += _discriminator_head(c, B, T, predicted)
      if learner:
        return _stage(c, B, T, predicted, learner, forward)
      if c.generator == 'unigram':
        return 3.0 * 2.0 * forward
      head = counts.generator(c)
      forward += _stack(head, head.encoder_layers, B, T, causal=False)
      if c.generator == 'adversarial':  # the baseline
        forward += predicted * head.embed_dim
    case 'rwkv':  # five square matrices, and two of the channel mix
      layer = 5 * c.embed_dim**2 + 2 * c.embed_dim * c.mlp_dim
      forward = c.decoder_layers * B * T * layer
    case 'encoder':
      forward = _stack(c, c.encoder_layers, B, T, causal=False)
      if c.head == 'mlm_nsp':  # a row's first token
        forward += B * c.embed_dim * (c.embed_dim + 2)
      elif c.head in ('sequence', 'choice'):
        forward += B * c.embed_dim * (c.embed_dim + (c.classes or 1))
      elif c.head in ('tokens', 'span'):
        forward += B * T * c.embed_dim * (c.classes or 2)
    case 'decoder':
      forward = _stack(c, c.decoder_layers, B, T, causal=not c.prefix)
  return 3.0 * 2.0 * (forward + predicted * _vocabulary(head))


def beside_products(model: Any, shape: Shape) -> float:
  """FLOPs of a step that exact counts and palm does not."""
  c, (B, T, _, S) = model, shape
  lookups = B * (T + S) * c.vocab_size * (c.table_dim or c.embed_dim)
  entries = 0  # of attention, in all layers
  if c.family == 'encoder_decoder':
    entries = c.encoder_layers * S * S + c.decoder_layers * T * (T + S)
  elif c.family != 'rwkv':
    entries = (c.encoder_layers + c.decoder_layers) * T * T
  softmax = 3 * B * c.heads * entries
  if c.family == 'electra' and c.generator != 'unigram':
    g = counts.generator(c)
    softmax += 3 * B * g.heads * g.encoder_layers * T * T
    lookups *= 2
  return 3.0 * (2.0 * lookups + softmax)


def of_step(config: Any, convention: str = '6nd') -> float:
  """FLOPs of one training step of a whole config without phases.

  Raises:
    ValueError: the convention is unknown, or palm and exact cannot know the
      rows of the objective's targets.
  """
  if convention not in CONVENTIONS:
    raise ValueError(
      f'FLOPs by {convention!r} are unknown; there are '
      f'{", ".join(CONVENTIONS)}.'
    )
  if convention == '6nd':
    tokens = config.data.batch * config.data.length
    return 6.0 * counts.params(config.model) * tokens
  shape = shape_of(config)
  made = products(config.model, shape)
  return made + (convention == 'exact') * beside_products(config.model, shape)


def shape_of(config: Any) -> Shape:
  """The shape of a batch, as the input pipeline makes it.

  Raises:
    ValueError: an encoder-decoder's targets have a length that the config does
      not state.
  """
  d, family = config.data, config.model.family
  if family == 'encoder_decoder':
    if d.objective == 'span_corruption':
      T = max(_targets(d), d.target_length)
    elif d.objective == 'ul2':
      raise ValueError(
        'The targets of data.objective=ul2 have lengths of several denoisers: '
        'count FLOPs by 6nd.'
      )
    else:
      T = d.target_length or d.length
    return Shape(d.batch, T, T, d.length)
  predicted = d.predictions if family in ('encoder', 'electra') else d.length
  return Shape(d.batch, d.length, predicted)


def _targets(data):
  """Tokens of the targets of T5's span corruption (its published code).

  The longest text whose inputs, with a sentinel a span and EOS, fill a row.
  """
  rate, mean = data.noise_density, data.mean_span_length

  def sizes(raw):
    noise = min(max(round(raw * rate), 1), raw - 1)
    spans = max(round(noise / mean), 1)
    return raw - noise + spans + 1, noise + spans + 1

  raw = data.length
  while sizes(raw + 1)[0] <= data.length:
    raw += 1
  return sizes(raw)[1]


def _stage(
  config: Any,
  rows: int,
  length: int,
  predicted: int,
  learner: str,
  discriminator: int,
) -> float:
  """Of a step that trains one part; the generator is run by both stages."""
  c = counts.generator(config)
  generator = _stack(c, c.encoder_layers, rows, length, causal=False)
  generator += predicted * _vocabulary(c)
  if learner == 'generator':
    return 3.0 * 2.0 * generator
  return 2.0 * (generator + 3.0 * discriminator)


def _vocabulary(config: Any) -> int:
  """Multiplications of a token's logits."""
  c = config
  if c.output_transform:
    return (c.table_dim or c.embed_dim) * (c.embed_dim + c.vocab_size)
  return c.embed_dim * c.vocab_size


def _discriminator_head(
  config: Any, rows: int, length: int, predicted: int
) -> int:
  """Multiplications of the head of ELECTRA's discriminator."""
  c = config
  match c.head:
    case 'replace_mlm':
      return predicted * _vocabulary(c)
    case 'all_tokens_mlm':  # and one logit, of copying
      return rows * length * (_vocabulary(c) + c.embed_dim)
  # A dense layer and one logit.
  return rows * length * c.embed_dim * (c.embed_dim + 1)


def _attention(config: Any) -> tuple[int, int, int]:
  """Multiplications per query and its output, key and value, pair of both."""
  c = config
  width = 2 * c.embed_dim * c.head_dim
  return width * c.heads, width * c.kv_heads, 2 * c.heads * c.head_dim


def _stack(
  config: Any, layers: int, rows: int, length: int, causal: bool
) -> int:
  """Multiplications of a stack: projected tables, self-attention, MLP."""
  c = config
  mlp = (3 if c.gated else 2) * c.embed_dim * c.mlp_dim
  queries, keys, pairs = _attention(c)
  row = length * (mlp + queries + keys) + length**2 * pairs
  shared = 0  # computed once for all rows
  if c.position == 'transformer_xl':  # queries with distances
    distances = length if causal else 2 * length - 1
    row += length * distances * c.heads * c.head_dim
    shared = distances * c.embed_dim * c.heads * c.head_dim
  projected = 0
  if c.table_dim or (c.table_dim or c.embed_dim) != c.embed_dim:
    projected = rows * length * (c.table_dim or c.embed_dim) * c.embed_dim
  return projected + layers * (rows * row + shared)
