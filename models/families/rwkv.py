"""RWKV-4 (Peng et al. 2023): a recurrent network that trains in parallel.

Its mean over the past is in wkv.py, by blocks in kernels/wkv.py.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from models.config import TransformerConfig
from models.embed import Embed
from models.families.wkv import empty, recurrent, wkv
from models.heads import Classes, Vocabulary
from models.kernels.wkv import wkv_in_blocks
from models.layers import Dense, Norm, activate, dropout, orthogonal
from models.sharding import named, shard, shard_residual
from models.stack import repeat, repeated

Cache = dict[str, jax.Array]


def shifted(
  x: jax.Array, starts: jax.Array, last: jax.Array | None = None
) -> jax.Array:
  """Each token's predecessor: [B,T,D] -> [B,T,D]; zeros where `starts` [B,T].

  last: [B,D], the predecessor of the first token; None: zeros.
  """
  if last is None:
    last = jnp.zeros_like(x[:, 0])
  before = jnp.concatenate([last[:, None], x[:, :-1]], axis=1)
  return jnp.where(starts[..., None], 0, before)


class Mix(nn.Module):
  """What both halves of a block share: they mix a token with the one before it.

  Layers are initialised by their depth (the released code): in layer l,
  `share` is l / (L - 1), from 0 to 1, and `rest` is 1 - l / L.
  """

  config: TransformerConfig

  def mixed(self, name, x, before, power, offset=0.0):
    """x mu + before (1 - mu); mu starts as (i / D)^power + offset."""

    def init(key, shape, dtype):
      del key
      return (jnp.arange(shape[0]) / shape[0]).astype(dtype) ** power + offset

    mu = self.param(name, named(init, 'norm'), x.shape[-1:], 'float32')
    mu = mu.astype(x.dtype)
    return x * mu + before * (1 - mu)

  def dense(self, name, features, axes, init):
    return Dense(features, axes, init, self.config.dtype, name=name)


class TimeMix(Mix):
  """r * wkv, in place of a transformer's attention (3.1)."""

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    starts: jax.Array,
    share: jax.Array,
    rest: jax.Array,
    cache: Cache | None,
  ) -> tuple[jax.Array, Cache | None]:
    c = self.config
    D = c.embed_dim
    before = shifted(x, starts, None if cache is None else cache['time_shift'])
    zeros = nn.initializers.zeros

    def project(name, mixed, init):
      y = self.dense(name, D, ('embed', 'channels'), init)(mixed)
      return shard(y, 'act_batch', 'act_length', 'act_channels')

    k = self.mixed('mix_key', x, before, rest)
    v = self.mixed('mix_value', x, before, rest, 0.3 * share)
    r = self.mixed('mix_receptance', x, before, 0.5 * rest)
    k = project('key', k, zeros)
    v = project('value', v, orthogonal())
    r = jax.nn.sigmoid(project('receptance', r, zeros))

    def init_decay(key, shape, dtype):
      del key
      place = jnp.arange(D, dtype=dtype) / max(D - 1, 1)
      return -5 + 8 * place ** (0.7 + 1.3 * share)

    def init_first(key, shape, dtype):
      del key
      zigzag = (jnp.arange(D) + 1) % 3 - 1
      return jnp.log(0.3) + 0.5 * zigzag.astype(dtype)

    init_decay = named(init_decay, 'channels')
    init_first = named(init_first, 'channels')
    decay = jnp.exp(self.param('time_decay', init_decay, (D,), 'float32'))
    first = self.param('time_first', init_first, (D,), 'float32')
    k, v = k.astype('float32'), v.astype('float32')
    if cache is None:
      form = wkv_in_blocks if c.attention == 'flash' else wkv
      out = form(k, v, decay, first, starts)
    else:
      names = ('numerator', 'denominator', 'exponent')
      state = tuple(cache[name] for name in names)
      out, state = recurrent(k, v, decay, first, starts, state)
      cache = cache | dict(zip(names, state, strict=True))
      cache['time_shift'] = x[:, -1]
    out = r * out.astype(c.dtype)
    return self.dense('output', D, ('channels', 'embed'), zeros)(out), cache


class ChannelMix(Mix):
  """sigmoid(r) * (act(k) Wv), in place of a transformer's MLP (3.1)."""

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    starts: jax.Array,
    rest: jax.Array,
    cache: Cache | None,
  ) -> tuple[jax.Array, Cache | None]:
    c = self.config
    before = shifted(
      x, starts, None if cache is None else cache['channel_shift']
    )
    zeros = nn.initializers.zeros
    k = self.mixed('mix_key', x, before, rest)
    r = self.mixed('mix_receptance', x, before, rest)
    k = self.dense('key', c.mlp_dim, ('embed', 'mlp'), orthogonal())(k)
    k = activate(c.activation, k)
    k = shard(k, 'act_batch', 'act_length', 'act_mlp')
    v = self.dense('value', c.embed_dim, ('mlp', 'embed'), zeros)(k)
    r = self.dense('receptance', c.embed_dim, ('embed', 'hidden'), zeros)(r)
    if cache is not None:
      cache = cache | {'channel_shift': x[:, -1]}
    return jax.nn.sigmoid(r) * v, cache


