"""The decoder (GPT, Radford et al. 2018, and all that came of it)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from models import masks
from models.block import Context
from models.config import TransformerConfig
from models.embed import Embed
from models.heads import Classes, Vocabulary
from models.stack import Stack


class Decoder(nn.Module):
  """Predicts each token from those before it.

  Dropout acts when `apply` is given a 'dropout' rng, and only then. Segments
  number the examples packed into a row from 1; 0 is padding.
  """

  config: TransformerConfig

  @property
  def INPUTS(self) -> tuple[str, ...]:
    """What of a batch the model reads."""
    c = self.config
    return (
      'inputs',
      'segments',
      *(('positions',) if c.reads_positions else ()),
      *(('prefix',) if c.prefix else ()),
    )

  def setup(self):
    c = self.config
    self.embed = Embed(c)
    self.decoder = Stack(c, c.decoder_layers, causal=not c.prefix)
    if c.head == 'lm':
      self.vocabulary = Vocabulary(c)
    else:
      self.classes = Classes(c, c.classes, bias=False)

  def __call__(
    self,
    inputs: jax.Array,
    segments: jax.Array,
    positions: jax.Array | None = None,
    prefix: jax.Array | None = None,
  ) -> jax.Array:
    """int [B,T] each -> float32.

    With `model.prefix` the places where `prefix` is 1 are seen by all of their
    segment (T5, Raffel et al. 2020, 3.2.1); without it none is.

    Returns:
      lm: logits [B,T,V]. tokens: [B,T,C]. sequence: [B,C], read at the last
      token of each row.
    """
    mask = masks.causal(inputs.shape[1])
    if self.config.prefix and prefix is not None:
      mask = mask | masks.prefix(prefix)
    mask = mask & masks.segments(segments, segments)
    context = Context(mask=mask, positions=positions)
    x, _ = self.decoder(self.embed(inputs, positions), context)
    if self.config.head == 'lm':
      return self.vocabulary(x, self.embed.table)
    if self.config.head == 'sequence':
      places = jnp.where(segments > 0, jnp.arange(segments.shape[1]), 0)
      last = jnp.max(places, axis=1)
      x = jnp.take_along_axis(x, last[:, None, None], axis=1)[:, 0]
    return self.classes(x)

  def start_cache(self, batch: int, length: int) -> dict:
    """An empty cache for `length` tokens of each of `batch` rows."""
    c = self.config
    shape = (c.decoder_layers, batch, length, c.kv_heads, c.head_dim)
    return {
      'self': {name: jnp.zeros(shape, c.dtype) for name in ('key', 'value')}
    }

  def decode_step(
    self,
    tokens: jax.Array,
    cache: dict,
    index: jax.Array,
    positions: jax.Array | None = None,
    hidden: jax.Array | None = None,
  ) -> tuple[jax.Array, dict]:
    """Some positions further: one, or a whole prompt at once.

    With `model.prefix` the tokens of a prompt see one another.

    Args:
      tokens: int [B,T], what stands at `index` and after it.
      cache: what the step before returned, or `start_cache`.
      index: int, the place of the first of `tokens` in the cache.
      positions: int [B,T] where they are not the places: a prompt that is
        padded on the left counts from its first token.
      hidden: bool [B,S], places of the cache that nobody may see (padding).

    Returns:
      Logits of the next tokens, float32 [B,T,V], and the cache.
    """
    T, S = tokens.shape[1], cache['self']['key'].shape[2]
    places = index + jnp.arange(T)
    if positions is None:
      positions = places[None]
    last = places[-1:] if self.config.prefix else places
    mask = (jnp.arange(S) <= last[:, None])[None]
    if hidden is not None:
      mask = mask & ~hidden[:, None]
    context = Context(mask=mask, positions=positions, index=index)
    x, cache = self.decoder(self.embed(tokens, positions), context, cache)
    return self.vocabulary(x, self.embed.table), cache
