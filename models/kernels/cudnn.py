"""Attention by cuDNN on NVIDIA GPUs, by `jax.nn.dot_product_attention`.

cuDNN makes and forgets blocks of weights on the chip. It knows the causal rule,
windows, the length of a row and one bias for all rows. A mask for each row
would be a bias [B,1,T,S] in memory, with a gradient of that size. What else a
row has is written into more dimensions of queries and keys, before their own:
their products are added to the logits.

  segments  a segment's number as bits of +1 and -1. The product is 0 where
            query and key have the same number, and at most -2 HIDDEN elsewhere
  ALiBi     slope * the key's place: ALiBi's bias up to a constant of the query,
            which a softmax does not see

T5's learned bias is one bias [1,N,T,S] for all rows; cuDNN sums its gradient
over the rows. It is rounded to the dtype of the queries.
"""

import functools

import jax
import jax.numpy as jnp

from models.config import TransformerConfig
from models.kernels.xla import by_place
from models.masks import Rules

IMPLEMENTATION = 'cudnn'  # tests set 'xla': the same arguments, on any machine
HIDDEN = 256.0  # exp(-2 HIDDEN) is 0
_PARTS = 3  # numbers of 8 bits that make one of 24


def extra_dims(config: TransformerConfig, packed: bool) -> int:
  """How many dimensions a head gets, at most, beside its own."""
  segments = packed or config.position == 'relative_bias'
  places = config.position == 'alibi'
  return 24 * segments + 16 * places


def attend(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  rules: Rules,
  bias: jax.Array | None = None,
  banded: jax.Array | None = None,
  window: int = 0,
  fixed: bool = False,
  packed: bool = True,
) -> jax.Array:
  """Weighted means of values, as `xla.attend`, for whole rows.

  A query of padding may see other padding, or what stands before it.

  Args:
    q: [B,T,N,H] queries, already scaled.
    k, v: [B,S,K,H] keys and values.
    rules: which keys a query sees; without a prefix.
    bias: float32 [N,T+S-1], by query - key = 1 - S .. T - 1.
    banded: bool [], whether the window counts; None: always.
    window: how many keys a query sees at most, with its own; 0: all.
    fixed: the bias is ALiBi's, with a causal rule.
    packed: a row may hold several segments; if not, one, then padding.

  Returns:
    [B,T,N,H] in the dtype of `v`.
  """
  learned = bias is not None and not fixed
  # After a causal query padding is hidden already, where no segment follows.
  apart = packed or (learned and not rules.causal)
  T, H = q.shape[1], q.shape[3]
  # cuDNN has no odd lengths, and a bias wants its rows aligned.
  q, k, v, rules, bias = _filled(8 if learned else 2, q, k, v, rules, bias)
  lengths = None
  if not (apart or rules.causal):
    # A row of padding alone has a key too.
    lengths = jnp.sum(rules.keys > 0, axis=1, dtype='int32')
    lengths = jnp.maximum(lengths, 1)

  @functools.partial(jax.checkpoint, policy=is_kept)
  def attend(q, k, v, bias, rules, banded):
    if fixed:
      q, k = _widen(q, k, _slopes(bias, k.shape[1]), _places(k.shape[1]))
    if apart:
      q, k = _widen(q, k, *_segments(rules))
    matrix = None
    if learned:
      matrix = by_place(bias, q.shape[1], k.shape[1])[None].astype(q.dtype)

    def call(window):
      return jax.nn.dot_product_attention(
        q,
        k,
        jnp.pad(v, [(0, 0)] * 3 + [(0, k.shape[3] - H)]),
        matrix,
        scale=1.0,
        is_causal=rules.causal,
        key_value_seq_lengths=lengths,
        local_window_size=(window - 1, 0) if window else None,
        implementation=IMPLEMENTATION,
      )

    if window and banded is not None:
      return jax.lax.cond(banded, lambda: call(window), lambda: call(0))
    return call(window)

  return attend(q, k, v, bias, rules, banded)[:, :T, :, :H]


def is_kept(primitive, *_, **__) -> bool:
  """The policy that keeps the output and the logarithm of the softmax's sum."""
  return 'dot_product_attention' in primitive.name


def _filled(multiple, q, k, v, rules, bias):
  """T and S filled up with padding to multiples of a number."""
  more_q, more_k = -q.shape[1] % multiple, -k.shape[1] % multiple

  def pad(x, more):
    return jnp.pad(x, [(0, 0), (0, more)] + [(0, 0)] * (x.ndim - 2))

  rules = rules.replace(
    queries=pad(rules.queries, more_q), keys=pad(rules.keys, more_k)
  )
  if bias is not None:
    bias = jnp.pad(bias, [(0, 0), (more_k, more_q)])
  return pad(q, more_q), pad(k, more_k), pad(v, more_k), rules, bias


def _widen(q, k, of_q, of_k):
  """Puts more dimensions before those of queries and keys."""

  def join(own, x):
    own = jnp.broadcast_to(own, (*x.shape[:3], own.shape[3]))
    return jnp.concatenate([own.astype(x.dtype), x], axis=3)

  return join(of_q, q), join(of_k, k)


def _segments(rules):
  """What hides other segments: of queries [B,T,1,b] and keys [B,S,1,b].

  The products of bits sum to their number where all are equal; the last
  dimension takes it off. These sums are exact. They come first, so that the
  logit is added to 0; in the worst order it is rounded by a bit of 15 HIDDEN,
  less than bfloat16 rounds queries and keys.
  """
  longest = max(rules.queries.shape[1], rules.keys.shape[1])
  bits = 15 if longest < 2**15 else 23

  def code(segments, last):
    ones = (segments[..., None] >> jnp.arange(bits)) & 1
    return jnp.pad(2 * ones - 1, [(0, 0)] * 2 + [(0, 1)], constant_values=last)

  of_q = HIDDEN * code(rules.queries, -bits)
  return of_q[:, :, None], code(rules.keys, 1)[:, :, None]


def _slopes(bias, keys):
  """ALiBi's slopes of a bias by distance, in parts: [1,1,N,8 or 16].

  Each has 8 bits, so that bfloat16 holds it.
  """
  slopes = -bias[:, min(keys, bias.shape[1] - 1)]  # of query - key = 1
  parts = []
  for _ in range(_PARTS):
    part = slopes.astype('bfloat16').astype('float32')
    parts.append(part)
    slopes = slopes - part
  parts = jnp.stack(parts * len(_digits(keys)), axis=1)[None, None]
  return _to_multiple_of_8(parts)


def _places(keys):
  """The keys' places in parts, beside those of `_slopes`: [1,S,1,8 or 16]."""
  place = jnp.arange(keys)
  parts = [(place >> n & 255) << n for n in _digits(keys)]
  parts = jnp.repeat(jnp.stack(parts, axis=1), _PARTS, axis=1)
  return _to_multiple_of_8(parts[None, :, None])


def _digits(keys):
  """The places of the digits of 8 bits that number the keys."""
  return range(0, max(1, (keys - 1).bit_length()), 8)


def _to_multiple_of_8(x):
  return jnp.pad(x, [(0, 0)] * 3 + [(0, -x.shape[3] % 8)])
