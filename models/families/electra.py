"""ELECTRA (Clark et al. 2020): a generator and a discriminator in one model."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from models import masks
from models.block import Context
from models.config import TransformerConfig
from models.embed import Embed
from models.families.encoder import gather
from models.heads import Replaced, Vocabulary
from models.logits import ChunkedLogits
from models.stack import Stack


def generator_config(config: TransformerConfig) -> TransformerConfig:
  """The generator's config: as deep, `generator_divisor` times narrower (3.2).

  Its heads have the same width, so there are fewer, but at least one (the
  released code). It uses the discriminator's tables.
  """
  c = config
  width = c.embed_dim // c.generator_divisor
  return dataclasses.replace(
    c,
    family='encoder',
    head='mlm',
    embed_dim=width,
    mlp_dim=c.mlp_dim // c.generator_divisor,
    heads=max(1, c.heads // c.generator_divisor),
    kv_heads=max(1, c.kv_heads // c.generator_divisor),
    table_dim=0 if c.table_width == width else c.table_width,
    generator_divisor=0,
  )


class Electra(nn.Module):
  """Two encoders that share their tables, trained side by side.

  The generator fills the masked positions; the discriminator predicts which
  tokens of the result differ from the text. Without the generator's weights
  ('generator' and 'vocabulary') the parameters are those of an `Encoder` with
  the head 'rtd'.

  Dropout acts only if `apply` has a 'dropout' rng. With a 'sample' rng
  the fillings are drawn; without one they are the likeliest tokens.
  """

  config: TransformerConfig
  loss_chunk: int = 0  # not 0: logits of many tokens are `ChunkedLogits`

  @property
  def INPUTS(self) -> tuple[str, ...]:
    """The arrays of a batch that the model reads."""
    c = self.config
    return (
      'inputs',
      'segments',
      'predict_at',
      'targets',
      'weights',
      *(('positions',) if c.reads_positions else ()),
      *(('types',) if c.token_types > 1 else ()),
    )

  def setup(self):
    c = self.config
    generator = generator_config(c)
    self.embed = Embed(c)
    self.generator = Stack(generator, c.encoder_layers, causal=False)
    self.vocabulary = Vocabulary(generator, self.loss_chunk)
    self.encoder = Stack(c, c.encoder_layers, causal=False)
    self.replaced = Replaced(c)

  def __call__(
    self,
    inputs: jax.Array,
    segments: jax.Array,
    predict_at: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    positions: jax.Array | None = None,
    types: jax.Array | None = None,
  ) -> dict[str, jax.Array]:
    """Masked tokens -> the outputs of both encoders.

    No gradient flows through the sampling (3.1).

    Args:
      inputs: int [B,T], masked.
      segments: int [B,T]; 0 is padding.
      predict_at: int [B,P], the chosen positions. One may be chosen twice.
      targets: int [B,P], the tokens of the text there.
      weights: float32 [B,P], 0 where nothing was chosen.
      positions: int [B,T].
      types: int [B,T].

    Returns:
      'logits' of the generator, float32 [B,P,V]; 'sampled' from them, int
      [B,P]; 'corrupted', int [B,T], the text with the samples in it; 'replaced'
      of the discriminator, logits [B,T]; 'labels', bool [B,T], whether a token
      differs from the text.
    """
    context = Context(seen=masks.Rules(segments, segments), positions=positions)

    def encode(stack, tokens):
      return stack(self.embed(tokens, positions, types), context)[0]

    hidden = gather(encode(self.generator, inputs), predict_at)
    logits = self.vocabulary(hidden, self.embed.table)
    sampled = self._sample(jax.lax.stop_gradient(logits))
    text = fill(inputs, predict_at, targets, weights)
    corrupted = fill(inputs, predict_at, sampled, weights)
    # A position that was chosen twice has one sample.
    sampled = jnp.take_along_axis(corrupted, predict_at, axis=1)
    return {
      'logits': logits,
      'sampled': sampled,
      'corrupted': corrupted,
      'replaced': self.replaced(encode(self.encoder, corrupted)),
      'labels': corrupted != text,
    }

  def _sample(self, logits: jax.Array | ChunkedLogits) -> jax.Array:
    """One token from each distribution: logits [B,P,V] -> int32 [B,P].

    The largest of logits + Gumbel noise is distributed as the softmax. Each
    token has noise of its own key, however many are drawn together.
    """
    rng = self.make_rng('sample') if self.has_rng('sample') else None

    def noise(number):
      key = jax.random.fold_in(rng, number)
      return jax.random.gumbel(key, (self.config.vocab_size,))

    def draw(logits, numbers):
      if rng is not None:
        logits += jax.vmap(jax.vmap(noise))(numbers)
      return jnp.argmax(logits, axis=-1).astype('int32')

    chunked = isinstance(logits, ChunkedLogits)
    B, P = (logits.x if chunked else logits).shape[:2]
    numbers = jnp.arange(B * P).reshape(B, P)
    return logits.map(draw, numbers) if chunked else draw(logits, numbers)


def fill(
  tokens: jax.Array, at: jax.Array, values: jax.Array, weights: jax.Array
) -> jax.Array:
  """Tokens with `values` at the positions `at`: [B,T], [B,P] each -> [B,T].

  Positions of weight 0 keep their token. If a position has several values, the
  last one counts.
  """
  B, P = at.shape
  order = jnp.where(weights > 0, jnp.arange(1, P + 1), 0)
  last = jnp.zeros(tokens.shape, 'int32')
  last = last.at[jnp.arange(B)[:, None], at].max(order)
  filled = jnp.take_along_axis(values, jnp.maximum(last - 1, 0), axis=1)
  return jnp.where(last > 0, filled, tokens)
