"""The encoder-decoder (Vaswani et al. 2017; T5, Raffel et al. 2020, 2.1)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from models import masks
from models.block import Context, Stack
from models.config import TransformerConfig
from models.embed import Embed


class EncoderDecoder(nn.Module):
  """Reads a source, predicts a target.

  Dropout acts when `apply` is given a 'dropout' rng, and only then. Segments
  number the examples packed into a row from 1; 0 is padding.
  """

  config: TransformerConfig

  # What of a batch the model reads.
  INPUTS = ('encoder_inputs', 'inputs', 'encoder_segments', 'segments')

  def setup(self):
    c = self.config
    self.embed = Embed(c)
    self.encoder = Stack(c, c.encoder_layers, causal=False)
    self.decoder = Stack(c, c.decoder_layers, causal=True, cross=True)

  def __call__(
    self,
    encoder_inputs: jax.Array,
    inputs: jax.Array,
    encoder_segments: jax.Array,
    segments: jax.Array,
  ) -> jax.Array:
    """int [B,S], [B,T], [B,S], [B,T] -> logits, float32 [B,T,V].

    `inputs` are the targets shifted right, so that position t is predicted
    from what stands before it.
    """
    encoded = self.encode(encoder_inputs, encoder_segments)
    context = Context(
      mask=masks.causal(inputs.shape[1]) & masks.segments(segments, segments),
      source=encoded,
      source_mask=masks.segments(segments, encoder_segments),
    )
    x, _ = self.decoder(self.embed(inputs), context)
    return self.embed.logits(x)

  def encode(
    self, encoder_inputs: jax.Array, encoder_segments: jax.Array
  ) -> jax.Array:
    """int [B,S], [B,S] -> [B,S,D]."""
    mask = masks.segments(encoder_segments, encoder_segments)
    x, _ = self.encoder(self.embed(encoder_inputs), Context(mask=mask))
    return x

  def start_cache(self, batch: int, length: int) -> dict:
    """An empty cache for `length` decoding steps of `batch` rows."""
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
    encoder_segments: jax.Array,
    encoded: jax.Array | None = None,
  ) -> tuple[jax.Array, dict]:
    """One position further.

    Args:
      tokens: int [B], what stands at `index` (the start token at 0).
      cache: what the step before returned, or `start_cache`.
      index: int, the position of `tokens`.
      encoder_segments: int [B,S], above 0 where the source has a token.
      encoded: [B,S,D] from `encode`; needed by the first step only, which
        keeps its keys and values in the cache.

    Returns:
      Logits of the next token, float32 [B,V], and the cache.
    """
    length = cache['self']['key'].shape[2]
    context = Context(
      mask=(jnp.arange(length) <= index)[None, None],
      source=encoded,
      source_mask=masks.padding(encoder_segments),
      index=index,
    )
    x, cache = self.decoder(self.embed(tokens[:, None]), context, cache)
    return self.embed.logits(x)[:, 0], cache