class RwkvBlock(nn.Module):
  """x + time_mix(norm(x)), then x + channel_mix(norm(x)) (figure 2)."""

  config: TransformerConfig

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    cache: Cache | None,
    layer: jax.Array,
    starts: jax.Array,
  ) -> tuple[jax.Array, Cache | None]:
    c = self.config

    def add(x, y):
      x = x + dropout(c)(y)
      return shard_residual(x)

    share = layer / max(c.decoder_layers - 1, 1)
    rest = 1 - layer / c.decoder_layers
    y = Norm(c, name='time_mix_norm')(x)
    y, cache = TimeMix(c, name='time_mix')(y, starts, share, rest, cache)
    x = add(x, y)
    y = Norm(c, name='channel_mix_norm')(x)
    y, cache = ChannelMix(c, name='channel_mix')(y, starts, rest, cache)
    return add(x, y), cache


class RwkvStack(nn.Module):
  """Blocks one after the other and a final norm."""

  config: TransformerConfig

  @nn.compact
  def __call__(
    self, x: jax.Array, starts: jax.Array, cache: Cache | None = None
  ) -> tuple[jax.Array, Cache | None]:
    """[B,T,D] -> [B,T,D], and the state; see `repeat`."""
    c = self.config
    layers = jnp.arange(c.decoder_layers, dtype='float32')
    x, cache = repeat(
      RwkvBlock, c.decoder_layers, x, cache, layers, starts, config=c,
      staged=cache is None and not self.is_initializing(),
    )  # fmt: skip
    return Norm(c, name='norm')(x), cache


class Rwkv(nn.Module):
  """Predicts each token from the tokens before it, without attention.

  Dropout acts only if `apply` has a 'dropout' rng. Segments number the examples
  packed into a row from 1; 0 is padding. A segment's first token has no past.
  """

  config: TransformerConfig
  loss_chunk: int = 0  # not 0: logits of many tokens are `ChunkedLogits`

  INPUTS = ('inputs', 'segments')  # the arrays of a batch that the model reads

  def setup(self):
    c = self.config
    self.embed = Embed(c)
    self.decoder = RwkvStack(c)
    if c.head == 'lm':
      self.vocabulary = Vocabulary(c, self.loss_chunk)
    else:
      self.classes = Classes(c, c.classes, bias=False)

  def __call__(self, inputs: jax.Array, segments: jax.Array) -> jax.Array:
    """int [B,T] each -> float32 [B,T,V], or with the head tokens [B,T,C].

    With `model.input_dim` the inputs are vectors, float32 [B,T,input_dim].
    """
    before = jnp.pad(segments[:, :-1], [(0, 0), (1, 0)])
    x, _ = self.decoder(self.embed(inputs), segments != before)
    if self.config.head != 'lm':
      return self.classes(x)
    return self.vocabulary(x, self.embed.table)

  def start_cache(self, batch: int, length: int = 0) -> Cache:
    """The state before the first token; `length` makes no difference."""
    del length
    c = self.config
    shape = (batch, c.embed_dim)
    names = ('numerator', 'denominator', 'exponent')
    state = dict(zip(names, empty(shape), strict=True)) | {
      name: jnp.zeros(shape, c.dtype)
      for name in ('time_shift', 'channel_shift')
    }
    return repeated(c, c.decoder_layers, state)

  def decode_step(
    self,
    tokens: jax.Array,
    cache: Cache,
    index: jax.Array,
    positions: jax.Array | None = None,
    hidden: jax.Array | None = None,
    last_only: bool = False,
  ) -> tuple[jax.Array, Cache]:
    """Reads further tokens, as `Decoder.decode_step`.

    Args:
      tokens: int [B,T], the tokens from `index` on.
      cache: from the step before, or from `start_cache`.
      index: int, the place of the first of `tokens`.
      positions: not used: the state alone holds the past.
      hidden: bool [B,S], padding on the left of a row: the token after it has
        no past.
      last_only: return the logits after the last of `tokens` alone, [B,1,V].

    Returns:
      Logits of the next token after each, float32 [B,T,V], and the new cache.
    """
    del positions
    starts = jnp.zeros(tokens.shape, bool)
    if hidden is not None:
      before = jnp.pad(hidden[:, :-1], [(0, 0), (1, 0)])
      starts = jax.lax.dynamic_slice_in_dim(
        hidden | before, index, tokens.shape[1], axis=1
      )
    x, cache = self.decoder(self.embed(tokens), starts, cache)
    x = x[:, -1:] if last_only else x
    few = x.shape[1] == 1
    return self.vocabulary(x, self.embed.table, few), cache
