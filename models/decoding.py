"""Decoding: a model writes tokens, each from those before it.

Pure functions of (params, tokens, rngs). `train.generation` encodes texts,
calls them and returns texts.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from models import sampling
from models.config import TransformerConfig
from models.positions import check_places
from models.sampling import GREEDY, Sampling

GENERATIVE = ('encoder_decoder', 'decoder', 'rwkv')  # that write text


class State(NamedTuple):
  """What is written, and what the next step needs.

  Attributes:
    index: int32, how many tokens are written.
    tokens: int32 [B,T], 0 after the end of a row.
    log_probs: float32 [B,T], the model's log probability of each token.
    done: bool [B], whether the row has ended.
    seen: bool [B,V], the tokens that were read or written; [B,0] if no step
      needs them.
    rngs: [B] keys of what is drawn, or None.
    cache: of keys and values (RWKV: its state); see stack.repeat.
    context: what a step reads beside; see `prefill`.
  """

  index: jax.Array
  tokens: jax.Array
  log_probs: jax.Array
  done: jax.Array
  seen: jax.Array
  rngs: jax.Array | None
  cache: Any
  context: dict[str, jax.Array]


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
  how: Sampling = GREEDY,
) -> State:
  """Writes one token after the other until all rows have ended.

  Args:
    source: int [B,S]. What the encoder of an encoder-decoder reads; for a
      decoder its start token and a prompt, padded on the left.
    segments: int [B,S], above 0 where `source` has a token.
    rngs: [B] keys, one a row; needed where `how.temperature` is not 0.
    model: of one of GENERATIVE.
    length: T, the number of tokens to write.
    eos: the token that ends a row; 0s follow it.
    start: what the decoder of an encoder-decoder reads first (data.start).
    vocabulary: the number of tokens, where the model's table has more rows
      than that; None: every row is a token.
    how: a token is chosen.
  """
  fixed = {'model': model, 'eos': eos, 'vocabulary': vocabulary, 'how': how}
  state = begin(
    params, source, segments, rngs, length=length, start=start, **fixed
  )
  return advance(params, state, length, **fixed)


def begin(
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
  how: Sampling = GREEDY,
  copies: int = 1,
) -> State:
  """Reads the whole source and writes the first token; see `decode`.

  Every row is there `copies` times, side by side, as `rngs` [B copies] are.
  """
  logits, cache, context = prefill(
    params, source, segments, model, length, start, copies
  )
  rows, V = logits.shape
  seen = jnp.zeros((rows, 0), bool)
  if how.repetition != 1:
    read = source, segments > 0
    if model.config.family == 'encoder_decoder':
      read = jnp.full((len(source), 1), start), jnp.ones((len(source), 1), bool)
    seen = jax.vmap(lambda at, is_read: jnp.zeros(V, bool).at[at].max(is_read))(
      *read
    )
    seen = jnp.repeat(seen, copies, axis=0)
  empty = jnp.zeros((rows, length), 'int32')
  state = State(
    jnp.int32(0), empty, empty.astype('float32'), jnp.zeros(rows, bool),
    seen, rngs, cache, context,
  )  # fmt: skip
  return _write(state, logits, eos, vocabulary, how)


def advance(
  params: Any,
  state: State,
  until: int | jax.Array,
  *,
  model: nn.Module,
  eos: int,
  vocabulary: int | None = None,
  how: Sampling = GREEDY,
) -> State:
  """Goes on until so many tokens are written, at most T, or all rows ended.

  Each step reads one token and the cache, which it takes and returns.
  """
  last = jnp.minimum(until, state.tokens.shape[1])

  def going(state):
    return (state.index < last) & ~jnp.all(state.done)

  def step(state):
    tokens = state.tokens[:, state.index - 1]
    logits, cache = read(
      params, tokens[:, None], state.cache, state.context, state.index, model
    )
    return _write(state._replace(cache=cache), logits, eos, vocabulary, how)

  return jax.lax.while_loop(going, step, state)


def _write(state, logits, eos, vocabulary, how):
  """The state with the token that is chosen from logits [B,V]."""
  tokens, log_probs = sampling.choose(
    logits, state.index, state.rngs, state.seen, eos, vocabulary, how
  )
  tokens = jnp.where(state.done, 0, tokens)
  log_probs = jnp.where(state.done, 0, log_probs)
  seen = state.seen
  if how.repetition != 1:
    seen = seen.at[jnp.arange(len(tokens)), tokens].max(~state.done)
  return state._replace(
    index=state.index + 1,
    tokens=state.tokens.at[:, state.index].set(tokens),
    log_probs=state.log_probs.at[:, state.index].set(log_probs),
    done=state.done | (tokens == eos),
    seen=seen,
  )


def prefill(
  params: Any,
  source: jax.Array,
  segments: jax.Array,
  model: nn.Module,
  length: int,
  start: int,
  copies: int = 1,
) -> tuple[jax.Array, Any, dict[str, jax.Array]]:
  """Reads the source; see `decode` for the arguments.

  Every row is there `copies` times, side by side.

  Returns:
    The logits after it, [B copies,V]; the cache; and the context, what each
    step reads of the source.
  """
  batch, width = source.shape

  def copied(x, axis=0):
    return x if copies == 1 else jnp.repeat(x, copies, axis)

  more = {}
  if model.config.family == 'encoder_decoder':
    encoded = model.apply({'params': params}, source, segments, method='encode')
    cache = model.start_cache(batch, length)
    first = jnp.full([batch, 1], start, 'int32')
    beside = jnp.int32(0), segments, encoded
    context = {'segments': copied(segments)}
  else:
    is_read = segments > 0
    hidden = jnp.pad(~is_read, [(0, 0), (0, length)])
    positions = jnp.maximum(jnp.cumsum(is_read, axis=1) - 1, 0)
    cache = model.start_cache(batch, width + length)
    first, beside = source, (jnp.int32(0), positions, hidden)
    more = {'last_only': True}
    context = {
      'hidden': copied(hidden),
      'last': copied(positions[:, -1:]),
      'width': jnp.int32(width),
    }
  logits, cache = model.apply(
    {'params': params}, first, cache, *beside, **more, method='decode_step'
  )
  axis = rows_axis(cache)
  cache = jax.tree.map(lambda x: copied(x, axis), cache)
  return copied(logits[:, -1]), cache, context


def rows_axis(cache: Any) -> int:
  """The axis of a cache's arrays that counts the rows."""
  return 0 if isinstance(cache, tuple) else 1


def read(
  params: Any,
  tokens: jax.Array,
  cache: Any,
  context: dict[str, jax.Array],
  index: jax.Array,
  model: nn.Module,
) -> tuple[jax.Array, Any]:
  """Reads one written token of each row, tokens [B,1].

  `index` says how many are written with it. Returns the logits of the next one,
  [B,V], and the cache with it.
  """
  if model.config.family == 'encoder_decoder':
    beside = index, context['segments']
  else:
    place, position = context['width'] + index - 1, context['last'] + index
    beside = place, position, context['hidden']
  logits, cache = model.apply(
    {'params': params}, tokens, cache, *beside, method='decode_step'
  )
  return logits[:, -1], cache


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
