"""RWKV-4's mean over the past (Peng et al. 2023, 3.1.2 and appendix D).

  wkv_t = (sum_{i<t} e^{k_i - (t-1-i) w} v_i + e^{u + k_t} v_t)
        / (sum_{i<t} e^{k_i - (t-1-i) w}     + e^{u + k_t})

in each channel, with a decay w > 0 and a bonus u for the token itself. The past
of token t is a state (a, b, p): e^p a and e^p b are the two sums over i < t; p
is the largest of their exponents, so that nothing overflows. All of it is
float32.

A model decodes with `recurrent`, one token after the other, and trains with
`wkv`: stretches of about T^1/2 tokens side by side, then from stretch to
stretch, in 2 T^1/2 steps instead of T. On a CPU that is about as fast as token
after token; an accelerator, which a short step leaves idle, needs it. An
associative scan has fewer steps still, but each passes over all of memory: it
takes four times as long on a CPU. The gradient is written out because autodiff
takes twice the memory and twice the time.
"""

import math

import jax
import jax.numpy as jnp

State = tuple[jax.Array, ...]  # sums, and their exponent

LOWEST = -1e38  # the exponent of an empty sum


def empty(shape: tuple[int, ...]) -> State:
  """The state before the first token."""
  zeros = jnp.zeros(shape, 'float32')
  return zeros, zeros, jnp.full(shape, LOWEST, 'float32')


def recurrent(
  k: jax.Array,
  v: jax.Array,
  decay: jax.Array,
  bonus: jax.Array,
  starts: jax.Array,
  state: State,
) -> tuple[jax.Array, State]:
  """The formula token after token, from a state.

  Args:
    k: [B,T,D] keys.
    v: [B,T,D] values.
    decay: [D], w.
    bonus: [D], u.
    starts: bool [B,T], True at tokens that have no past.
    state: (a, b, p), [B,D] each.

  Returns:
    [B,T,D], and the state after the last token.
  """

  def step(state, xs):
    k, v, start = xs
    state = cut(state, start[:, None])
    out, _ = mean(state, k, v, bonus)
    a, b, p = state
    return add((a, b, p - decay), (v, 1.0, k)), out

  xs = k.swapaxes(0, 1), v.swapaxes(0, 1), starts.swapaxes(0, 1)
  state, out = jax.lax.scan(step, state, xs)
  return out.swapaxes(0, 1), state


@jax.custom_vjp
def wkv(
  k: jax.Array,
  v: jax.Array,
  decay: jax.Array,
  bonus: jax.Array,
  starts: jax.Array,
) -> jax.Array:
  """The formula for whole rows: `recurrent` from an empty state."""
  return _forward(k, v, decay, bonus, starts)[0]


def _forward(k, v, decay, bonus, starts):
  states = _states(v, None, k, decay, starts)
  out, log_sum = mean(states, k, v, bonus)
  return out, (k, v, decay, bonus, starts, out, log_sum)


# Let M_t be the formula's denominator and g_t the gradient of wkv_t. The tokens
# after i reach it through sums like the forward ones, but backwards:
#   A_i = sum_{t>i} e^{-log M_t - (t-1-i) w} g_t        (of v_i, times e^{k_i})
#   B_i = sum_{t>i} e^{-log M_t - (t-1-i) w} (-g_t wkv_t)
# No exponent below exceeds 0, because M_t includes every term that it divides.
def _backward(saved, g):
  k, v, decay, bonus, starts, out, log_sum = saved
  a, b, p = _states(v, None, k, decay, starts)
  ends = jnp.concatenate([starts[:, 1:], starts[:, :1]], axis=1)
  later = (x[:, ::-1] for x in (g, -g * out, -log_sum))
  later = _states(*later, decay, ends[:, ::-1])
  later_a, later_b, later_p = (x[:, ::-1] for x in later)
  own = jnp.exp(bonus + k - log_sum) * g
  own_k = own * (v - out)
  weight = jnp.exp(k + later_p)
  d_v = weight * later_a + own
  d_k = weight * (later_a * v + later_b) + own_k
  # The e^{-(t-1-i) w} of a pair i < t passes t-1-i tokens: count it at each.
  passing = jnp.exp(p + later_p - decay) * (a * later_a + b * later_b)
  return d_k, d_v, -jnp.sum(passing, (0, 1)), jnp.sum(own_k, (0, 1)), None


wkv.defvjp(_forward, _backward)


def mean(
  past: State, k: jax.Array, v: jax.Array, bonus: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """The formula from the state before a token, and its log denominator."""
  numerator, denominator, p = add(past, (v, 1.0, bonus + k))
  return numerator / denominator, p + jnp.log(denominator)


def add(x: State, y: State) -> State:
  """The sum of two states, of as many sums as they have."""
  *xs, p = x
  *ys, q = y
  highest = jnp.maximum(p, q)
  e, f = jnp.exp(p - highest), jnp.exp(q - highest)
  return *(e * a + f * c for a, c in zip(xs, ys, strict=True)), highest


def cut(state: State, here: jax.Array) -> State:
  """The state, empty where `here`."""
  *sums, p = state
  empty_sums = (jnp.where(here, 0, a) for a in sums)
  return *empty_sums, jnp.where(here, LOWEST, p)


def _states(x, y, exponent, decay, starts):
  """For each t, sum_{i<t} e^{exponent_i - (t-1-i) decay} (x_i, y_i).

  [B,T,D] each (y None: 1), `starts` bool [B,T] -> a state of [B,T,D]. The sum
  is empty at each start.
  """
  B, T, D = x.shape
  size = math.isqrt(T - 1) + 1  # of a stretch, about T^1/2
  count = -(-T // size)

  def fold(z, fill):  # [B,T,...] -> [size,count,B,...]
    widths = [(0, 0), (0, size * count - T), (0, 0)]
    z = jnp.pad(z, widths, constant_values=fill)
    return z.reshape(B, count, size, -1).transpose(2, 1, 0, 3)

  def unfold(z):
    return z.transpose(2, 1, 0, 3).reshape(B, count * size, D)[:, :T]

  y = None if y is None else fold(y, 0)
  xs = fold(x, 0), y, fold(exponent, LOWEST), fold(starts[..., None], False)

  def step(state, xs):
    x, y, exponent, start = xs
    state = cut(state, start)
    a, b, p = state
    new = x, 1.0 if y is None else y, exponent
    return add((a, b, p - decay), new), state

  ends, within = jax.lax.scan(step, empty((count, B, D)), xs)
  begun = jnp.cumsum(xs[-1], axis=0) > 0  # a start within the stretch so far

  def hop(state, xs):
    end, begun = xs
    a, b, p = cut(state, begun)
    return add((a, b, p - size * decay), end), state

  _, (a, b, p) = jax.lax.scan(hop, empty((B, D)), (ends, begun[-1]))
  passed = jnp.arange(size, dtype='float32')[:, None, None, None]
  before = cut((a[None], b[None], p[None] - passed * decay), begun)
  return jax.tree.map(unfold, add(before, within))
