"""Beam search: the likeliest texts of several that are written side by side.

A row's beginnings share one cache. Each step adds a place for each of them, and
a beginning sees the places of its own past, so no step copies the cache. RWKV's
state holds the past of one text: every beginning has its own.
"""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from models import sampling
from models.block import Branches
from models.decoding import prefill, read, rows_axis
from models.stack import places_of

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
  until: int | jax.Array | None = None,
) -> Texts:
  """Keeps the likeliest beginnings, and returns the best texts of each row.

  A text of l tokens, with `eos`, has the score (sum of log probabilities) /
  l^penalty, or with `gnmt` / ((5 + l) / 6)^penalty (Wu et al. 2016, 7; T5 and
  the Transformer take 0.6). Of the likeliest 2 K continuations of K beginnings
  those among the first K that end are texts, and the best K of the others go
  on. A row stops when its K texts are better than its best beginning would be
  if it ended now (with `gnmt`: at the most tokens, which makes the most of it).

  Args:
    params, source, segments, model, length, eos, start, vocabulary: as of
      `decode`.
    beams: K; the vocabulary has two tokens or more.
    penalty: 0 prefers short texts, larger values longer ones.
    gnmt: the form of the penalty.
    minimum: how many tokens come before `eos`.
    until: the most tokens of a text, at most `length`; None: `length`.
  """
  B, K, T = len(source), beams, length
  most = jnp.int32(T if until is None else until)
  has_state = model.config.family == 'rwkv'
  logits, cache, context = prefill(
    params, source, segments, model, K * T + 1, start, K if has_state else 1
  )
  if not has_state:
    logits = jnp.repeat(logits, K, axis=0)
  divisor = functools.partial(_penalty, penalty=penalty, gnmt=gnmt)

  def going(carry):
    index, _, _, is_open, *_ = carry
    return (index < most) & jnp.any(is_open)

  def advance(carry):
    index, live, ended, is_open, past, logits, cache = carry
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
    ends = (tokens == eos) | (index == most - 1)

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
    reached = divisor(most if gnmt else index + 1)
    worst = ended.scores[:, -1]
    is_open &= (live.scores[:, 0] / reached > worst) | (worst <= NEVER)

    if has_state:
      rows = (jnp.arange(B)[:, None] * K + origin).reshape(-1)
      cache = jax.tree.map(lambda x: jnp.take(x, rows, rows_axis(cache)), cache)
      logits, cache = read(
        params, last.reshape(-1, 1), cache, context, index + 1, model
      )
    else:
      past = _take(past, origin).at[:, :, index].set(jnp.arange(K))
      logits, cache = _read(params, last, cache, context, index, past, model)
    return index + 1, live, ended, is_open, past, logits, cache

  empty = jnp.zeros((B, K, T), 'int32')
  never = jnp.full((B, K), NEVER, 'float32')
  none = Texts(empty, never, empty.astype('float32'))
  # One beginning, which has no tokens.
  live = none._replace(scores=never.at[:, 0].set(0))
  carry = jnp.int32(0), live, none, jnp.ones(B, bool), empty, logits, cache
  _, _, ended, *_ = jax.lax.while_loop(going, advance, carry)
  return ended


def _penalty(length, penalty, gnmt):
  return ((5 + length) / 6 if gnmt else jnp.float32(length)) ** penalty


def _read(params, tokens, cache, context, index, past, model):
  """Reads the token that each beginning of a row got as its number `index`.

  Args:
    tokens: int [B,K].
    past: int [B,K,T], in which of the K places of each step the token of a
      beginning stands.

  Returns:
    The logits of the next tokens, [B K,V], and the cache.
  """
  B, K, T = past.shape
  is_pair = model.config.family == 'encoder_decoder'
  first = 1 if is_pair else context['width']  # places that were read before
  place = jnp.arange(places_of(cache)) - first
  step, own = place // K, place % K
  seen = past[:, :, jnp.clip(step, 0, T - 1)] == own
  seen = (place < 0) | (seen & (step <= index))
  queries = jnp.broadcast_to(first + index, (K,))
  keys = first + jnp.where(place < 0, place, step)
  if is_pair:
    beside = (context['segments'],)
  else:
    beside = context['last'] + index + 1, context['hidden']
  logits, cache = model.apply(
    {'params': params}, tokens, cache, first + index * K, *beside,
    branches=Branches(queries, keys, seen), method='decode_step',
  )  # fmt: skip
  return logits.reshape(B * K, -1), cache


def _take(x, places):
  """x [B,K,...] at places [B,P] -> [B,P,...]."""
  return jax.vmap(lambda own, at: own[at])(x, places)


def _beside(x, y):
  return jnp.concatenate([x, y], axis=1)


def _best(count, x, scores, *others):
  """The rows of x with the best scores [B,P], their scores, and of others."""
  scores, at = jax.lax.top_k(scores, count)
  return _take(x, at), scores, *(_take(y, at) for y in others)
