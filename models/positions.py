"""Positions: how the place of a token reaches the model.

sinusoidal, learned   added to the embeddings: `embed.py`
rope                  turns queries and keys: `attention.py`
relative_bias, alibi  added to the attention logits as `bias`, the same in
                      every layer: `stack.py`. A kernel reads it by distance
transformer_xl        added to the attention logits, computed in every layer
                      from its queries: `attention.py`
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from models import mup
from models.config import TransformerConfig
from models.sharding import named, shard


def sinusoids(positions: jax.Array, width: int) -> jax.Array:
  """Sines, then cosines, of positions (Vaswani et al. 2017, 3.5).

  int [...] -> float32 [..., width]. Wavelengths grow from 2 pi to 10,000 times
  2 pi. The paper interleaves sines and cosines, which is the same up to the
  order of the model's dimensions.
  """
  rates = 10_000.0 ** -(np.arange(width // 2) / (width // 2))
  angles = positions[..., None] * rates.astype('float32')
  return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def rope_angles(config: TransformerConfig, positions: jax.Array) -> jax.Array:
  """Angles of rotary embeddings (Su et al. 2021, 3.2): [B,T] -> [B,T,R/2].

  R is `rope_dim`. Pair i turns by position * theta^(-2i/R). `rope_scaling`
  (LLaMA 3.1) stretches long wavelengths by its factor and keeps short ones,
  with a ramp between.
  """
  c = config
  # At large positions the last bits of a rate matter. The published models
  # round exponent, power and inverse to float32, so this does too.
  exponents = np.arange(0, c.rope_dim, 2, 'float32') / np.float32(c.rope_dim)
  powers = c.rope_theta ** exponents.astype('float64')
  rates = np.float32(1) / powers.astype('float32')
  if c.rope_scaling:
    factor, low, high, length = c.rope_scaling
    turns = length / (2 * np.pi / rates)  # over the former length
    ramp = np.clip((turns - low) / (high - low), 0, 1)
    rates = (1 - ramp) * rates / factor + ramp * rates
  return positions[..., None].astype('float32') * rates


def rotate(x: jax.Array, angles: jax.Array) -> jax.Array:
  """Turns the pairs (x_i, x_(i + R/2)) of each head: [B,T,N,H], [B,T,R/2].

  Entries from R on do not turn. LLaMA's own code pairs neighbours, which is the
  same up to the order of the columns of the query and key kernels.
  """
  sin, cos = jnp.sin(angles)[:, :, None], jnp.cos(angles)[:, :, None]
  half = angles.shape[-1]
  a, b = x[..., :half], x[..., half : 2 * half]
  turned = [a * cos - b * sin, b * cos + a * sin]
  turned = [part.astype(x.dtype) for part in turned]
  return jnp.concatenate([*turned, x[..., 2 * half :]], axis=-1)


def alibi_slopes(heads: int) -> np.ndarray:
  """float32 [N], the slope of each head (Press et al. 2022, 3).

  For n heads, a power of two: 2^(-8/n), 2^(-16/n), ... For other numbers, the
  slopes of the next lower power, then every second slope of the next higher
  one, as in the released code.
  """
  lower = 2 ** int(np.log2(heads))
  slopes = 2.0 ** (-8 / lower * np.arange(1, lower + 1))
  more = 2.0 ** (-4 / lower * np.arange(1, 2 * (heads - lower), 2))
  return np.concatenate([slopes, more]).astype('float32')


def alibi(heads: int, distance: jax.Array) -> jax.Array:
  """-slope * |distance|: int [T,S] or [R] -> float32 [N,T,S] or [N,R]."""
  slopes = jnp.asarray(alibi_slopes(heads))
  slopes = slopes.reshape(-1, *(1,) * distance.ndim)
  return _by_head(-slopes * jnp.abs(distance).astype('float32'))


def _by_head(bias):
  if bias.ndim == 3:
    return shard(bias, 'act_heads', 'act_length', 'act_keys')
  return bias  # by distance: small


def relative_shift(x: jax.Array) -> jax.Array:
  """Columns by distance -> columns by key (Dai et al. 2019, appendix B).

  [..., T, R] -> [..., T, T]. Column c holds the logit of the key that is
  T - 1 - c places before its query. R is T (no key after the query) or 2T - 1.
  Example, T = R = 3, columns for distances 2 1 0; x marks what a causal mask
  hides:

    a2 a1 a0      a0 x  x
    b2 b1 b0  ->  b1 b0 x
    c2 c1 c0      c2 c1 c0
  """
  *batch, T, R = x.shape
  x = jnp.pad(x, [(0, 0)] * len(batch) + [(0, 0), (1, 0)])
  x = x.reshape(*batch, R + 1, T)[..., 1:, :]
  return x.reshape(*batch, T, R)[..., :T]


def relative_bucket(
  distance: jax.Array, buckets: int, max_distance: int, bidirectional: bool
) -> jax.Array:
  """T5's bucket of a distance (Raffel et al. 2020, 2.1).

  Args:
    distance: int, any shape, key position minus query position.
    buckets: how many buckets share the distances.
    max_distance: this distance and all larger ones share the last bucket.
    bidirectional: give half of the buckets to keys after the query. Otherwise
      such keys count as distance 0 (a causal mask hides them).

  Returns:
    int32 in [0, buckets), in the shape of `distance`. Half of a direction's
    buckets hold one distance each; the others grow logarithmically.

  Example, 32 buckets to 128, bidirectional: distances -200, -9, -1, 0, 1, 9,
  200 fall into buckets 15, 8, 1, 0, 17, 24, 31.
  """
  offset = 0
  if bidirectional:
    buckets //= 2
    offset = jnp.where(distance > 0, buckets, 0)
    distance = jnp.abs(distance)
  else:
    distance = jnp.maximum(-distance, 0)
  exact = buckets // 2
  # Rounding decides which bucket a distance at an edge falls into: float32 and
  # this order of operations are those of the published models.
  growth = jnp.log(jnp.maximum(distance, exact).astype('float32') / exact)
  growth = growth / np.log(max_distance / exact) * (buckets - exact)
  far = jnp.minimum(exact + growth.astype('int32'), buckets - 1)
  return (offset + jnp.where(distance < exact, distance, far)).astype('int32')


def check_places(longest: int, config: TransformerConfig) -> int | None:
  """How many positions a text may have; None: they have no end.

  Raises ValueError if `longest`, the tokens of the longest text, are more.
  """
  if config.position != 'learned':
    return None
  places = config.max_length - config.position_offset
  if longest > places:
    raise ValueError(
      f'A text has {longest} tokens, but model.max_length={config.max_length} '
      f'has positions for {places}: shorten it.'
    )
  return places


class RelativeBias(nn.Module):
  """T5's bias of the attention logits: one scalar per bucket and head."""

  config: TransformerConfig
  bidirectional: bool

  @nn.compact
  def __call__(self, distance: jax.Array) -> jax.Array:
    """int [T,S] or [R], key minus query -> float32 [N,T,S] or [N,R]."""
    c = self.config
    init = nn.initializers.variance_scaling(1.0, 'fan_avg', 'uniform')
    init = named(mup.adjusted(c, 'bias', init), 'buckets', 'heads')
    shape = (c.relative_buckets, c.heads)
    table = self.param('table', init, shape, 'float32')
    bucket = relative_bucket(
      distance,
      c.relative_buckets,
      c.relative_max_distance,
      self.bidirectional,
    )
    # A product with one-hot rows has a product as its gradient; a gather's
    # would be a scatter of T * S additions.
    one_hot = jax.nn.one_hot(bucket, c.relative_buckets, dtype='float32')
    bias = jnp.einsum('...b,bN->N...', one_hot, table, precision='highest')
    return _by_head(bias)
