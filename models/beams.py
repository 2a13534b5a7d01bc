"""Beam search: the likeliest texts of several that are written side by side."""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from models import sampling
from models.decoding import prefill, read, rows_axis

NEVER = -1e9  # a score below all others


class Texts(NamedTuple):
  """K texts of each row, the best first.

  Attributes:
    tokens: int32 [B,K,T], 0 after the end.
    scores: float32 [B,K].
    log_probs: float32 [B,K,T], the model's log probability of each token.
  """

  tokens: jax.Array
  scores: jax.Array
  log_probs: jax.Array


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
  minimum: int = 0,
) -> Texts:
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
    minimum: how many tokens come before `eos`.
  """
  B, K, T = len(source), beams, length
  logits, cache, context = prefill(
    params, source, segments, model, length, start, copies=K
  )
  divisor = functools.partial(_penalty, penalty=penalty, gnmt=gnmt)

  def going(carry):
    index, live, _, is_open, _, _ = carry
    return (index < T) & jnp.any(is_open)

  def advance(carry):
    index, live, ended, is_open, logits, cache = carry
    # [B,K,V], of the first V tokens alone.
    logits = logits.astype('float32').reshape(B, K, -1)
    own = jax.nn.log_softmax(logits)[..., :vocabulary]
    if minimum:
      own = sampling.without(own, eos, index < minimum)
    V = own.shape[-1]
    scores = (live.scores[..., None] + own).reshape(B, K * V)
    scores, at = jax.lax.top_k(scores, 2 * K)
    origin, tokens = at // V, at % V  # [B,2K]
    texts = _take(live.tokens, origin).at[:, :, index].set(tokens)
    own = jnp.take_along_axis(own.reshape(B, K * V), at, axis=1)
    logs = _take(live.log_probs, origin).at[:, :, index].set(own)
    ends = (tokens == eos) | (index == T - 1)

    found = jnp.where(
      ends & (jnp.arange(2 * K) < K) & is_open[:, None],
      scores / divisor(index + 1),
      NEVER,
    )
    both = (_beside(*x) for x in zip(ended, (texts, found, logs), strict=True))
    ended = Texts(*_best(K, *both))
    going_on = jnp.where(ends, NEVER, scores)
    *live, last, origin = _best(K, texts, going_on, logs, tokens, origin)
    live = Texts(*live)
    reached = divisor(T if gnmt else index + 1)
    worst = ended.scores[:, -1]
    is_open &= (live.scores[:, 0] / reached > worst) | (worst <= NEVER)

    # Each beginning goes on with the cache of the one that it continues.
    rows = (jnp.arange(B)[:, None] * K + origin).reshape(-1)
    cache = _of_rows(cache, rows)
    logits, cache = read(
      params, last.reshape(-1, 1), cache, context, index + 1, model
    )
    return index + 1, live, ended, is_open, logits, cache

  empty = jnp.zeros((B, K, T), 'int32')
  never = jnp.full((B, K), NEVER, 'float32')
  none = Texts(empty, never, empty.astype('float32'))
  # One beginning, which has no tokens.
  live = none._replace(scores=never.at[:, 0].set(0))
  carry = jnp.int32(0), live, none, jnp.ones(B, bool), logits, cache
  _, _, ended, *_ = jax.lax.while_loop(going, advance, carry)
  return ended


def _penalty(length, penalty, gnmt):
  return ((5 + length) / 6 if gnmt else jnp.float32(length)) ** penalty


def _of_rows(cache, rows):
  """The cache of some rows; all rows of a text have its 'cross'."""
  axis = rows_axis(cache)

  def taken(path, x):
    if any(getattr(part, 'key', '') == 'cross' for part in path):
      return x
    return jnp.take(x, rows, axis)

  return jax.tree_util.tree_map_with_path(taken, cache)


def _take(x, places):
  """x [B,K,...] at places [B,P] -> [B,P,...]."""
  return jax.vmap(lambda own, at: own[at])(x, places)


def _beside(x, y):
  return jnp.concatenate([x, y], axis=1)


def _best(count, x, scores, *others):
  """The rows of x with the best scores [B,P], their scores, and of others."""
  scores, at = jax.lax.top_k(scores, count)
  return _take(x, at), scores, *(_take(y, at) for y in others)
