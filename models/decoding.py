"""Decoding: a model writes tokens, each from those before it.

Pure functions of (params, tokens, rngs). `train.generate` encodes texts, calls
them and shows the result.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from models.config import TransformerConfig
from models.positions import check_places

GENERATIVE = ('encoder_decoder', 'decoder', 'rwkv')  # that write text


def decode(
  params: Any,
  source: jax.Array,
  segments: jax.Array,
  rngs: jax.Array | None = None,
  *,
  model: nn.Module,
  length: int,
  eos: int,
  start: int = 0,
  vocabulary: int | None = None,
  temperature: float = 0.0,
  top_k: int = 0,
  top_p: float = 1.0,
) -> jax.Array:
  """Writes one token after the other: the likeliest, or one that is drawn.

  The first step reads the whole source; each later step reads one token and the
  cache of keys and values (RWKV: its state), which a step takes and returns.
  It stops when all rows have ended.

  Args:
    source: int [B,S]. What the encoder of an encoder-decoder reads; for a
      decoder its start token and a prompt, padded on the left.
    segments: int [B,S], above 0 where `source` has a token.
    rngs: [B] keys, one a row; needed where `temperature` is not 0.
    model: of one of GENERATIVE.
    length: T, the number of tokens to write.
    eos: the token that ends a row; 0s follow it.
    start: what the decoder of an encoder-decoder reads first (data.start).
    vocabulary: the number of tokens, where the model's table has more rows
      than that; None: every row is a token.
    temperature: 0 takes the likeliest token; above 0, one is drawn from
      softmax(logits / temperature).
    top_k: draw from this many tokens only; see `limit`.
    top_p: draw from tokens of this probability only; see `limit`.

  Returns:
    int32 [B,T].
  """

  def choose(logits, index):
    logits = logits[:, :vocabulary].astype('float32')
    if temperature == 0:
      return jnp.argmax(logits, axis=-1).astype('int32')
    keys = jax.vmap(jax.random.fold_in, (0, None))(rngs, index)
    logits = limit(logits / temperature, top_k, top_p)
    return jax.vmap(jax.random.categorical)(keys, logits).astype('int32')

  apply = functools.partial(
    model.apply, {'params': params}, method='decode_step'
  )
  batch, width = source.shape
  if model.config.family == 'encoder_decoder':
    encoded = model.apply({'params': params}, source, segments, method='encode')
    cache = model.start_cache(batch, length)
    first = jnp.full([batch, 1], start, 'int32')
    logits, cache = apply(first, cache, jnp.int32(0), segments, encoded)

    def step(tokens, cache, index):
      return apply(tokens, cache, index, segments)
  else:
    read = segments > 0
    hidden = jnp.pad(~read, [(0, 0), (0, length)])
    positions = jnp.maximum(jnp.cumsum(read, axis=1) - 1, 0)
    cache = model.start_cache(batch, width + length)
    logits, cache = apply(source, cache, jnp.int32(0), positions, hidden)

    def step(tokens, cache, index):
      position = positions[:, -1:] + index
      return apply(tokens, cache, width + index - 1, position, hidden)

  def going(carry):
    index, _, _, done, _ = carry
    return (index < length) & ~jnp.all(done)

  def advance(carry):
    index, written, tokens, done, cache = carry
    logits, cache = step(tokens[:, None], cache, index)
    new = jnp.where(done, 0, choose(logits[:, -1], index))
    written = written.at[:, index].set(new)
    return index + 1, written, new, done | (new == eos), cache

  tokens = choose(logits[:, -1], jnp.int32(0))
  written = jnp.zeros([batch, length], 'int32').at[:, 0].set(tokens)
  carry = jnp.int32(1), written, tokens, tokens == eos, cache
  return jax.lax.while_loop(going, advance, carry)[1]


def limit(logits: jax.Array, top_k: int = 0, top_p: float = 1.0) -> jax.Array:
  """Logits with -inf for tokens that must not be drawn.

  Args:
    logits: float [B,V].
    top_k: keep this many of the likeliest tokens; 0: all (Fan et al. 2018,
      5.4).
    top_p: of those, keep the fewest likeliest tokens whose probabilities sum to
      at least this (nucleus sampling; Holtzman et al. 2020, 3.1).

  Example: of probabilities (.5, .3, .15, .05), top_p=.6 keeps the first two.
  """
  if top_k:
    least = jax.lax.top_k(logits, min(top_k, logits.shape[-1]))[0][:, -1:]
    logits = jnp.where(logits < least, -jnp.inf, logits)
  if top_p < 1:
    ordered = -jnp.sort(-logits, axis=-1)
    shares = jax.nn.softmax(ordered, axis=-1)
    before = jnp.cumsum(shares, axis=-1) - shares  # of likelier tokens
    least = jnp.min(
      jnp.where(before < top_p, ordered, jnp.inf), axis=-1, keepdims=True
    )
    logits = jnp.where(logits < least, -jnp.inf, logits)
  return logits


def room(config: TransformerConfig, segments: np.ndarray) -> int | None:
  """How many tokens `decode` may write before learned positions end.

  `segments`, int [B,S], are those of `decode`. None: positions have no end.

  Raises:
    ValueError: the source alone has more tokens than there are positions.
  """
  longest = int(np.sum(np.asarray(segments) > 0, axis=1).max())
  places = check_places(longest, config)
  if places is None or config.family == 'encoder_decoder':
    return places  # a target has positions of its own
  return places - longest + 1  # the last token is written but never read
