"""How a token is chosen from a model's logits, and which tokens may be."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Sampling(NamedTuple):
  """How tokens are chosen. The default takes the likeliest one.

  Attributes:
    temperature: 0 takes the likeliest token; above 0, one is drawn from
      softmax(logits / temperature).
    top_k, top_p, min_p: which tokens are drawn; see `limit`.
    repetition: above 1, tokens that were read or written before become less
      likely: see `discourage`.
    minimum: how many tokens come before the one that ends a text.
  """

  temperature: float = 0.0
  top_k: int = 0
  top_p: float = 1.0
  min_p: float = 0.0
  repetition: float = 1.0
  minimum: int = 0


GREEDY = Sampling()


def choose(
  logits: jax.Array,
  index: jax.Array,
  rngs: jax.Array | None,
  seen: jax.Array,
  eos: int,
  vocabulary: int | None,
  sampling: Sampling,
) -> tuple[jax.Array, jax.Array]:
  """A token for each row, and its log probability.

  The penalty comes first, then the minimum, the temperature and the limits.

  Args:
    logits: [B,V].
    index: how many tokens were written before.
    rngs: [B] keys, one a row; needed where the temperature is not 0.
    seen: bool [B,V], the tokens that were read or written; of any shape where
      `repetition` is 1.
    eos: the token that ends a text.
    vocabulary: the number of tokens, where V is more; None: V.
    sampling: how.

  Returns:
    int32 [B] and float32 [B]. The log probability is the model's own, before
    any change of the logits.
  """
  logits = logits.astype('float32')
  own = jax.nn.log_softmax(logits)
  if sampling.repetition != 1:
    logits = discourage(logits, seen, sampling.repetition)
  logits = logits[:, :vocabulary]
  if sampling.minimum:
    logits = without(logits, eos, index < sampling.minimum)
  if sampling.temperature == 0:
    tokens = jnp.argmax(logits, axis=-1).astype('int32')
  else:
    keys = jax.vmap(jax.random.fold_in, (0, None))(rngs, index)
    logits = limit(
      logits / sampling.temperature,
      sampling.top_k,
      sampling.top_p,
      sampling.min_p,
    )
    tokens = jax.vmap(jax.random.categorical)(keys, logits).astype('int32')
  return tokens, jnp.take_along_axis(own, tokens[:, None], axis=1)[:, 0]


def discourage(
  logits: jax.Array, seen: jax.Array, repetition: float
) -> jax.Array:
  """Divides logits of `seen` tokens by the penalty; multiplies negative ones.

  (Keskar et al. 2019, 4.1, as it is implemented everywhere.)
  """
  less = jnp.where(logits > 0, logits / repetition, logits * repetition)
  return jnp.where(seen, less, logits)


def without(logits: jax.Array, token: int, now: jax.Array) -> jax.Array:
  """Logits [...,V] in which a token cannot be chosen while `now` is true."""
  hidden = now & (jnp.arange(logits.shape[-1]) == token)
  return jnp.where(hidden, -jnp.inf, logits)


def limit(
  logits: jax.Array, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0
) -> jax.Array:
  """Logits with -inf for tokens that must not be drawn.

  Args:
    logits: float [B,V].
    top_k: keep this many of the likeliest tokens; 0: all (Fan et al. 2018,
      5.4).
    top_p: of those, keep the fewest likeliest tokens whose probabilities sum to
      at least this (nucleus sampling; Holtzman et al. 2020, 3.1).
    min_p: of those, keep the tokens that are at least this times as probable as
      the likeliest one (Nguyen et al. 2024, 3).

  Example: of probabilities (.5, .3, .15, .05), top_p=.6 keeps the first two,
  min_p=.3 the first three.
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
  if min_p > 0:
    least = jnp.max(logits, axis=-1, keepdims=True) + jnp.log(min_p)
    logits = jnp.where(logits < least, -jnp.inf, logits)
  return logits
