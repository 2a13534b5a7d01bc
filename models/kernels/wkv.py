"""RWKV-4's mean over the past by blocks for TPUs, with its gradients.

`families/wkv.py` has the formula. A kernel goes through a row in stretches of
STRETCH tokens, one for each row of the chip's registers, and through all
channels of a block at once. Within a stretch it doubles how far a sum reaches
(1, 2, 4 tokens); from stretch to stretch it carries a state on the chip. So
memory holds what is read and written, each once:

  forward  reads k, v; writes the mean and the logarithm of its denominator
  decays   reads k, v, g; goes through the row again with the slopes of the
           sums, and writes the gradient of the decay
  others   goes backwards, and writes the gradients of k, v and the bonus

A state is (sums..., p), as in `families/wkv.py`: e^p times each is the sum.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import PartitionSpec

from models.families.wkv import LOWEST, add, cut, mean
from models.kernels import sharded
from models.kernels.blocks import KEPT, LANES, pad, up

STRETCH = 8
TOKENS, CHANNELS = 256, 512  # of a block, at most


def wkv_in_blocks(
  k: jax.Array,
  v: jax.Array,
  decay: jax.Array,
  bonus: jax.Array,
  starts: jax.Array,
) -> jax.Array:
  """What `families.wkv.wkv` computes; each device has its rows and channels.

  Args:
    k, v: float32 [B,T,D].
    decay, bonus: float32 [D].
    starts: bool [B,T], True at tokens that have no past.

  Returns:
    float32 [B,T,D].
  """
  compute = functools.partial(_wkv, sharded.INTERPRET)
  # How many tokens of its segment are before a token, and how many after it.
  place = jnp.arange(k.shape[1], dtype='int32')[None]
  first = jax.lax.cummax(jnp.where(starts, place, 0), axis=1)
  ends = jnp.roll(starts, -1, axis=1).at[:, -1].set(True)
  last = jnp.where(ends, place, k.shape[1])
  last = jax.lax.cummin(last, axis=1, reverse=True)
  mesh = jax.sharding.get_abstract_mesh()
  if not mesh.empty:
    axes = 'act_batch', 'act_length', 'act_channels'
    rows, _, channels = whole = nn.logical_to_mesh_axes(axes)
    compute = jax.shard_map(
      compute,
      axis_names={*mesh.axis_names} - {*mesh.manual_axes},
      in_specs=(
        *(whole, whole, PartitionSpec(channels), PartitionSpec(channels)),
        *(PartitionSpec(rows), PartitionSpec(rows)),
      ),
      out_specs=whole,
      check_vma=False,
    )
  return compute(k, v, decay, bonus, place - first, last - place)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _wkv(interpret, k, v, decay, bonus, before, after):
  """`before`, `after`: int32 [B,T], the tokens of its segment there."""
  return _forward(interpret, k, v, decay, bonus, before, after)[0]


def _forward(interpret, k, v, decay, bonus, before, after):
  out, log_sum = _call(
    _forward_block,
    {'k': k, 'v': v, 'near': before, 'decay': decay, 'bonus': bonus},
    writes=('each', 'each'),
    sums=2,
    interpret=interpret,
  )
  out, log_sum = (checkpoint_name(x, KEPT) for x in (out, log_sum))
  return out, (k, v, decay, bonus, before, after, out, log_sum)


def _backward(interpret, saved, g):
  k, v, decay, bonus, before, after, out, log_sum = saved
  known = {'k': k, 'v': v, 'g': g, 'decay': decay, 'bonus': bonus}
  (d_decay,) = _call(
    _decay_block,
    known | {'near': before},
    writes=('total',),
    sums=4,
    interpret=interpret,
  )
  d_k, d_v, d_bonus = _call(
    _others_block,
    known | {'near': after, 'out': out, 'log_sum': log_sum},
    writes=('each', 'each', 'total'),
    sums=2,
    interpret=interpret,
    backwards=True,
  )
  return d_k, d_v, d_decay.sum(0), d_bonus.sum(0), None, None


_wkv.defvjp(_forward, _backward)


def _forward_block(refs, writes, state):
  """Values [STRETCH,W] of a stretch, and the state after it."""
  k, v = refs['k'], refs['v']
  past, state = _sums((v, jnp.ones_like(v), k), refs, state)
  out, log_sum = mean(past, k, v, refs['bonus'])
  writes[0](out)
  writes[1](log_sum)
  return state


def _decay_block(refs, writes, state):
  k, v = refs['k'], refs['v']
  zeros = jnp.zeros_like(v)
  own = v, jnp.ones_like(v), zeros, zeros, k
  (a, b, a_slope, b_slope, p), state = _sums(own, refs, state)
  out, log_sum = mean((a, b, p), k, v, refs['bonus'])
  # With the decay, a term of token i, t - 1 - i tokens away, falls by that.
  slope = jnp.exp(p - log_sum) * (a_slope - out * b_slope)
  writes[0](-refs['g'] * slope)
  return state


def _others_block(refs, writes, state):
  """The sums A and B of `families/wkv.py`, from the tokens after each."""
  k, v, g, out = (refs[name] for name in ('k', 'v', 'g', 'out'))
  later, state = _sums((g, -g * out, -refs['log_sum']), refs, state, True)
  a, b, p = later
  own = jnp.exp(refs['bonus'] + k - refs['log_sum']) * g
  own_k = own * (v - out)
  weight = jnp.exp(k + p)
  writes[0](weight * (a * v + b) + own_k)
  writes[1](weight * a + own)
  writes[2](own_k)
  return state


def _sums(own, refs, state, backwards=False):
  """The sums over what is before each token of a stretch, and after all.

  Args:
    own: the term of each token, a state of [STRETCH,W] arrays.
    refs: `near` int32 [STRETCH,1], how many tokens before it are of its
      segment; `decay` [1,W].
    state: of the tokens before the stretch, [1,W] each.
    backwards: the tokens after it are what is before a token.

  Returns:
    the states before the tokens, [STRETCH,W], and that after the last, [1,W].
  """
  near, decay = refs['near'], refs['decay']
  place = jax.lax.broadcasted_iota(jnp.int32, (STRETCH, 1), 0)
  if backwards:
    place = STRETCH - 1 - place

  def from_before(states, tokens):
    shift = STRETCH - tokens if backwards else tokens
    return tuple(pltpu.roll(x, shift, 0) for x in states)

  found, reach = own, 1
  while reach < STRETCH:  # each covers the last `reach` tokens, its own too
    others = _aged(from_before(found, reach), reach, decay)
    hidden = (place < reach) | (near < reach)
    found = add(found, cut(others, hidden))
    reach *= 2
  others = _aged(state, (place + 1).astype('float32'), decay)
  found = add(found, cut(others, near <= place))
  before = from_before(found, 1)
  before = tuple(
    jnp.where(place == 0, x, y) for x, y in zip(state, before, strict=True)
  )
  edge = 0 if backwards else STRETCH - 1
  return cut(before, near <= 0), tuple(x[edge : edge + 1] for x in found)


def _aged(state, tokens, decay):
  """The state `tokens` later; slopes grow by the sums that they are of."""
  *sums, p = state
  if len(sums) == 4:
    a, b, a_slope, b_slope = sums
    sums = a, b, a_slope + tokens * a, b_slope + tokens * b
  return *sums, p - tokens * decay


def _call(stretch, arrays, writes, sums, interpret, backwards=False):
  """Goes through all rows.

  Args:
    stretch: one of the functions `_..._block`.
    arrays: name -> `decay`, `bonus` [D]; `near` [B,T]; all others [B,T,D].
    writes: of what is written, 'each': [B,T,D]; 'total': [B,D], summed over T.
    sums: how many sums a state has.
    interpret: run in Python, on any machine.
    backwards: from the last token to the first.
  """
  B, T, D = arrays['k'].shape
  # Padding is behind a row: tokens of no segment, which nothing follows.
  tokens = min(TOKENS, up(T, STRETCH))
  width = min(CHANNELS, up(D, LANES))
  length, channels = up(T, tokens), up(D, width)
  blocks = length // tokens

  def padded(x):
    if x.ndim == 1:
      return pad(x, 0, channels)[None]
    x = pad(x, 1, length)
    return x[..., None] if x.ndim == 2 else pad(x, 2, channels)

  def at(t):
    return blocks - 1 - t if backwards else t

  each = pl.BlockSpec((1, tokens, width), lambda b, d, t: (b, at(t), d))
  total = pl.BlockSpec((1, 1, width), lambda b, d, t: (b, 0, d))
  near = pl.BlockSpec((1, tokens, 1), lambda b, d, t: (b, at(t), 0))
  by_channel = pl.BlockSpec((1, width), lambda b, d, t: (0, d))
  specs = {'near': near, 'decay': by_channel, 'bonus': by_channel}

  def body(*refs):
    *refs, carried = refs
    read = dict(zip(arrays, refs, strict=False))
    written = refs[len(arrays) :]
    totals = [n for n, what in enumerate(writes) if what == 'total']

    @pl.when(pl.program_id(2) == 0)
    def _():
      empty = jax.lax.broadcasted_iota(jnp.int32, carried.shape, 0) < sums
      carried[...] = jnp.where(empty, 0, LOWEST)
      for n in totals:
        written[n][...] = jnp.zeros_like(written[n])

    def step(n, state):
      n = tokens // STRETCH - 1 - n if backwards else n
      here = pl.ds(pl.multiple_of(n * STRETCH, STRETCH), STRETCH)
      found = {
        name: ref[...] if arrays[name].ndim == 1 else ref[0, here]
        for name, ref in read.items()
      }

      def write(n, x):
        if n in totals:
          written[n][0] += jnp.sum(x, axis=0, keepdims=True)
        else:
          written[n][0, here] = x

      into = [functools.partial(write, n) for n in range(len(writes))]
      return stretch(found, into, state)

    state = tuple(carried[n : n + 1] for n in range(sums + 1))
    state = jax.lax.fori_loop(0, tokens // STRETCH, step, state)
    for n, x in enumerate(state):
      carried[n : n + 1] = x

  shapes = {'each': (B, length, channels), 'total': (B, 1, channels)}
  found = pl.pallas_call(
    body,
    grid=(B, channels // width, blocks),
    in_specs=[specs.get(name, each) for name in arrays],
    out_specs=[each if what == 'each' else total for what in writes],
    out_shape=[jax.ShapeDtypeStruct(shapes[x], 'float32') for x in writes],
    scratch_shapes=[pltpu.VMEM((STRETCH, width), jnp.float32)],
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=('parallel', 'parallel', 'arbitrary')
    ),
    cost_estimate=pl.CostEstimate(
      flops=100 * B * length * channels,
      transcendentals=10 * B * length * channels,
      bytes_accessed=4 * (len(arrays) + len(writes)) * B * length * channels,
    ),
    interpret=interpret,
  )(*map(padded, arrays.values()))
  return [
    x[:, :T, :D] if what == 'each' else x[:, 0, :D]
    for x, what in zip(found, writes, strict=True)
  ]
