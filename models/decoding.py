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

NEVER = -1e9  # a score below all others
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
  beams: int = 1,
  penalty: float = 0.6,
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
    beams: above 1, the best text of `beam_search` with this number is written.
    penalty: of long texts, GNMT's, by `beam_search`.

  Returns:
    int32 [B,T].
  """
  if beams > 1:
    texts, _ = beam_search(
      params, source, segments, model=model, length=length, eos=eos,
      beams=beams, start=start, vocabulary=vocabulary, penalty=penalty,
      gnmt=True,
    )  # fmt: skip
    return texts[:, 0]

  def choose(logits, index):
    logits = logits[:, :vocabulary].astype('float32')
    if temperature == 0:
      return jnp.argmax(logits, axis=-1).astype('int32')
    keys = jax.vmap(jax.random.fold_in, (0, None))(rngs, index)
    logits = limit(logits / temperature, top_k, top_p)
    return jax.vmap(jax.random.categorical)(keys, logits).astype('int32')

  logits, cache, step = _begin(params, source, segments, model, length, start)

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
  written = jnp.zeros([len(source), length], 'int32').at[:, 0].set(tokens)
  carry = jnp.int32(1), written, tokens, tokens == eos, cache
  return jax.lax.while_loop(going, advance, carry)[1]


def beam_search(
  params: Any,
  source: jax.Array,
  segments: jax.Array,
  *,
  model: nn.Module,
  length: int,
  eos: int,
  beams: int,
  start: int = 0,
  vocabulary: int | None = None,
  penalty: float = 1.0,
  gnmt: bool = False,
) -> tuple[jax.Array, jax.Array]:
  """Keeps the likeliest beginnings, and returns the best texts of each row.

  A text of l tokens, with `eos`, has the score (sum of log probabilities) /
  l^penalty, or with `gnmt` / ((5 + l) / 6)^penalty (Wu et al. 2016, 7; T5 and
  the Transformer take 0.6). Of the likeliest 2 K continuations of K beginnings
  those among the first K that end are texts, and the best K of the others go
  on. A row stops when its K texts are better than its best beginning would be
  if it ended now (with `gnmt`: at `length`, which makes the most of it). Texts
  are cut at `length`.

  Args:
    params, source, segments, model, length, eos, start, vocabulary: as of
      `decode`.
    beams: K; the vocabulary has two tokens or more.
    penalty: 0 prefers short texts, larger values longer ones.
    gnmt: the form of the penalty.

  Returns:
    int32 [B,K,T] tokens, 0 after `eos`, the best first; and float32 [B,K]
    their scores.
  """
  B, K, T = len(source), beams, length
  logits, cache, step = _begin(
    params, source, segments, model, length, start, copies=K
  )
  divisor = functools.partial(_penalty, penalty=penalty, gnmt=gnmt)

  def going(carry):
    index, live, _, is_open, _, _ = carry
    return (index < T) & jnp.any(is_open)

  def advance(carry):
    index, live, ended, is_open, logits, cache = carry
    # [B,K,V], of the first V tokens alone.
    logits = logits[:, -1].astype('float32').reshape(B, K, -1)
    scores = jax.nn.log_softmax(logits)[..., :vocabulary]
    scores += live[1][..., None]
    V = scores.shape[-1]
    scores, at = jax.lax.top_k(scores.reshape(B, K * V), 2 * K)
    origin, tokens = at // V, at % V  # [B,2K]
    texts = _take(live[0], origin).at[:, :, index].set(tokens)
    ends = (tokens == eos) | (index == T - 1)

    found = jnp.where(
      ends & (jnp.arange(2 * K) < K) & is_open[:, None],
      scores / divisor(index + 1),
      NEVER,
    )
    ended = _best(K, *map(_beside, ended, (texts, found)))
    live = _best(K, texts, jnp.where(ends, NEVER, scores), tokens, origin)
    *live, last, origin = live
    reached = divisor(T if gnmt else index + 1)
    worst = ended[1][:, -1]
    is_open &= (live[1][:, 0] / reached > worst) | (worst <= NEVER)

    # Each beginning goes on with the cache of the one that it continues.
    rows = (jnp.arange(B)[:, None] * K + origin).reshape(-1)
    cache = jax.tree.map(lambda x: x[:, rows], cache)
    logits, cache = step(last.reshape(-1, 1), cache, index + 1)
    return index + 1, tuple(live), ended, is_open, logits, cache

  empty = jnp.zeros((B, K, T), 'int32')
  never = jnp.full((B, K), NEVER, 'float32')
  carry = (
    jnp.int32(0),
    (empty, never.at[:, 0].set(0)),  # one beginning, which has no tokens
    (empty, never),
    jnp.ones(B, bool),
    logits,
    cache,
  )
  _, _, ended, *_ = jax.lax.while_loop(going, advance, carry)
  return ended


def _penalty(length, penalty, gnmt):
  return ((5 + length) / 6 if gnmt else jnp.float32(length)) ** penalty


def _take(x, places):
  """x [B,K,...] at places [B,P] -> [B,P,...]."""
  return jax.vmap(lambda own, at: own[at])(x, places)


def _beside(x, y):
  return jnp.concatenate([x, y], axis=1)


def _best(count, x, scores, *others):
  """The rows of x with the best scores [B,P], their scores, and of others."""
  scores, at = jax.lax.top_k(scores, count)
  return _take(x, at), scores, *(_take(y, at) for y in others)


def _begin(params, source, segments, model, length, start, copies=1):
  """Reads the source: the logits after it, the cache, and what reads a token.

  Every row is there `copies` times, side by side.

  Returns:
    logits [B copies,1,V]; the cache; and (tokens [B copies,1], cache,
    index: how many tokens are written with these) -> logits, cache.
  """
  apply = functools.partial(
    model.apply, {'params': params}, method='decode_step'
  )
  batch, width = source.shape

  def copied(x, axis=0):
    return x if copies == 1 else jnp.repeat(x, copies, axis)

  if model.config.family == 'encoder_decoder':
    encoded = model.apply({'params': params}, source, segments, method='encode')
    cache = model.start_cache(batch, length)
    first = jnp.full([batch, 1], start, 'int32')
    logits, cache = apply(first, cache, jnp.int32(0), segments, encoded)
    segments = copied(segments)

    def step(tokens, cache, index):
      return apply(tokens, cache, index, segments)
  else:
    read = segments > 0
    hidden = jnp.pad(~read, [(0, 0), (0, length)])
    positions = jnp.maximum(jnp.cumsum(read, axis=1) - 1, 0)
    cache = model.start_cache(batch, width + length)
    logits, cache = apply(source, cache, jnp.int32(0), positions, hidden)
    last, hidden = copied(positions[:, -1:]), copied(hidden)

    def step(tokens, cache, index):
      return apply(tokens, cache, width + index - 1, last + index, hidden)

  # The cache has the layers first.
  cache = jax.tree.map(lambda x: copied(x, axis=1), cache)
  return copied(logits[:, -1:]), cache, step


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
